//! Approvals that end without an answer, and lists of all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog as _, Expect, Store as _, Write};
use postern_proto::approval::v1::*;
use postern_proto::event::v1::start_position::Position;
use postern_proto::outbox::v1::QueuedEmailState::{self, Cancelled, Deferred, Delivered, Sending};
use postern_proto::outbox::v1::outbox_service_client::OutboxServiceClient;
use postern_proto::outbox::v1::{GetQueuedEmailRequest, QueuedEmail};
use postern_sandbox::smtp::{Action, Stage as At, Times};
use prost::Message as _;
use tonic::Code;

use super::browser::Browser;
use super::stage::Stage;
use super::*;
use crate::world::{event_of, subscribe, until};

/// An approval's record, in so far as time is set by it.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(message, optional, tag = "1")]
    approval: Option<Approval>,
    #[prost(uint64, tag = "2")]
    edition: u64,
}

/// Has the time of an approval be over at a time. Its gateway must have stopped.
async fn set_expiry(store: &Arc<Sqlite>, name: &str, when: SystemTime) {
    let entry = store.get(name).await.unwrap().unwrap();
    let mut record = Record::decode(entry.value).unwrap();
    record.approval.as_mut().unwrap().expire_time = Some(when.into());
    let (key, value) = (name.to_owned(), Some(record.encode_to_vec().into()));
    store.append(Vec::new(), vec![Write { key, value, expect: Expect::Any }]).await.unwrap();
}

