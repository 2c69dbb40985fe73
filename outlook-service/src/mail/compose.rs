//! A mail to send, checked and written as Graph wants it.

mod fields;
mod files;

use postern_proto::mail::v1::{Attachment, Email, Importance, LargeAttachment, Mailbox};
use serde_json::{Value, json};

use crate::addresses;
use crate::error::{Error, Problems, refuse};
use crate::once;

pub(super) use files::{file, item, name};

/// How much of the attachments travels within the draft: Graph takes requests of about 4 MB, in which bytes grow by a
/// third.
const INLINE_ATTACHMENTS: usize = 2 * 1024 * 1024;
/// The property of a message that keeps its mark: a named property of our own, found by `$filter`.
pub(super) const MARK: &str = "String {5c0d3c1a-6f0b-4b8e-9d6e-2f1f3a7c9e42} Name PosternRequestId";

/// What is asked to be sent.
pub(super) struct Letter<'a> {
    /// The path of the mail within the request.
    pub(super) path: &'a str,
    /// The mail.
    pub(super) email: &'a Email,
    /// The caller's id of the sending.
    pub(super) request_id: &'a str,
    /// The attachments whose bytes follow, and their path.
    pub(super) large: (&'a str, &'a [LargeAttachment]),
    /// The mailbox's address, where it is known.
    pub(super) own: Option<&'a str>,
}

/// A mail as Graph wants it.
#[derive(Debug)]
pub(super) struct Draft {
    /// The message.
    pub(super) message: Value,
    /// Attachments to be added one by one once the draft is made.
    pub(super) attachments: Vec<Attachment>,
}

/// Checks a mail and writes it.
///
/// # Errors
/// Each wrong field, from the request on.
pub(super) fn draft(letter: &Letter<'_>, mark: &str) -> Result<Draft, Error> {
    let Letter { path, email, .. } = *letter;
    let mut problems = Vec::new();
    let (to, cc, bcc) = (
        people(path, "to", &email.to, &mut problems),
        people(path, "cc", &email.cc, &mut problems),
        people(path, "bcc", &email.bcc, &mut problems),
    );
    let reply_to = people(path, "reply_to", &email.reply_to, &mut problems);
    if problems.is_empty() && to.is_empty() && cc.is_empty() && bcc.is_empty() {
        problems.push((format!("{path}.to"), "expected somebody in to, cc or bcc".into()));
    }
    let from = one(path, "from", &email.from, &mut problems);
    let sender = one(path, "sender", &email.sender, &mut problems);
    let importance = match Importance::try_from(email.importance) {
        Ok(Importance::Low) => "low",
        Ok(Importance::Unspecified | Importance::Normal) => "normal",
        Ok(Importance::High) => "high",
        Err(_) => {
            problems.push((format!("{path}.importance"), "is not a known importance".into()));
            "normal"
        }
    };
    if email.subject.chars().any(char::is_control) {
        problems.push((format!("{path}.subject"), "holds a control character".into()));
    }
    once::check(letter.request_id, &mut problems);
    fields::refuse_others(path, email, &mut problems);
    let headers = fields::headers(path, &email.headers, &mut problems);
    let selves: Vec<&str> = match &from {
        Some(from) => vec![from.address.as_str()],
        None => letter.own.into_iter().collect(),
    };
    let reads = fields::receipt(path, "read_receipt_to", &email.read_receipt_to, &selves, &mut problems);
    let delivers =
        fields::receipt(path, "delivery_receipt_to", &email.delivery_receipt_to, &selves, &mut problems);
    files::check(letter, &mut problems);
    refuse(problems)?;
    let kind = if email.is_html { "html" } else { "text" };
    let mut message = json!({
        "subject": email.subject,
        "body": {"contentType": kind, "content": email.body},
        "importance": importance,
        "toRecipients": recipients(&to),
        "ccRecipients": recipients(&cc),
        "bccRecipients": recipients(&bcc),
        "singleValueExtendedProperties": once::property(MARK, mark),
    });
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            message[field] = value;
        }
    };
    put("from", from.as_ref().map(recipient));
    put("sender", sender.as_ref().map(recipient));
    put("replyTo", (!reply_to.is_empty()).then(|| recipients(&reply_to)));
    put("internetMessageHeaders", (!headers.is_empty()).then(|| headers.into()));
    put("isReadReceiptRequested", reads.then_some(Value::Bool(true)));
    put("isDeliveryReceiptRequested", delivers.then_some(Value::Bool(true)));
    let size: usize = email.attachments.iter().map(|attachment| attachment.content_data.len()).sum();
    if email.attachments.is_empty() || size + email.body.len() > INLINE_ATTACHMENTS {
        return Ok(Draft { message, attachments: email.attachments.clone() });
    }
    message["attachments"] = email.attachments.iter().map(file).collect();
    Ok(Draft { message, attachments: Vec::new() })
}

