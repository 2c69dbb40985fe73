//! ORDERED subscriptions: one reader, in order, from what is committed on.

use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::event::v1::consume_response::Kind;
use postern_proto::event::v1::{ConsumeStart, EventFilter, Subscription, SubscriptionMode};
use tonic::Code;

use super::world::{World, cursor_of, ids, ordered, start};
use crate::store::conformance::{events, sized_event};

fn expected(prefix: &str, count: usize) -> Vec<String> {
    events(prefix, count).into_iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn the_first_answer_is_opened_with_what_is_in_force() {
    let world = World::start().await;
    let made = world.create(ordered()).await;
    let mut subscriber = world.start_at(0, start("a")).await;
    let opened = subscriber.opened().await;
    assert_eq!((opened.mode(), &*opened.client_id), (SubscriptionMode::Ordered, "a"));
    assert_eq!(opened.heartbeat_interval.unwrap().seconds, 30);
    assert_eq!((opened.ack_deadline, opened.cursor), (None, made.status.unwrap().cursor));
    let made = world.start_at(0, start("")).await.opened().await.client_id;
    let other = world.start_at(0, start("")).await.opened().await.client_id;
    assert!(!made.is_empty() && made != other);
}

#[tokio::test]
async fn events_come_in_order_and_what_is_not_committed_comes_again() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 60)).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(60).await;
    assert_eq!(ids(&got), expected("e", 60));
    assert!(got.iter().all(|delivery| delivery.ack_id.is_empty()));
    subscriber.commit(&cursor_of(&got[19])).await;
    assert_eq!(subscriber.confirmed().await.cursor, cursor_of(&got[19]));
    // One before the committed place changes nothing.
    subscriber.commit(&cursor_of(&got[4])).await;
    assert_eq!(subscriber.confirmed().await.cursor, cursor_of(&got[19]));
    let status = world.status().await;
    assert_eq!((status.cursor, status.backlog), (cursor_of(&got[19]), 40));
    assert_eq!(status.client_id, "a");
    assert!(status.last_ack_time.is_some());

    // Over a stop and a start.
    let world = World::start_in(world.stop().await, 1).await;
    let mut subscriber = world.consume().await;
    assert_eq!(ids(&subscriber.deliveries(40).await), expected("e", 60)[20..]);
}

#[tokio::test]
async fn a_newer_subscriber_takes_over_and_the_older_ones_late_commit_is_refused() {
    for (gateways, client_id) in [(1, "b"), (2, "b"), (1, "a"), (2, "a")] {
        let world = World::of(gateways).await;
        world.create(ordered()).await;
        world.append(events("e", 10)).await;
        let mut older = world.consume_as("a").await;
        let got = older.deliveries(10).await;
        let mut newer = world.start_at(gateways - 1, start(client_id)).await;
        newer.opened().await;
        older.commit(&cursor_of(&got[9])).await;
        let status = older.end().await;
        assert_eq!((status.code(), &*reason_of(&status)), (Code::Aborted, "SUBSCRIPTION_TAKEN_OVER"));
        // The commit did not count: all is delivered anew.
        assert_eq!(ids(&newer.deliveries(10).await), expected("e", 10));
        assert_eq!(world.status().await.backlog, 10);
        assert_eq!(world.status().await.client_id, client_id);
    }
}

#[tokio::test]
async fn an_idle_stream_is_ended_by_the_one_that_takes_over_at_another_gateway() {
    let world = World::of(2).await;
    world.create(ordered()).await;
    let mut older = world.consume_as("a").await;
    world.start_at(1, start("b")).await.opened().await;
    assert_eq!(reason_of(&older.end().await), "SUBSCRIPTION_TAKEN_OVER");
}

#[tokio::test]
async fn no_more_is_delivered_than_may_be_outstanding() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 50)).await;
    let mut subscriber = world.start_at(0, ConsumeStart { max_outstanding_events: 7, ..start("a") }).await;
    subscriber.opened().await;
    let got = subscriber.deliveries(7).await;
    assert!(subscriber.is_silent().await);
    subscriber.commit(&cursor_of(&got[2])).await;
    subscriber.confirmed().await;
    assert_eq!(ids(&subscriber.deliveries(3).await), expected("e", 50)[7..10]);
    assert!(subscriber.is_silent().await);
}

#[tokio::test]
async fn an_acknowledgement_at_another_gateway_is_credit_too() {
    let world = World::of(2).await;
    world.create(ordered()).await;
    world.append(events("e", 20)).await;
    let mut subscriber = world.start_at(1, ConsumeStart { max_outstanding_events: 5, ..start("a") }).await;
    subscriber.opened().await;
    let got = subscriber.deliveries(5).await;
    assert!(subscriber.is_silent().await);
    world.acknowledge("a", &cursor_of(&got[3])).await.unwrap();
    assert_eq!(ids(&subscriber.deliveries(4).await), expected("e", 20)[5..9]);
    assert!(subscriber.is_silent().await);
}

