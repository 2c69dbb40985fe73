//! A message that is already written goes as it is, but for what the contract says.

use bytes::Bytes;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::{RawEmail, SendEmailRequest, SendEmailResponse};
use tonic::{Code, Status};

use super::world::{World, refused};

fn raw(mime: &[u8]) -> RawEmail {
    RawEmail { mime: Bytes::copy_from_slice(mime), ..Default::default() }
}

async fn send(world: &World, raw: RawEmail) -> Result<SendEmailResponse, Status> {
    let content = Some(Content::Raw(raw));
    world.send_request(SendEmailRequest { content, request_id: "raw-1".into(), ..Default::default() }).await
}

async fn sent(world: &World, raw: RawEmail) -> (String, SendEmailResponse) {
    let response = send(world, raw).await.unwrap();
    let message = world.server.accepted().pop().unwrap().message;
    (String::from_utf8(message.to_vec()).unwrap(), response)
}

#[tokio::test]
async fn a_whole_message_goes_octet_by_octet_but_for_its_bcc() {
    let world = World::plain().await;
    let mime = "Received: from a\r\n\tby b\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <own@example.org>\r\n\
        From: A <a@example.org>\r\nBcc: hidden@example.org,\r\n more@example.org\r\nTo: Friends: bo@example.org (Bo), \
        c@example.org;\r\nSubject: =?utf-8?Q?=C3=BC?=  two  blanks\r\nBCC-Like: kept\r\n\r\n.dots\r\n..\r\n\r\nend  \r\n\r\n";
    let (message, response) = sent(&world, raw(mime.as_bytes())).await;
    assert_eq!(message, mime.replace("Bcc: hidden@example.org,\r\n more@example.org\r\n", ""));
    assert_eq!(response.message_id, "<own@example.org>");
    let delivery = world.server.accepted().pop().unwrap();
    assert_eq!(delivery.from, "a@example.org");
    assert_eq!(delivery.to, ["bo@example.org", "c@example.org", "hidden@example.org", "more@example.org"]);
}

#[tokio::test]
async fn what_a_message_lacks_is_put_in_and_its_line_ends_made_right() {
    let world = World::plain().await;
    let (message, response) =
        sent(&world, raw(b"From: a@example.org\nTo: bo@example.org\nX: y\n\nbare\rends\n.\n")).await;
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "bare\r\nends\r\n.\r\n");
    assert!(head.contains(&format!("Message-ID: {}\r\n", response.message_id)), "{head}");
    assert!(response.message_id.ends_with("@example.org>"));
    assert!(
        head.starts_with("Date: ") && head.ends_with("From: a@example.org\r\nTo: bo@example.org\r\nX: y")
    );
    let again = send(&world, raw(b"From: a@example.org\r\nTo: x@example.org\r\n")).await.unwrap();
    assert_eq!(again.message_id, response.message_id, "it follows from the request_id");
}

#[tokio::test]
async fn the_envelope_is_as_given_else_as_written() {
    let world = World::plain().await;
    let mime = b"From: a@example.org, b@example.org\r\nSender: s@example.org\r\nTo: bo@example.org\r\n\r\nx";
    sent(&world, raw(mime)).await;
    let to = vec!["one@example.org; Two <two@example.org>".into(), "one@example.org".into()];
    sent(&world, RawEmail { from: "bounces@example.org".into(), to, ..raw(mime) }).await;
    let envelopes: Vec<_> = world.server.accepted().into_iter().map(|one| (one.from, one.to)).collect();
    assert_eq!(envelopes[0], ("s@example.org".into(), vec!["bo@example.org".into()]));
    let two = vec!["one@example.org".to_owned(), "two@example.org".into()];
    assert_eq!(envelopes[1], ("bounces@example.org".into(), two));
    // What is written there need not be understood where it is not needed.
    let odd = raw(b"From: a@example.org\r\nTo: all of you\r\n\r\nx");
    sent(&world, RawEmail { to: vec!["bo@example.org".into()], ..odd }).await;
}