/// Reads the mailboxes of a field that may hold many.
fn people(path: &str, field: &str, texts: &[String], problems: &mut Problems) -> Vec<Mailbox> {
    let mut read = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match addresses::parse(text) {
            Ok(mailboxes) => read.extend(mailboxes),
            Err(problem) => problems.push((format!("{path}.{field}[{index}]"), problem)),
        }
    }
    read
}

/// Reads the mailbox of a field that holds one or none.
fn one(path: &str, field: &str, text: &str, problems: &mut Problems) -> Option<Mailbox> {
    let problem = match addresses::parse(text) {
        Ok(mut read) if read.len() < 2 => return read.pop(),
        Ok(_) => "expected one address".to_owned(),
        Err(problem) => problem,
    };
    problems.push((format!("{path}.{field}"), problem));
    None
}

fn recipients(mailboxes: &[Mailbox]) -> Value {
    mailboxes.iter().map(recipient).collect()
}

fn recipient(mailbox: &Mailbox) -> Value {
    if mailbox.name.is_empty() {
        return json!({"emailAddress": {"address": mailbox.address}});
    }
    json!({"emailAddress": {"address": mailbox.address, "name": mailbox.name}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::mail::v1::{CalendarInvitation, Header, ListUnsubscribe};

    fn write(email: &Email) -> Result<Draft, Error> {
        let letter =
            Letter { path: "email", email, request_id: "", large: ("", &[]), own: Some("ann@x.example") };
        draft(&letter, "mark")
    }

    fn problems(email: Email) -> Vec<String> {
        match write(&email) {
            Err(Error::Fields(fields)) => fields.into_iter().map(|(path, _)| path).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => Vec::new(),
        }
    }

    fn to_a() -> Email {
        Email { to: vec!["a@x.example".into()], ..Email::default() }
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(problems(Email::default()), ["email.to"]);
        let attachment =
            Attachment { content_type: "png".into(), content_transfer_encoding: 9, ..Attachment::default() };
        let wrong = Email {
            from: "a@x.example, b@x.example".into(),
            sender: "nobody".into(),
            to: vec!["a@x.example".into(), "nobody".into()],
            subject: "a\r\nBcc: b@x.example".into(),
            importance: 9,
            attachments: vec![attachment],
            ..Email::default()
        };
        assert_eq!(
            problems(wrong),
            [
                "email.to[1]",
                "email.from",
                "email.sender",
                "email.importance",
                "email.subject",
                "email.attachments[0].file_name",
                "email.attachments[0].content_data",
                "email.attachments[0].content_type",
                "email.attachments[0].content_transfer_encoding",
            ]
        );
    }

    #[test]
    fn what_graph_cannot_take_is_named() {
        let header = |name: &str| Header { name: name.into(), value: "v".into() };
        let other = Email {
            is_html: true,
            text_body: "t".into(),
            headers: vec![header("Precedence"), header("x-ok"), header("X-MS-Exchange-Organization-SCL")],
            read_receipt_to: vec!["cy@x.example".into()],
            delivery_receipt_to: vec!["Ann <ANN@x.example>".into()],
            list_unsubscribe: Some(ListUnsubscribe::default()),
            in_reply_to: "<1@x>".into(),
            references: vec!["<1@x>".into()],
            calendar: Some(CalendarInvitation::default()),
            ..to_a()
        };
        let fields = [
            "text_body",
            "list_unsubscribe",
            "in_reply_to",
            "references",
            "calendar",
            "headers[0].name",
            "headers[2].name",
            "read_receipt_to[0]",
        ];
        assert_eq!(problems(other), fields.map(|field| format!("email.{field}")));
        let six = (0..6).map(|number| header(&format!("x-{number}"))).collect();
        assert_eq!(problems(Email { headers: six, ..to_a() }), ["email.headers"]);
        // Who replaces the sender wants the receipts.
        let from = "boss@x.example".to_owned();
        let receipt = Email { from: from.clone(), read_receipt_to: vec![from], ..to_a() };
        assert!(write(&receipt).is_ok_and(|draft| draft.message["isReadReceiptRequested"] == true));
    }

    #[test]
    fn attachments_travel_in_the_draft_while_they_are_small() {
        let with = |bytes: usize| {
            let attachment = Attachment {
                file_name: "a".into(),
                content_type: "text/plain; charset=utf-8".into(),
                content_data: vec![0; bytes].into(),
                ..Attachment::default()
            };
            write(&Email { attachments: vec![attachment], ..to_a() }).unwrap()
        };
        assert!(with(1).attachments.is_empty());
        assert_eq!(with(INLINE_ATTACHMENTS + 1).attachments.len(), 1);
    }
}
