//! Many mails on one stream: each answered once, one bad mail alone, and no faster than the server takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::mail::v1::{Email, Failure, RecipientState};
use postern_proto::smtp::v1::send_emails_request::Content;
use postern_proto::smtp::v1::send_emails_response::Outcome;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{SendEmailResponse, SendEmailsRequest, SendEmailsResponse};
use postern_sandbox::smtp::{Action, Stage, Times};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::world::{World, mail};
use crate::world::{PATIENCE, standing_still, until};

const REFUSED: &str = "refused@example.org";

fn one(request_id: &str, email: Email) -> SendEmailsRequest {
    SendEmailsRequest {
        request_id: request_id.to_owned(),
        content: Some(Content::Email(email)),
        ..Default::default()
    }
}

fn ordinary(request_id: &str) -> SendEmailsRequest {
    one(request_id, mail(&["bo@example.org"]))
}

async fn open(
    world: &World,
    mails: impl Stream<Item = SendEmailsRequest> + Send + 'static,
) -> Streaming<SendEmailsResponse> {
    world.smtp().send_emails(world.request(mails)).await.unwrap().into_inner()
}

/// A stream that mails are put on one by one.
async fn by_hand(world: &World) -> (mpsc::Sender<SendEmailsRequest>, Streaming<SendEmailsResponse>) {
    let (mails, sent) = mpsc::channel(1);
    (mails, open(world, ReceiverStream::new(sent)).await)
}

async fn next(answers: &mut Streaming<SendEmailsResponse>) -> Result<Option<SendEmailsResponse>, Status> {
    tokio::time::timeout(PATIENCE, answers.message()).await.expect("an answer comes")
}

fn sent(answer: SendEmailsResponse) -> SendEmailResponse {
    match answer.outcome {
        Some(Outcome::Sent(sent)) => sent,
        other => panic!("{} was not sent: {other:?}", answer.request_id),
    }
}

fn failed(answer: SendEmailsResponse) -> Failure {
    match answer.outcome {
        Some(Outcome::Failure(failure)) => failure,
        other => panic!("{} did not fail: {other:?}", answer.request_id),
    }
}

