//! Listing, cancelling, retrying; and what a request id is good for.

use std::time::Duration;

use postern_proto::outbox::v1::{
    CancelQueuedEmailRequest, ListQueuedEmailsRequest, QueueEmailRequest, QueuedEmail, QueuedEmailState,
};
use postern_sandbox::place::NOBODY;
use postern_sandbox::smtp::{Action, Stage, Times};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{assert_refused, client, comes_to, get, later, queue, retry, through};
use crate::world::{OUTLOOK, SMTP, World, mail};

const HOUR: Duration = Duration::from_secs(3_600);

async fn cancel(channel: &Channel, name: &str) -> Result<QueuedEmail, Status> {
    let request = CancelQueuedEmailRequest { name: name.into(), ..CancelQueuedEmailRequest::default() };
    Ok(client(channel).cancel_queued_email(request).await?.into_inner().queued_email.unwrap())
}

async fn list(channel: &Channel, request: ListQueuedEmailsRequest) -> (Vec<String>, String) {
    let page = client(channel).list_queued_emails(request).await.unwrap().into_inner();
    (page.queued_emails.into_iter().map(|email| email.subject).collect(), page.next_page_token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_taken_back_before_it_goes_and_may_go_after_all() {
    let mut world = World::connected().await;
    let queued = queue(&world.channel, later(SMTP, mail("Rash"), HOUR)).await.unwrap();
    for _ in 0..2 {
        let cancelled = cancel(&world.channel, &queued.name).await.unwrap();
        assert_eq!(cancelled.state(), QueuedEmailState::Cancelled);
        assert!(cancelled.settle_time.is_some() && cancelled.next_attempt_time.is_none());
    }
    world.restart().await;
    assert_eq!(get(&world.channel, &queued.name).await.unwrap().state(), QueuedEmailState::Cancelled);
    let due = retry(&world.channel, &queued.name).await.unwrap();
    assert_eq!((due.state(), due.attempts), (QueuedEmailState::Queued, 0));
    assert!(due.schedule_time.is_none());
    comes_to(&world.channel, &queued.name, QueuedEmailState::Delivered).await;
    let late = cancel(&world.channel, &queued.name).await;
    assert_refused(late, Code::FailedPrecondition, "EMAIL_SETTLED");
    let again = retry(&world.channel, &queued.name).await;
    assert_refused(again, Code::FailedPrecondition, "EMAIL_DELIVERED");
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_being_handed_over_is_left_alone() {
    let world = World::connected().await;
    world.place.smtp.control().at(Stage::Message, Action::Hold, Times::Once);
    let queued = queue(&world.channel, through(SMTP, mail("Under way"))).await.unwrap();
    comes_to(&world.channel, &queued.name, QueuedEmailState::Sending).await;
    let refused = cancel(&world.channel, &queued.name).await;
    let refused = assert_refused(refused, Code::FailedPrecondition, "EMAIL_BEING_SENT");
    assert!(postern_chassis::fault::retry_after_of(&refused).is_some());
    let refused = retry(&world.channel, &queued.name).await;
    assert_refused(refused, Code::FailedPrecondition, "EMAIL_BEING_SENT");
    world.place.smtp.control().let_go();
    comes_to(&world.channel, &queued.name, QueuedEmailState::Delivered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_failed_is_tried_anew_when_asked() {
    let world = World::connected().await;
    let mut email = mail("Moved house");
    email.to = vec![NOBODY.to_owned()];
    let queued = queue(&world.channel, through(SMTP, email)).await.unwrap();
    comes_to(&world.channel, &queued.name, QueuedEmailState::Failed).await;
    world.place.smtp.control().behave();
    retry(&world.channel, &queued.name).await.unwrap();
    let delivered = comes_to(&world.channel, &queued.name, QueuedEmailState::Delivered).await;
    assert_eq!(delivered.attempts, 1, "its attempts count anew");
    assert_eq!(delivered.recipients.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_listed_newest_first_in_pages() {
    let world = World::connected().await;
    for number in 0..5 {
        let connection = if number % 2 == 0 { SMTP } else { OUTLOOK };
        let email = mail(&number.to_string());
        let queued = queue(&world.channel, later(connection, email, HOUR)).await.unwrap();
        if number == 2 {
            cancel(&world.channel, &queued.name).await.unwrap();
        }
    }
    let mut request = ListQueuedEmailsRequest { page_size: 2, ..ListQueuedEmailsRequest::default() };
    let mut pages = Vec::new();
    loop {
        let (subjects, token) = list(&world.channel, request.clone()).await;
        pages.push(subjects);
        if token.is_empty() {
            break;
        }
        request.page_token = token;
    }
    assert_eq!(pages, [vec!["4", "3"], vec!["2", "1"], vec!["0"]]);
    let of = |connection: &str, states: &[QueuedEmailState]| ListQueuedEmailsRequest {
        connection: connection.into(),
        states: states.iter().map(|state| (*state).into()).collect(),
        ..ListQueuedEmailsRequest::default()
    };
    assert_eq!(list(&world.channel, of(OUTLOOK, &[])).await.0, ["3", "1"]);
    assert_eq!(list(&world.channel, of(SMTP, &[QueuedEmailState::Queued])).await.0, ["4", "0"]);
    assert_eq!(list(&world.channel, of("", &[QueuedEmailState::Cancelled])).await.0, ["2"]);
    let wrong = client(&world.channel)
        .list_queued_emails(ListQueuedEmailsRequest { states: vec![77], ..Default::default() })
        .await;
    assert_refused(wrong, Code::InvalidArgument, "FIELD_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_with_the_same_request_id_queues_nothing_anew() {
    let mut world = World::connected().await;
    let request =
        |subject: &str| QueueEmailRequest { request_id: "order-8".into(), ..through(SMTP, mail(subject)) };
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (channel, request) = (world.channel.clone(), request("Once"));
            tokio::spawn(async move { queue(&channel, request).await.unwrap().name })
        })
        .collect();
    let mut names = Vec::new();
    for call in calls {
        names.push(call.await.unwrap());
    }
    world.restart().await;
    names.push(queue(&world.channel, request("Once")).await.unwrap().name);
    names.dedup();
    assert_eq!(names.len(), 1);
    comes_to(&world.channel, &names[0], QueuedEmailState::Delivered).await;
    let reused = queue(&world.channel, request("Another")).await;
    assert_refused(reused, Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert_eq!(world.place.smtp.accepted().len(), 1);
}
