//! The message that the server gets, taken apart and compared field by field with what was asked for.

use bytes::Bytes;
use mail_parser::{MessageParser, MimeHeaders as _, PartType};
use postern_proto::mail::v1::{Attachment, ContentTransferEncoding, Email, Importance};
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;

use super::world::{World, mail, refused};

fn attachment(name: &str, cid: &str, data: &[u8], kind: &str) -> Attachment {
    Attachment {
        file_name: name.to_owned(),
        content_id: cid.to_owned(),
        content_data: Bytes::copy_from_slice(data),
        content_type: kind.to_owned(),
        ..Default::default()
    }
}

/// Text where it is text: what reads the message decodes text by its charset.
fn kind_of(content: &[u8]) -> &'static str {
    if std::str::from_utf8(content).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

#[tokio::test]
async fn every_field_of_a_mail_arrives() {
    let world = World::start().await;
    let image: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let email = Email {
        from: "\"Müller, Änne\" <anne@example.org>".to_owned(),
        to: vec![
            "Bo <bo@example.org>; \"Last, First\" <first@example.org>".to_owned(),
            "c@example.org".to_owned(),
        ],
        cc: vec!["Dé <d@example.org>".to_owned()],
        bcc: vec!["hidden@example.org".to_owned()],
        reply_to: vec!["answers@example.org, More <more@example.org>".to_owned()],
        subject: "Grüße aus dem Büro — a subject that is long enough to be folded over several lines, 100 %"
            .to_owned(),
        body: "<p>Schöne Grüße</p>\n<img src=\"cid:logo\">\n.\n..dots\n".to_owned(),
        is_html: true,
        importance: Importance::High.into(),
        attachments: vec![
            attachment("Übersicht 2026 \"final\".pdf", "", &image, "application/pdf"),
            attachment("logo.png", "logo", &image[..700], "image/png"),
            attachment("empty-looking.bin", "", b"\r\n.\r\n\r\n", "application/octet-stream"),
        ],
        ..Default::default()
    };
    let request = SendEmailRequest {
        request_id: "order-17".into(),
        content: Some(Content::Email(email.clone())),
        ..Default::default()
    };
    let sent = world.send_request(request).await.unwrap();
    assert_eq!(sent.reply.unwrap().code, 250);

    let delivery = world.server.accepted().remove(0);
    assert_eq!(delivery.from, "anne@example.org");
    assert_eq!(
        delivery.to,
        ["bo@example.org", "first@example.org", "c@example.org", "d@example.org", "hidden@example.org"]
    );
    assert!(!String::from_utf8_lossy(&delivery.message).contains("hidden"));
    assert!(delivery.message.is_ascii());

    let parsed = MessageParser::default().parse(delivery.message.as_ref()).unwrap();
    let people = |address: Option<&mail_parser::Address<'_>>| -> Vec<(String, String)> {
        let people = address.map(|address| address.iter().collect::<Vec<_>>()).unwrap_or_default();
        people
            .iter()
            .map(|one| (one.name().unwrap_or("").to_owned(), one.address().unwrap().to_owned()))
            .collect()
    };
    let pair = |name: &str, address: &str| (name.to_owned(), address.to_owned());
    assert_eq!(people(parsed.from()), [pair("Müller, Änne", "anne@example.org")]);
    assert_eq!(
        people(parsed.to()),
        [pair("Bo", "bo@example.org"), pair("Last, First", "first@example.org"), pair("", "c@example.org")]
    );
    assert_eq!(people(parsed.cc()), [pair("Dé", "d@example.org")]);
    assert_eq!(people(parsed.bcc()), []);
    assert_eq!(
        people(parsed.reply_to()),
        [pair("", "answers@example.org"), pair("More", "more@example.org")]
    );
    assert_eq!(parsed.subject(), Some(email.subject.as_str()));
    assert_eq!(format!("<{}>", parsed.message_id().unwrap()), sent.message_id);
    assert!(sent.message_id.ends_with("@example.org>"));
    let age = jiff::Timestamp::now().as_second() - parsed.date().unwrap().to_timestamp();
    assert!((0..60).contains(&age), "the date is {age} s old");
    assert_eq!(parsed.header_raw("Importance").unwrap().trim(), "high");
    assert_eq!(parsed.header_raw("X-Priority").unwrap().trim(), "1");
    assert_eq!(parsed.header_raw("MIME-Version").unwrap().trim(), "1.0");

    assert_eq!(parsed.body_html(0).unwrap().trim_end(), email.body.replace('\n', "\r\n").trim_end());
    let root = parsed.root_part();
    assert!(root.content_type().unwrap().subtype() == Some("mixed"));
    let related =
        parsed.parts.iter().find(|part| part.content_type().and_then(|t| t.subtype()) == Some("related"));
    let PartType::Multipart(within) = &related.expect("a related part").body else {
        panic!("not a multipart")
    };
    let inline =
        within.iter().map(|at| &parsed.parts[*at as usize]).find(|part| part.content_id() == Some("logo"));
    let inline = inline.expect("the logo beside the body");
    assert_eq!(inline.contents(), &image[..700]);
    assert!(inline.content_disposition().unwrap().is_inline());

    let attached: Vec<_> = parsed
        .attachments()
        .filter(|part| part.content_disposition().is_some_and(|how| how.is_attachment()))
        .collect();
    assert_eq!(attached.len(), 2);
    assert_eq!(attached[0].attachment_name(), Some("Übersicht 2026 \"final\".pdf"));
    assert_eq!(attached[0].contents(), image);
    assert_eq!(attached[0].content_type().unwrap().subtype(), Some("pdf"));
    assert_eq!(attached[1].contents(), b"\r\n.\r\n\r\n");
}

