//! SendLargeEmail: bytes passed on in ranges, uploads that break off, streams that do not keep to what they said.

use std::time::Duration;

use http::Method;
use postern_chassis::fault::reason_of;
use postern_outlook_service::LimitSettings;
use postern_proto::mail::v1::{Attachment, AttachmentChunk, Email, LargeAttachment};
use postern_proto::outlook::v1::send_large_email_request::Part;
use postern_proto::outlook::v1::{LargeEmail, SendLargeEmailRequest, SendLargeEmailResponse};
use postern_sandbox::graph::Fault;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, BO, Stage};

/// The bytes of a range.
const RANGE: usize = 12 * 320 * 1024;
/// What a chunk holds at most.
const CHUNK: usize = 256 * 1024;

fn bytes(size: usize, seed: usize) -> Vec<u8> {
    (0..size).map(|place| ((place / 7 + seed) % 251) as u8).collect()
}

fn file(name: &str, size: usize) -> LargeAttachment {
    LargeAttachment {
        file_name: name.into(),
        content_type: "application/pdf".into(),
        size: size as i64,
        ..LargeAttachment::default()
    }
}

fn first(files: &[LargeAttachment]) -> SendLargeEmailRequest {
    let email = Email { to: vec![BO.into()], subject: "large".into(), ..Email::default() };
    let large = LargeEmail { email: Some(email), large_attachments: files.to_vec(), ..LargeEmail::default() };
    SendLargeEmailRequest { part: Some(Part::Email(large)), ..SendLargeEmailRequest::default() }
}

fn chunk(attachment: usize, data: &[u8]) -> SendLargeEmailRequest {
    let chunk = AttachmentChunk { attachment: attachment as i32, data: data.to_vec().into() };
    SendLargeEmailRequest { part: Some(Part::Chunk(chunk)), ..SendLargeEmailRequest::default() }
}

fn chunks(attachment: usize, data: &[u8]) -> Vec<SendLargeEmailRequest> {
    data.chunks(CHUNK).map(|data| chunk(attachment, data)).collect()
}

async fn send(stage: &Stage, parts: Vec<SendLargeEmailRequest>) -> Result<SendLargeEmailResponse, Status> {
    let request = stage.with_connection(tokio_stream::iter(parts));
    Ok(stage.mail.clone().send_large_email(request).await?.into_inner())
}

