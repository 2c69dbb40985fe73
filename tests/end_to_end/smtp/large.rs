//! Mails whose attachments come in chunks: whole at the other end, and refused early where they cannot get there.

use std::time::Duration;

use futures_util::StreamExt as _;
use mail_parser::{MessageParser, MimeHeaders as _};
use postern_chassis::fault::reason_of;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::mail::v1::{Attachment, AttachmentChunk, Email, LargeAttachment};
use postern_proto::smtp::v1::send_large_email_request::Part;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{
    LargeEmail, SendLargeEmailRequest, SendLargeEmailResponse, SmtpCredentials, SmtpSettings as Stored,
    TlsMode,
};
use postern_sandbox::smtp::{SmtpServer, SmtpSettings, Tls};
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::world::{Said, World, mail};

const MIB: usize = 1024 * 1024;
const CHUNK: usize = 256 * 1024;

/// An attachment of so many bytes that is yet to come.
pub(crate) fn large(name: &str, size: usize) -> LargeAttachment {
    LargeAttachment {
        file_name: name.to_owned(),
        content_type: "application/octet-stream".to_owned(),
        size: size as i64,
        ..Default::default()
    }
}

/// The first message of a stream.
pub(crate) fn first(
    request_id: &str,
    email: Email,
    large_attachments: Vec<LargeAttachment>,
) -> SendLargeEmailRequest {
    let email = LargeEmail { email: Some(email), large_attachments, delivery_reports: None };
    SendLargeEmailRequest {
        request_id: request_id.to_owned(),
        part: Some(Part::Email(email)),
        ..Default::default()
    }
}

/// Bytes of an attachment.
fn chunk(attachment: i32, data: &[u8]) -> SendLargeEmailRequest {
    let chunk = AttachmentChunk { attachment, data: data.to_vec().into() };
    SendLargeEmailRequest { part: Some(Part::Chunk(chunk)), ..Default::default() }
}

/// All bytes of an attachment.
pub(crate) fn chunks(attachment: i32, data: &[u8]) -> Vec<SendLargeEmailRequest> {
    data.chunks(CHUNK).map(|data| chunk(attachment, data)).collect()
}

/// Bytes that are not the same twice in a row.
pub(crate) fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    bytes
}

async fn send(
    world: &World,
    parts: impl Stream<Item = SendLargeEmailRequest> + Send + 'static,
) -> Result<SendLargeEmailResponse, Status> {
    world.smtp().send_large_email(world.request(parts)).await.map(tonic::Response::into_inner)
}