#[tokio::test]
async fn a_message_id_follows_from_the_request_id() {
    let world = World::plain().await;
    let send = async |id: &str| {
        let request = SendEmailRequest {
            request_id: id.into(),
            content: Some(Content::Email(mail(&["bo@example.org"]))),
            ..Default::default()
        };
        world.send_request(request).await.unwrap().message_id
    };
    let first = send("one").await;
    assert_eq!(send("one").await, first);
    assert_ne!(send("two").await, first);
    assert_ne!(send("").await, send("").await);
}

#[tokio::test]
async fn plain_text_of_any_kind_arrives_as_it_was() {
    let world = World::plain().await;
    let bodies = [
        String::new(),
        "plain".to_owned(),
        ".\r\n.leading dots\r\n..\r\n".to_owned(),
        "x".repeat(3_000),
        "Ünïcödé 😀 and = signs\t\r\n trailing space \r\n".to_owned(),
        "漢字".repeat(500),
        "a control \u{1b}[31m character and a NUL \0".to_owned(),
        "From here\r\n--boundary\r\n".to_owned(),
    ];
    for body in &bodies {
        let email = Email { body: body.clone(), ..mail(&["bo@example.org"]) };
        world.send(email).await.unwrap();
    }
    for (delivery, body) in world.server.accepted().iter().zip(&bodies) {
        let parsed = MessageParser::default().parse(delivery.message.as_ref()).unwrap();
        let text = parsed.body_text(0).unwrap_or_default();
        assert_eq!(text.trim_end_matches("\r\n"), body.trim_end_matches("\r\n"));
        assert!(parsed.to().is_some() && parsed.header_raw("Importance").is_none());
    }
}

#[tokio::test]
async fn subjects_of_any_kind_arrive_as_they_were() {
    let world = World::plain().await;
    let long = "word ".repeat(300).trim_end().to_owned();
    let subjects = [
        "",
        "plain",
        " spaces around ",
        "=?utf-8?B?bm8=?=",
        &"a".repeat(1_500),
        &long,
        "日本語の件名 and 😀".repeat(9).as_str(),
    ]
    .map(ToOwned::to_owned);
    for subject in &subjects {
        world.send(Email { subject: subject.clone(), ..mail(&["bo@example.org"]) }).await.unwrap();
    }
    for (delivery, subject) in world.server.accepted().iter().zip(&subjects) {
        let parsed = MessageParser::default().parse(delivery.message.as_ref()).unwrap();
        assert_eq!(parsed.subject().unwrap_or_default(), subject);
    }
}

