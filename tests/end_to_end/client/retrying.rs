//! Calls are made again where their errors say so and where that is safe, and nowhere else.

use std::time::Duration;

use postern_chassis::fault::Fault;
use postern_client::{Client, Error, Retry, Settings, new_request_id};
use postern_proto::smtp::v1::{CheckEmailRequest, SendEmailRequest, SendEmailResponse};
use tonic::Code;

use super::dropping;
use super::scripted::{Line, Scripted};

fn busy(pause: Duration) -> Line {
    Line::Error(Fault::new(Code::ResourceExhausted, "SENDS_TOO_LARGE", "busy").retry_after(pause).into())
}

fn gone() -> Line {
    Line::Error(Fault::new(Code::Unavailable, "CONNECTOR_UNAVAILABLE", "not reached").into())
}

async fn send(settings: &Settings, request_id: &str) -> Result<SendEmailResponse, Error> {
    let client = Client::connect(settings).unwrap();
    let request = SendEmailRequest { request_id: request_id.to_owned(), ..SendEmailRequest::default() };
    let sending = client.retrying(|client| {
        let request = request.clone();
        async move { client.smtp().send_email(request).await }
    });
    Ok(sending.await?.into_inner())
}

#[tokio::test]
async fn a_pause_that_was_asked_for_is_kept_to_and_the_id_stays() {
    let pause = Duration::from_millis(400);
    let server = Scripted::saying([busy(pause), gone()]).await;
    let id = new_request_id();
    send(&server.settings(), &id).await.unwrap();
    let calls = server.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls[1].at - calls[0].at >= pause, "{:?}", calls[1].at - calls[0].at);
    assert!(calls.iter().all(|call| call.request_id == id));
}

#[tokio::test]
async fn a_change_without_a_request_id_is_made_once() {
    for line in [busy(Duration::from_millis(1)), gone()] {
        let server = Scripted::saying([line]).await;
        let error = send(&server.settings(), "").await.unwrap_err();
        assert!(error.is_worth_a_retry());
        assert_eq!(server.calls().len(), 1);
    }
}

#[tokio::test]
async fn what_changes_nothing_is_repeated_without_an_id() {
    let server = Scripted::saying([gone(), gone()]).await;
    let client = Client::connect(&server.settings()).unwrap();
    let check = |client: Client| async move { client.smtp().check_email(CheckEmailRequest::default()).await };
    client.retrying(check).await.unwrap();
    assert_eq!(server.calls().len(), 3);
}

#[tokio::test]
async fn what_no_repeat_mends_is_not_repeated() {
    let unknown = Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", "it broke after the final dot");
    let refused = Fault::new(Code::FailedPrecondition, "MESSAGE_REFUSED", "refused");
    for (fault, is_unknown) in
        [(unknown, true), (refused, false), (Fault::field("email.to", "is absent"), false)]
    {
        let reason = fault.reason();
        let server = Scripted::saying([Line::Error(fault.into())]).await;
        let error = send(&server.settings(), "invoice-1").await.unwrap_err();
        assert_eq!((error.reason(), error.outcome_is_unknown()), (reason, is_unknown));
        assert_eq!(server.calls().len(), 1, "{reason}");
    }
}

#[tokio::test]
async fn tries_and_time_are_bounded() {
    let retry = Retry { tries: 3, first_pause: Duration::from_millis(1), ..Retry::default() };
    let server = Scripted::saying((0..9).map(|_| gone())).await;
    let settings = Settings { retry, ..server.settings() };
    assert_eq!(send(&settings, "invoice-1").await.unwrap_err().reason(), "CONNECTOR_UNAVAILABLE");
    assert_eq!(server.calls().len(), 3);

    // A pause beyond all patience is not waited for.
    let server = Scripted::saying([busy(Duration::from_secs(3_600))]).await;
    let error = send(&server.settings(), "invoice-1").await.unwrap_err();
    assert_eq!((error.reason(), server.calls().len()), ("SENDS_TOO_LARGE", 1));
}

#[tokio::test]
async fn an_address_that_takes_callers_and_drops_them_is_left_for_the_next() {
    let server = Scripted::saying([]).await;
    let mut settings = server.settings();
    settings.addresses.insert(0, dropping().await);
    let client = Client::connect(&settings).unwrap();
    let check = |client: Client| async move { client.smtp().check_email(CheckEmailRequest::default()).await };
    client.retrying(check).await.unwrap();
    assert_eq!(server.calls().len(), 1);
}
