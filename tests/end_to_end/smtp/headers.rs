//! Further header fields of a mail: its thread, its list, receipts, who hands it in, and fields of one's own.

use mail_parser::MessageParser;
use postern_proto::mail::v1::{Email, Header, ListUnsubscribe};
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::{DeliveryReports, SendEmailRequest};
use tonic::Code;

use super::world::{World, mail, refused};

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: value.into() }
}

fn base() -> Email {
    mail(&["bo@example.org"])
}

/// The value of a field as it was sent, unfolded.
fn value(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(message).replace("\r\n ", " ");
    let head = text.split("\r\n\r\n").next()?;
    let named = head.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    named.map(|value| value.trim().to_owned())
}

async fn sent(world: &World, email: Email) -> Vec<u8> {
    world.send(email).await.unwrap();
    world.server.accepted().pop().unwrap().message.to_vec()
}

#[tokio::test]
async fn a_mail_names_the_mails_that_it_follows() {
    let world = World::plain().await;
    let message = sent(&world, Email { in_reply_to: "one@example.org".into(), ..base() }).await;
    assert_eq!(value(&message, "In-Reply-To").as_deref(), Some("<one@example.org>"));
    assert_eq!(value(&message, "References").as_deref(), Some("<one@example.org>"));
    let ids: Vec<String> = (0..40).map(|number| format!("<id-{number}@example.org>")).collect();
    let email = Email { in_reply_to: "<x@y>".into(), references: ids.clone(), ..base() };
    let message = sent(&world, email).await;
    assert_eq!(value(&message, "References"), Some(ids.join(" ")));
    assert!(String::from_utf8(message).unwrap().lines().all(|line| line.len() <= 78), "it folds");
    let message = sent(&world, base()).await;
    assert!(value(&message, "References").is_none() && value(&message, "In-Reply-To").is_none());
}

#[tokio::test]
async fn a_list_says_how_it_is_left() {
    let world = World::plain().await;
    let list = |url: &str, mailto: &str, one_click| Email {
        list_unsubscribe: Some(ListUnsubscribe { url: url.into(), mailto: mailto.into(), one_click }),
        ..base()
    };
    let message = sent(&world, list("https://example.org/u?id=1", "mailto:leave@example.org", true)).await;
    assert_eq!(
        value(&message, "List-Unsubscribe").as_deref(),
        Some("<https://example.org/u?id=1>, <mailto:leave@example.org>")
    );
    assert_eq!(value(&message, "List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    let message = sent(&world, list("", "leave@example.org?subject=off", false)).await;
    assert_eq!(
        value(&message, "List-Unsubscribe").as_deref(),
        Some("<mailto:leave@example.org?subject=off>")
    );
    assert!(value(&message, "List-Unsubscribe-Post").is_none());
}

#[tokio::test]
async fn who_hands_a_mail_in_is_on_the_envelope_and_receipts_are_asked_for() {
    let world = World::plain().await;
    let email = Email {
        from: "Boss <boss@example.org>".into(),
        sender: "Desk <desk@example.org>".into(),
        read_receipt_to: vec!["Read <read@example.org>, two@example.org".into()],
        delivery_receipt_to: vec!["delivered@example.org".into()],
        ..base()
    };
    let message = sent(&world, email).await;
    assert_eq!(value(&message, "From").as_deref(), Some("Boss <boss@example.org>"));
    assert_eq!(value(&message, "Sender").as_deref(), Some("Desk <desk@example.org>"));
    assert_eq!(
        value(&message, "Disposition-Notification-To").as_deref(),
        Some("Read <read@example.org>, two@example.org")
    );
    assert_eq!(value(&message, "Return-Receipt-To").as_deref(), Some("delivered@example.org"));
    assert_eq!(world.server.accepted()[0].from, "desk@example.org");
    assert_eq!(world.server.accepted()[0].to, ["bo@example.org"], "receipts are no recipients");
}

#[tokio::test]
async fn fields_of_ones_own_arrive_in_order_and_as_they_were() {
    let world = World::plain().await;
    let url = format!("https://example.org/{}", "x".repeat(700));
    let headers = vec![
        header("X-Campaign", "spring sale"),
        header("Auto-Submitted", "auto-generated"),
        header("X-Campaign", "a second of the name"),
        header("X-Name", "Jürgen 😀 Müller"),
        header("X-Url", &url),
        header("X-Long", "many words in a row ".repeat(400).trim_end()),
        header("X-Encoded-Looking", "=?utf-8?B?bm8=?="),
        header("X-Empty", ""),
        header(&"x".repeat(76), &"ü".repeat(4_096)),
    ];
    let message = sent(&world, Email { headers: headers.clone(), ..base() }).await;
    assert!(message.is_ascii());
    let parsed = MessageParser::new().header_text("x").default_header_text().parse(&message).unwrap();
    let ours: Vec<&str> = parsed
        .headers()
        .iter()
        .map(|field| field.name())
        .filter(|name| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name)))
        .collect();
    assert_eq!(ours, headers.iter().map(|header| header.name.as_str()).collect::<Vec<_>>());
    for wanted in &headers[3..] {
        let text = parsed.header(wanted.name.as_str()).and_then(|value| value.as_text()).unwrap_or_default();
        assert_eq!(text, wanted.value, "{}", wanted.name);
    }
    assert!(String::from_utf8(message).unwrap().lines().all(|line| line.len() <= 998));
}

