//! A mail to send, checked and written as Graph wants it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_proto::mail::v1::{Attachment, ContentTransferEncoding, Email, Importance, Mailbox};
use postern_proto::outlook::v1::SendEmailRequest;
use serde_json::{Value, json};

use crate::addresses;
use crate::error::Error;

/// How much the attachments of a mail may hold in all.
const MAX_ATTACHMENTS: usize = 3 * 1024 * 1024;
/// How much of them travels within the draft: Graph takes requests of about 4 MB, in which bytes grow by a third.
const INLINE_ATTACHMENTS: usize = 2 * 1024 * 1024;
/// The longest request id.
const MAX_REQUEST_ID: usize = 128;
/// The property of a message that keeps the request id: a named property of our own, found by `$filter`.
const REQUEST_ID: &str = "String {5c0d3c1a-6f0b-4b8e-9d6e-2f1f3a7c9e42} Name PosternRequestId";

/// A mail as Graph wants it.
pub(super) struct Draft {
    /// The message.
    pub(super) message: Value,
    /// Attachments to be added one by one once the draft is made.
    pub(super) attachments: Vec<Value>,
}

/// Checks a mail and writes it.
///
/// # Errors
/// Each wrong field, from the request on; or attachments too large.
pub(super) fn draft(asked: &SendEmailRequest) -> Result<Draft, Error> {
    let mut problems = Vec::new();
    let empty = Email::default();
    let email = asked.email.as_ref().unwrap_or(&empty);
    let mut people = |field: &str, texts: &[String]| {
        let mut read = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match addresses::parse(text) {
                Ok(mailboxes) => read.extend(mailboxes.iter().map(recipient)),
                Err(problem) => problems.push((format!("email.{field}[{index}]"), problem)),
            }
        }
        read
    };
    let (to, cc, bcc) = (people("to", &email.to), people("cc", &email.cc), people("bcc", &email.bcc));
    let reply_to = people("reply_to", &email.reply_to);
    if problems.is_empty() && to.is_empty() && cc.is_empty() && bcc.is_empty() {
        problems.push(("email.to".into(), "expected somebody in to, cc or bcc".into()));
    }
    let from = match addresses::parse(&email.from).as_deref() {
        Ok([]) => None,
        Ok([mailbox]) => Some(recipient(mailbox)),
        Ok(_) => {
            problems.push(("email.from".into(), "expected one address".into()));
            None
        }
        Err(problem) => {
            problems.push(("email.from".into(), problem.clone()));
            None
        }
    };
    let importance = match Importance::try_from(email.importance) {
        Ok(Importance::Low) => "low",
        Ok(Importance::Unspecified | Importance::Normal) => "normal",
        Ok(Importance::High) => "high",
        Err(_) => {
            problems.push(("email.importance".into(), "is not a known importance".into()));
            "normal"
        }
    };
    if email.subject.chars().any(char::is_control) {
        problems.push(("email.subject".into(), "holds a control character".into()));
    }
    let id = &asked.request_id;
    if id.len() > MAX_REQUEST_ID || !id.chars().all(|c| c.is_ascii_graphic()) {
        let problem = format!("expected at most {MAX_REQUEST_ID} visible ASCII characters");
        problems.push(("request_id".into(), problem));
    }
    for (index, attachment) in email.attachments.iter().enumerate() {
        check(&format!("email.attachments[{index}]"), attachment, &mut problems);
    }
    if !problems.is_empty() {
        return Err(Error::Fields(problems));
    }
    let size: usize = email.attachments.iter().map(|attachment| attachment.content_data.len()).sum();
    if size > MAX_ATTACHMENTS {
        return Err(Error::TooLarge);
    }
    let kind = if email.is_html { "html" } else { "text" };
    let mut message = json!({
        "subject": email.subject,
        "body": {"contentType": kind, "content": email.body},
        "importance": importance,
        "toRecipients": to,
        "ccRecipients": cc,
        "bccRecipients": bcc,
    });
    if let Some(from) = from {
        message["from"] = from;
    }
    if !reply_to.is_empty() {
        message["replyTo"] = reply_to.into();
    }
    if !id.is_empty() {
        message["singleValueExtendedProperties"] = json!([{"id": REQUEST_ID, "value": id}]);
    }
    let mut attachments: Vec<Value> = email.attachments.iter().map(file).collect();
    if !attachments.is_empty() && size + email.body.len() <= INLINE_ATTACHMENTS {
        message["attachments"] = std::mem::take(&mut attachments).into();
    }
    Ok(Draft { message, attachments })
}