#[tokio::test]
async fn attachments_of_every_size_arrive_as_they_were() {
    let stage = Stage::set().await;
    let contents = [bytes(2 * RANGE + 5, 1), bytes(10, 2), bytes(RANGE, 3), bytes(2_999_999, 4)];
    let mut files: Vec<_> =
        ["a", "b", "c", "d"].iter().zip(&contents).map(|(n, c)| file(n, c.len())).collect();
    files[2].content_id = "logo".into();
    let mut parts = vec![first(&files)];
    for (index, content) in contents.iter().enumerate() {
        parts.extend(chunks(index, content));
    }
    let sent = send(&stage, parts).await.unwrap();
    let copy = &stage.world.messages(ANN, "sentitems")[0];
    assert_eq!((&copy.id, &copy.internet_message_id), (&sent.message_id, &sent.internet_message_id));
    let got = &stage.world.messages(BO, "inbox")[0];
    assert_eq!(got.attachments.len(), 4);
    for (got, content) in got.attachments.iter().zip(&contents) {
        assert!(got.content == *content, "{} differs", got.name);
        assert_eq!(got.content_type, "application/pdf");
    }
    assert_eq!(got.attachments[2].content_id.as_deref(), Some("logo"));
    assert!(got.attachments[2].is_inline && !got.attachments[0].is_inline);
    let uploaded = stage.graph.uploaded();
    let ranges: Vec<&str> = uploaded.iter().map(|one| one.range.as_str()).collect();
    assert_eq!(
        ranges,
        [
            "bytes 0-3932159/7864325",
            "bytes 3932160-7864319/7864325",
            "bytes 7864320-7864324/7864325",
            "bytes 0-3932159/3932160"
        ]
    );
    assert!(uploaded.iter().all(|one| !one.authorized && one.method == "PUT"));
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_where_graph_says_it_stood() {
    let content = bytes(2 * RANGE + 5, 1);
    for (fault, at_range) in [
        (Fault::Cut, "0"),
        (Fault::CutAfter, "0"),
        (Fault::CutWithin(1_000_000), "0"),
        (Fault::refuse(503, "", None), "0"),
        (Fault::refuse(429, "ApplicationThrottled", Some("0.05")), "0"),
        // The answer to the last range is lost: the session is gone with its end, the attachment is there.
        (Fault::CutAfter, "last"),
    ] {
        let stage = Stage::set().await;
        let said = format!("{fault:?} at {at_range}");
        let plan = |fault: Fault| stage.graph.faults().plan(Some(Method::PUT), "/upload", 1, fault);
        let small = [file("a", content.len())];
        let last = [file("a", RANGE)];
        let (files, content) =
            if at_range == "last" { (&last, &content[..RANGE]) } else { (&small, &content[..]) };
        plan(fault);
        let parts = [vec![first(files)], chunks(0, content)].concat();
        send(&stage, parts).await.unwrap_or_else(|status| panic!("{said}: {status}"));
        assert!(stage.graph.faults().all_shown(), "{said}");
        let got = &stage.world.messages(BO, "inbox")[0];
        assert!(got.attachments.len() == 1 && got.attachments[0].content == content, "{said}");
        assert!(stage.graph.uploaded().iter().all(|one| !one.authorized), "{said}");
    }
}

#[tokio::test]
async fn an_upload_that_does_not_get_on_is_given_up_and_its_draft_removed() {
    let stage = Stage::set().await;
    let content = bytes(RANGE, 1);
    stage.graph.faults().plan(Some(Method::PUT), "/upload", 9, Fault::refuse(403, "ErrorAccessDenied", None));
    let failed = send(&stage, [vec![first(&[file("a", RANGE)])], chunks(0, &content)].concat()).await;
    assert_eq!(reason_of(&failed.unwrap_err()), "PROVIDER_REFUSED");
    assert!(stage.world.messages(ANN, "drafts").is_empty());
    assert!(stage.world.messages(BO, "inbox").is_empty());
}

#[tokio::test]
async fn a_mail_beyond_what_the_account_sends_is_too_large_and_its_draft_is_removed() {
    let stage = Stage::set().await;
    stage.graph.limits().set_max_message(5_000_000);
    let (whole, half) = (bytes(6_000_000, 1), bytes(2_900_000, 2));
    let at_once = [vec![first(&[file("a", whole.len())])], chunks(0, &whole)].concat();
    let at_the_end =
        [vec![first(&[file("a", half.len()), file("b", half.len())])], chunks(0, &half), chunks(1, &half)];
    for parts in [at_once, at_the_end.concat()] {
        let refused = send(&stage, parts).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason_of(&refused).as_str()),
            (Code::InvalidArgument, "MESSAGE_TOO_LARGE")
        );
        assert_eq!(
            refused.get_details_error_info().unwrap().metadata["graph.code"],
            "ErrorMessageSizeExceeded"
        );
        assert!(stage.world.messages(ANN, "drafts").is_empty());
        assert!(stage.world.messages(BO, "inbox").is_empty());
    }
}

#[tokio::test]
async fn a_stream_that_does_not_keep_to_what_it_said_sends_nothing() {
    let stage = Stage::set().await;
    let (a, b) = (bytes(RANGE, 1), bytes(10, 2));
    let files = [file("a", a.len()), file("b", b.len())];
    let begin = || [vec![first(&files)], chunks(0, &a)].concat();
    let with = |more: Vec<SendLargeEmailRequest>| [begin(), more].concat();
    let named = SendLargeEmailRequest { request_id: "x".into(), ..chunk(1, &b) };
    let nothing = SendLargeEmailRequest::default();
    let too_large = [file("a", 150 * 1024 * 1024 + 1), file("b", 0)];
    let many: Vec<_> = (0..251).map(|_| file("a", 1)).collect();
    for (parts, field) in [
        (vec![], "email"),
        (vec![chunk(0, &b)], "email"),
        (vec![first(&too_large)], "email.large_attachments[0].size"),
        (vec![first(&many)], "email.large_attachments"),
        (begin(), "chunk"),
        (with(vec![chunk(0, &b)]), "chunk.attachment"),
        (with(vec![chunk(2, &b)]), "chunk.attachment"),
        (with(vec![chunk(-1_i32 as usize, &b)]), "chunk.attachment"),
        (with(vec![chunk(1, &bytes(11, 2))]), "chunk.data"),
        (with(vec![chunk(1, b"")]), "chunk.data"),
        (vec![first(&files), chunk(0, &bytes(CHUNK + 1, 1))], "chunk.data"),
        (with(vec![named]), "request_id"),
        (with(vec![nothing]), "chunk"),
        (with(vec![first(&files)]), "chunk"),
        (with(vec![chunk(1, &b), chunk(1, &b)]), "chunk"),
    ] {
        let refused = send(&stage, parts).await.unwrap_err();
        assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
        assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, field);
        assert!(stage.world.messages(ANN, "drafts").is_empty(), "{field}");
    }
    assert!(stage.world.messages(BO, "inbox").is_empty());
}

