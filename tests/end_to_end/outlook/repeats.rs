//! Sendings that are asked for again by a gateway that does not know how the first ended, and sendings whose answers are
//! lost: a mail goes once.

use std::time::Duration;

use http::Method;
use postern_chassis::fault::reason_of;
use postern_proto::mail::v1::{Attachment, Email};
use postern_proto::outlook::v1::{SendEmailRequest, SendEmailResponse};
use postern_sandbox::graph::Fault;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::stage::{ANN, BO, Stage};

fn order() -> SendEmailRequest {
    let email = Email { to: vec![BO.into()], subject: "order".into(), body: "7".into(), ..Email::default() };
    SendEmailRequest { request_id: "it's-7".into(), email: Some(email), ..SendEmailRequest::default() }
}

fn with_files(mut asked: SendEmailRequest) -> SendEmailRequest {
    let file = |name: &str| Attachment {
        file_name: name.into(),
        content_type: "application/pdf".into(),
        content_data: vec![b'x'; 1_300_000].into(),
        ..Attachment::default()
    };
    asked.email.as_mut().unwrap().attachments = vec![file("a"), file("b")];
    asked
}

async fn send(stage: &Stage, asked: SendEmailRequest) -> Result<SendEmailResponse, Status> {
    Ok(stage.mail.clone().send_email(stage.with_connection(asked)).await?.into_inner())
}

async fn again(stage: &Stage, asked: SendEmailRequest) -> Result<SendEmailResponse, Status> {
    Ok(stage.mail.clone().send_email(stage.as_repeat(asked)).await?.into_inner())
}

fn received(stage: &Stage) -> usize {
    stage.world.messages(BO, "inbox").len()
}

#[tokio::test]
async fn a_first_try_does_not_pay_for_the_search() {
    let stage = Stage::set().await;
    stage.graph.recorder().clear();
    send(&stage, order()).await.unwrap();
    assert_eq!(stage.graph.recorder().exchanges().len(), 2, "the draft and its sending");
}

#[tokio::test]
async fn a_repeat_finds_the_copy_that_was_sent() {
    let stage = Stage::set().await;
    let first = send(&stage, order()).await.unwrap();
    assert_eq!(again(&stage, order()).await.unwrap(), first);
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_repeat_waits_for_a_copy_that_appears_with_delay() {
    let stage = Stage::set().await;
    stage.graph.limits().set_sent_delay(Some(Duration::from_millis(700)));
    let first = send(&stage, order()).await.unwrap();
    assert!(stage.world.messages(ANN, "sentitems").is_empty());
    assert_eq!(again(&stage, order()).await.unwrap(), first);
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_repeat_that_has_too_little_time_to_find_the_copy_does_not_send_again() {
    let stage = Stage::set().await;
    stage.graph.limits().set_sent_delay(Some(Duration::from_millis(2_500)));
    let first = send(&stage, order()).await.unwrap();
    let mut hurried = stage.as_repeat(order());
    hurried.set_timeout(Duration::from_secs(2));
    let status = stage.mail.clone().send_email(hurried).await.unwrap_err();
    assert_eq!(reason_of(&status), "PROVIDER_UNAVAILABLE");
    assert!(status.get_error_details().retry_info().is_some());
    assert_eq!(again(&stage, order()).await.unwrap(), first);
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_repeat_sends_the_draft_that_was_left() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::Cut);
    assert_eq!(reason_of(&send(&stage, order()).await.unwrap_err()), "OUTCOME_UNKNOWN");
    let draft = stage.world.messages(ANN, "drafts").remove(0);
    assert_eq!(again(&stage, order()).await.unwrap().message_id, draft.id);
    assert_eq!(received(&stage), 1);
    assert!(stage.world.messages(ANN, "drafts").is_empty());
}

#[tokio::test]
async fn a_repeat_leaves_a_draft_alone_that_was_thrown_away() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::Cut);
    send(&stage, order()).await.unwrap_err();
    let draft = stage.world.messages(ANN, "drafts").remove(0);
    assert!(stage.world.move_message(ANN, &draft.id, "deleteditems"));
    assert_ne!(again(&stage, order()).await.unwrap().message_id, draft.id);
    assert_eq!(stage.world.messages(ANN, "deleteditems")[0].id, draft.id);
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_caller_that_goes_before_the_last_step_leaves_neither_mail_nor_draft_behind() {
    let stage = Stage::set().await;
    stage.graph.faults().set_delay(Some(Duration::from_millis(300)));
    let request = stage.with_connection(with_files(order()));
    let mut mail = stage.mail.clone();
    let call = tokio::spawn(async move { mail.send_email(request).await.map(drop) });
    stage.world.wait_until(|world| !world.messages(ANN, "drafts").is_empty()).await;
    call.abort();
    stage.world.wait_until(|world| world.messages(ANN, "drafts").is_empty()).await;
    assert!(stage.world.messages(ANN, "deleteditems").is_empty());
    assert!(stage.world.messages(ANN, "sentitems").is_empty());
    assert_eq!(received(&stage), 0);
}

