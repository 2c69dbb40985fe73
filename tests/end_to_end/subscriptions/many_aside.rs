//! More set-aside events than one commit writes: dropped, delivered again and acknowledged all the same.

use postern_gateway::store::MAX_WRITES;
use postern_proto::event::v1::{
    ConsumeStart, DropSetAsideEventsRequest, DropSetAsideEventsResponse, ReplaySetAsideEventsRequest, Settle,
    Subscription,
};

use super::world::{NAME, Subscriber, World, acks, nack, shared, start};
use crate::store::conformance::events;

/// The most that a stream may have, and a message settle.
const MOST: usize = 1_000;

/// A stream that takes so many at once.
async fn with_room(world: &World, room: usize) -> Subscriber {
    let room = i32::try_from(room).unwrap();
    let mut subscriber = world.start_at(0, ConsumeStart { max_outstanding_events: room, ..start("a") }).await;
    subscriber.opened().await;
    subscriber
}

/// A world in which so many events were set aside after one attempt.
async fn with_set_aside(count: usize) -> World {
    let world = World::start().await;
    world.create(Subscription { max_attempts: 1, ..shared() }).await;
    world.append(events("e", count)).await;
    let mut subscriber = with_room(&world, MOST).await;
    let mut left = count;
    while left > 0 {
        let got = subscriber.deliveries(left.min(MOST)).await;
        let nacks = got.iter().flat_map(|delivery| nack(delivery, None, "").nacks).collect();
        subscriber.settle(Settle { nacks, ..Settle::default() }).await;
        assert_eq!(subscriber.confirmed().await.ack_ids.len(), got.len());
        left -= got.len();
    }
    while world.status().await.set_aside < i64::try_from(count).unwrap() {
        tokio::task::yield_now().await;
    }
    world
}

async fn replay(world: &World) -> i32 {
    let request = ReplaySetAsideEventsRequest { name: NAME.to_owned(), ..Default::default() };
    world.subscriptions().replay_set_aside_events(request).await.unwrap().into_inner().replayed
}

#[tokio::test]
async fn they_are_dropped_in_parts() {
    let world = with_set_aside(MAX_WRITES + 100).await;
    let request = DropSetAsideEventsRequest { name: NAME.to_owned(), ..Default::default() };
    for (dropped, more) in [(500, true), (400, false)] {
        let answer = world.subscriptions().drop_set_aside_events(request.clone()).await.unwrap();
        assert_eq!(answer.into_inner(), DropSetAsideEventsResponse { dropped, more });
    }
    assert_eq!(world.status().await.set_aside, 0);
}

#[tokio::test]
async fn delivered_again_they_are_acknowledged_by_one_message() {
    let world = with_set_aside(MOST).await;
    assert_eq!(replay(&world).await, 1_000);
    let mut subscriber = with_room(&world, MOST).await;
    let got = subscriber.deliveries(MOST).await;
    subscriber.settle(acks(&got)).await;
    let confirmed = subscriber.confirmed().await;
    assert_eq!((confirmed.ack_ids.len(), confirmed.failures), (MOST, Vec::new()));
    let status = world.status().await;
    assert_eq!((status.set_aside, status.outstanding), (0, 0));
}

#[tokio::test]
async fn delivered_again_they_are_acknowledged_by_many_streams_at_once() {
    let world = with_set_aside(2 * MOST).await;
    assert_eq!((replay(&world).await, replay(&world).await), (1_000, 1_000));
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut subscriber = with_room(&world, MOST / 5).await;
        let got = subscriber.deliveries(MOST / 5).await;
        streams.push((subscriber, got));
    }
    // What comes while the first is written is written as one.
    for (subscriber, got) in &streams {
        subscriber.settle(acks(got)).await;
    }
    for (mut subscriber, got) in streams {
        let confirmed = subscriber.confirmed().await;
        assert_eq!((confirmed.ack_ids.len(), confirmed.failures), (got.len(), Vec::new()));
    }
    let status = world.status().await;
    assert_eq!((status.set_aside, status.outstanding), (0, 0));
}