#[tokio::test]
async fn outstanding_bytes_are_bounded_and_one_event_comes_whatever_its_size() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append((0..8).map(|number| sized_event(&format!("{number}"), 60_000)).collect()).await;
    let wish = ConsumeStart { max_outstanding_bytes: 128 * 1024, ..start("a") };
    let mut subscriber = world.start_at(0, wish).await;
    subscriber.opened().await;
    for _ in 0..3 {
        let got = subscriber.deliveries(2).await;
        assert!(subscriber.is_silent().await);
        subscriber.commit(&cursor_of(&got[1])).await;
        subscriber.confirmed().await;
    }
}

#[tokio::test]
async fn a_heartbeat_moves_past_what_the_filter_drops_and_so_does_the_committed_place() {
    let world = World::start().await;
    let filter = Some(EventFilter { types: vec!["email".into()], ..EventFilter::default() });
    world.create(Subscription { filter, ..ordered() }).await;
    world.append(events("e", 30)).await;
    let heartbeat_interval = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let mut subscriber = world.start_at(0, ConsumeStart { heartbeat_interval, ..start("a") }).await;
    assert_eq!(subscriber.opened().await.heartbeat_interval, heartbeat_interval);
    let Kind::Heartbeat(heartbeat) = subscriber.next().await else { panic!("another answer") };
    // It can be committed, and is by itself.
    subscriber.commit(&heartbeat.cursor).await;
    assert_eq!(subscriber.confirmed().await.cursor, heartbeat.cursor);
    assert_eq!(world.status().await.backlog, 0);
    world.append(events("f", 30)).await;
    let Kind::Heartbeat(_) = subscriber.next().await else { panic!("another answer") };
    let passed = async {
        while world.status().await.backlog > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), passed).await.unwrap();
}

#[tokio::test]
async fn a_cursor_beyond_what_was_delivered_is_refused() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 20)).await;
    let mut ahead = world.consume().await;
    let got = ahead.deliveries(20).await;
    let mut subscriber = world.start_at(0, ConsumeStart { max_outstanding_events: 5, ..start("a") }).await;
    subscriber.opened().await;
    subscriber.deliveries(5).await;
    subscriber.commit(&cursor_of(&got[10])).await;
    let status = subscriber.end().await;
    assert_eq!((status.code(), &*reason_of(&status)), (Code::InvalidArgument, "CURSOR_INVALID"));
    let mut subscriber = world.consume().await;
    subscriber.commit(&"not one".into()).await;
    assert_eq!(reason_of(&subscriber.end().await), "CURSOR_INVALID");
}

#[tokio::test]
async fn retention_that_overtakes_it_is_told_as_a_gap_until_something_is_committed() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("gone", 10)).await;
    world.trim(0).await;
    world.append(events("kept", 3)).await;
    for _ in 0..2 {
        let mut subscriber = world.consume().await;
        assert_eq!(subscriber.gap().await.missed, 10);
        assert_eq!(ids(&subscriber.deliveries(3).await), expected("kept", 3));
    }
    let mut subscriber = world.consume().await;
    let gap = subscriber.gap().await;
    subscriber.deliveries(3).await;
    subscriber.commit(&gap.to_cursor).await;
    subscriber.confirmed().await;
    assert_eq!(ids(&world.consume().await.deliveries(3).await), expected("kept", 3));
}

#[tokio::test]
async fn a_stop_sends_a_stream_on_and_what_was_said_before_holds() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 10)).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(10).await;
    subscriber.commit(&cursor_of(&got[4])).await;
    subscriber.confirmed().await;
    world.gateways[0].stop.cancel();
    let status = subscriber.end().await;
    assert_eq!((status.code(), &*reason_of(&status)), (Code::Unavailable, "DRAINING"));
    assert!(retry_after_of(&status).is_some());
    let world = World::start_in(world.stop().await, 1).await;
    assert_eq!(ids(&world.consume().await.deliveries(5).await), expected("e", 10)[5..]);
}

#[tokio::test]
async fn who_has_nothing_more_to_say_gets_its_confirmation_and_a_good_end() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 3)).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(3).await;
    subscriber.commit(&cursor_of(&got[2])).await;
    subscriber.hush();
    assert_eq!(subscriber.confirmed().await.cursor, cursor_of(&got[2]));
    assert!(subscriber.answer().await.unwrap().is_none());
}