fn recipient(mailbox: &Mailbox) -> Value {
    if mailbox.name.is_empty() {
        return json!({"emailAddress": {"address": mailbox.address}});
    }
    json!({"emailAddress": {"address": mailbox.address, "name": mailbox.name}})
}

fn check(path: &str, attachment: &Attachment, problems: &mut Vec<(String, String)>) {
    let mut problem = |field: &str, text: &str| problems.push((format!("{path}.{field}"), text.to_owned()));
    let broken = |text: &str| text.chars().any(char::is_control);
    if attachment.file_name.is_empty() && attachment.content_id.is_empty() {
        problem("file_name", "is needed where there is no content_id");
    }
    if broken(&attachment.file_name) {
        problem("file_name", "holds a control character");
    }
    if broken(&attachment.content_id) || attachment.content_id.contains(['<', '>', ' ']) {
        problem("content_id", "expected a Content-ID without angle brackets");
    }
    if attachment.content_data.is_empty() {
        problem("content_data", "is needed");
    }
    if !is_media_type(&attachment.content_type) {
        problem("content_type", "expected a media type such as image/png");
    }
    if ContentTransferEncoding::try_from(attachment.content_transfer_encoding).is_err() {
        problem("content_transfer_encoding", "is no encoding");
    }
}

/// Whether a text is a media type (RFC 2045, section 5.1): two tokens, and perhaps parameters.
fn is_media_type(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c))
    };
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    let plain = parameters.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    kind.trim().split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype)) && plain
}

fn file(attachment: &Attachment) -> Value {
    let name = if attachment.file_name.is_empty() { &attachment.content_id } else { &attachment.file_name };
    let mut file = json!({
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": name,
        "contentType": attachment.content_type,
        "contentBytes": STANDARD.encode(&attachment.content_data),
    });
    if !attachment.content_id.is_empty() {
        file["isInline"] = true.into();
        file["contentId"] = attachment.content_id.clone().into();
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(email: Email) -> Vec<String> {
        match draft(&SendEmailRequest { email: Some(email), ..SendEmailRequest::default() }) {
            Err(Error::Fields(fields)) => fields.into_iter().map(|(path, _)| path).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(problems(Email::default()), ["email.to"]);
        let attachment =
            Attachment { content_type: "png".into(), content_transfer_encoding: 9, ..Attachment::default() };
        let wrong = Email {
            from: "a@x.example, b@x.example".into(),
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
    fn attachments_travel_in_the_draft_while_they_are_small_and_are_refused_beyond_the_bound() {
        let with = |bytes: usize| {
            let attachment = Attachment {
                file_name: "a".into(),
                content_type: "text/plain; charset=utf-8".into(),
                content_data: vec![0; bytes].into(),
                ..Attachment::default()
            };
            let email =
                Email { to: vec!["a@x.example".into()], attachments: vec![attachment], ..Email::default() };
            draft(&SendEmailRequest { email: Some(email), ..SendEmailRequest::default() })
        };
        assert!(with(1).is_ok_and(|draft| draft.attachments.is_empty()));
        assert!(with(MAX_ATTACHMENTS).is_ok_and(|draft| draft.attachments.len() == 1));
        assert!(matches!(with(MAX_ATTACHMENTS + 1), Err(Error::TooLarge)));
    }
}
