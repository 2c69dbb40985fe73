//! Streams and their ends, where no server is needed.

use postern_proto::connection::v1::Connection as Stored;
use postern_proto::connection::v1::connection::Settings;
use postern_proto::mail::v1::{Email, Failure};
use postern_proto::smtp::v1::{SmtpSettings, TlsMode};
use tonic::Code;
use tonic::metadata::MetadataMap;

use super::*;
use crate::connection::Connection;

/// Long enough for whatever is not waited for in vain.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream through a connection on which nobody listens, with so many messages a second.
fn stream(rate: f64) -> (Arc<Bulk>, Answers, CancellationToken) {
    let settings = SmtpSettings {
        server: "127.0.0.1".into(),
        port: 1,
        tls_mode: TlsMode::None.into(),
        max_messages_per_second: rate,
        ..Default::default()
    };
    let settings = Some(Settings::Smtp(settings));
    let stored = Stored { name: "connections/test".into(), settings, ..Default::default() };
    let pool = Arc::new(Pool::new(Connection::check(&stored).unwrap()));
    let clock = Clock::of_call(&MetadataMap::new(), PATIENCE);
    let stop = CancellationToken::new();
    let room = Room::new(1024 * 1024);
    let (bulk, answers) = Bulk::new(pool, room, clock, TaskTracker::new(), stop.clone());
    (bulk, answers, stop)
}

fn mail(number: usize) -> Result<SendEmailsRequest, Status> {
    let to = vec!["bo@example.org".to_owned()];
    let email = Email { from: "anna@example.org".into(), to, ..Default::default() };
    let content = Some(Content::Email(email));
    Ok(SendEmailsRequest { request_id: number.to_string(), content, ..Default::default() })
}

/// A server that is away for a while: its mails are not failed as fast as they come.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_slows_the_stream() {
    let (bulk, mut answers, _stop) = stream(0.0);
    let mails = tokio_stream::iter((0..).map(mail));
    let running = tokio::spawn(bulk.run(mails));
    let begun = Instant::now();
    let mut failed = 0;
    while begun.elapsed() < Duration::from_secs(600) {
        assert_eq!(failure(answers.next().await.unwrap()).reason, "PROVIDER_UNAVAILABLE");
        failed += 1;
    }
    assert!((20..2_000).contains(&failed), "{failed} mails in ten minutes");
    running.abort();
}

async fn next(answers: &mut Answers) -> Option<Result<SendEmailsResponse, Status>> {
    tokio::time::timeout(PATIENCE, answers.next()).await.expect("an answer comes")
}

fn failure(answer: Result<SendEmailsResponse, Status>) -> Failure {
    match answer.unwrap().outcome {
        Some(Outcome::Failure(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_that_lost_an_answer_does_not_end_as_if_it_had_not() {
    let (mut bulk, mut answers, _stop) = stream(0.0);
    Arc::get_mut(&mut bulk).unwrap().idle = Duration::from_millis(200);
    // More than may wait to be taken, each answered without a server.
    let mails = (0..500).map(|number| Ok(SendEmailsRequest { content: None, ..mail(number).unwrap() }));
    let running = tokio::spawn(bulk.run(tokio_stream::iter(mails)));
    tokio::time::timeout(PATIENCE, running).await.expect("it gives up").unwrap();
    let mut answered = 0;
    let ended = loop {
        match next(&mut answers).await {
            Some(Ok(_)) => answered += 1,
            Some(Err(status)) => break status,
            None => panic!("it ended well after {answered} answers of 500"),
        }
    };
    assert!((ANSWERS..500).contains(&answered), "{answered}");
    assert_eq!((ended.code(), ended.message().contains("may have been sent")), (Code::Unknown, true));
    assert!(next(&mut answers).await.is_none());
}

#[tokio::test]
async fn at_a_stop_mails_that_wait_for_their_turn_are_told_that_they_were_not_sent() {
    let (bulk, mut answers, stop) = stream(0.001);
    let mails = tokio_stream::iter((0..5).map(mail)).chain(tokio_stream::pending());
    let running = tokio::spawn(bulk.run(mails));
    // The first has its turn, and finds nobody; those after it would wait for a quarter of an hour and more.
    assert_eq!(failure(next(&mut answers).await.unwrap()).reason, "PROVIDER_UNAVAILABLE");
    stop.cancel();
    let mut told = 0;
    let ended = loop {
        match next(&mut answers).await.expect("it does not end well") {
            Ok(answer) => {
                assert_eq!(failure(Ok(answer)).reason, "CONNECTOR_UNAVAILABLE");
                told += 1;
            }
            Err(status) => break status,
        }
    };
    assert!(told <= 4, "{told}");
    assert_eq!(ended.code(), Code::Unavailable);
    running.await.unwrap();
}
