//! Graph's messages in the shapes of the contract.

use postern_proto::mail::v1::{Importance, Mailbox, ReceivedEmail};

use crate::graph::model::{Message, Recipient};
use crate::times;

/// What is asked of Graph for a whole message.
pub(crate) const SELECT: &str = "id,subject,body,bodyPreview,from,toRecipients,ccRecipients,bccRecipients,replyTo,\
    importance,hasAttachments,isRead,receivedDateTime,internetMessageId,conversationId";

/// A message as the contract has it, without attachments.
pub(crate) fn received(message: Message) -> ReceivedEmail {
    let body = message.body.unwrap_or_default();
    let content = body.content.unwrap_or_default();
    let is_html = body.content_type.is_some_and(|kind| kind.eq_ignore_ascii_case("html"));
    // Graph leaves inline files out of its own flag; a body that shows one refers to it.
    let shows_inline = is_html && content.contains("cid:");
    ReceivedEmail {
        id: message.id,
        from: message.from.and_then(mailbox),
        to: mailboxes(message.to_recipients),
        cc: mailboxes(message.cc_recipients),
        bcc: mailboxes(message.bcc_recipients),
        subject: message.subject.unwrap_or_default(),
        body: content,
        is_html,
        importance: importance(message.importance.as_deref()).into(),
        has_attachment: message.has_attachments.unwrap_or_default() || shows_inline,
        is_read: message.is_read.unwrap_or_default(),
        date_time_received: received_time(message.received_date_time.as_deref()),
        attachments: Vec::new(),
        internet_message_id: message.internet_message_id.unwrap_or_default(),
        conversation_id: message.conversation_id.unwrap_or_default(),
        body_preview: message.body_preview.unwrap_or_default().chars().take(255).collect(),
        body_truncated: false,
        reply_to: mailboxes(message.reply_to),
    }
}

fn received_time(text: Option<&str>) -> Option<prost_types::Timestamp> {
    text.and_then(times::from_graph).map(times::to_proto)
}

/// How important Graph says a message is.
pub(crate) fn importance(text: Option<&str>) -> Importance {
    match text.map(str::to_ascii_lowercase).as_deref() {
        Some("low") => Importance::Low,
        Some("high") => Importance::High,
        _ => Importance::Normal,
    }
}

fn mailboxes(recipients: Option<Vec<Recipient>>) -> Vec<Mailbox> {
    recipients.unwrap_or_default().into_iter().filter_map(mailbox).collect()
}

fn mailbox(recipient: Recipient) -> Option<Mailbox> {
    let address = recipient.email_address?;
    let (name, address) = (address.name.unwrap_or_default(), address.address.unwrap_or_default());
    // Where there is no name Graph repeats the address.
    let name = if name == address { String::new() } else { name };
    (!name.is_empty() || !address.is_empty()).then_some(Mailbox { address, name })
}

/// Cuts the body so that it loses at least `excess` bytes, at the boundary of a character.
pub(crate) fn cut_body(email: &mut ReceivedEmail, excess: usize) {
    let mut end = email.body.len().saturating_sub(excess);
    while !email.body.is_char_boundary(end) {
        end -= 1;
    }
    if end < email.body.len() {
        email.body.truncate(end);
        email.body_truncated = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_between_characters_and_says_so() {
        let mut email = ReceivedEmail { body: "aäöü".into(), ..ReceivedEmail::default() };
        cut_body(&mut email, 3);
        assert_eq!((email.body.as_str(), email.body_truncated), ("aä", true));
        cut_body(&mut email, 0);
        assert_eq!(email.body, "aä");
        cut_body(&mut email, 99);
        assert_eq!(email.body, "");
    }

    #[test]
    fn a_message_that_lacks_everything_is_no_reason_to_fail() {
        let email = received(Message::default());
        assert_eq!(email.importance(), Importance::Normal);
        assert!(email.from.is_none() && email.date_time_received.is_none());
    }
}
