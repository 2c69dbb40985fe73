//! CheckEmail shows what would be sent and asks no server. Being quick, it is also how mails of chance content are
//! looked at.

use bytes::Bytes;
use mail_parser::{MessageParser, MimeHeaders as _};
use postern_proto::mail::v1::{Attachment, ContentTransferEncoding, Email, Header};
use postern_proto::smtp::v1::check_email_request::Content;
use postern_proto::smtp::v1::{
    CheckEmailRequest, CheckEmailResponse, RawEmail, SendEmailRequest, send_email_request,
};
use tonic::{Code, Status};

use super::world::{Said, World, mail};

async fn check(world: &World, content: Option<Content>, id: &str) -> Result<CheckEmailResponse, Status> {
    let request = CheckEmailRequest { content, mail_id: id.into(), ..Default::default() };
    world.smtp().check_email(world.request(request)).await.map(tonic::Response::into_inner)
}

/// A message without its Date, which is that of the call.
fn undated(message: &[u8]) -> String {
    let text = String::from_utf8(message.to_vec()).unwrap();
    let at = text.find("Date: ").unwrap();
    let end = at + text[at..].find("\r\n").unwrap() + 2;
    format!("{}{}", &text[..at], &text[end..])
}

fn rich() -> Email {
    let attachment = Attachment {
        file_name: "a.bin".into(),
        content_data: Bytes::from(vec![7; 1_000]),
        content_type: "application/octet-stream".into(),
        ..Default::default()
    };
    Email {
        bcc: vec!["hidden@example.org".into()],
        is_html: true,
        text_body: ".dots\n".into(),
        attachments: vec![attachment],
        ..mail(&["Bo <bo@example.org>"])
    }
}

#[tokio::test]
async fn what_is_shown_is_what_would_be_sent() {
    let world = World::plain().await;
    let shown = check(&world, Some(Content::Email(rich())), "mail-7").await.unwrap();
    assert_eq!(world.control().connections_opened(), 0, "the server is not asked");
    let content = Some(send_email_request::Content::Email(rich()));
    let request = SendEmailRequest { content, request_id: "mail-7".into(), ..Default::default() };
    let sent = world.send_request(request).await.unwrap();
    let delivery = world.server.accepted().pop().unwrap();
    assert_eq!(undated(&shown.mime), undated(&delivery.message), "boundaries and all");
    assert_eq!(shown.message_id, sent.message_id);
    assert_eq!(shown.size, delivery.message.len() as i64);
    assert_eq!((shown.envelope_from.as_str(), &shown.envelope_to), ("sender@example.org", &delivery.to));
    assert!(!shown.mime_truncated && !shown.needs_eight_bit && !shown.needs_smtputf8);
    let again = check(&world, Some(Content::Email(rich())), "").await.unwrap();
    assert_ne!(again.message_id, shown.message_id);
}

#[tokio::test]
async fn what_the_server_must_offer_is_said_and_a_long_message_is_cut() {
    let world = World::plain().await;
    let utf8 = check(&world, Some(Content::Email(mail(&["bö@example.org"]))), "").await.unwrap();
    assert!(utf8.needs_smtputf8 && !utf8.needs_eight_bit);
    let a_label = check(&world, Some(Content::Email(mail(&["bo@bücher.example"]))), "").await.unwrap();
    assert!(!a_label.needs_smtputf8);
    assert_eq!(a_label.envelope_to, ["bo@xn--bcher-kva.example"]);
    let mime = Bytes::from_static("From: a@example.org\nTo: b@example.org\n\nü\n".as_bytes());
    let raw = check(&world, Some(Content::Raw(RawEmail { mime, ..Default::default() })), "").await.unwrap();
    assert!(raw.needs_eight_bit && !raw.needs_smtputf8);
    assert_eq!(raw.envelope_from, "a@example.org");
    let long = Email { body: "0123456789\n".repeat(280_000), ..mail(&["bo@example.org"]) };
    let long = check(&world, Some(Content::Email(long)), "").await.unwrap();
    assert!(long.mime_truncated && long.mime.len() == 3 * 1024 * 1024 && long.size > 3_300_000);
}

