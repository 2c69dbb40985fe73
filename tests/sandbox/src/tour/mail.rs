//! The mail that the tour sends, and what must be found of it in its event.

use bytes::Bytes;
use postern_chassis::serve::BoxError;
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::mail::v1::{Attachment, Email, Importance, ReceivedEmail};

use crate::place::{ANNA, BO, NOBODY};

/// A 1 x 1 pixel, as a PNG.
const PIXEL: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x06, 0x00, 0x00, 0x00, 0x1f, 0x15, 0xc4, 0x89, 0x00,
    0x00, 0x00, 0x0d, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0xf0, 0x1f, 0x00, 0x05,
    0x00, 0x01, 0xff, 0x89, 0x99, 0x3d, 0x1d, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42,
    0x60, 0x82,
];
/// A small table.
const REPORT: &[u8] = b"month,total\r\nOctober,12\r\nNovember,17\r\n";

/// A mail with an HTML body and two attachments, one shown in place, to two recipients.
pub(super) fn example(subject: &str) -> Email {
    Email {
        from: format!("Bo Example <{BO}>"),
        to: vec![format!("Anna Example <{ANNA}>; {NOBODY}")],
        subject: subject.to_owned(),
        body: "<p>The report, with <b>greetings</b> from Bo. <img src=\"cid:pixel\"></p>".to_owned(),
        is_html: true,
        importance: Importance::High.into(),
        attachments: vec![
            Attachment {
                file_name: "pixel.png".to_owned(),
                content_id: "pixel".to_owned(),
                content_data: Bytes::from_static(PIXEL),
                content_type: "image/png".to_owned(),
                ..Attachment::default()
            },
            Attachment {
                file_name: "report.csv".to_owned(),
                content_data: Bytes::from_static(REPORT),
                content_type: "text/csv".to_owned(),
                ..Attachment::default()
            },
        ],
        ..Email::default()
    }
}

/// The mail in an event, if it is the one that was sent: its body, importance and attachments with it.
pub(super) fn check(event: &Event) -> Result<&ReceivedEmail, BoxError> {
    let kind = event.data.as_ref().and_then(|data| data.kind.as_ref());
    let Some(Kind::NewEmail(email)) = kind else { return Err("the event holds no mail".into()) };
    let sent = example(&email.subject);
    let held = [
        ("the body", email.is_html && email.body.contains("greetings")),
        ("the importance", email.importance() == Importance::High),
        ("the sender", email.from.as_ref().is_some_and(|from| from.address == BO)),
        ("the message id", !email.internet_message_id.is_empty() && !email.id.is_empty()),
        ("the attachments", email.attachments.len() == sent.attachments.len() && email.has_attachment),
    ];
    if let Some((what, _)) = held.iter().find(|(_, held)| !held) {
        return Err(format!("the event does not hold {what} as sent").into());
    }
    for attachment in &sent.attachments {
        let found = email.attachments.iter().any(|received| {
            received.file_name == attachment.file_name
                && received.content_data == attachment.content_data
                && received.is_inline != attachment.content_id.is_empty()
        });
        if !found {
            return Err(format!("the event does not hold {} as sent", attachment.file_name).into());
        }
    }
    Ok(email)
}