/// The mails that ask, once they have come to these states, in the order of the recipients.
async fn come_to(stage: &Stage, approval: &Approval, states: &[QueuedEmailState]) -> Vec<QueuedEmail> {
    until(&format!("the mails are {states:?}"), || async {
        let mut mails = Vec::new();
        for recipient in &approval.recipients {
            let request = GetQueuedEmailRequest { name: recipient.queued_email.clone() };
            let mut outbox = OutboxServiceClient::new(stage.channel.clone());
            mails.extend(outbox.get_queued_email(request).await.unwrap().into_inner().queued_email);
        }
        mails.iter().map(QueuedEmail::state).eq(states.iter().copied()).then_some(mails)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_nobody_was_sent_yet_are_taken_back_with_the_question() {
    let mut stage = Stage::start().await;
    stage.place.smtp.control().refuse(DAN, "451 4.3.2 come again later");
    let cancelled = ask(&stage.channel, question(&[CARLA, DAN])).await;
    come_to(&stage, &cancelled, &[Delivered, Deferred]).await;
    cancel(&stage.channel, &cancelled.name).await.unwrap();
    let mails = come_to(&stage, &cancelled, &[Delivered, Cancelled]).await;
    assert_eq!((mails[1].next_attempt_time, mails[1].settle_time.is_some()), (None, true));

    // So are those of a question whose time is over.
    let expired = ask(&stage.channel, question(&[CARLA, DAN])).await;
    come_to(&stage, &expired, &[Delivered, Deferred]).await;
    stage.end().await;
    let store = Sqlite::open(&stage.folder.path().join("data")).unwrap();
    set_expiry(&store, &expired.name, SystemTime::now()).await;
    store.close().await.unwrap();
    stage.restart(&[]).await;
    come_to(&stage, &expired, &[Delivered, Cancelled]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_being_handed_over_is_left_to_it_when_the_question_is_withdrawn() {
    let stage = Stage::start().await;
    stage.place.smtp.control().at(At::Message, Action::Hold, Times::Once);
    let asked = ask(&stage.channel, question(&[CARLA])).await;
    come_to(&stage, &asked, &[Sending]).await;
    cancel(&stage.channel, &asked.name).await.unwrap();
    stage.place.smtp.control().let_go();
    come_to(&stage, &asked, &[Delivered]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_whose_time_is_over_is_told_within_seconds_and_its_page_says_so() {
    let mut stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let mut browser = Browser::new();
    let form = browser.open(&link).await.form();
    stage.end().await;
    let store = Sqlite::open(&stage.folder.path().join("data")).unwrap();
    // Soon after the next start.
    let over = SystemTime::now() + Duration::from_secs(3);
    set_expiry(&store, &name, over).await;
    store.close().await.unwrap();
    stage.restart(&[]).await;
    let mut stream = subscribe(&stage.channel, Some(Position::Earliest(()))).await;
    let ended = event_of(&mut stream, "approval.ended").await;
    let late = SystemTime::now().duration_since(over).unwrap();
    assert!(late < Duration::from_secs(10), "{late:?}");
    assert_eq!(ended.source, name);
    assert_eq!(get(&stage.channel, &name).await.unwrap().state(), ApprovalState::Expired);
    browser.open(&link).await.says(410, &["The time is over"]);
    browser.press(&link, &form).await.says(410, &["The time is over"]);
    assert_refused(cancel(&stage.channel, &name).await, Code::FailedPrecondition, "APPROVAL_ENDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_approval_says_so_and_stays_so() {
    let stage = Stage::start().await;
    let mut stream = subscribe(&stage.channel, Some(Position::Earliest(()))).await;
    let asked = ask(&stage.channel, question(&[CARLA])).await;
    let link = stage.links_to(CARLA).await.remove(0);
    let mut browser = Browser::new();
    let form = browser.open(&link).await.form();
    let cancelled = cancel(&stage.channel, &asked.name).await.unwrap();
    assert_eq!(cancelled.state(), ApprovalState::Cancelled);
    assert_ne!(cancelled.etag, asked.etag);
    browser.press(&link, &form).await.says(410, &["No longer asked"]);
    browser.open(&link).await.says(410, &["The question was withdrawn"]);
    assert_eq!(cancel(&stage.channel, &asked.name).await.unwrap(), cancelled);
    event_of(&mut stream, "approval.ended").await;
    let name = ask(&stage.channel, question(&[DAN])).await.name;
    Browser::new().answer(&stage.links_to(DAN).await[0]).await.says(200, &[]);
    assert_refused(cancel(&stage.channel, &name).await, Code::FailedPrecondition, "APPROVAL_ENDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_are_listed_the_newest_first_by_state_and_connection() {
    let stage = Stage::start().await;
    let mut names = Vec::new();
    for _ in 0..5 {
        names.insert(0, ask(&stage.channel, question(&[CARLA])).await.name);
    }
    cancel(&stage.channel, &names[1]).await.unwrap();
    let list = |request: ListApprovalsRequest| async {
        let listed = client(&stage.channel).list_approvals(request).await.map(tonic::Response::into_inner)?;
        let found: Vec<_> = listed.approvals.into_iter().map(|approval| approval.name).collect();
        Ok::<_, Status>((found, listed.next_page_token))
    };
    let (first, token) = list(ListApprovalsRequest { page_size: 3, ..Default::default() }).await.unwrap();
    let rest = ListApprovalsRequest { page_size: 3, page_token: token, ..Default::default() };
    let (rest, token) = list(rest).await.unwrap();
    assert_eq!([first, rest].concat(), names);
    assert!(token.is_empty());
    let states = vec![ApprovalState::Cancelled.into()];
    let cancelled = ListApprovalsRequest { states, ..Default::default() };
    assert_eq!(list(cancelled).await.unwrap().0, [names[1].clone()]);
    let elsewhere = ListApprovalsRequest { connection: "connections/other".into(), ..Default::default() };
    assert!(list(elsewhere).await.unwrap().0.is_empty());
    let wrong = ListApprovalsRequest { states: vec![77], ..Default::default() };
    assert_refused(list(wrong).await, Code::InvalidArgument, "FIELD_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_pending_than_the_gateway_keeps() {
    let stage = Stage::with(&["--approval-max-pending", "1"]).await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let more = || async { client(&stage.channel).send_approval_email(approval(question(&[DAN]))).await };
    until("the bound is heard of", || async { more().await.err() }).await;
    assert_refused(more().await, Code::ResourceExhausted, "APPROVALS_FULL");
    cancel(&stage.channel, &name).await.unwrap();
    until("there is room again", || async { more().await.ok() }).await;
}
