//! SendEmail: ids, delivery, refusals, and what happens where a sending breaks off.

use http::Method;
use postern_chassis::fault::reason_of;
use postern_proto::mail::v1::{Attachment, Email, Header, Importance};
use postern_proto::outlook::v1::{SendEmailRequest, SendEmailResponse};
use postern_sandbox::graph::Fault;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, BO, Stage};

fn to_bo() -> Email {
    Email { to: vec![BO.into()], subject: "hello".into(), body: "hi".into(), ..Email::default() }
}

fn file(name: &str, bytes: usize) -> Attachment {
    Attachment {
        file_name: name.into(),
        content_type: "application/pdf".into(),
        content_data: vec![b'x'; bytes].into(),
        ..Attachment::default()
    }
}

async fn send(stage: &Stage, email: Email) -> Result<SendEmailResponse, Status> {
    let asked = SendEmailRequest { email: Some(email), ..SendEmailRequest::default() };
    Ok(stage.mail.clone().send_email(stage.with_connection(asked)).await?.into_inner())
}

/// The subjects of the mails that Bo received.
fn received(stage: &Stage) -> usize {
    stage.world.messages(BO, "inbox").len()
}

#[tokio::test]
async fn a_mail_is_sent_with_ids_that_find_it() {
    let stage = Stage::set().await;
    let asked = SendEmailRequest {
        request_id: "order-7".into(),
        email: Some(Email {
            to: vec![format!("\"Bo, the Second\" <{BO}>; nobody@elsewhere.example")],
            cc: vec!["cy@elsewhere.example".into()],
            bcc: vec!["hidden@elsewhere.example".into()],
            reply_to: vec!["re@elsewhere.example".into()],
            subject: "hello".into(),
            body: "<b>hi</b>".into(),
            is_html: true,
            importance: Importance::High.into(),
            ..Email::default()
        }),
        ..SendEmailRequest::default()
    };
    let sent = stage.mail.clone().send_email(stage.with_connection(asked)).await.unwrap().into_inner();
    let copy = &stage.world.messages(ANN, "sentitems")[0];
    assert_eq!((&copy.id, &copy.internet_message_id), (&sent.message_id, &sent.internet_message_id));
    assert!(copy.properties.values().any(|value| value.starts_with("order-7 ")));
    assert_eq!(copy.bcc[0].address, "hidden@elsewhere.example");
    let got = &stage.world.messages(BO, "inbox")[0];
    assert_eq!(got.internet_message_id, sent.internet_message_id);
    assert!(got.body.is_html && got.body.content == "<b>hi</b>");
    assert_eq!((got.to[0].name.as_str(), got.to.len()), ("Bo, the Second", 2));
    assert_eq!((got.cc.len(), got.bcc.len(), got.reply_to.len()), (1, 0, 1));
    assert_eq!(got.importance, postern_sandbox::world::Importance::High);
    assert!(stage.world.messages(ANN, "drafts").is_empty());
}

#[tokio::test]
async fn attachments_arrive_whether_they_are_small_or_large() {
    let stage = Stage::set().await;
    let logo = Attachment { content_id: "logo".into(), content_type: "image/png".into(), ..file("", 3) };
    send(&stage, Email { attachments: vec![file("a.pdf", 10), logo], ..to_bo() }).await.unwrap();
    let large = vec![file("b.pdf", 1_500_000), file("c.pdf", 1_600_000)];
    send(&stage, Email { attachments: large, ..to_bo() }).await.unwrap();
    let mails = stage.world.messages(BO, "inbox");
    let [small, large] = mails.as_slice() else { panic!("two mails were expected") };
    let logo = &small.attachments[1];
    assert_eq!((logo.content_id.as_deref(), logo.is_inline, logo.content.len()), (Some("logo"), true, 3));
    assert_eq!((small.attachments[0].name.as_str(), small.attachments[0].is_inline), ("a.pdf", false));
    let sizes: Vec<usize> = large.attachments.iter().map(|file| file.content.len()).collect();
    assert_eq!(sizes, [1_500_000, 1_600_000]);
}

#[tokio::test]
async fn attachments_beyond_what_one_request_holds_are_uploaded() {
    let stage = Stage::set().await;
    let logo = Attachment { content_id: "logo".into(), ..file("", 3_100_000) };
    send(&stage, Email { attachments: vec![logo, file("b.pdf", 900_000)], ..to_bo() }).await.unwrap();
    let got = &stage.world.messages(BO, "inbox")[0];
    let told: Vec<_> = got.attachments.iter().map(|file| (file.name.as_str(), file.content.len())).collect();
    assert_eq!(told, [("logo", 3_100_000), ("b.pdf", 900_000)]);
    assert!(got.attachments[0].is_inline && got.attachments[0].content_id.as_deref() == Some("logo"));
    assert_eq!(stage.graph.uploaded().len(), 1);
}

#[tokio::test]
async fn a_mail_beyond_what_the_account_sends_is_too_large() {
    let stage = Stage::set().await;
    stage.graph.limits().set_max_message(1_000);
    let refused = send(&stage, Email { attachments: vec![file("a", 2_000)], ..to_bo() }).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::InvalidArgument, "MESSAGE_TOO_LARGE"));
    assert!(stage.world.messages(ANN, "drafts").is_empty());
}