async fn send_all(
    world: &World,
    parts: Vec<SendLargeEmailRequest>,
) -> Result<SendLargeEmailResponse, Status> {
    send(world, tokio_stream::iter(parts)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_mebibytes_arrive_whole_through_the_gateway() {
    let gateway = crate::world::World::start().await;
    let server =
        SmtpServer::start(SmtpSettings { tls: Tls::None, max_size: 100 * MIB, ..Default::default() })
            .await
            .unwrap();
    let settings = Stored {
        server: "127.0.0.1".to_owned(),
        port: server.address().port().into(),
        tls_mode: TlsMode::None.into(),
        max_message_bytes: 100 * MIB as i64,
        ..Default::default()
    };
    let connection = (Settings::Smtp(settings), Credentials::SmtpCredentials(SmtpCredentials::default()));
    crate::world::create(&gateway.channel, "connections/large", connection).await.unwrap();
    let bytes = content(1, 50 * MIB);
    let email = Email { from: "anna@example.org".to_owned(), ..mail(&["bo@example.org"]) };
    let mut parts = vec![first("", email, vec![large("fifty.bin", bytes.len())])];
    parts[0].connection = "connections/large".to_owned();
    parts.extend(chunks(0, &bytes));
    let mut client = SmtpServiceClient::new(gateway.channel.clone());
    let answer = client.send_large_email(tokio_stream::iter(parts)).await.unwrap().into_inner();
    assert_eq!(answer.recipients.len(), 1);
    let accepted = server.accepted();
    let message = MessageParser::default().parse(&accepted[0].message[..]).unwrap();
    assert_eq!(format!("<{}>", message.message_id().unwrap()), answer.message_id);
    assert!(message.attachment(0).unwrap().contents() == bytes, "the bytes are others");
    assert_eq!(accepted.len(), 1);
}

#[tokio::test]
async fn large_attachments_stand_after_the_small_ones_in_order() {
    let world = World::plain().await;
    let small = Attachment {
        file_name: "small.txt".to_owned(),
        content_type: "text/plain".to_owned(),
        content_data: "small".into(),
        ..Default::default()
    };
    let email = Email { attachments: vec![small], ..mail(&["bo@example.org"]) };
    let (one, two) = (content(2, CHUNK + 1), content(3, 10));
    let mut parts = vec![first("a", email, vec![large("one.bin", one.len()), large("two.bin", two.len())])];
    parts.extend(chunks(0, &one));
    parts.extend(chunks(1, &two));
    let answer = send_all(&world, parts).await.unwrap();
    assert_eq!((answer.recipients.len(), answer.reply.unwrap().code), (1, 250));
    let accepted = world.server.accepted();
    let message = MessageParser::default().parse(&accepted[0].message[..]).unwrap();
    let attached: Vec<_> =
        message.attachments().map(|part| (part.attachment_name().unwrap(), part.contents())).collect();
    assert_eq!(attached, [("small.txt", &b"small"[..]), ("one.bin", &one), ("two.bin", &two)]);
}

#[tokio::test]
async fn chunks_that_do_not_fit_what_was_said_are_refused_by_name() {
    let world = World::plain().await;
    let two = || first("", mail(&["bo@example.org"]), vec![large("a.bin", 4), large("b.bin", 4)]);
    let absent = || SendLargeEmailRequest::default();
    let other = SendLargeEmailRequest { connection: "connections/other".to_owned(), ..chunk(0, b"1234") };
    let cases = [
        (vec![], "email"),
        (vec![chunk(0, b"1234")], "email"),
        (vec![absent()], "email"),
        (vec![two()], "email.large_attachments[0].size"),
        (vec![two(), chunk(0, b"12")], "email.large_attachments[0].size"),
        (vec![two(), chunk(0, b"1234"), chunk(1, b"123")], "email.large_attachments[1].size"),
        (vec![two(), chunk(1, b"1234")], "chunk.attachment"),
        (vec![two(), chunk(0, b"12"), chunk(1, b"1234")], "chunk.attachment"),
        (vec![two(), chunk(-1, b"1234")], "chunk.attachment"),
        (vec![two(), chunk(0, b"12345")], "chunk.data"),
        (vec![two(), chunk(0, b"1234"), chunk(0, b"5")], "chunk.data"),
        (vec![two(), chunk(0, b"1234"), chunk(1, b"1234"), chunk(1, b"5")], "chunk.data"),
        (vec![two(), chunk(0, b"1234"), chunk(1, b"1234"), chunk(2, b"5")], "chunk.attachment"),
        (vec![two(), chunk(0, b"")], "chunk.data"),
        (vec![two(), two()], "chunk"),
        (vec![two(), absent()], "chunk"),
        (vec![two(), chunk(0, b"1234"), chunk(1, b"1234"), two()], "chunk"),
        (vec![two(), other], "connection"),
        (
            vec![first("", mail(&["bo@example.org"]), vec![large("a.bin", 0)])],
            "email.large_attachments[0].size",
        ),
        (vec![first("", mail(&[]), vec![large("a.bin", 4)])], "email.email.to"),
    ];
    for (number, (parts, field)) in cases.into_iter().enumerate() {
        let refused = send_all(&world, parts).await.unwrap_err();
        let said = Said::of(&refused);
        let expected = (Code::InvalidArgument, "FIELD_INVALID", vec![field.to_owned()]);
        assert_eq!((said.code, said.reason.as_str(), said.fields), expected, "case {number}: {refused:?}");
    }
    let over =
        vec![first("", mail(&["bo@example.org"]), vec![large("a.bin", MIB)]), chunk(0, &[7; CHUNK + 1])];
    assert_eq!(Said::of(&send_all(&world, over).await.unwrap_err()).fields, ["chunk.data"]);
    assert!(world.server.accepted().is_empty());
}

#[tokio::test]
async fn what_is_wrong_without_the_bytes_is_found_before_they_are_read() {
    let mut world =
        World::with(SmtpSettings { tls: Tls::None, max_size: 20 * MIB, ..Default::default() }).await;
    world.stored.max_message_bytes = 30 * MIB as i64;
    let with = |attachment| first("", mail(&["bo@example.org"]), vec![attachment]);
    let nameless = LargeAttachment { file_name: String::new(), ..large("", 4) };
    let typeless = LargeAttachment { content_type: "no type".to_owned(), ..large("a.bin", 4) };
    for (part, reason, fields, whose) in [
        (with(nameless), "FIELD_INVALID", vec!["email.large_attachments[0].file_name"], "file_name"),
        (with(typeless), "FIELD_INVALID", vec!["email.large_attachments[0].content_type"], "media type"),
        (with(large("a.bin", 23 * MIB)), "MESSAGE_TOO_LARGE", vec![], "the limit of the connection"),
        (with(large("a.bin", i64::MAX as usize)), "MESSAGE_TOO_LARGE", vec![], "the limit of the connection"),
        (with(large("a.bin", 16 * MIB)), "MESSAGE_TOO_LARGE", vec![], "the limit of the server"),
    ] {
        // Nothing comes after the first message, not even the end.
        let parts = tokio_stream::iter([part]).chain(tokio_stream::pending());
        let refused = send(&world, parts).await.unwrap_err();
        let said = Said::of(&refused);
        assert_eq!((said.code, said.reason.as_str()), (Code::InvalidArgument, reason), "{refused:?}");
        assert_eq!(said.fields, fields);
        assert!(refused.message().contains(whose), "{}", refused.message());
    }
    let mut world = world;
    world.stored.port = 1;
    let parts = tokio_stream::iter([with(large("a.bin", 4))]).chain(tokio_stream::pending());
    assert_eq!(reason_of(&send(&world, parts).await.unwrap_err()), "PROVIDER_UNAVAILABLE");
}

#[tokio::test]
async fn beyond_the_room_for_mails_a_sending_is_refused_for_now() {
    let settings = postern_smtp_service::Settings {
        limits: postern_smtp_service::LimitSettings { max_bytes_in_flight: 16 * MIB as u64 },
        ..Default::default()
    };
    let world = World::between(SmtpSettings { tls: Tls::None, ..Default::default() }, settings).await;
    let start = || first("", mail(&["bo@example.org"]), vec![large("a.bin", 10 * MIB)]);
    let (parts, coming) = tokio::sync::mpsc::channel(1);
    parts.send(start()).await.unwrap();
    let mut client = world.smtp();
    let request = world.request(tokio_stream::wrappers::ReceiverStream::new(coming));
    let holding = tokio::spawn(async move { client.send_large_email(request).await });
    // More than a window of HTTP/2: the mail has its room once this has been read.
    for part in chunks(0, &content(4, 8 * MIB)) {
        parts.send(part).await.unwrap();
    }
    let said = Said::of(&send_all(&world, vec![start()]).await.unwrap_err());
    assert_eq!((said.code, said.reason.as_str()), (Code::ResourceExhausted, "SENDS_TOO_LARGE"));
    assert!(said.retry);
    let inline = Attachment {
        file_name: "a.bin".to_owned(),
        content_type: "application/octet-stream".to_owned(),
        content_data: vec![7; 3 * MIB].into(),
        ..Default::default()
    };
    let inline = Email { attachments: vec![inline], ..mail(&["bo@example.org"]) };
    let said = Said::of(&world.send(inline.clone()).await.unwrap_err());
    assert_eq!((said.code, said.reason.as_str()), (Code::ResourceExhausted, "SENDS_TOO_LARGE"));
    world.send(mail(&["bo@example.org"])).await.expect("there is room for a small one");
    drop(parts);
    assert_eq!(reason_of(&holding.await.unwrap().unwrap_err()), "FIELD_INVALID");
    world.send(inline).await.expect("the room was given back");
    let whole =
        send_all(&world, vec![first("", mail(&["bo@example.org"]), vec![large("a.bin", 13 * MIB)])]).await;
    assert_eq!(reason_of(&whole.unwrap_err()), "MESSAGE_TOO_LARGE", "larger than all the room there is");
}

#[tokio::test]
async fn a_caller_that_stalls_is_given_up_at_its_deadline_and_nothing_is_sent() {
    let world = World::plain().await;
    let parts = [first("", mail(&["bo@example.org"]), vec![large("a.bin", 4)]), chunk(0, b"123")];
    let mut request = world.request(tokio_stream::iter(parts).chain(tokio_stream::pending()));
    request.set_timeout(Duration::from_secs(2));
    let ended = world.smtp().send_large_email(request).await.unwrap_err();
    assert_eq!((ended.code(), reason_of(&ended).as_str()), (Code::DeadlineExceeded, "NOTHING_DONE"));
    assert!(world.server.accepted().is_empty());
}
