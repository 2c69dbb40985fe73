//! What Outlook allows is kept to: by the mailbox at once and over time, over all mailboxes at once, and for as long as
//! Graph asks for.

use std::time::Duration;

use http::Method;
use postern_chassis::fault::{reason_of, retry_after_of};
use postern_outlook_service::LimitSettings;
use postern_proto::mail::v1::Email;
use postern_proto::outlook::v1::{GetEmailsRequest, SendEmailRequest};
use postern_sandbox::graph::{Allowance, Fault};
use tokio::time::Instant;
use tonic::Code;

use super::stage::{ANN, BO, Stage};
use crate::world::until;

fn any() -> GetEmailsRequest {
    GetEmailsRequest::default()
}

async fn limited(limits: LimitSettings) -> Stage {
    let mut stage = Stage::set_signed_out_with(limits).await;
    stage.refresh().await.unwrap();
    stage
}

#[tokio::test]
async fn what_a_mailbox_gets_in_ten_minutes_is_counted_ahead_and_no_more_is_asked() {
    let stage = limited(LimitSettings { max_requests_per_mailbox: 5, ..LimitSettings::default() }).await;
    stage.graph.throttle().allow_requests(Some(Allowance { most: 5, within: Duration::from_secs(600) }));
    for _ in 0..5 {
        stage.get_emails(any()).await.unwrap();
    }
    let told = stage.get_emails(any()).await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::ResourceExhausted, "PROVIDER_THROTTLED"));
    let pause = retry_after_of(&told).unwrap();
    assert!(pause > Duration::from_secs(500) && pause < Duration::from_secs(700), "{pause:?}");
    assert_eq!(stage.graph.throttle().turned_away(), 0, "Graph need not say no");
    // Another mailbox has its own.
    stage.get_emails(GetEmailsRequest { mailbox: BO.into(), ..any() }).await.unwrap();
}

#[tokio::test]
async fn what_is_uploaded_to_a_mailbox_is_counted_ahead() {
    let stage = limited(LimitSettings { max_upload_per_mailbox: 6_000, ..LimitSettings::default() }).await;
    let send = |bytes: usize| {
        let email = Email { to: vec![ANN.into()], body: "x".repeat(bytes), ..Email::default() };
        let asked = SendEmailRequest { email: Some(email), ..SendEmailRequest::default() };
        let request = stage.with_connection(asked);
        let mut mail = stage.mail.clone();
        async move { mail.send_email(request).await }
    };
    send(4_000).await.unwrap();
    let told = send(4_000).await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::ResourceExhausted, "PROVIDER_THROTTLED"));
    assert!(retry_after_of(&told).unwrap() > Duration::from_secs(200));
    send(100).await.unwrap();
    assert_eq!(stage.world.messages(ANN, "sentitems").len(), 2);
    assert!(stage.world.messages(ANN, "drafts").is_empty(), "nothing was begun");
}

#[tokio::test]
async fn over_all_mailboxes_no_more_run_at_once_than_the_settings_say() {
    let stage = limited(LimitSettings { max_concurrent_requests: 1, ..LimitSettings::default() }).await;
    let delay = Duration::from_millis(40);
    stage.graph.faults().set_delay(Some(delay));
    let begun = Instant::now();
    let calls = [ANN, BO, ANN, BO]
        .map(|mailbox| stage.get_emails(GetEmailsRequest { mailbox: mailbox.into(), ..any() }));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
    assert!(begun.elapsed() >= delay * 4, "{:?}", begun.elapsed());
    assert_eq!(stage.graph.most_at_once(), 1);
}

#[tokio::test]
async fn a_connection_may_ask_for_fewer_at_once_and_graph_turns_away_more_than_it_allows() {
    for (at_once, most) in [(1, 1), (2, 2), (16, 5)] {
        let mut stage = Stage::set().await;
        stage.settings().max_concurrent_requests = at_once;
        stage.graph.faults().set_delay(Some(Duration::from_millis(20)));
        // Once more where they did not meet, which a busy machine makes of it.
        until("they meet", || async {
            let calls = (0..8).map(|_| stage.get_emails(any()));
            for answer in futures_util::future::join_all(calls).await {
                answer.unwrap();
            }
            (stage.graph.most_at_once() >= most).then_some(())
        })
        .await;
        assert_eq!(stage.graph.most_at_once(), most);
        assert_eq!(stage.graph.throttle().turned_away() > 0, most == 5);
    }
}

#[tokio::test]
async fn a_pause_that_graph_asks_for_is_kept_to_by_every_call_of_the_mailbox() {
    for (status, code) in [(429, "ApplicationThrottled"), (503, ""), (509, "")] {
        let stage = Stage::set().await;
        let throttled = Fault::refuse(status, code, Some("0.6"));
        stage.graph.faults().plan(Some(Method::GET), "/messages", 1, throttled);
        let begun = Instant::now();
        let first = stage.get_emails(any());
        let others = async {
            while stage.graph.recorder().exchanges().is_empty() {
                tokio::task::yield_now().await;
            }
            // The pause is known to the connector once it has read the answer; BO's mailbox does not share it.
            stage.get_emails(GetEmailsRequest { mailbox: BO.into(), ..any() }).await.unwrap();
            let beside = begun.elapsed();
            stage.get_emails(any()).await.unwrap();
            (beside, begun.elapsed())
        };
        let (first, (beside, after)) = tokio::join!(first, others);
        first.unwrap();
        assert!(after >= Duration::from_millis(600), "{status}: {after:?}");
        assert!(beside < after, "{status}");
    }
}

#[tokio::test]
async fn a_window_that_graph_closes_is_waited_out_by_its_own_word() {
    let stage = Stage::set().await;
    let within = Duration::from_millis(700);
    stage.graph.throttle().allow_requests(Some(Allowance { most: 2, within }));
    // Two open a window: what comes next within it is turned away, and the third where the machine does not dawdle.
    let mut begun = Vec::new();
    until("one is turned away", || {
        begun.push(Instant::now());
        async {
            stage.get_emails(any()).await.unwrap();
            (stage.graph.throttle().turned_away() > 0).then_some(())
        }
    })
    .await;
    let first = begun[begun.len() - 3];
    assert!(first.elapsed() >= within, "{:?}", first.elapsed());
    assert_eq!(stage.graph.throttle().turned_away(), 1, "it came back once, when there was room");
}