#[tokio::test]
async fn what_graph_refuses_of_the_mail_is_named_by_its_path() {
    let stage = Stage::set().await;
    let mut asked = first(&[file("a", 3)]);
    if let Some(Part::Email(large)) = &mut asked.part {
        large.email.as_mut().unwrap().to = vec![format!("{BO}, \"\"@x.example")];
    }
    let refused = send(&stage, vec![asked.clone(), chunk(0, b"abc")]).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "email.email.to[0]");
    for (code, field) in [
        ("ErrorInvalidRecipients", "email.email.to"),
        ("InvalidInternetMessageHeaderCollection", "email.email.headers"),
    ] {
        stage.graph.faults().plan(Some(Method::POST), "/messages", 1, Fault::refuse(400, code, None));
        let refused = send(&stage, vec![first(&[file("a", 3)]), chunk(0, b"abc")]).await.unwrap_err();
        assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
}

#[tokio::test]
async fn more_bytes_than_were_said_are_refused_before_the_last_range_goes_up() {
    let stage = Stage::set().await;
    let content = bytes(RANGE, 1);
    let parts = [vec![first(&[file("a", RANGE)])], chunks(0, &content), vec![chunk(0, b"more")]].concat();
    assert_eq!(reason_of(&send(&stage, parts).await.unwrap_err()), "FIELD_INVALID");
    assert!(stage.graph.uploaded().is_empty());
}

#[tokio::test]
async fn a_caller_that_goes_in_the_middle_leaves_no_draft_behind() {
    let stage = Stage::set().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let request = stage.with_connection(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut mail = stage.mail.clone();
    let call = tokio::spawn(async move { mail.send_large_email(request).await.map(drop) });
    sender.send(first(&[file("a", RANGE)])).await.unwrap();
    stage.world.wait_until(|world| !world.messages(ANN, "drafts").is_empty()).await;
    call.abort();
    stage.world.wait_until(|world| world.messages(ANN, "drafts").is_empty()).await;
    assert!(stage.world.messages(BO, "inbox").is_empty());
}

#[tokio::test]
async fn a_repeat_finds_what_was_sent_or_completes_the_draft_that_was_left() {
    let stage = Stage::set().await;
    let (a, b) = (bytes(RANGE, 1), bytes(RANGE + 1, 2));
    let named = || SendLargeEmailRequest {
        request_id: "large-1".into(),
        ..first(&[file("a", a.len()), file("b", b.len())])
    };
    let parts = || [vec![named()], chunks(0, &a), chunks(1, &b)].concat();
    let again = async || {
        let request = stage.as_repeat(tokio_stream::iter(parts()));
        stage.mail.clone().send_large_email(request).await.unwrap().into_inner()
    };
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::Cut);
    assert_eq!(reason_of(&send(&stage, parts()).await.unwrap_err()), "OUTCOME_UNKNOWN");
    let draft = stage.world.messages(ANN, "drafts").remove(0);
    stage.world.edit_message(ANN, &draft.id, |draft| draft.attachments.truncate(1));
    let sent = again().await;
    assert_eq!(sent.message_id, draft.id);
    assert_eq!(again().await, sent);
    let got = stage.world.messages(BO, "inbox");
    assert_eq!(got.len(), 1);
    assert!(got[0].attachments[0].content == a && got[0].attachments[1].content == b);
}

