//! Many mails on one stream, and one with a large attachment, through real servers.

use std::collections::HashMap;

use bytes::Bytes;
use postern_proto::mail::v1::{Attachment, AttachmentChunk, ContentTransferEncoding, Email, LargeAttachment};
use postern_proto::smtp::v1::send_emails_request::Content;
use postern_proto::smtp::v1::send_emails_response::Outcome;
use postern_proto::smtp::v1::send_large_email_request::Part;
use postern_proto::smtp::v1::{LargeEmail, SendEmailsRequest, SendLargeEmailRequest};
use tokio_stream::StreamExt as _;

use super::super::world::mail;
use super::judged::Cases;
use super::started::Make;
use super::{mails, world_of};

/// How large the large attachment is.
const LARGE_BYTES: usize = 8 * 1024 * 1024;
/// As many bytes as a chunk may have.
const CHUNK_BYTES: usize = 256 * 1024;
/// How often each kind of mail is on the stream.
const TIMES: usize = 3;

async fn many_arrive_on_one_stream(make: Make) {
    let Some((world, peer)) = world_of(make).await else { return };
    let mut sent: HashMap<String, (&str, Email)> = HashMap::new();
    let mut requests = Vec::new();
    for round in 0..TIMES {
        for (kind, (name, email)) in mails::all().into_iter().enumerate() {
            let id = format!("{round}-{kind}");
            requests.push(SendEmailsRequest {
                request_id: id.clone(),
                content: Some(Content::Email(email.clone())),
                ..Default::default()
            });
            sent.insert(id, (name, email));
        }
    }
    requests.push(SendEmailsRequest {
        request_id: "refused".to_owned(),
        content: Some(Content::Email(mail(&["nobody@example.org"]))),
        ..Default::default()
    });
    let mut answers =
        world.smtp().send_emails(world.request(tokio_stream::iter(requests))).await.unwrap().into_inner();
    let (mut cases, mut refused) = (Cases::new(), 0);
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        match answer.outcome.unwrap() {
            Outcome::Sent(taken) => {
                let (name, email) = sent.remove(&answer.request_id).expect("each is answered once");
                let recipients: Vec<_> = taken.recipients.iter().map(|one| one.address.clone()).collect();
                cases.sent(
                    &format!("{name} ({})", answer.request_id),
                    &email,
                    &taken.message_id,
                    &recipients,
                );
            }
            Outcome::Failure(failure) => {
                assert_eq!(
                    (answer.request_id.as_str(), failure.reason.as_str()),
                    ("refused", "MESSAGE_REFUSED")
                );
                refused += 1;
            }
        }
    }
    assert_eq!((sent.len(), refused), (0, 1), "each is answered");
    let failures = cases.judge(&world.server, peer.python()).await;
    assert!(failures.is_empty(), "{}:\n{}\n{}", make.name(), failures.join("\n"), peer.log());
}

async fn a_large_attachment_arrives_whole(make: Make) {
    let Some((world, peer)) = world_of(make).await else { return };
    let seed: Vec<u8> = (0..LARGE_BYTES).map(|at| u8::try_from((at * at / 7 + at) % 251).unwrap()).collect();
    let (content, tail) = (Bytes::from(seed), Bytes::from_static(b"and a second, small one"));
    let small = Attachment {
        file_name: "small.txt".to_owned(),
        content_data: Bytes::from_static(b"small"),
        content_type: "text/plain".to_owned(),
        ..Default::default()
    };
    let large = |name: &str, content: &Bytes| LargeAttachment {
        file_name: name.to_owned(),
        content_type: "application/octet-stream".to_owned(),
        content_transfer_encoding: ContentTransferEncoding::Base64.into(),
        size: i64::try_from(content.len()).unwrap(),
        ..Default::default()
    };
    let email = Email { attachments: vec![small], ..mail(&["bo@example.org"]) };
    let first = LargeEmail {
        email: Some(email.clone()),
        large_attachments: vec![large("large.bin", &content), large("tail.bin", &tail)],
        delivery_reports: None,
    };
    let mut parts = vec![Part::Email(first)];
    for (attachment, content) in [(0, &content), (1, &tail)] {
        let mut rest = content.clone();
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(CHUNK_BYTES));
            parts.push(Part::Chunk(AttachmentChunk { attachment, data }));
        }
    }
    let requests: Vec<_> = parts
        .into_iter()
        .map(|part| SendLargeEmailRequest { part: Some(part), ..Default::default() })
        .collect();
    let sent = world.smtp().send_large_email(world.request(tokio_stream::iter(requests))).await;
    let sent = sent.unwrap().into_inner();

    let mut whole = email;
    for (name, content) in [("large.bin", content), ("tail.bin", tail)] {
        whole.attachments.push(Attachment {
            file_name: name.to_owned(),
            content_data: content,
            content_type: "application/octet-stream".to_owned(),
            content_transfer_encoding: ContentTransferEncoding::Base64.into(),
            ..Default::default()
        });
    }
    let mut cases = Cases::new();
    cases.sent("a large attachment", &whole, &sent.message_id, &["bo@example.org".to_owned()]);
    let failures = cases.judge(&world.server, peer.python()).await;
    assert!(failures.is_empty(), "{}:\n{}\n{}", make.name(), failures.join("\n"), peer.log());
}

#[tokio::test]
async fn many_arrive_on_one_stream_through_postfix() {
    many_arrive_on_one_stream(Make::Postfix).await;
}

#[tokio::test]
async fn many_arrive_on_one_stream_through_exim() {
    many_arrive_on_one_stream(Make::Exim).await;
}

#[tokio::test]
async fn many_arrive_on_one_stream_through_aiosmtpd() {
    many_arrive_on_one_stream(Make::Aiosmtpd).await;
}

#[tokio::test]
async fn a_large_attachment_arrives_whole_through_postfix() {
    a_large_attachment_arrives_whole(Make::Postfix).await;
}

#[tokio::test]
async fn a_large_attachment_arrives_whole_through_exim() {
    a_large_attachment_arrives_whole(Make::Exim).await;
}

#[tokio::test]
async fn a_large_attachment_arrives_whole_through_aiosmtpd() {
    a_large_attachment_arrives_whole(Make::Aiosmtpd).await;
}