#[tokio::test]
async fn what_is_wrong_is_told_as_a_sending_would() {
    let mut world = World::plain().await;
    let fields = |checked: Result<CheckEmailResponse, Status>| Said::of(&checked.unwrap_err()).fields;
    assert_eq!(fields(check(&world, Some(Content::Email(mail(&["bo"]))), "").await), ["email.to[0]"]);
    assert_eq!(fields(check(&world, Some(Content::Raw(RawEmail::default())), "").await), ["raw.mime"]);
    assert_eq!(fields(check(&world, None, "").await), ["email"]);
    assert_eq!(fields(check(&world, Some(Content::Email(rich())), "a b").await), ["mail_id"]);
    world.stored.max_message_bytes = 1_000;
    let said = Said::of(&check(&world, Some(Content::Email(rich())), "").await.unwrap_err());
    assert_eq!((said.code, said.reason.as_str()), (Code::InvalidArgument, "MESSAGE_TOO_LARGE"));
}

/// Text of chance, of what makes trouble in mail.
fn chance(most: usize) -> String {
    const BITS: [&str; 22] = [
        "a",
        "word",
        " ",
        "  ",
        "ü",
        "😀",
        "漢字",
        "\"",
        "\\",
        ",",
        ";",
        ":",
        "<",
        ">",
        "=?",
        "?=",
        "=",
        ".",
        "--",
        "(",
        ")",
        "a_rather_long_word_without_any_blank_in_it_that_is_over_sixty_characters",
    ];
    (0..fastrand::usize(..most)).map(|_| BITS[fastrand::usize(..BITS.len())]).collect()
}

#[tokio::test]
async fn fields_of_any_content_come_back_as_they_were_and_break_no_line() {
    let world = World::plain().await;
    for _ in 0..300 {
        let seed = fastrand::u64(..);
        fastrand::seed(seed);
        let (subject, name, own) = (chance(25), chance(4), chance(110));
        let file = format!("f{}", chance(4));
        let bytes: Vec<u8> = (0..fastrand::usize(1..500)).map(|_| fastrand::u8(..)).collect();
        let body = chance(400).replace(';', "\n").replace(',', "\r\n");
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        let encodings = [ContentTransferEncoding::Unspecified, ContentTransferEncoding::QuotedPrintable];
        let email = Email {
            to: vec![format!("\"{quoted}\" <bo@example.org>")],
            subject: subject.clone(),
            body: body.clone(),
            headers: vec![Header { name: "X-Own".into(), value: own.clone() }],
            attachments: vec![Attachment {
                file_name: file.clone(),
                content_data: bytes.clone().into(),
                content_type: "application/octet-stream".into(),
                content_transfer_encoding: encodings[fastrand::usize(..2)].into(),
                ..Default::default()
            }],
            ..Email::default()
        };
        let shown = check(&world, Some(Content::Email(email)), "").await;
        let shown = shown.unwrap_or_else(|status| panic!("seed {seed}: {status}"));
        let text = String::from_utf8(shown.mime.to_vec()).unwrap();
        assert!(text.is_ascii() && !text.replace("\r\n", "").contains(['\r', '\n']), "seed {seed}");
        assert!(text.split("\r\n").all(|line| line.len() <= 998), "seed {seed}");
        let head = text.split("\r\n\r\n").next().unwrap();
        // A field of one's own folds at blanks alone: a word is as long as it is.
        let folded = |line: &str| line.split(' ').any(|word| line.len() <= 160.max(word.len() + 78));
        assert!(head.lines().all(folded), "seed {seed}: {head}");
        let parsed = MessageParser::new().header_text("X-Own").default_header_text().parse(text.as_bytes());
        let text_of = |value: Option<&str>| squeezed(value.unwrap_or_default());
        let parsed = parsed.unwrap();
        let own_field = parsed.header("X-Own").and_then(|value| value.as_text());
        assert_eq!(text_of(own_field), squeezed(&own), "seed {seed}");
        let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
        assert_eq!(text_of(parsed.subject()), squeezed(&subject), "seed {seed}");
        let to = parsed.to().unwrap().first().unwrap();
        assert_eq!(text_of(to.name()), squeezed(&name), "seed {seed}");
        assert_eq!(to.address(), Some("bo@example.org"), "seed {seed}");
        let attached = parsed.attachment(0).unwrap();
        assert_eq!(attached.attachment_name(), Some(file.as_str()), "seed {seed}");
        assert_eq!(attached.contents(), bytes, "seed {seed}");
        let lines = body.replace("\r\n", "\n").replace('\n', "\r\n");
        assert_eq!(parsed.body_text(0).unwrap_or_default(), lines, "seed {seed}");
    }
}

/// What reads a header makes one blank of several, as it may where a line folds.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
