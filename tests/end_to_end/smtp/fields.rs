//! What is wrong with a request is told by field, before any server is asked.

use bytes::Bytes;
use postern_proto::mail::v1::{Attachment, ContentTransferEncoding, Email};
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use tonic::Code;

use super::world::{World, mail, refused};

fn good() -> Attachment {
    Attachment {
        file_name: "a.txt".into(),
        content_data: Bytes::from_static(b"text"),
        content_type: "text/plain".into(),
        ..Default::default()
    }
}

fn attached(attachment: Attachment) -> Email {
    Email { attachments: vec![good(), attachment], ..mail(&["bo@example.org"]) }
}

#[tokio::test]
async fn every_bad_input_is_named_and_no_server_is_asked() {
    let world = World::plain().await;
    let base = || mail(&["bo@example.org"]);
    let encoded = |encoding: ContentTransferEncoding, content: &'static [u8]| {
        attached(Attachment {
            content_data: Bytes::from_static(content),
            content_transfer_encoding: encoding.into(),
            ..good()
        })
    };
    let encoding_field = "email.attachments[1].content_transfer_encoding";
    let cases: Vec<(Email, &str)> = vec![
        (mail(&[]), "email.to"),
        (mail(&[" ; , "]), "email.to"),
        (mail(&["bo"]), "email.to[0]"),
        (mail(&["bo@example.org", "bo@@example.org"]), "email.to[1]"),
        (mail(&["Bo <bo@example.org>\r\nBcc: x@example.org"]), "email.to[0]"),
        (mail(&["bo@example.org> SIZE=1"]), "email.to[0]"),
        (Email { cc: vec!["x y@example.org".into()], ..base() }, "email.cc[0]"),
        (Email { bcc: vec!["".into(), "@".into()], ..base() }, "email.bcc[1]"),
        (Email { reply_to: vec!["nobody".into()], ..base() }, "email.reply_to[0]"),
        (Email { from: "a@example.org, b@example.org".into(), ..base() }, "email.from"),
        (Email { from: "nobody".into(), ..base() }, "email.from"),
        (Email { subject: "a\r\nX-Injected: yes".into(), ..base() }, "email.subject"),
        (Email { subject: "a\nb".into(), ..base() }, "email.subject"),
        (Email { subject: "bell \u{7}".into(), ..base() }, "email.subject"),
        (Email { subject: "x".repeat(2_001), ..base() }, "email.subject"),
        (Email { importance: 17, ..base() }, "email.importance"),
        (attached(Attachment { file_name: String::new(), ..good() }), "email.attachments[1].file_name"),
        (attached(Attachment { file_name: "a\r\nb".into(), ..good() }), "email.attachments[1].file_name"),
        (attached(Attachment { content_id: "a\r\nb".into(), ..good() }), "email.attachments[1].content_id"),
        (attached(Attachment { content_id: "<a>".into(), ..good() }), "email.attachments[1].content_id"),
        (attached(Attachment { content_data: Bytes::new(), ..good() }), "email.attachments[1].content_data"),
        (attached(Attachment { content_type: String::new(), ..good() }), "email.attachments[1].content_type"),
        (attached(Attachment { content_type: "png".into(), ..good() }), "email.attachments[1].content_type"),
        (
            attached(Attachment { content_type: "text/plain\r\nX: y".into(), ..good() }),
            "email.attachments[1].content_type",
        ),
        (encoded(ContentTransferEncoding::SevenBit, "ü".as_bytes()), encoding_field),
        (encoded(ContentTransferEncoding::SevenBit, b"bare\nline end"), encoding_field),
        (encoded(ContentTransferEncoding::EightBit, &[b'x'; 999]), encoding_field),
        (encoded(ContentTransferEncoding::EightBit, b"nul\0"), encoding_field),
    ];
    for (email, field) in cases {
        let said = refused(world.send(email).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(said.fields, [field]);
    }
    for id in ["with space", "ü", &"x".repeat(129)] {
        let request = SendEmailRequest {
            request_id: id.into(),
            content: Some(Content::Email(base())),
            ..Default::default()
        };
        let said = refused(world.send_request(request).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(said.fields, ["request_id"]);
    }
    let said = refused(world.send_request(Default::default()).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(said.fields, ["email"]);
    assert_eq!(world.control().connections_opened(), 0);
}

#[tokio::test]
async fn all_wrong_fields_are_named_at_once_and_no_value_is_repeated() {
    let world = World::plain().await;
    let email = Email {
        from: "secret-one".into(),
        cc: vec!["secret-two".into()],
        ..mail(&["bo@example.org", "secret-three"])
    };
    let status = world.send(email).await.unwrap_err();
    assert!(!status.message().contains("secret"), "{}", status.message());
    let said = super::world::Said::of(&status);
    assert_eq!(said.fields, ["email.from", "email.to[1]", "email.cc[0]"]);
}

#[tokio::test]
async fn very_many_wrong_fields_still_reach_the_caller() {
    let world = World::plain().await;
    let said = refused(world.send(mail(&["nobody"; 900])).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!((said.fields.len(), said.fields[19].as_str()), (20, "email.to[19]"));
}

#[tokio::test]
async fn without_a_sender_of_its_own_a_connection_needs_one_in_each_mail() {
    let mut world = World::plain().await;
    world.stored.default_from.clear();
    let said = refused(world.send(mail(&["bo@example.org"])).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(said.fields, ["email.from"]);
    world.send(Email { from: "me@example.org".into(), ..mail(&["bo@example.org"]) }).await.unwrap();
    assert_eq!(world.server.accepted()[0].from, "me@example.org");
}

#[tokio::test]
async fn a_message_over_the_connections_or_the_servers_limit_is_too_large() {
    let mut world = World::with(postern_sandbox::smtp::SmtpSettings {
        tls: postern_sandbox::smtp::Tls::None,
        max_size: 5_000,
        ..Default::default()
    })
    .await;
    let email = || Email { body: "0123456789\r\n".repeat(600), ..mail(&["bo@example.org"]) };
    let said = refused(world.send(email()).await, Code::InvalidArgument, "MESSAGE_TOO_LARGE");
    assert!(said.fields.is_empty());
    assert!(!world.control().commands().iter().any(|line| line.starts_with("MAIL")), "SIZE was known before");
    world.control().hide("SIZE");
    world.stored.max_connections = 1;
    refused(world.send(email()).await, Code::InvalidArgument, "MESSAGE_TOO_LARGE");
    let opened = world.control().connections_opened();
    world.stored.max_message_bytes = 2_000;
    refused(world.send(email()).await, Code::InvalidArgument, "MESSAGE_TOO_LARGE");
    assert_eq!(world.control().connections_opened(), opened, "our own limit needs no server");
    assert!(world.server.accepted().is_empty());
}

#[tokio::test]
async fn the_size_is_told_to_a_server_that_asks_for_it() {
    let world = World::plain().await;
    world.send(Email { body: ".\r\n.\r\n".into(), ..mail(&["bo@example.org"]) }).await.unwrap();
    let size = world.server.accepted()[0].message.len();
    let told = format!("MAIL FROM:<sender@example.org> SIZE={size}");
    assert!(world.control().commands().contains(&told), "{:?}", world.control().commands());
}