#[tokio::test]
async fn content_transfer_encodings_are_honoured() {
    use ContentTransferEncoding::{Base64, EightBit, QuotedPrintable, SevenBit};
    let world = World::plain().await;
    let cases: [(ContentTransferEncoding, &str, &[u8]); 5] = [
        (SevenBit, "7bit", b"seven\r\nbits\r\n"),
        (EightBit, "8bit", "acht bït\r\n".as_bytes()),
        (QuotedPrintable, "quoted-printable", b"a=b \r\n\r\n\n\r lone \t\xff\x00 ends \r\n"),
        (Base64, "base64", b"\x00\xff\r\n"),
        (ContentTransferEncoding::Unspecified, "base64", b"chosen\n"),
    ];
    for (encoding, _, content) in &cases {
        let mut attached = attachment("file.txt", "", content, kind_of(content));
        attached.content_transfer_encoding = (*encoding).into();
        world.send(Email { attachments: vec![attached], ..mail(&["bo@example.org"]) }).await.unwrap();
    }
    for (delivery, (_, name, content)) in world.server.accepted().iter().zip(&cases) {
        let parsed = MessageParser::default().parse(delivery.message.as_ref()).unwrap();
        let part = parsed.attachments().next().unwrap();
        assert_eq!(part.content_transfer_encoding(), Some(*name));
        assert_eq!(part.contents(), *content, "{name}");
    }
    let eight_bit: Vec<_> =
        world.control().commands().into_iter().filter(|line| line.contains("BODY=8BITMIME")).collect();
    assert_eq!(eight_bit.len(), 1, "only the 8bit content is announced");
}

#[tokio::test]
async fn a_mail_for_hidden_recipients_only_names_nobody() {
    let world = World::plain().await;
    let email = Email { bcc: vec!["hidden@example.org".into()], ..mail(&[]) };
    world.send(email).await.unwrap();
    let delivery = world.server.accepted().remove(0);
    assert_eq!(delivery.to, ["hidden@example.org"]);
    assert_eq!(delivery.from, "sender@example.org", "the connection's own sender");
    assert!(!String::from_utf8_lossy(&delivery.message).contains("hidden@example.org"));
}

#[tokio::test]
async fn an_address_outside_ascii_needs_smtputf8() {
    let world = World::plain().await;
    let email = mail(&["Bö <bö@bücher.example>"]);
    let sent = world.send(email.clone()).await.unwrap();
    assert_eq!(sent.recipients[0].address, "bö@xn--bcher-kva.example");
    assert!(
        world.control().commands().iter().any(|line| line.starts_with("MAIL") && line.ends_with(" SMTPUTF8"))
    );
    let delivery = world.server.accepted().remove(0);
    let parsed = MessageParser::default().parse(delivery.message.as_ref()).unwrap();
    assert_eq!(parsed.to().unwrap().first().unwrap().address(), Some("bö@xn--bcher-kva.example"));

    let without = World::plain().await;
    without.control().hide("SMTPUTF8");
    let said = refused(without.send(email).await, tonic::Code::FailedPrecondition, "MESSAGE_REFUSED");
    assert_eq!(said.stage(), "mail");
    assert!(without.server.accepted().is_empty());
    // An address that is in a header only asks for it as well.
    let replies = Email { reply_to: vec!["bö@example.org".into()], ..mail(&["bo@example.org"]) };
    let said =
        refused(without.send(replies.clone()).await, tonic::Code::FailedPrecondition, "MESSAGE_REFUSED");
    assert_eq!(said.stage(), "mail");
    assert!(!without.control().commands().iter().any(|line| line.starts_with("MAIL")));
    world.send(replies).await.unwrap();
    // The domain alone asks for nothing: it has a form in ASCII.
    without.send(mail(&["bo@bücher.example"])).await.unwrap();
}

#[tokio::test]
async fn the_longest_fields_that_are_taken_can_be_written() {
    let world = World::plain().await;
    for c in ['a', 'ü', '😀', '"', ' '] {
        let long = |count: usize| format!("x{}x", c.to_string().repeat(count - 2));
        let quoted = long(256).replace('"', "\\\"");
        let attachment = Attachment {
            file_name: long(255),
            content_id: "c".repeat(255),
            content_type: format!("text/plain; name={}", "n".repeat(200)),
            content_data: "x".into(),
            ..Attachment::default()
        };
        let email = Email {
            subject: long(2_000),
            to: vec![format!("\"{quoted}\" <bo@example.org>")],
            body: "<p>".into(),
            is_html: true,
            attachments: vec![attachment],
            ..Email::default()
        };
        world.send(email).await.unwrap_or_else(|status| panic!("{c:?}: {status}"));
        let delivery = world.server.accepted().pop().unwrap();
        let parsed = MessageParser::default().parse(delivery.message.as_ref()).unwrap();
        assert_eq!(parsed.subject(), Some(long(2_000).as_str()), "{c}");
        assert_eq!(parsed.to().unwrap().first().unwrap().name(), Some(long(256).as_str()), "{c}");
        assert_eq!(parsed.attachment(0).unwrap().attachment_name(), Some(long(255).as_str()), "{c}");
    }
}