/// A mail with an attachment that travels within its draft, and files that follow.
fn mixed(request_id: &str, files: &[LargeAttachment]) -> SendLargeEmailRequest {
    let mut request = SendLargeEmailRequest { request_id: request_id.into(), ..first(files) };
    let Some(Part::Email(LargeEmail { email: Some(email), .. })) = &mut request.part else { unreachable!() };
    email.attachments.push(Attachment {
        file_name: "a".into(),
        content_type: "application/pdf".into(),
        content_data: bytes(100, 9).into(),
        ..Attachment::default()
    });
    request
}

#[tokio::test]
async fn what_travels_within_the_draft_is_not_taken_for_what_follows() {
    // The file's own request breaks off before it is made.
    let stage = Stage::set().await;
    let small = bytes(1_000, 1);
    stage.graph.faults().plan(Some(Method::POST), "/attachments", 1, Fault::Cut);
    let parts = [vec![mixed("", &[file("b", small.len())])], chunks(0, &small)].concat();
    send(&stage, parts).await.unwrap_err();
    assert!(stage.world.messages(BO, "inbox").is_empty(), "it went without its file");
    assert!(stage.world.messages(ANN, "drafts").is_empty());

    // A file of the same name follows a draft that is found again.
    let content = bytes(RANGE + 1, 2);
    let parts = || [vec![mixed("large-2", &[file("a", content.len())])], chunks(0, &content)].concat();
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::Cut);
    assert_eq!(reason_of(&send(&stage, parts()).await.unwrap_err()), "OUTCOME_UNKNOWN");
    let draft = stage.world.messages(ANN, "drafts").remove(0);
    stage.world.edit_message(ANN, &draft.id, |draft| draft.attachments.truncate(1));
    let request = stage.as_repeat(tokio_stream::iter(parts()));
    stage.mail.clone().send_large_email(request).await.unwrap();
    let got = stage.world.messages(BO, "inbox").remove(0);
    let sizes: Vec<_> = got.attachments.iter().map(|attachment| attachment.content.len()).collect();
    assert_eq!(sizes, [100, content.len()]);
}

#[tokio::test]
async fn an_upload_whose_session_is_gone_is_told_as_unavailable_and_its_draft_removed() {
    let stage = Stage::set().await;
    let content = bytes(RANGE + 1, 1);
    stage.graph.faults().plan(Some(Method::PUT), "/upload", 1, Fault::Cut);
    stage.graph.faults().plan(Some(Method::GET), "/upload", 1, Fault::refuse(404, "ErrorItemNotFound", None));
    let failed = send(&stage, [vec![first(&[file("a", RANGE + 1)])], chunks(0, &content)].concat()).await;
    let failed = failed.unwrap_err();
    assert_eq!((failed.code(), reason_of(&failed).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
    assert!(stage.world.messages(ANN, "drafts").is_empty());
}

#[tokio::test]
async fn another_mailbox_may_send() {
    let stage = Stage::set().await;
    let mut asked = first(&[file("a", 3)]);
    if let Some(Part::Email(large)) = &mut asked.part {
        large.mailbox = BO.into();
        large.email.as_mut().unwrap().to = vec![ANN.into()];
    }
    send(&stage, vec![asked, chunk(0, b"abc")]).await.unwrap();
    assert_eq!(stage.world.messages(ANN, "inbox")[0].from.as_ref().unwrap().address, BO);
}

#[tokio::test]
async fn a_stream_that_stands_still_is_given_up_and_its_draft_removed() {
    let limits = LimitSettings { max_stream_silence: Duration::from_millis(300), ..LimitSettings::default() };
    let mut stage = Stage::set_signed_out_with(limits).await;
    stage.refresh().await.unwrap();
    let begun = tokio_stream::iter([first(&[file("a", 10)]), chunk(0, b"12345")]);
    let request = stage.with_connection(begun.chain(tokio_stream::pending()));
    let stalled = stage.mail.clone().send_large_email(request).await.unwrap_err();
    assert_eq!((stalled.code(), reason_of(&stalled).as_str()), (Code::DeadlineExceeded, "STREAM_STALLED"));
    assert!(stage.world.messages(ANN, "drafts").is_empty() && stage.world.messages(BO, "inbox").is_empty());
}