#[tokio::test]
async fn what_such_fields_may_not_hold_is_named() {
    let world = World::plain().await;
    let own =
        |name: &str, value: &str| Email { headers: vec![header("X-A", "a"), header(name, value)], ..base() };
    let list = |url: &str, mailto: &str, one_click| Email {
        list_unsubscribe: Some(ListUnsubscribe { url: url.into(), mailto: mailto.into(), one_click }),
        ..base()
    };
    let (name, content) = ("email.headers[1].name", "email.headers[1].value");
    let mut cases: Vec<(Email, &str)> = vec![
        (own("", "a"), name),
        (own("a b", "a"), name),
        (own("a:", "a"), name),
        (own("a\r\nb", "a"), name),
        (own("ü", "a"), name),
        (own(&"x".repeat(77), "a"), name),
        (own("X-B", "a\r\nBcc: x@example.org"), content),
        (own("X-B", "a\nb"), content),
        (own("X-B", "a\rb"), content),
        (own("X-B", "a\0b"), content),
        (own("X-B", "a\u{85}b"), content),
        (own("X-B", &"x".repeat(8_193)), content),
        (Email { headers: vec![header("X-A", "a"); 101], ..base() }, "email.headers"),
        (list("", "", false), "email.list_unsubscribe"),
        (list("http://example.org", "", false), "email.list_unsubscribe.url"),
        (list("https://example.org/>,<x", "", false), "email.list_unsubscribe.url"),
        (list("", "leave@example.org", true), "email.list_unsubscribe.url"),
        (list("", "nobody", false), "email.list_unsubscribe.mailto"),
        (Email { in_reply_to: "no id".into(), ..base() }, "email.in_reply_to"),
        (Email { in_reply_to: "a@b\r\nBcc: x@y".into(), ..base() }, "email.in_reply_to"),
        (Email { references: vec!["a@b".into(), "<c@d> <e@f>".into()], ..base() }, "email.references[1]"),
        (Email { references: vec!["a@b".into(); 201], ..base() }, "email.references"),
        (Email { sender: "nobody".into(), ..base() }, "email.sender"),
        (Email { sender: "a@example.org, b@example.org".into(), ..base() }, "email.sender"),
        (Email { read_receipt_to: vec!["nobody".into()], ..base() }, "email.read_receipt_to[0]"),
        (Email { delivery_receipt_to: vec!["a@b\n".into()], ..base() }, "email.delivery_receipt_to[0]"),
        (Email { text_body: "text".into(), ..base() }, "email.text_body"),
    ];
    for reserved in [
        "From",
        "to",
        "CC",
        "Bcc",
        "Date",
        "message-ID",
        "MIME-Version",
        "Content-Type",
        "content-anything",
        "DKIM-Signature",
        "Received",
        "Return-Path",
        "Sender",
        "Reply-To",
        "Subject",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
        "In-Reply-To",
        "References",
        "Importance",
        "X-Priority",
        "Resent-Bcc",
        "ARC-Seal",
        "Disposition-Notification-To",
        "Return-Receipt-To",
        "Authentication-Results",
    ] {
        cases.push((own(reserved, "a"), name));
    }
    for (email, field) in cases {
        let said = refused(world.send(email).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(said.fields, [field]);
    }
    for (reports, field) in [
        (DeliveryReports { notify: vec![0], ..Default::default() }, "delivery_reports.notify[0]"),
        (DeliveryReports { notify: vec![2, 9], ..Default::default() }, "delivery_reports.notify[1]"),
        (DeliveryReports { notify: vec![1, 2], ..Default::default() }, "delivery_reports.notify"),
        (DeliveryReports { content: 9, ..Default::default() }, "delivery_reports.content"),
        (DeliveryReports { envelope_id: "a b".into(), ..Default::default() }, "delivery_reports.envelope_id"),
        (
            DeliveryReports { envelope_id: "x".repeat(101), ..Default::default() },
            "delivery_reports.envelope_id",
        ),
    ] {
        let (content, delivery_reports) = (Some(Content::Email(base())), Some(reports));
        let request = SendEmailRequest { content, delivery_reports, ..Default::default() };
        let said = refused(world.send_request(request).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(said.fields, [field]);
    }
    assert_eq!(world.control().connections_opened(), 0);
}
