//! What a look tells, written: each mail fetched whole, and kept within the bound of an event.

use std::fmt::Write as _;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use postern_proto::connector::v1::Occurrence;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{EventData, TriggerGap};
use postern_proto::mail::v1::ReceivedEmail;
use prost::Message as _;

use crate::error::Error;
use crate::graph::model::Message;
use crate::graph::{Mailbox, with_options};
use crate::mail::{attachments, shape};
use crate::times;

/// The most that an occurrence's data may take.
const MAX_DATA: usize = 60 * 1024;
/// The most that all occurrences of an answer take: a gRPC message is bounded by 4 MiB.
const MAX_ALL: usize = 3_000_000;
/// What the fields around the data take at most: tags, lengths, names, keys.
const AROUND: usize = 64;
/// How many mails are fetched at once. The mailbox's gate has the last word.
const AT_ONCE: usize = 4;
/// How many attachments an event lists at most.
const MAX_ATTACHMENTS: usize = 50;

/// What is told, not yet written.
pub(super) enum Told {
    /// A mail that came.
    Email {
        /// Its immutable id.
        id: String,
        /// When it was received.
        received: Option<Timestamp>,
        /// Whom it is told to.
        listeners: Vec<Listener>,
    },
    /// Something may have been missed.
    Gap {
        /// The trigger's name.
        trigger: String,
        /// What tells this gap from others.
        key: String,
        /// Since when.
        from: Timestamp,
    },
}

/// A trigger that is told of a mail.
pub(super) struct Listener {
    /// Its name.
    pub(super) trigger: String,
    /// Whether it wants the attachments.
    pub(super) with_files: bool,
}

impl Told {
    /// How many occurrences it comes to.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Email { listeners, .. } => listeners.len(),
            Self::Gap { .. } => 1,
        }
    }
}

/// A gap since a time, whose key comes from the cursor that was lost.
pub(super) fn gap(trigger: &str, cursor: &[u8], from: Timestamp) -> Told {
    let digest = ring::digest::digest(&ring::digest::SHA256, cursor);
    let mut key = "gap:".to_owned();
    for byte in digest.as_ref().iter().take(16) {
        let _ = write!(key, "{byte:02x}");
    }
    Told::Gap { trigger: trigger.to_owned(), key, from }
}

/// Writes what is told, in order. A mail that is gone meanwhile is left out.
///
/// # Errors
/// What Graph answered.
pub(super) async fn write(mailbox: &Mailbox, told: Vec<Told>) -> Result<Vec<Occurrence>, Error> {
    let count: usize = told.iter().map(Told::count).sum();
    let bound = (MAX_ALL / count.max(1)).min(MAX_DATA);
    let one = |told| one(mailbox, told, bound);
    let written = stream::iter(told.into_iter().map(one)).buffered(AT_ONCE);
    Ok(written.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
}

async fn one(mailbox: &Mailbox, told: Told, bound: usize) -> Result<Vec<Occurrence>, Error> {
    match told {
        Told::Gap { trigger, key, from } => {
            let gap = TriggerGap {
                from: Some(times::to_proto(from)),
                to: Some(times::to_proto(Timestamp::now())),
                reason: "PROVIDER_RESYNC".to_owned(),
            };
            let data = EventData { kind: Some(Kind::TriggerGap(gap)) };
            let time = Some(times::to_proto(from));
            Ok(vec![Occurrence { trigger, key, r#type: "trigger.gap".to_owned(), time, data: Some(data) }])
        }
        Told::Email { id, received, listeners } => {
            let Some(plain) = fetch(mailbox, &id, bound).await? else { return Ok(Vec::new()) };
            let with_files = match listeners.iter().any(|listener| listener.with_files) {
                true => add_files(mailbox, plain.clone(), bound).await?,
                false => ReceivedEmail::default(),
            };
            let occurrence = |listener: Listener| Occurrence {
                trigger: listener.trigger,
                key: format!("email:{id}"),
                r#type: "email.received".to_owned(),
                time: received.map(times::to_proto),
                data: Some(EventData {
                    kind: Some(Kind::NewEmail(if listener.with_files {
                        with_files.clone()
                    } else {
                        plain.clone()
                    })),
                }),
            };
            Ok(listeners.into_iter().map(occurrence).collect())
        }
    }
}

/// A mail without its attachments. None: it is gone.
async fn fetch(mailbox: &Mailbox, id: &str, bound: usize) -> Result<Option<ReceivedEmail>, Error> {
    let url = with_options(mailbox.url(&["messages", id]), &[("$select", shape::SELECT)]);
    let message: Message = match mailbox.get(url, None).await {
        Ok(read) => read.value,
        Err(failure) if failure.is_gone() => return Ok(None),
        Err(failure) => return Err(failure.into()),
    };
    let mut email = shape::received(message);
    fit(&mut email, bound);
    Ok(Some(email))
}

/// The mail with its attachments, and the content of those that fit.
async fn add_files(
    mailbox: &Mailbox,
    mut email: ReceivedEmail,
    bound: usize,
) -> Result<ReceivedEmail, Error> {
    if !email.has_attachment {
        return Ok(email);
    }
    let mut files = attachments::list(mailbox, &email.id).await?;
    files.truncate(MAX_ATTACHMENTS);
    email.has_attachment = !files.is_empty();
    email.attachments = attachments::shown(&files);
    fit(&mut email, bound);
    files.truncate(email.attachments.len());
    let room = bound.saturating_sub(AROUND + email.encoded_len());
    attachments::fetch(mailbox, &email.id, &files, &mut email.attachments, room).await?;
    Ok(email)
}

/// Cuts a mail to a bound: first its body, then, where headers alone pass it, the lists of recipients and the rest.
fn fit(email: &mut ReceivedEmail, bound: usize) {
    let bound = bound.saturating_sub(AROUND);
    for shrink in 0..5 {
        let size = email.encoded_len();
        if size <= bound {
            return;
        }
        match shrink {
            0 => shape::cut_body(email, size - bound),
            1 => email.attachments.clear(),
            2 => email.bcc.clear(),
            3 => email.cc.truncate(10),
            _ => email.to.truncate(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::mail::v1::Mailbox as Person;

    #[test]
    fn a_mail_is_cut_to_its_bound_whatever_makes_it_large() {
        let people = vec![Person { address: "a".repeat(300), name: "b".repeat(300) }; 200];
        let mut email = ReceivedEmail { body: "ü".repeat(100_000), ..ReceivedEmail::default() };
        fit(&mut email, MAX_DATA);
        assert!(email.encoded_len() <= MAX_DATA && email.encoded_len() > MAX_DATA - 100);
        assert!(email.body_truncated);
        let mut email = ReceivedEmail { to: people.clone(), cc: people, ..ReceivedEmail::default() };
        fit(&mut email, MAX_DATA);
        assert!(email.encoded_len() <= MAX_DATA);
        assert!(!email.to.is_empty());
    }

    #[test]
    fn the_same_lost_cursor_gives_the_same_key() {
        let key = |cursor: &[u8]| match gap("t", cursor, Timestamp::UNIX_EPOCH) {
            Told::Gap { key, .. } => key,
            Told::Email { .. } => String::new(),
        };
        assert_eq!(key(b"a"), key(b"a"));
        assert_ne!(key(b"a"), key(b"b"));
    }
}