#[tokio::test]
async fn octets_beyond_ascii_ask_for_what_carries_them() {
    let world = World::plain().await;
    let body = "From: a@example.org\r\nTo: bo@example.org\r\n\r\nacht bït\r\n";
    sent(&world, raw(body.as_bytes())).await;
    let head = "From: a@example.org\r\nTo: bo@example.org\r\nSubject: Grüße\r\n\r\nx\r\n";
    sent(&world, raw(head.as_bytes())).await;
    let mails: Vec<_> =
        world.control().commands().into_iter().filter(|line| line.starts_with("MAIL")).collect();
    assert!(mails[0].contains("BODY=8BITMIME") && !mails[0].contains("SMTPUTF8"), "{mails:?}");
    assert!(mails[1].contains("SMTPUTF8"), "{mails:?}");
    let without = World::plain().await;
    without.control().hide("8BITMIME");
    refused(send(&without, raw(body.as_bytes())).await, Code::FailedPrecondition, "MESSAGE_REFUSED");
}

#[tokio::test]
async fn what_is_no_message_is_refused_before_any_server_is_asked() {
    let world = World::plain().await;
    let good = "From: a@example.org\r\nTo: bo@example.org\r\n";
    let with = |field: &str| raw(format!("{good}{field}\r\n\r\nbody").as_bytes());
    let text = |text: &str| raw(text.as_bytes());
    for (wrong, field) in [
        (raw(b""), "raw.mime"),
        (text("no header at all"), "raw.mime"),
        (text("\r\nFrom: a@example.org\r\n\r\nbody"), "raw.mime"),
        (text(" folded: first\r\nFrom: a@example.org\r\n\r\n"), "raw.mime"),
        (with("no colon"), "raw.mime"),
        (with("a b: c"), "raw.mime"),
        (with(": no name"), "raw.mime"),
        (with("X: a\u{7}b"), "raw.mime"),
        (with("X: a\r\n \r\nY: b"), "raw.mime"),
        (with("From: x@example.org"), "raw.mime"),
        (with("Message-ID: none"), "raw.mime"),
        (with("Message-ID: <a@b> <c@d>"), "raw.mime"),
        (with("Cc: nobody"), "raw.mime"),
        (with(&format!("X: {}", "x".repeat(996))), "raw.mime"),
        (raw(&[good.as_bytes(), b"X: \xff\r\n\r\nbody"].concat()), "raw.mime"),
        (raw(&[good.as_bytes(), b"\r\nnul \0"].concat()), "raw.mime"),
        (raw(&[good.as_bytes(), b"\r\n", &[b'x'; 999]].concat()), "raw.mime"),
        (text("To: bo@example.org\r\n\r\nbody"), "raw.mime"),
        (text("From: a@example.org, b@example.org\r\nTo: bo@example.org\r\n\r\n"), "raw.from"),
        (text("From: a@example.org\r\n\r\nbody"), "raw.to"),
        (text("From: a@example.org\r\nTo: undisclosed-recipients:;\r\n\r\nbody"), "raw.to"),
        (RawEmail { from: "nobody".into(), ..text(good) }, "raw.from"),
        (RawEmail { from: "a@example.org> SIZE=1".into(), ..text(good) }, "raw.from"),
        (RawEmail { to: vec!["a@example.org".into(), "b".into()], ..text(good) }, "raw.to[1]"),
        (RawEmail { to: vec![" ; ".into()], ..text(good) }, "raw.to"),
    ] {
        let shown = String::from_utf8_lossy(&wrong.mime).into_owned();
        let status = send(&world, wrong).await;
        let said = refused(status, Code::InvalidArgument, "FIELD_INVALID");
        assert!(
            said.fields.first().is_some_and(|first| first == field),
            "{field}: {:?} {shown:?}",
            said.fields
        );
    }
    assert_eq!(world.control().connections_opened(), 0);
}
