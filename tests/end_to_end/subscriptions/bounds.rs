//! Streams that are begun wrongly, and what is beyond bounds.

use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::{Commit, ConsumeStart, PullRequest, Settle};
use tonic::Code;

use super::world::{NAME, Subscriber, World, acks, cursor_of, ids, nack, ordered, shared, start};
use crate::store::conformance::events;

#[tokio::test]
async fn each_wrong_field_of_a_start_is_named() {
    let world = World::start().await;
    let wrong = ConsumeStart {
        subscription: "billing".into(),
        client_id: "a b".into(),
        max_outstanding_events: 1_001,
        max_outstanding_bytes: 1,
        heartbeat_interval: Some(prost_types::Duration { seconds: 4, nanos: 0 }),
    };
    let status = world.start_at(0, wrong).await.end().await;
    assert_eq!((status.code(), &*reason_of(&status)), (Code::InvalidArgument, "FIELD_INVALID"));
    for field in
        ["subscription", "client_id", "max_outstanding_events", "max_outstanding_bytes", "heartbeat_interval"]
    {
        assert!(status.message().contains(&format!("start.{field}:")), "{field}: {status:?}");
    }
    let missing = ConsumeStart { subscription: "subscriptions/other".into(), ..start("a") };
    assert_eq!(reason_of(&world.start_at(0, missing).await.end().await), "SUBSCRIPTION_NOT_FOUND");
}

#[tokio::test]
async fn what_comes_first_is_the_start_and_what_follows_is_of_the_mode() {
    for (kind, other) in
        [(ordered(), Say::Settle(Settle::default())), (shared(), Say::Commit(Commit::default()))]
    {
        let world = World::start().await;
        world.create(kind).await;
        for first in [other.clone(), Say::Commit(Commit::default())] {
            let status = Subscriber::begin(world.events(0), first).await.end().await;
            assert!(status.message().starts_with("start:"), "{status:?}");
        }
        for said in [other, Say::Start(start("a"))] {
            let mut subscriber = world.consume().await;
            subscriber.say(said).await;
            let status = subscriber.end().await;
            assert_eq!((status.code(), &*reason_of(&status)), (Code::InvalidArgument, "FIELD_INVALID"));
        }
    }
}

#[tokio::test]
async fn too_many_deliveries_in_one_message_are_refused() {
    let world = World::start().await;
    world.create(shared()).await;
    let mut subscriber = world.consume().await;
    subscriber.settle(Settle { ack_ids: vec![String::new(); 1_001], ..Settle::default() }).await;
    assert!(subscriber.end().await.message().starts_with("settle:"));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_ends_the_stream_with_why_and_what_was_said_before_holds() {
    let long = "x".repeat(2 * 1024 * 1024);
    for kind in [ordered(), shared()] {
        let world = World::start().await;
        world.create(kind).await;
        world.append(events("e", 4)).await;
        let mut subscriber = world.consume().await;
        let got = subscriber.deliveries(4).await;
        // In the same breath, so that the one is heard with the other.
        if got[0].ack_id.is_empty() {
            let done = cursor_of(&got[1]);
            subscriber.say_all([&done, &long.clone().into()].map(|cursor| {
                let cursor = cursor.clone();
                Say::Commit(Commit { cursor })
            }));
            assert_eq!(subscriber.confirmed().await.cursor, done);
        } else {
            subscriber.say_all([acks(&got[..2]), nack(&got[2], None, &long)].map(Say::Settle));
            assert_eq!(subscriber.confirmed().await.ack_ids.len(), 2);
        }
        let status = subscriber.end().await;
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        assert!(status.message().contains("too large"), "{status:?}");
        assert_eq!(ids(&world.consume().await.deliveries(2).await), ids(&got[2..]));
        let first = Say::Start(ConsumeStart { client_id: long.clone(), ..start("a") });
        let status = Subscriber::begin(world.events(0), first).await.end().await;
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    }
}

#[tokio::test]
async fn a_shared_subscription_has_so_many_outstanding_and_no_more() {
    let world = World::start().await;
    world.create(shared()).await;
    world.append(events("e", 4_200)).await;
    let pull = PullRequest { subscription: NAME.into(), max_events: 1_000, ..PullRequest::default() };
    let mut all = Vec::new();
    let status = loop {
        match world.events(0).pull(pull.clone()).await {
            Ok(pulled) => all.extend(pulled.into_inner().deliveries),
            Err(status) => break status,
        }
    };
    assert_eq!(all.len(), 4_096);
    assert_eq!((status.code(), &*reason_of(&status)), (Code::ResourceExhausted, "TOO_MANY_OUTSTANDING"));
    assert!(retry_after_of(&status).is_some());
    let status = world.start_at(0, start("a")).await.end().await;
    assert_eq!(reason_of(&status), "TOO_MANY_OUTSTANDING");
    assert_eq!(world.status().await.outstanding, 4_096);
    for some in all.chunks(1_000) {
        assert!(world.settle(acks(some)).await.unwrap().failures.is_empty());
    }
    assert_eq!(world.consume().await.deliveries(100).await.len(), 100);
}
