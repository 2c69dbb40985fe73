//! Each way in which Graph can fail, one by one: what a reading call makes of it, and what a changing one does.

use std::time::Duration;

use http::Method;
use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::mail::v1::Email;
use postern_proto::outlook::v1::{GetEmailsRequest, SendEmailRequest, SendEmailResponse};
use postern_sandbox::graph::Fault;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, Stage};

/// How often a request is made at most.
const TRIES: usize = 4;
const DATE_PASSED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is tried again and succeeds.
    Repeated,
    /// It fails at once, with this code and reason.
    Fails(Code, &'static str),
}

use Then::{Fails, Repeated};

const UNAVAILABLE: Then = Fails(Code::Unavailable, "PROVIDER_UNAVAILABLE");
const THROTTLED: Then = Fails(Code::ResourceExhausted, "PROVIDER_THROTTLED");
const REFUSED: Then = Fails(Code::FailedPrecondition, "PROVIDER_REFUSED");
const SIGNED_OUT: Then = Fails(Code::FailedPrecondition, "CREDENTIALS_REFUSED");

fn refuse(status: u16, code: &str) -> Fault {
    Fault::refuse(status, code, None)
}

fn after(status: u16, retry_after: &str) -> Fault {
    Fault::refuse(status, "", Some(retry_after))
}

/// Goes through cases side by side: most of their time is waiting.
async fn each<C, F: Future<Output = ()>>(cases: impl IntoIterator<Item = C>, test: impl Fn(C) -> F) {
    futures_util::future::join_all(cases.into_iter().map(test)).await;
}

fn to_elsewhere(status: u16) -> Fault {
    let headers = vec![("location".to_owned(), "http://127.0.0.1:1/".to_owned())];
    Fault::Answer { status, headers, body: String::new() }
}

/// Shows a fault once to GetEmails and says what becomes of it.
async fn read_past(stage: &Stage, fault: Fault) -> Result<Vec<String>, Status> {
    stage.graph.faults().plan(Some(Method::GET), "/messages", 1, fault);
    let answer = stage.get_emails_within(Duration::from_secs(20), GetEmailsRequest::default()).await?;
    Ok(super::stage::subjects(&answer.emails))
}

