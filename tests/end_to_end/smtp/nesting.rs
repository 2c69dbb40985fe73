//! How the parts of a mail nest, whichever of them there are.

use bytes::Bytes;
use mail_parser::{Message, MessageParser, MimeHeaders as _, PartType};
use postern_proto::mail::v1::{Attachment, CalendarInvitation, ContentTransferEncoding, Email};

use super::world::{World, mail};

const OBJECT: &str = "BEGIN:VCALENDAR\nVERSION:2.0\nMETHOD:REQUEST\nEND:VCALENDAR\n";

fn file(name: &str, content_id: &str) -> Attachment {
    Attachment {
        file_name: name.into(),
        content_id: content_id.into(),
        content_data: Bytes::from_static(b"\x00bytes\xff"),
        content_type: "image/png".into(),
        ..Default::default()
    }
}

/// A part and what is in it, as in `mixed(plain, png)`.
fn shape(message: &Message<'_>, part: u32) -> String {
    let part = &message.parts[part as usize];
    let kind = part.content_type().and_then(|kind| kind.subtype()).unwrap_or("none");
    match &part.body {
        PartType::Multipart(within) => {
            let within: Vec<_> = within.iter().map(|part| shape(message, *part)).collect();
            format!("{kind}({})", within.join(", "))
        }
        _ => kind.to_owned(),
    }
}

#[tokio::test]
async fn each_layer_is_there_only_where_it_joins_something() {
    let world = World::plain().await;
    let calendar = || Some(CalendarInvitation { content: OBJECT.into(), ..Default::default() });
    let html = || Email { is_html: true, body: "<p>ü</p>".into(), ..mail(&["bo@example.org"]) };
    let both = || Email { text_body: "ü".into(), ..html() };
    let plain = || mail(&["bo@example.org"]);
    let cases = [
        (plain(), "plain"),
        (html(), "html"),
        (both(), "alternative(plain, html)"),
        (Email { attachments: vec![file("a", "")], ..plain() }, "mixed(plain, png)"),
        (Email { attachments: vec![file("a", "cid")], ..plain() }, "mixed(plain, png)"),
        (Email { attachments: vec![file("a", "cid")], ..html() }, "related(html, png)"),
        (
            Email { attachments: vec![file("a", "one"), file("b", ""), file("", "two")], ..both() },
            "mixed(alternative(plain, related(html, png, png)), png)",
        ),
        (Email { calendar: calendar(), ..plain() }, "mixed(alternative(plain, calendar), ics)"),
        (
            Email { calendar: calendar(), attachments: vec![file("a", "cid"), file("b", "")], ..both() },
            "mixed(alternative(plain, related(html, png), calendar), png, ics)",
        ),
    ];
    for (email, expected) in &cases {
        world.send(email.clone()).await.unwrap();
        let delivery = world.server.accepted().pop().unwrap();
        let parsed = MessageParser::default().parse(delivery.message.as_ref()).unwrap();
        assert_eq!(&shape(&parsed, 0), expected);
        assert!(delivery.message.is_ascii());
    }
    let text = String::from_utf8(world.server.accepted()[5].message.to_vec()).unwrap();
    assert!(
        text.contains("multipart/related;\r\n type=\"text/html\";\r\n boundary="),
        "the root's type is said"
    );
}

#[tokio::test]
async fn content_that_looks_like_a_boundary_ends_nothing() {
    let world = World::plain().await;
    let request = |attachments| postern_proto::smtp::v1::SendEmailRequest {
        request_id: "foreseeable".into(),
        content: Some(postern_proto::smtp::v1::send_email_request::Content::Email(Email {
            attachments,
            ..mail(&["bo@example.org"])
        })),
        ..Default::default()
    };
    let seven_bit = |content: String| Attachment {
        content_data: content.into(),
        content_type: "text/plain".into(),
        content_transfer_encoding: ContentTransferEncoding::SevenBit.into(),
        ..file("a.txt", "")
    };
    let boundary_of = |message: &[u8]| {
        let text = String::from_utf8_lossy(message).into_owned();
        text.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    world.send_request(request(vec![seven_bit("harmless".into())])).await.unwrap();
    world.send_request(request(vec![seven_bit("still harmless".into())])).await.unwrap();
    let first = boundary_of(&world.server.accepted()[0].message);
    assert_eq!(first, boundary_of(&world.server.accepted()[1].message), "it follows from the request_id");
    let attack = format!("a\r\n--{first}\r\nContent-Type: text/html\r\n\r\nforged\r\n--{first}--\r\n");
    world.send_request(request(vec![seven_bit(attack.clone())])).await.unwrap();
    let message = world.server.accepted().pop().unwrap().message;
    let parsed = MessageParser::default().parse(message.as_ref()).unwrap();
    assert_eq!(shape(&parsed, 0), "mixed(plain, plain)");
    assert_eq!(parsed.attachment(0).unwrap().contents(), attack.as_bytes());
}

#[tokio::test]
async fn a_large_attachment_arrives_as_it_was_and_a_small_mail_beside_it_too() {
    let world = World::plain().await;
    let content: Vec<u8> =
        (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for encoding in [ContentTransferEncoding::Base64, ContentTransferEncoding::QuotedPrintable] {
        let attachment = Attachment {
            content_data: content.clone().into(),
            content_type: "application/octet-stream".into(),
            content_transfer_encoding: encoding.into(),
            ..file("large.bin", "")
        };
        world.send(Email { attachments: vec![attachment], ..mail(&["bo@example.org"]) }).await.unwrap();
        let message = world.server.accepted().pop().unwrap().message;
        let size = format!("SIZE={}", message.len());
        assert!(
            world.control().commands().iter().any(|line| line.contains(&size)),
            "the size was known before"
        );
        let parsed = MessageParser::default().parse(message.as_ref()).unwrap();
        assert!(parsed.attachment(0).unwrap().contents() == content, "{encoding:?}");
    }
}
