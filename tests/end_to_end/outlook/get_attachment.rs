//! GetAttachment: every kind of attachment, in chunks, through breaks, and never held whole.

use http::Method;
use postern_chassis::fault::reason_of;
use postern_proto::mail::v1::{AttachmentKind, ReceivedAttachment};
use postern_proto::outlook::v1::get_attachment_response::Part;
use postern_proto::outlook::v1::{GetAttachmentRequest, GetEmailsRequest};
use postern_sandbox::graph::Fault;
use postern_sandbox::world::{Attachment, AttachmentKind as Kind};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, BO, Stage};

/// A mail with one attachment; the ids of both.
fn deliver(stage: &Stage, attachment: Attachment) -> GetAttachmentRequest {
    let message_id = stage.deliver("with attachment");
    let attachment_id = format!("{message_id}-att0");
    stage.world.edit_message(ANN, &message_id, |message| {
        message.attachments.push(Attachment { id: attachment_id.clone(), ..attachment });
    });
    GetAttachmentRequest { message_id, attachment_id, ..GetAttachmentRequest::default() }
}

fn file(content: Vec<u8>) -> Attachment {
    Attachment {
        name: "a.pdf".into(),
        content_type: "application/pdf".into(),
        content,
        ..Attachment::default()
    }
}

async fn get(stage: &Stage, asked: GetAttachmentRequest) -> Result<(ReceivedAttachment, Vec<u8>), Status> {
    let mut parts = stage.mail.clone().get_attachment(stage.with_connection(asked)).await?.into_inner();
    let Some(Part::Attachment(attachment)) = parts.message().await?.and_then(|part| part.part) else {
        panic!("the first part says what it is");
    };
    let mut content = Vec::new();
    while let Some(part) = parts.message().await? {
        let Some(Part::Chunk(chunk)) = part.part else { panic!("chunks follow") };
        assert!(!chunk.is_empty() && chunk.len() <= 256 * 1024);
        content.extend_from_slice(&chunk);
    }
    Ok((attachment, content))
}

#[tokio::test]
async fn a_file_is_given_in_chunks() {
    let stage = Stage::set().await;
    let content: Vec<u8> = (0..1_000_003_usize).map(|place| (place % 251) as u8).collect();
    let attachment = Attachment { content_id: Some("logo".into()), is_inline: true, ..file(content.clone()) };
    let asked = deliver(&stage, attachment);
    let (told, got) = get(&stage, asked.clone()).await.unwrap();
    assert!(got == content);
    assert_eq!((&told.id, told.file_name.as_str(), told.size), (&asked.attachment_id, "a.pdf", 1_000_003));
    assert_eq!((told.content_type.as_str(), told.content_id.as_str()), ("application/pdf", "logo"));
    assert!(told.is_inline && told.content_data.is_empty() && told.content_omitted);
    assert_eq!(told.kind(), AttachmentKind::File);
}