fn paths(failure: &Failure) -> Vec<&str> {
    failure.field_violations.iter().map(|violation| violation.field.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_mails_on_one_stream_are_each_answered_once_and_bad_ones_fail_alone() {
    let world = World::start().await;
    world.control().refuse(REFUSED, "550 5.1.1 no such user");
    let mails = (0..3_000).map(|number| match number % 100 {
        // Addressed to nobody, to nobody that is there, with nothing in it.
        7 => one(&number.to_string(), mail(&[])),
        8 => one(&number.to_string(), mail(&[REFUSED])),
        9 => SendEmailsRequest { request_id: number.to_string(), ..Default::default() },
        _ => one(&number.to_string(), Email { subject: number.to_string(), ..mail(&["bo@example.org"]) }),
    });
    let mut answers = open(&world, tokio_stream::iter(mails)).await;
    let mut outcomes = BTreeMap::new();
    while let Some(answer) = next(&mut answers).await.unwrap() {
        let number: usize = answer.request_id.parse().unwrap();
        assert!(outcomes.insert(number, answer).is_none(), "{number} is answered twice");
    }
    assert_eq!(outcomes.len(), 3_000);
    let mut message_ids = BTreeSet::new();
    for (number, answer) in outcomes {
        match number % 100 {
            7 | 9 => {
                let failure = failed(answer);
                assert_eq!((failure.code, failure.reason.as_str()), (3, "FIELD_INVALID"));
                assert_eq!(paths(&failure), [if number % 100 == 7 { "email.to" } else { "email" }]);
            }
            8 => {
                let failure = failed(answer);
                assert_eq!((failure.code, failure.reason.as_str()), (9, "MESSAGE_REFUSED"));
                assert_eq!((&failure.metadata["smtp.stage"][..], failure.retry_after), ("rcpt", None));
                assert_eq!(failure.recipients[0].address, REFUSED);
                assert_eq!(failure.recipients[0].state(), RecipientState::RefusedPermanent);
            }
            _ => drop(message_ids.insert(sent(answer).message_id)),
        }
    }
    let accepted = world.server.accepted();
    assert_eq!((message_ids.len(), accepted.len()), (2_910, 2_910), "each mail once, with an id of its own");
    assert!(world.control().most_open() <= 10);
}

#[tokio::test]
async fn a_refusal_for_now_says_when_to_try_again() {
    let world = World::plain().await;
    world.control().refuse(REFUSED, "450 4.2.0 greylisted");
    let mut answers = open(&world, tokio_stream::iter([one("a", mail(&[REFUSED]))])).await;
    let failure = failed(next(&mut answers).await.unwrap().unwrap());
    assert_eq!((failure.code, failure.reason.as_str()), (14, "PROVIDER_UNAVAILABLE"));
    assert!(failure.retry_after.is_some_and(|delay| delay.seconds > 0));
    assert_eq!(
        (&failure.metadata["smtp.code"][..], &failure.metadata["smtp.text"][..]),
        ("450", "greylisted")
    );
    assert!(next(&mut answers).await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_id_is_needed_and_is_not_under_way_twice() {
    let world = World::plain().await;
    world.control().at(Stage::Message, Action::Hold, Times::Once);
    let (mails, mut answers) = by_hand(&world).await;
    for request_id in ["a", "", "a", "with a blank", &"x".repeat(200)] {
        mails.send(ordinary(request_id)).await.unwrap();
    }
    for expected in ["", "a", "with a blank", &"x".repeat(128)] {
        let answer = next(&mut answers).await.unwrap().unwrap();
        assert_eq!(answer.request_id, expected);
        let failure = failed(answer);
        assert_eq!((failure.reason.as_str(), paths(&failure)), ("FIELD_INVALID", vec!["request_id"]));
    }
    world.control().let_go();
    let first = sent(next(&mut answers).await.unwrap().unwrap());
    // Answered, it is no longer under way: nothing is remembered.
    mails.send(ordinary("a")).await.unwrap();
    let again = sent(next(&mut answers).await.unwrap().unwrap());
    assert_eq!((first.message_id, world.server.accepted().len()), (again.message_id, 2));
    drop(mails);
    assert!(next(&mut answers).await.unwrap().is_none());
}

#[tokio::test]
async fn another_connection_ends_the_stream_once_what_was_read_is_answered() {
    let world = World::plain().await;
    let named = |request_id: &str, connection: &str| SendEmailsRequest {
        connection: connection.to_owned(),
        ..ordinary(request_id)
    };
    let mails = [
        named("a", "connections/test"),
        named("b", ""),
        named("c", "connections/test"),
        named("d", "connections/other"),
        named("e", ""),
    ];
    let mut answers = open(&world, tokio_stream::iter(mails)).await;
    let mut answered = BTreeSet::new();
    let ended = loop {
        match next(&mut answers).await {
            Ok(answer) => drop(answered.insert(answer.expect("no end yet").request_id)),
            Err(status) => break status,
        }
    };
    assert_eq!(answered, ["a", "b", "c"].map(str::to_owned).into());
    assert_eq!((ended.code(), reason_of(&ended).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    assert!(ended.message().starts_with("connection: "), "{}", ended.message());
    assert_eq!(world.server.accepted().len(), 3);
}

#[tokio::test]
async fn a_connection_that_is_wrong_ends_the_stream_before_it_is_read() {
    let mut world = World::plain().await;
    world.stored.port = 70_000;
    let refused = world.smtp().send_emails(world.request(tokio_stream::pending())).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
}

/// A stream of mails without end, of 40 KB each, and how many of them were asked for.
fn endless() -> (impl Stream<Item = SendEmailsRequest> + Send + 'static, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let body = "forty bytes of text, and then forty more\n".repeat(1_000);
    let mails = tokio_stream::iter(0..).map(move |number: usize| {
        counted.fetch_add(1, Ordering::SeqCst);
        one(&number.to_string(), Email { body: body.clone(), ..mail(&["bo@example.org"]) })
    });
    (mails, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_read_no_faster_than_the_server_takes_mail() {
    let mut world = World::plain().await;
    world.stored.max_connections = 5;
    world.control().at(Stage::Message, Action::Silence, Times::Always);
    let (mails, taken) = endless();
    let mut answers = open(&world, mails).await;
    world.server.delivered(5).await.unwrap();
    // Five are handed over, five wait, and the rest is what the windows of HTTP/2 hold.
    let standing = standing_still("mails that are asked for", 10, || taken.load(Ordering::SeqCst)).await;
    assert!(standing < 200, "{standing} mails were read");
    assert_eq!(world.control().most_open(), 5);
    // A break is an answer like any other, and what waited is read on.
    world.control().behave();
    world.control().hang_up();
    let mut unknown = 0;
    for _ in 0..100 {
        match next(&mut answers).await.unwrap().unwrap().outcome {
            Some(Outcome::Failure(failure)) if failure.reason == "OUTCOME_UNKNOWN" => unknown += 1,
            Some(Outcome::Sent(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(unknown, 5);
    assert!(taken.load(Ordering::SeqCst) > standing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_takes_no_answers_holds_up_its_own_stream_alone() {
    let world = World::plain().await;
    // An answer names each recipient: a few thousand of these answers are more than any window holds.
    let many: Vec<String> = (0..200).map(|number| format!("user{number}@example.org")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mails: Vec<_> = (0..400).map(|number| one(&number.to_string(), mail(&many))).collect();
    let mut answers = open(&world, tokio_stream::iter(mails)).await;
    let standing = standing_still("mails", 1, || world.server.accepted().len()).await;
    assert!(standing < 400, "the server was given {standing} mails without an answer being taken");
    world.send(mail(&["bo@example.org"])).await.expect("another call goes on");
    let mut answered = 0;
    while let Some(answer) = next(&mut answers).await.unwrap() {
        assert_eq!(sent(answer).recipients.len(), 200);
        answered += 1;
    }
    assert_eq!((answered, world.server.accepted().len()), (400, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_breaks_off_leaves_nothing_behind() {
    let mut world = World::plain().await;
    world.stored.max_connections = 4;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    world.send(mail(&["bo@example.org"])).await.unwrap();
    let before = alive();
    world.control().at(Stage::Message, Action::Hold, Times::Always);
    let (mails, answers) = by_hand(&world).await;
    for number in 0..30 {
        mails.send(ordinary(&number.to_string())).await.unwrap();
    }
    world.server.delivered(5).await.unwrap();
    drop((answers, mails));
    // It is heard, and what was handed over is waited for.
    standing_still("tasks", 1, alive).await;
    world.control().let_go();
    // The server's end of each of the four sockets is a task too, and one of them was there before.
    until("its tasks are gone", || async { (alive() <= before + 3).then_some(()) }).await;
    assert_eq!(world.server.accepted().len(), 5, "one before, and then four at a time");
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert_eq!(world.server.accepted().len(), 6, "and none comes later");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_stop_of_the_gateway_what_was_read_is_answered_and_the_stream_ends() {
    let mut gateway = crate::world::World::flagged(&["--stop-grace", "60s"]).await;
    let delay = Action::Delay(Duration::from_millis(500));
    gateway.place.smtp.control().at(Stage::Message, delay, Times::Always);
    let (mails, sent_mails) = mpsc::channel(1);
    let connection = crate::world::SMTP.to_owned();
    let late = SendEmailsRequest { connection, ..one("a", crate::world::mail("Late")) };
    mails.send(late).await.unwrap();
    let mut client = SmtpServiceClient::new(gateway.channel.clone());
    let mut answers = client.send_emails(ReceiverStream::new(sent_mails)).await.unwrap().into_inner();
    gateway.place.smtp.delivered(1).await.unwrap();
    let began = tokio::time::Instant::now();
    let restarting = tokio::spawn(async move {
        gateway.restart().await;
        gateway
    });
    sent(next(&mut answers).await.unwrap().unwrap());
    let ended = next(&mut answers).await.unwrap_err();
    assert_eq!((ended.code(), reason_of(&ended).as_str()), (Code::Unavailable, "CONNECTOR_UNAVAILABLE"));
    assert!(retry_after_of(&ended).is_some());
    restarting.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(50), "it did not wait for the grace period to end");
    drop(mails);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_stop_what_was_read_is_answered_and_the_stream_ends() {
    let mut world = World::plain().await;
    let delay = Action::Delay(Duration::from_millis(500));
    world.control().at(Stage::Message, delay, Times::Always);
    let (mails, mut answers) = by_hand(&world).await;
    for number in 0..5 {
        mails.send(ordinary(&number.to_string())).await.unwrap();
    }
    world.server.delivered(5).await.unwrap();
    let stopping = tokio::spawn(async move {
        world.stop_connector().await;
        world
    });
    for _ in 0..5 {
        sent(next(&mut answers).await.unwrap().unwrap());
    }
    let ended = next(&mut answers).await.unwrap_err();
    assert_eq!((ended.code(), reason_of(&ended).as_str()), (Code::Unavailable, "CONNECTOR_UNAVAILABLE"));
    assert!(retry_after_of(&ended).is_some());
    let world = tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap();
    assert_eq!(world.server.accepted().len(), 5);
}

#[tokio::test]
async fn a_deadline_ends_the_stream_with_every_mail_answered() {
    let world = World::plain().await;
    world.control().at(Stage::Mail, Action::Silence, Times::Always);
    let (mails, sent) = mpsc::channel(1);
    let mut request = world.request(ReceiverStream::new(sent));
    request.set_timeout(Duration::from_secs(2));
    let mut answers = world.smtp().send_emails(request).await.unwrap().into_inner();
    for number in 0..3 {
        mails.send(ordinary(&number.to_string())).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(failed(next(&mut answers).await.unwrap().unwrap()).reason, "PROVIDER_UNAVAILABLE");
    }
    let ended = next(&mut answers).await.unwrap_err();
    assert_eq!((ended.code(), reason_of(&ended).as_str()), (Code::DeadlineExceeded, "NOTHING_DONE"));
}

#[tokio::test]
async fn mails_go_over_the_sockets_that_there_are() {
    let mut world = World::plain().await;
    world.stored.max_connections = 3;
    let mails: Vec<_> = (0..60).map(|number| ordinary(&number.to_string())).collect();
    let answers = open(&world, tokio_stream::iter(mails)).await;
    assert_eq!(answers.count().await, 60);
    assert!(world.control().connections_opened() <= 3, "{}", world.control().connections_opened());
}