async fn send(stage: &Stage) -> Result<SendEmailResponse, Status> {
    let email = Email { to: vec![ANN.into()], subject: "sent".into(), ..Email::default() };
    let asked = SendEmailRequest { email: Some(email), ..SendEmailRequest::default() };
    let mut request = stage.with_connection(asked);
    request.set_timeout(Duration::from_secs(20));
    Ok(stage.mail.clone().send_email(request).await?.into_inner())
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_where_that_can_help_and_told_where_it_cannot() {
    let html =
        |status| Fault::answer(status, "<html><h1>Our services aren't available right now</h1></html>");
    let cases = [
        // Too many.
        (after(429, "0.128"), Repeated),
        (after(429, "0"), Repeated),
        (after(429, DATE_PASSED), Repeated),
        (after(429, "soon"), Repeated),
        (refuse(429, ""), Repeated),
        (refuse(429, "activityLimitReached"), Repeated),
        (after(429, "3600"), THROTTLED),
        (after(503, "0.1"), Repeated),
        (after(503, "3600"), UNAVAILABLE),
        (after(509, "0.1"), Repeated),
        (after(509, "3600"), THROTTLED),
        (html(429), Repeated),
        // Out of order.
        (refuse(408, ""), Repeated),
        (refuse(423, ""), Repeated),
        (refuse(500, "generalException"), Repeated),
        (refuse(502, ""), Repeated),
        (refuse(503, "serviceNotAvailable"), Repeated),
        (refuse(504, "UnknownError"), Repeated),
        (refuse(509, ""), Repeated),
        (html(500), Repeated),
        (html(502), Repeated),
        (html(503), Repeated),
        (html(504), Repeated),
        // The way to it.
        (Fault::Cut, Repeated),
        (Fault::CutAfter, Repeated),
        (Fault::CutInAnswer(20), Repeated),
        (Fault::CutInAnswer(500), Repeated),
        // Answers that are none.
        (Fault::answer(200, ""), UNAVAILABLE),
        (Fault::answer(200, r#"{"value":[{"id":"1"}"#), UNAVAILABLE),
        (Fault::answer(200, "[]"), UNAVAILABLE),
        (Fault::answer(204, ""), UNAVAILABLE),
        (html(200), UNAVAILABLE),
        (to_elsewhere(301), UNAVAILABLE),
        (to_elsewhere(302), UNAVAILABLE),
        (to_elsewhere(307), UNAVAILABLE),
        (to_elsewhere(308), UNAVAILABLE),
        // What a repeat does not change.
        (refuse(400, "BadRequest"), REFUSED),
        (refuse(400, ""), REFUSED),
        (html(400), REFUSED),
        (refuse(401, "InvalidAuthenticationToken"), SIGNED_OUT),
        (refuse(401, ""), SIGNED_OUT),
        (html(401), SIGNED_OUT),
        (refuse(402, ""), REFUSED),
        (refuse(403, "ErrorAccessDenied"), REFUSED),
        (refuse(404, "MailboxNotEnabledForRESTAPI"), Fails(Code::NotFound, "MAILBOX_NOT_FOUND")),
        (refuse(405, ""), REFUSED),
        (refuse(406, ""), REFUSED),
        (refuse(411, ""), REFUSED),
        (refuse(415, ""), REFUSED),
        (refuse(416, ""), REFUSED),
        (refuse(422, ""), REFUSED),
        (refuse(451, "unheardOf"), REFUSED),
        (refuse(501, "notSupported"), REFUSED),
        (refuse(507, "ErrorQuotaExceeded"), REFUSED),
    ];
    each(cases, |(fault, then)| async move {
        let stage = Stage::set().await;
        stage.deliver("x");
        let became = read_past(&stage, fault.clone()).await;
        let asked = stage.graph.recorder().exchanges().len();
        match (then, became) {
            (Repeated, Ok(subjects)) => assert_eq!(subjects, ["x"], "{fault:?}"),
            (Fails(code, reason), Err(told)) => {
                assert_eq!((told.code(), reason_of(&told).as_str()), (code, reason), "{fault:?}");
                let passes = [Code::Unavailable, Code::ResourceExhausted].contains(&code);
                assert_eq!(retry_after_of(&told).is_some(), passes, "{fault:?}");
                assert_eq!(asked, 1, "{fault:?} is not asked again");
            }
            (then, became) => panic!("{fault:?}: {then:?} was expected, not {became:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_fault_that_stays_is_given_up_after_so_many_tries() {
    for (fault, reason) in [
        (refuse(500, ""), "PROVIDER_UNAVAILABLE"),
        (refuse(429, ""), "PROVIDER_THROTTLED"),
        (Fault::CutAfter, "PROVIDER_UNAVAILABLE"),
    ] {
        let stage = Stage::set().await;
        stage.graph.faults().plan(Some(Method::GET), "/messages", 99, fault.clone());
        let told = stage.get_emails(GetEmailsRequest::default()).await.unwrap_err();
        assert_eq!(reason_of(&told), reason, "{fault:?}");
        assert_eq!(stage.graph.recorder().exchanges().len(), TRIES, "{fault:?}");
    }
}

#[tokio::test]
async fn a_graph_that_never_answers_is_given_up_in_the_callers_time() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(Some(Method::GET), "/messages", 99, Fault::Stall);
    let begun = tokio::time::Instant::now();
    let within = Duration::from_secs(2);
    let told = stage.get_emails_within(within, GetEmailsRequest::default()).await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
    assert!(begun.elapsed() < within, "the caller hears why: {:?}", begun.elapsed());
}

/// What a fault while a mail is sent leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// Nothing was done, certainly: it is repeated, and the mail goes once.
    Repeated,
    /// It was done, and that is found out.
    FoundSent,
    /// It is told as a refusal, and no draft is left.
    Refused(&'static str),
    /// Nobody knows.
    Unknown,
}

#[tokio::test]
async fn what_changes_something_is_repeated_only_where_it_is_certain_that_nothing_was_done() {
    let cases = [
        (refuse(429, "ApplicationThrottled"), Sending::Repeated),
        (after(429, "0.1"), Sending::Repeated),
        (refuse(503, "ErrorServerBusy"), Sending::Repeated),
        (after(429, "3600"), Sending::Refused("PROVIDER_THROTTLED")),
        (refuse(403, "ErrorSendAsDenied"), Sending::Refused("PROVIDER_REFUSED")),
        (refuse(500, ""), Sending::Unknown),
        (refuse(502, ""), Sending::Unknown),
        (refuse(503, ""), Sending::Unknown),
        (refuse(504, ""), Sending::Unknown),
        (refuse(408, ""), Sending::Unknown),
        (Fault::answer(503, "<html>busy</html>"), Sending::Unknown),
        (Fault::Cut, Sending::Unknown),
        (Fault::CutAfter, Sending::FoundSent),
        (Fault::CutInAnswer(20), Sending::FoundSent),
    ];
    each(cases, |(fault, then)| async move {
        let stage = Stage::set().await;
        stage.graph.faults().plan(Some(Method::POST), "/send", 1, fault.clone());
        let became = send(&stage).await;
        let asked = stage.graph.recorder().exchanges();
        let sends = asked.iter().filter(|exchange| exchange.url.ends_with("/send")).count();
        // What a cut keeps from being looked at is not recorded.
        let sends = sends + usize::from(matches!(fault, Fault::Cut));
        let arrived = stage.world.messages(ANN, "inbox").len();
        match (then, became) {
            (Sending::Repeated, Ok(_)) => assert_eq!((sends, arrived), (2, 1), "{fault:?}"),
            (Sending::FoundSent, Ok(_)) => assert_eq!((sends, arrived), (1, 1), "{fault:?}"),
            (Sending::Refused(reason), Err(told)) => {
                assert_eq!(reason_of(&told), reason, "{fault:?}");
                assert_eq!((sends, arrived), (1, 0), "{fault:?}");
            }
            (Sending::Unknown, Err(told)) => {
                assert_eq!(
                    (told.code(), reason_of(&told).as_str()),
                    (Code::Unknown, "OUTCOME_UNKNOWN"),
                    "{fault:?}"
                );
                assert_eq!(sends, 1, "{fault:?} is not repeated");
            }
            (then, became) => panic!("{fault:?}: {then:?} was expected, not {became:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn an_error_tells_graphs_most_specific_code_and_both_ids_and_never_its_message() {
    for (spelling, body) in [
        (
            "innerError",
            r#"{"error":{"code":"BadRequest","message":"sesame","innerError":{"code":"ErrorItemSave","request-id":"inner","innerError":{"code":"ErrorDeepest"}}}}"#,
        ),
        (
            "innererror",
            r#"{"error":{"code":"","message":"sesame","innererror":{"code":"ErrorDeepest","requestId":"inner"}}}"#,
        ),
    ] {
        let stage = Stage::set().await;
        let told = read_past(&stage, Fault::answer(400, body)).await.unwrap_err();
        let metadata = told.get_details_error_info().unwrap().metadata;
        assert_eq!(metadata["graph.code"], "ErrorDeepest", "{spelling}");
        assert_eq!(metadata["graph.status"], "400");
        let asked = stage.graph.recorder().exchanges().remove(0);
        assert_eq!(
            asked.request_header("client-request-id"),
            Some(metadata["graph.client_request_id"].as_str())
        );
        let answered = asked.response_headers.iter().find(|(name, _)| name == "request-id");
        assert_eq!(answered.map(|(_, id)| id), Some(&metadata["graph.request_id"]));
        assert!(!format!("{told:?}").contains("sesame"), "Graph's own message is not shown");
    }
}

#[tokio::test]
async fn a_token_never_follows_a_redirect() {
    let stage = Stage::set().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}/v1.0/me/messages", listener.local_addr().unwrap());
    for status in [301, 302, 303, 307, 308] {
        let headers = vec![("location".to_owned(), elsewhere.clone())];
        let told =
            read_past(&stage, Fault::Answer { status, headers, body: String::new() }).await.unwrap_err();
        assert_eq!(reason_of(&told), "PROVIDER_UNAVAILABLE");
    }
    let mut accepting = Box::pin(listener.accept());
    let called = futures_util::FutureExt::now_or_never(&mut accepting);
    assert!(called.is_none(), "nobody called elsewhere");
}

#[tokio::test]
async fn values_and_properties_that_nobody_has_heard_of_are_passed_over() {
    let stage = Stage::set().await;
    let body = r#"{"@odata.context":"x","@odata.surprise":[1],"value":[{"@odata.etag":"W/\"x\"","id":"1",
        "subject":"still here","importance":"urgent","inferenceClassification":"sideways","body":{"contentType":"markdown",
        "content":"x"},"from":{"emailAddress":{"address":"a@x.example","routing":"carrier pigeon"}},"hologram":{"depth":3}}]}"#;
    assert_eq!(read_past(&stage, Fault::answer(200, body)).await.unwrap(), ["still here"]);
}
