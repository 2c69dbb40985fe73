//! What the connector makes of a provider that throttles, breaks off, or answers nonsense.

use std::time::Duration;

use http::Method;
use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::outlook::v1::GetEmailsRequest;
use postern_sandbox::graph::Fault;
use tonic::Code;

use super::stage::{ANN, Stage};
use crate::world::until;

fn any() -> GetEmailsRequest {
    GetEmailsRequest::default()
}

#[tokio::test]
async fn every_request_asks_for_immutable_ids_and_has_an_id_of_its_own() {
    let stage = Stage::set().await;
    stage.deliver_files("x", &[("a", None, b"a")]);
    stage.get_emails(GetEmailsRequest { include_attachments: true, ..any() }).await.unwrap();
    let mut watch = stage.watch(Default::default());
    watch.look_all().await.unwrap();
    let exchanges = stage.graph.recorder().exchanges();
    assert!(exchanges.len() > 4);
    let mut ids = Vec::new();
    for exchange in &exchanges {
        assert!(exchange.request_header("prefer").unwrap().contains("IdType=\"ImmutableId\""));
        ids.push(exchange.request_header("client-request-id").unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), exchanges.len());
}

#[tokio::test]
async fn a_short_pause_that_graph_asks_for_is_waited_out() {
    let stage = Stage::set().await;
    stage.deliver("x");
    let throttled = Fault::refuse(429, "ApplicationThrottled", Some("0.128"));
    stage.graph.faults().plan(Some(Method::GET), "/messages", 1, throttled);
    stage.graph.faults().plan(Some(Method::GET), "/messages", 1, Fault::refuse(503, "", None));
    stage.graph.faults().plan(Some(Method::GET), "/messages", 1, Fault::Cut);
    let begun = tokio::time::Instant::now();
    assert_eq!(stage.subjects(any()).await, ["x"]);
    assert!(begun.elapsed() >= Duration::from_millis(128));
    assert!(stage.graph.faults().all_shown());
}

#[tokio::test]
async fn a_pause_longer_than_the_call_can_wait_is_told_in_decimals_or_as_a_date() {
    let date = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(120)).unwrap();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (retry_after, least, most) in [("97.5", 97.5, 97.5), (date.as_str(), 110.0, 120.0)] {
        let stage = Stage::set().await;
        let throttled = Fault::refuse(429, "TooManyRequests", Some(retry_after));
        stage.graph.faults().plan(Some(Method::GET), "/messages", 1, throttled);
        let begun = tokio::time::Instant::now();
        let told = stage.get_emails(any()).await.unwrap_err();
        assert_eq!((told.code(), reason_of(&told).as_str()), (Code::ResourceExhausted, "PROVIDER_THROTTLED"));
        let pause = retry_after_of(&told).unwrap().as_secs_f64();
        assert!((least..=most).contains(&pause), "{retry_after}: {pause}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        // What is asked during the pause would prolong it: Graph is left alone, by others too.
        let asked = stage.graph.recorder().exchanges().len();
        let told = stage.watch(Default::default()).look().await.unwrap_err();
        assert_eq!(reason_of(&told), "PROVIDER_THROTTLED");
        assert!(retry_after_of(&told).unwrap().as_secs_f64() > least - 10.0);
        assert_eq!(stage.graph.recorder().exchanges().len(), asked);
        stage.get_emails(GetEmailsRequest { mailbox: super::stage::BO.into(), ..any() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_with_a_deadline_gives_up_in_time_to_say_why() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(Some(Method::GET), "/messages", 9, Fault::refuse(503, "", Some("5")));
    let told = stage.get_emails_within(Duration::from_secs(4), any()).await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
}

#[tokio::test]
async fn never_more_than_four_requests_run_at_once_for_a_mailbox() {
    let stage = Stage::set().await;
    for number in 0..6 {
        stage.deliver_files(&format!("{number}"), &[("a", None, b"a"), ("b", None, b"b")]);
    }
    stage.graph.faults().set_delay(Some(Duration::from_millis(20)));
    // Once more where they did not meet, which a busy machine makes of it.
    until("they meet", || async {
        let calls = (0..8).map(|_| stage.get_emails(GetEmailsRequest { include_attachments: true, ..any() }));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.unwrap().emails.len(), 6);
        }
        (stage.graph.most_at_once() >= 4).then_some(())
    })
    .await;
    assert_eq!(stage.graph.most_at_once(), 4);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_told_as_a_provider_out_of_order() {
    let stage = Stage::set().await;
    let foreign = r#"{"value":[],"@odata.nextLink":"http://127.0.0.1:1/v1.0/me/messages"}"#;
    let moved = Fault::Answer {
        status: 302,
        headers: vec![("location".into(), "http://127.0.0.1:1/".into())],
        body: String::new(),
    };
    for fault in [
        Fault::answer(200, "<html>welcome</html>"),
        Fault::answer(200, ""),
        Fault::answer(200, r#"{"value":[{"id":7}]}"#),
        Fault::answer(200, r#"{"values":[]}"#),
        Fault::answer(200, foreign),
        moved,
    ] {
        stage.graph.faults().plan(Some(Method::GET), "/messages", 1, fault.clone());
        let told = stage.get_emails(any()).await.unwrap_err();
        assert_eq!(
            (told.code(), reason_of(&told).as_str()),
            (Code::Unavailable, "PROVIDER_UNAVAILABLE"),
            "{fault:?}"
        );
        assert!(retry_after_of(&told).is_some());
    }
}

#[tokio::test]
async fn items_that_lack_nearly_everything_are_given_as_far_as_they_go() {
    let stage = Stage::set().await;
    let body =
        r#"{"value":[{"id":"1","subject":null,"from":null,"toRecipients":null,"body":null,"surprise":{}}]}"#;
    stage.graph.faults().plan(Some(Method::GET), "/messages", 1, Fault::answer(200, body));
    assert_eq!(stage.get_emails(any()).await.unwrap().emails[0].id, "1");
}

#[tokio::test]
async fn what_graph_forbids_is_no_matter_of_the_callers_own_rights() {
    let stage = Stage::set().await;
    let denied = Fault::refuse(403, "ErrorAccessDenied", None);
    stage.graph.faults().plan(Some(Method::GET), "/messages", 1, denied);
    let told = stage.get_emails(any()).await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::FailedPrecondition, "PROVIDER_REFUSED"));
    assert!(!told.message().contains("on demand"), "Graph's own message is not shown");
}

#[tokio::test]
async fn a_graph_that_is_not_there_is_told_as_unavailable() {
    let mut stage = Stage::set().await;
    stage.settings().custom_cloud.as_mut().unwrap().graph_url = "http://127.0.0.1:1".into();
    let told = stage.get_emails(any()).await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
    assert!(stage.world.messages(ANN, "inbox").is_empty());
}
