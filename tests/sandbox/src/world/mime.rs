//! A message as it comes over SMTP, read into what an account keeps of it.

use jiff::Timestamp;
use mail_parser::{Address, MessageParser, MimeHeaders as _};

use super::account::{Attachment, AttachmentKind, Body, Importance, Mailbox, Message};

/// Reads a message (RFC 5322). What cannot be read is kept as a body, as a mail server does; the envelope's sender
/// stands in for a From that is not there.
pub(super) fn read(envelope_from: &str, raw: &[u8]) -> Message {
    let Some(parsed) = MessageParser::default().parse(raw) else {
        return Message {
            from: Some(Mailbox { address: envelope_from.to_owned(), name: String::new() }),
            body: Body { content: String::from_utf8_lossy(raw).into_owned(), is_html: false },
            ..Message::default()
        };
    };
    let is_html = parsed.html_part(0).is_some_and(mail_parser::MessagePart::is_text_html);
    let body = if is_html { parsed.body_html(0) } else { parsed.body_text(0) };
    let sent = parsed.date().and_then(|date| Timestamp::from_second(date.to_timestamp()).ok());
    let from = mailboxes(parsed.from()).into_iter().next();
    Message {
        from: from.or_else(|| Some(Mailbox { address: envelope_from.to_owned(), name: String::new() })),
        to: mailboxes(parsed.to()),
        cc: mailboxes(parsed.cc()),
        reply_to: mailboxes(parsed.reply_to()),
        subject: parsed.subject().unwrap_or_default().to_owned(),
        body: Body { content: body.unwrap_or_default().into_owned(), is_html },
        importance: importance(parsed.header_raw("Importance").unwrap_or_default()),
        sent: sent.unwrap_or_default(),
        internet_message_id: parsed.message_id().map(|id| format!("<{id}>")).unwrap_or_default(),
        attachments: parsed.attachments().map(attachment).collect(),
        headers: parsed
            .headers_raw()
            .filter(|(name, _)| name.to_ascii_lowercase().starts_with("x-"))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
        ..Message::default()
    }
}

fn mailboxes(address: Option<&Address<'_>>) -> Vec<Mailbox> {
    let one = |addr: &mail_parser::Addr<'_>| Mailbox {
        address: addr.address().unwrap_or_default().to_owned(),
        name: addr.name().unwrap_or_default().to_owned(),
    };
    address.map(|address| address.iter().map(one).collect()).unwrap_or_default()
}

fn importance(text: &str) -> Importance {
    match text.trim().to_ascii_lowercase().as_str() {
        "high" => Importance::High,
        "low" => Importance::Low,
        _ => Importance::Normal,
    }
}

fn attachment(part: &mail_parser::MessagePart<'_>) -> Attachment {
    let content_type = part.content_type().map(|content_type| match content_type.subtype() {
        Some(subtype) => format!("{}/{subtype}", content_type.ctype()),
        None => content_type.ctype().to_owned(),
    });
    let content_id = part.content_id().map(str::to_owned);
    let disposition = part.content_disposition().map(|disposition| disposition.ctype().to_ascii_lowercase());
    let is_mail = content_type.as_deref() == Some("message/rfc822");
    Attachment {
        kind: if is_mail { AttachmentKind::Item } else { AttachmentKind::File },
        name: part.attachment_name().unwrap_or_default().to_owned(),
        content_type: content_type.unwrap_or_default(),
        is_inline: content_id.is_some() && disposition.as_deref() != Some("attachment"),
        content_id,
        content: part.contents().to_vec(),
        ..Attachment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_files_is_read_into_its_parts() {
        let raw = b"From: Ann <ann@example.org>\r\nTo: bo@example.org, \"Cy, C\" <cy@example.org>\r\n\
            Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nImportance: high\r\nMessage-ID: <1@example.org>\r\n\
            MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
            Content-Type: text/html; charset=utf-8\r\n\r\n<p>hello</p>\r\n--b\r\n\
            Content-Type: image/png; name=logo.png\r\nContent-ID: <logo>\r\nContent-Disposition: inline\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n";
        let message = read("bounce@example.org", raw);
        assert_eq!(message.from.unwrap().address, "ann@example.org");
        assert_eq!(message.to[1], Mailbox { address: "cy@example.org".into(), name: "Cy, C".into() });
        assert_eq!(message.subject, "Grüße");
        assert_eq!(message.importance, Importance::High);
        assert!(message.body.is_html && message.body.content.contains("hello"));
        let file = &message.attachments[0];
        assert_eq!((file.name.as_str(), file.content_type.as_str()), ("logo.png", "image/png"));
        assert!(file.is_inline && file.content == [0, 1, 2]);
    }

    #[test]
    fn what_is_no_message_is_kept_as_a_body() {
        let message = read("ann@example.org", b"just words");
        assert_eq!(message.from.unwrap().address, "ann@example.org");
    }
}