#[tokio::test]
async fn an_attached_mail_is_given_as_mime_and_a_link_without_bytes() {
    let stage = Stage::set().await;
    let mime = b"Subject: within\r\n\r\nhi".to_vec();
    let item = deliver(&stage, Attachment { kind: Kind::Item, name: "within".into(), ..file(mime.clone()) });
    let url = "https://files.example/plan.docx";
    let link = Attachment { kind: Kind::Reference, source_url: Some(url.into()), ..file(Vec::new()) };
    let link = deliver(&stage, link);
    let (told, got) = get(&stage, item).await.unwrap();
    assert_eq!((told.kind(), got), (AttachmentKind::Item, mime));
    let (told, got) = get(&stage, link).await.unwrap();
    assert_eq!((told.kind(), told.source_url.as_str(), got.len()), (AttachmentKind::Reference, url, 0));
    // The list of mails tells the same of both, without bytes.
    let asked = GetEmailsRequest { include_attachments: true, ..GetEmailsRequest::default() };
    let emails = stage.get_emails(asked).await.unwrap().emails;
    let (link, item) = (&emails[0].attachments[0], &emails[1].attachments[0]);
    assert_eq!((link.kind(), link.source_url.as_str()), (AttachmentKind::Reference, url));
    assert_eq!((item.kind(), item.source_url.as_str()), (AttachmentKind::Item, ""));
    assert!(link.content_omitted && item.content_omitted);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_without_a_byte_twice() {
    let stage = Stage::set().await;
    let content: Vec<u8> = (0..9_000_000_usize).map(|place| (place / 3 % 251) as u8).collect();
    let asked = deliver(&stage, file(content.clone()));
    stage.graph.faults().plan(Some(Method::GET), "$value", 1, Fault::Cut);
    stage.graph.faults().plan(Some(Method::GET), "$value", 1, Fault::CutAt(5_000_000));
    stage.graph.faults().plan(Some(Method::GET), "$value", 1, Fault::refuse(503, "", None));
    let (_, got) = get(&stage, asked).await.unwrap();
    assert!(got == content);
    assert!(stage.graph.faults().all_shown());
}

#[tokio::test]
async fn an_item_that_breaks_off_in_the_middle_is_told_for_it_is_written_anew_each_time() {
    let stage = Stage::set().await;
    let item = Attachment { kind: Kind::Item, ..file(vec![b'x'; 9_000_000]) };
    let asked = deliver(&stage, item);
    stage.graph.faults().plan(Some(Method::GET), "$value", 1, Fault::CutAt(5_000_000));
    let told = get(&stage, asked).await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
}

#[tokio::test]
async fn a_caller_that_goes_lends_no_place_at_the_gate() {
    let stage = Stage::set().await;
    let asked = deliver(&stage, file(vec![b'x'; 20_000_000]));
    for _ in 0..5 {
        let mut mail = stage.mail.clone();
        let mut parts = mail.get_attachment(stage.with_connection(asked.clone())).await.unwrap().into_inner();
        parts.message().await.unwrap();
        parts.message().await.unwrap();
    }
    assert_eq!(get(&stage, asked).await.unwrap().1.len(), 20_000_000);
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let stage = Stage::set().await;
    let asked = deliver(&stage, file(b"x".to_vec()));
    for (message_id, attachment_id) in [
        ("AAkANOTHING".to_owned(), asked.attachment_id.clone()),
        (asked.message_id.clone(), "nothing".into()),
    ] {
        let asked = GetAttachmentRequest { message_id, attachment_id, ..asked.clone() };
        let gone = get(&stage, asked).await.unwrap_err();
        assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "ITEM_NOT_FOUND"));
    }
    let other = GetAttachmentRequest { mailbox: BO.into(), ..asked };
    assert_eq!(reason_of(&get(&stage, other).await.unwrap_err()), "ITEM_NOT_FOUND");
    let refused = get(&stage, GetAttachmentRequest::default()).await.unwrap_err();
    let fields = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<&str> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["message_id", "attachment_id"]);
}

#[tokio::test]
async fn links_in_a_mail_that_fills_the_answer_are_told_all_the_same() {
    let stage = Stage::set().await;
    let url = "https://files.example/plan.docx";
    let link = || Attachment { kind: Kind::Reference, source_url: Some(url.into()), ..file(Vec::new()) };
    let id = deliver(&stage, link()).message_id;
    stage.world.edit_message(ANN, &id, |message| message.body.content = "x".repeat(4_000_000));
    deliver(&stage, link());
    let asked = GetEmailsRequest { include_attachments: true, ..GetEmailsRequest::default() };
    let first = stage.get_emails(asked.clone()).await.unwrap();
    let rest = stage.get_emails(GetEmailsRequest { skip_token: first.skip_token, ..asked }).await.unwrap();
    let emails = [first.emails, rest.emails].concat();
    assert_eq!(emails.len(), 2);
    assert!(emails.iter().all(|email| email.attachments[0].source_url == url));
    assert!(emails.iter().any(|email| email.body_truncated && email.body.len() > 2_000_000));
}
