//! Pull and Acknowledge, for callers that cannot stream.

use postern_chassis::fault::reason_of;
use postern_proto::event::v1::{AcknowledgeRequest, EventFilter, PullRequest, Settle, Subscription};
use tokio::time::Instant;
use tonic::Code;

use super::rocky::beside;
use super::world::{NAME, World, acks, ids, ordered, shared, start};
use crate::store::conformance::{event, events};

#[tokio::test]
async fn an_ordered_pull_gives_the_same_again_until_it_is_acknowledged() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 5)).await;
    let first = world.pull("a", 0).await.unwrap();
    let again = world.pull("a", 0).await.unwrap();
    assert_eq!((first.deliveries.len(), &first), (5, &again));
    for _ in 0..2 {
        // Safe to repeat.
        assert_eq!(world.acknowledge("a", &first.cursor).await.unwrap().cursor, first.cursor);
    }
    world.append(events("f", 2)).await;
    assert_eq!(world.pull("a", 0).await.unwrap().deliveries.len(), 2);
    assert_eq!(world.status().await.backlog, 2);
}

#[tokio::test]
async fn a_pull_of_another_client_takes_over_from_a_stream_and_from_pulls() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 5)).await;
    let mut stream = world.consume_as("a").await;
    let pulled = world.pull("b", 0).await.unwrap();
    assert_eq!(reason_of(&stream.end().await), "SUBSCRIPTION_TAKEN_OVER");
    world.pull("c", 0).await.unwrap();
    let status = world.acknowledge("b", &pulled.cursor).await.unwrap_err();
    assert_eq!((status.code(), &*reason_of(&status)), (Code::Aborted, "SUBSCRIPTION_TAKEN_OVER"));
    assert_eq!(world.status().await.backlog, 5);
}

#[tokio::test]
async fn a_pull_waits_for_as_long_as_it_says() {
    for kind in [ordered(), shared()] {
        let world = World::start().await;
        world.create(kind).await;
        assert!(world.pull("a", 0).await.unwrap().deliveries.is_empty());
        let begun = Instant::now();
        assert!(world.pull("a", 1).await.unwrap().deliveries.is_empty());
        assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_pull_that_waits_is_given_what_comes() {
    for kind in [ordered(), shared()] {
        let (world, way) = beside(kind).await;
        let mut empty_reads = way.empty_reads();
        let (pulled, ()) = tokio::join!(world.pull_at(1, "a", 60), async {
            // It has looked, and there was nothing.
            empty_reads.changed().await.unwrap();
            world.append(vec![event("e")]).await;
        });
        assert_eq!(ids(&pulled.unwrap().deliveries), [event("e").id]);
    }
}

#[tokio::test]
async fn a_pull_that_waits_ends_when_somebody_takes_over() {
    let (world, way) = beside(ordered()).await;
    for newer in 0..2 {
        let mut empty_reads = way.empty_reads();
        let (older, _newer) = tokio::join!(world.pull_at(1, "a", 60), async {
            empty_reads.changed().await.unwrap();
            let mut newer = world.start_at(newer, start("b")).await;
            newer.opened().await;
            newer
        });
        assert_eq!(reason_of(&older.unwrap_err()), "SUBSCRIPTION_TAKEN_OVER");
    }
}

#[tokio::test]
async fn what_a_shared_pull_gave_is_outstanding_until_its_deadline_and_settled_once() {
    let world = World::of(2).await;
    world.create(shared()).await;
    world.append(events("e", 5)).await;
    let first = world.pull("", 0).await.unwrap();
    assert_eq!(first.deliveries.len(), 5);
    assert!(world.pull("", 0).await.unwrap().deliveries.is_empty());
    for _ in 0..2 {
        // Safe to repeat.
        let confirmed = world.settle(acks(&first.deliveries[..2])).await.unwrap();
        assert_eq!((confirmed.ack_ids.len(), confirmed.failures.len()), (2, 0));
    }
    world.pass(61);
    let second = world.pull("", 5).await.unwrap();
    assert_eq!(ids(&second.deliveries), ids(&first.deliveries[2..]));
    assert!(second.deliveries.iter().all(|delivery| delivery.attempt == 2));
}

#[tokio::test]
async fn an_empty_ordered_pull_moves_past_what_the_filter_drops() {
    let world = World::start().await;
    let filter = Some(EventFilter { types: vec!["email".into()], ..EventFilter::default() });
    world.create(Subscription { filter, ..ordered() }).await;
    world.append(events("e", 600)).await;
    assert!(world.pull("a", 0).await.unwrap().deliveries.is_empty());
    assert_eq!(world.status().await.backlog, 0);
}

#[tokio::test]
async fn each_wrong_field_is_named() {
    let world = World::start().await;
    world.create(ordered()).await;
    let pull = |change: fn(&mut PullRequest)| {
        let mut request =
            PullRequest { subscription: NAME.into(), client_id: "a".into(), ..PullRequest::default() };
        change(&mut request);
        let mut events = world.events(0);
        async move { events.pull(request).await.unwrap_err().message().to_owned() }
    };
    assert!(pull(|request| request.client_id.clear()).await.starts_with("client_id"));
    assert!(pull(|request| request.client_id = "ä".into()).await.starts_with("client_id"));
    assert!(pull(|request| request.subscription = "billing".into()).await.starts_with("subscription"));
    assert!(pull(|request| request.max_events = 1_001).await.starts_with("max_events"));
    assert!(pull(|request| request.max_events = -1).await.starts_with("max_events"));
    let wait = Some(prost_types::Duration { seconds: 61, nanos: 0 });
    let request = PullRequest { subscription: NAME.into(), client_id: "a".into(), wait, max_events: 0 };
    assert!(world.events(0).pull(request).await.unwrap_err().message().starts_with("wait"));

    let of_shared = AcknowledgeRequest {
        subscription: NAME.into(),
        client_id: "a".into(),
        settle: Some(Settle::default()),
        ..AcknowledgeRequest::default()
    };
    let status = world.events(0).acknowledge(of_shared).await.unwrap_err();
    assert!(status.message().starts_with("settle"), "{status:?}");
    let missing = PullRequest { subscription: "subscriptions/other".into(), ..PullRequest::default() };
    let status = world.events(0).pull(missing).await.unwrap_err();
    assert_eq!((status.code(), &*reason_of(&status)), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
    let status = world.acknowledge("a", &"x".into()).await.unwrap_err();
    assert_eq!(reason_of(&status), "CURSOR_INVALID");
}
