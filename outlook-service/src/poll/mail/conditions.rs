//! What a trigger for new mail asks for, read and checked, and whether a mail meets it.

use std::collections::HashSet;

use postern_proto::event::v1::{Trigger, trigger::Kind};
use postern_proto::mail::v1::Importance;

use crate::addresses;
use crate::error::{Error, refuse};
use crate::graph::model::{Message, Recipient};
use crate::mail::shape;

/// The conditions of a trigger. All that are given must hold.
pub(super) struct Conditions {
    pub(super) folder_path: String,
    pub(super) mailbox: String,
    pub(super) include_attachments: bool,
    to: Vec<String>,
    from: Vec<String>,
    importance: Option<Importance>,
    only_with_attachment: bool,
    subject: String,
}

impl Conditions {
    /// Reads a trigger.
    ///
    /// # Errors
    /// It is of another kind, or each wrong field, from the Trigger on.
    pub(super) fn read(trigger: Option<&Trigger>) -> Result<Self, Error> {
        let asked = match trigger.and_then(|trigger| trigger.kind.as_ref()) {
            Some(Kind::NewEmail(asked)) => asked,
            Some(_) => return Err(Error::TriggerKind),
            None => return Err(Error::field("kind", "is absent: expected new_email")),
        };
        let mut problems = Vec::new();
        let mut people = |field: &str, texts: &[String]| {
            let mut read = Vec::new();
            for (index, text) in texts.iter().enumerate() {
                match addresses::parse(text) {
                    Ok(mailboxes) => read.extend(mailboxes.iter().map(|one| one.address.to_lowercase())),
                    Err(problem) => problems.push((format!("new_email.{field}[{index}]"), problem)),
                }
            }
            read
        };
        let (to, from) = (people("to", &asked.to), people("from", &asked.from));
        let importance = match Importance::try_from(asked.importance) {
            Ok(Importance::Unspecified) => None,
            Ok(importance) => Some(importance),
            Err(_) => {
                problems.push(("new_email.importance".into(), "is not a known importance".into()));
                None
            }
        };
        refuse(problems)?;
        Ok(Self {
            folder_path: asked.folder_path.clone(),
            mailbox: asked.mailbox.clone(),
            include_attachments: asked.include_attachments,
            to,
            from,
            importance,
            only_with_attachment: asked.fetch_only_with_attachment,
            subject: asked.subject_filter.to_lowercase(),
        })
    }

    /// Whether a mail meets them.
    pub(super) fn hold_for(&self, traits: &Traits) -> bool {
        (self.to.is_empty() || self.to.iter().any(|wanted| traits.to.contains(wanted)))
            && (self.from.is_empty() || traits.from.as_ref().is_some_and(|from| self.from.contains(from)))
            && self.importance.is_none_or(|wanted| wanted == traits.importance)
            && (!self.only_with_attachment || traits.has_attachments)
            && (self.subject.is_empty() || traits.subject.contains(&self.subject))
    }
}

/// What conditions look at in a mail: made once, however many triggers there are.
pub(super) struct Traits {
    to: HashSet<String>,
    from: Option<String>,
    importance: Importance,
    has_attachments: bool,
    subject: String,
}

impl Traits {
    /// The traits of a mail.
    pub(super) fn of(message: &Message) -> Self {
        let address = |recipient: &Recipient| {
            recipient.email_address.as_ref().and_then(|one| Some(one.address.as_ref()?.to_lowercase()))
        };
        Self {
            to: message.to_recipients.iter().flatten().filter_map(address).collect(),
            from: message.from.as_ref().and_then(address),
            importance: shape::importance(message.importance.as_deref()),
            has_attachments: message.has_attachments == Some(true),
            subject: message.subject.as_deref().unwrap_or_default().to_lowercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::outlook::v1::{EventCreatedTrigger, NewEmailTrigger};

    fn message() -> Message {
        serde_json::from_value(serde_json::json!({
            "id": "1",
            "subject": "Rechnung ÄRGER",
            "from": {"emailAddress": {"address": "Ann@Example.org"}},
            "toRecipients": [{"emailAddress": {"address": "bo@example.org"}}, {"emailAddress": null}],
            "importance": "high",
            "hasAttachments": false,
        }))
        .unwrap()
    }

    fn read(asked: NewEmailTrigger) -> Result<Conditions, Error> {
        Conditions::read(Some(&Trigger { kind: Some(Kind::NewEmail(asked)), ..Trigger::default() }))
    }

    fn holds(asked: NewEmailTrigger) -> bool {
        read(asked).is_ok_and(|conditions| conditions.hold_for(&Traits::of(&message())))
    }

    #[test]
    fn every_condition_given_must_hold() {
        let any = NewEmailTrigger::default;
        assert!(holds(any()));
        assert!(holds(NewEmailTrigger { to: vec!["x@y.example; BO@example.org".into()], ..any() }));
        assert!(!holds(NewEmailTrigger { to: vec!["ann@example.org".into()], ..any() }));
        assert!(holds(NewEmailTrigger { from: vec!["ann@example.org".into()], ..any() }));
        assert!(!holds(NewEmailTrigger { from: vec!["bo@example.org".into()], ..any() }));
        assert!(holds(NewEmailTrigger { importance: Importance::High.into(), ..any() }));
        assert!(!holds(NewEmailTrigger { importance: Importance::Normal.into(), ..any() }));
        assert!(!holds(NewEmailTrigger { fetch_only_with_attachment: true, ..any() }));
        assert!(holds(NewEmailTrigger { subject_filter: "ärger".into(), ..any() }));
        let mixed =
            NewEmailTrigger { subject_filter: "ärger".into(), from: vec!["no@x.example".into()], ..any() };
        assert!(!holds(mixed));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_other_kinds_are_refused() {
        let wrong =
            NewEmailTrigger { to: vec!["a@x.example".into(), "b".into()], ..NewEmailTrigger::default() };
        assert!(matches!(read(wrong), Err(Error::Fields(fields)) if fields[0].0 == "new_email.to[1]"));
        let other =
            Trigger { kind: Some(Kind::EventCreated(EventCreatedTrigger::default())), ..Trigger::default() };
        assert!(matches!(Conditions::read(Some(&other)), Err(Error::TriggerKind)));
    }
}