#[tokio::test]
async fn a_repeat_completes_the_draft_that_was_left_half_done() {
    let stage = Stage::set().await;
    // The sending before died where it removed nothing.
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::Cut);
    send(&stage, with_files(order())).await.unwrap_err();
    let draft = stage.world.messages(ANN, "drafts").remove(0);
    stage.world.edit_message(ANN, &draft.id, |draft| draft.attachments.truncate(1));
    let sent = again(&stage, with_files(order())).await.unwrap();
    assert_eq!(sent.message_id, draft.id);
    let names: Vec<String> =
        stage.world.messages(BO, "inbox")[0].attachments.iter().map(|file| file.name.clone()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn a_repeat_of_what_left_nothing_sends_the_mail() {
    let stage = Stage::set().await;
    again(&stage, order()).await.unwrap();
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_mail_of_the_same_id_that_says_something_else_is_another_mail() {
    let stage = Stage::set().await;
    send(&stage, order()).await.unwrap();
    let mut other = order();
    other.email.as_mut().unwrap().body = "8".into();
    again(&stage, other).await.unwrap();
    assert_eq!(received(&stage), 2);
}

#[tokio::test]
async fn what_others_sent_under_the_same_id_is_not_taken_for_ones_own() {
    let stage = Stage::set().await;
    let mail = SendEmailRequest { mailbox: BO.into(), ..order() };
    send(&stage, mail).await.unwrap();
    again(&stage, order()).await.unwrap();
    assert_eq!(received(&stage), 2);
}

#[tokio::test]
async fn a_draft_whose_making_broke_off_is_found_and_sent_with_and_without_an_id() {
    for request_id in ["it's-7", ""] {
        let stage = Stage::set().await;
        stage.graph.faults().plan(Some(Method::POST), "/messages", 1, Fault::CutAfter);
        let sent = send(&stage, SendEmailRequest { request_id: request_id.into(), ..order() }).await.unwrap();
        assert_eq!(stage.world.messages(ANN, "sentitems")[0].id, sent.message_id);
        assert!(stage.world.messages(ANN, "drafts").is_empty());
        assert_eq!(received(&stage), 1);
    }
}

#[tokio::test]
async fn an_attachment_whose_adding_broke_off_is_not_added_twice() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(Some(Method::POST), "/attachments", 1, Fault::CutAfter);
    send(&stage, with_files(order())).await.unwrap();
    assert_eq!(stage.world.messages(BO, "inbox")[0].attachments.len(), 2);
}

#[tokio::test]
async fn a_sending_whose_answer_is_lost_waits_for_its_copy() {
    let stage = Stage::set().await;
    stage.graph.limits().set_sent_delay(Some(Duration::from_millis(600)));
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::CutAfter);
    let sent = send(&stage, order()).await.unwrap();
    assert_eq!(stage.world.messages(ANN, "sentitems")[0].id, sent.message_id);
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_search_that_fails_sends_nothing() {
    let stage = Stage::set().await;
    send(&stage, order()).await.unwrap();
    let denied = Fault::refuse(403, "ErrorAccessDenied", None);
    stage.graph.faults().plan(Some(Method::GET), "singleValue", 1, denied);
    assert_eq!(reason_of(&again(&stage, order()).await.unwrap_err()), "PROVIDER_REFUSED");
    assert_eq!(received(&stage), 1);
}

#[tokio::test]
async fn a_draft_that_a_long_pause_kept_from_being_removed_is_removed_after_it() {
    let stage = Stage::set().await;
    let throttled = Fault::refuse(429, "ApplicationThrottled", Some("3.5"));
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, throttled);
    let email = Email { to: vec![BO.into()], subject: "late".into(), ..Email::default() };
    let asked = SendEmailRequest { email: Some(email), ..SendEmailRequest::default() };
    let mut request = stage.with_connection(asked);
    request.set_timeout(Duration::from_secs(1));
    stage.mail.clone().send_email(request).await.unwrap_err();
    assert_eq!(stage.world.messages(ANN, "drafts").len(), 1);
    let removed = stage.world.wait_until(|world| world.messages(ANN, "drafts").is_empty());
    tokio::time::timeout(Duration::from_secs(30), removed).await.unwrap();
    assert!(stage.world.messages(BO, "inbox").is_empty());
}