#[tokio::test]
async fn header_fields_receipts_and_the_sender_travel_with_the_mail() {
    let stage = Stage::set().await;
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let email = Email {
        from: ANN.into(),
        sender: format!("Ann's desk <{ANN}>"),
        headers: vec![header("X-Order", "7"), header("x-note", "Grüße")],
        read_receipt_to: vec![ANN.to_uppercase()],
        delivery_receipt_to: vec![ANN.into()],
        ..to_bo()
    };
    send(&stage, email).await.unwrap();
    let got = &stage.world.messages(BO, "inbox")[0];
    let headers: Vec<_> = got.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("X-Order", "7"), ("x-note", "=?utf-8?B?R3LDvMOfZQ==?=")]);
    assert_eq!(got.sender.as_ref().unwrap().name, "Ann's desk");
    assert!(got.wants_read_receipt && got.wants_delivery_receipt);
    send(&stage, to_bo()).await.unwrap();
    let got = &stage.world.messages(BO, "inbox")[1];
    assert!(!got.wants_read_receipt && !got.wants_delivery_receipt);
}

#[tokio::test]
async fn a_receipt_to_another_is_refused() {
    let stage = Stage::set().await;
    let email = Email { read_receipt_to: vec!["boss@contoso.example".into()], ..to_bo() };
    let refused = send(&stage, email).await.unwrap_err();
    let fields = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(fields[0].field, "email.read_receipt_to[0]");
}

#[tokio::test]
async fn another_mailbox_may_send() {
    let stage = Stage::set().await;
    let email = Email { to: vec![ANN.into()], ..to_bo() };
    let asked = SendEmailRequest { mailbox: BO.into(), email: Some(email), ..SendEmailRequest::default() };
    stage.mail.clone().send_email(stage.with_connection(asked)).await.unwrap();
    assert_eq!(stage.world.messages(ANN, "inbox")[0].from.as_ref().unwrap().address, BO);
    assert_eq!(stage.world.messages(BO, "sentitems").len(), 1);
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let stage = Stage::set().await;
    let refused = send(&stage, Email { to: vec!["bo".into()], ..Email::default() }).await.unwrap_err();
    assert_eq!(reason_of(&refused), "FIELD_INVALID");
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "email.to[0]");
}

#[tokio::test]
async fn a_draft_that_may_not_be_sent_is_removed() {
    let stage = Stage::set().await;
    let refused = send(&stage, Email { from: "boss@contoso.example".into(), ..to_bo() }).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused).as_str()),
        (Code::FailedPrecondition, "PROVIDER_REFUSED")
    );
    assert_eq!(refused.get_details_error_info().unwrap().metadata["graph.code"], "ErrorSendAsDenied");
    assert!(stage.world.messages(ANN, "drafts").is_empty());
    assert_eq!(received(&stage), 0);
}

#[tokio::test]
async fn a_sending_that_graph_turned_away_is_made_again() {
    let stage = Stage::set().await;
    let throttled = Fault::refuse(429, "ApplicationThrottled", Some("0.05"));
    stage.graph.faults().plan(Some(Method::POST), "/send", 2, throttled);
    send(&stage, to_bo()).await.unwrap();
    assert!(stage.graph.faults().all_shown());
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_sending_that_broke_off_after_graph_took_it_is_known_to_have_gone() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::CutAfter);
    let sent = send(&stage, to_bo()).await.unwrap();
    assert_eq!(stage.world.messages(ANN, "sentitems")[0].id, sent.message_id);
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_sending_that_broke_off_without_a_trace_is_neither_claimed_nor_repeated() {
    let faults =
        [Fault::Cut, Fault::refuse(504, "UnknownError", None), Fault::answer(503, "<html>busy</html>")];
    let tries = faults.map(|fault| async move {
        let stage = Stage::set().await;
        stage.graph.faults().plan(Some(Method::POST), "/send", 1, fault);
        let unknown = send(&stage, to_bo()).await.unwrap_err();
        assert_eq!((unknown.code(), reason_of(&unknown).as_str()), (Code::Unknown, "OUTCOME_UNKNOWN"));
        let draft = &stage.world.messages(ANN, "drafts")[0];
        assert_eq!(unknown.get_details_error_info().unwrap().metadata["message_id"], draft.id);
        assert_eq!(received(&stage), 0);
    });
    futures_util::future::join_all(tries).await;
}

#[tokio::test]
async fn a_draft_that_could_not_be_made_is_a_mail_that_was_not_sent() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(
        Some(Method::POST),
        "/messages",
        1,
        Fault::refuse(500, "InternalServerError", None),
    );
    let failed = send(&stage, to_bo()).await.unwrap_err();
    assert_eq!((failed.code(), reason_of(&failed).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
    assert_eq!(received(&stage), 0);
}

#[tokio::test]
async fn a_draft_whose_attachment_failed_is_removed() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(
        Some(Method::POST),
        "/attachments",
        1,
        Fault::refuse(500, "InternalServerError", None),
    );
    let failed =
        send(&stage, Email { attachments: vec![file("a", 2_500_000)], ..to_bo() }).await.unwrap_err();
    assert_eq!(reason_of(&failed), "PROVIDER_UNAVAILABLE");
    assert!(stage.world.messages(ANN, "drafts").is_empty());
    assert_eq!(received(&stage), 0);
}
