//! Gaps of stored subscriptions: told until somebody acknowledges them, whoever ends before that.

use postern_chassis::fault::reason_of;
use postern_gateway::events::cursor::Cursor;
use postern_proto::event::v1::consume_response::Kind;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{
    ConsumeStart, EventFilter, Extension, Gap, GapReason, Nack, SeekSubscriptionRequest, Settle, Subscription,
};

use super::rocky::beside;
use super::world::{
    Gateway, NAME, Subscriber, World, acks, at, cursor_of, ids, nack, ordered, shared, start,
};
use crate::store::conformance::events;
use crate::world::until;

/// A subscription that has lost three events and has so many left.
async fn lossy(gateways: usize, kept: usize) -> World {
    let world = World::of(gateways).await;
    world.create(shared()).await;
    world.append(events("gone", 3)).await;
    world.trim(0).await;
    world.append(events("kept", kept)).await;
    world
}

/// A reader with another id, at a gateway.
async fn reader(world: &World, gateway: usize) -> Subscriber {
    let mut reader = world.start_at(gateway, start("b")).await;
    reader.opened().await;
    reader
}

async fn seek(world: &World, to: Position) {
    let request =
        SeekSubscriptionRequest { name: NAME.to_owned(), to: at(to), ..SeekSubscriptionRequest::default() };
    world.subscriptions().seek_subscription(request).await.unwrap();
}

fn heard(gap: &Gap) -> Settle {
    Settle { ack_ids: vec![gap.ack_id.clone()], ..Settle::default() }
}

fn back(gap: &Gap, seconds: i64) -> Settle {
    let delay = Some(prost_types::Duration { seconds, nanos: 0 });
    let nack = Nack { ack_id: gap.ack_id.clone(), delay, ..Nack::default() };
    Settle { nacks: vec![nack], ..Settle::default() }
}

#[tokio::test]
async fn a_gap_whose_reader_ends_before_it_acknowledges_is_told_to_the_next_at_once() {
    let world = lossy(2, 0).await;
    let mut first = world.consume().await;
    let gap = first.gap().await;
    assert_eq!(gap.missed, 3);
    assert!(!gap.ack_id.is_empty() && gap.ack_id.len() <= 64);
    let mut second = reader(&world, 1).await;
    assert!(second.is_silent().await, "it was told to another");
    drop(first);
    assert_eq!(second.gap().await, gap);
    drop(second);
    assert_eq!(world.pull("", 30).await.unwrap().gap, Some(gap));
}

#[tokio::test]
async fn a_gap_told_by_a_gateway_that_stops_is_told_by_another_at_once() {
    let world = lossy(2, 0).await;
    let mut first = world.consume().await;
    let gap = first.gap().await;
    let mut second = reader(&world, 1).await;
    world.gateways[0].stop.cancel();
    assert_eq!(reason_of(&first.end().await), "DRAINING");
    assert_eq!(second.gap().await, gap);
}

#[tokio::test]
async fn a_gap_told_by_a_gateway_that_dies_is_told_by_another_after_the_deadline() {
    let mut world = lossy(1, 0).await;
    let dying = Gateway::start_apart(world.sqlite.clone(), world.sqlite.clone(), &world.clock);
    world.gateways.push(dying);
    let mut first = world.start_at(1, start("a")).await;
    first.opened().await;
    let gap = first.gap().await;
    world.gateways.pop().unwrap().kill();
    first.end().await;
    let mut second = world.consume_as("b").await;
    world.pass(55);
    assert!(second.is_silent().await, "its reader may still acknowledge it");
    world.pass(6);
    assert_eq!(second.gap().await, gap);
}

#[tokio::test]
async fn a_gap_survives_the_end_of_all_gateways_until_it_is_acknowledged() {
    let world = lossy(1, 0).await;
    let gap = world.pull("", 0).await.unwrap().gap.unwrap();
    let world = World::start_in(world.stop().await, 2).await;
    // A clock begins anew with its gateways.
    assert_eq!(world.pull("", 0).await.unwrap().gap, None);
    world.pass(61);
    assert_eq!(world.pull_at(1, "", 0).await.unwrap().gap.as_ref(), Some(&gap));
    // Once is enough, at any gateway, and twice does no harm.
    for _ in 0..2 {
        assert_eq!(world.settle(heard(&gap)).await.unwrap().ack_ids, heard(&gap).ack_ids);
    }
    world.pass(61);
    assert_eq!(world.pull_at(1, "", 0).await.unwrap().gap, None);
    let world = World::start_in(world.stop().await, 1).await;
    world.pass(122);
    assert!(world.consume().await.is_silent().await);
}

#[tokio::test]
async fn a_gap_is_told_again_after_its_deadline_though_its_stream_is_open() {
    let world = lossy(1, 0).await;
    let mut first = world.consume().await;
    let gap = first.gap().await;
    // It asks for more before the other one does.
    assert!(first.is_silent().await);
    let mut second = world.consume_as("b").await;
    world.pass(61);
    assert_eq!(first.gap().await, gap);
    world.pass(61);
    assert_eq!(second.gap().await, gap);
    // Who was told of it first knows of it no less.
    first.settle(heard(&gap)).await;
    assert_eq!(first.confirmed().await.ack_ids, heard(&gap).ack_ids);
    drop((first, second));
    world.pass(61);
    assert!(world.consume().await.is_silent().await);
}

#[tokio::test]
async fn a_gap_is_given_back_and_kept_as_a_delivery_is() {
    let world = lossy(1, 0).await;
    let mut reader = world.consume().await;
    let gap = reader.gap().await;
    reader.settle(back(&gap, 5)).await;
    reader.confirmed().await;
    assert!(reader.is_silent().await);
    world.pass(6);
    assert_eq!(reader.gap().await, gap);
    let deadline = Some(prost_types::Duration { seconds: 300, nanos: 0 });
    let extension = Extension { ack_id: gap.ack_id.clone(), deadline };
    reader.settle(Settle { extensions: vec![extension.clone()], ..Settle::default() }).await;
    assert_eq!(reader.confirmed().await.ack_ids.len(), 1);
    world.pass(200);
    assert!(reader.is_silent().await);
    world.pass(101);
    assert_eq!(reader.gap().await, gap);
    reader.settle(heard(&gap)).await;
    reader.confirmed().await;
    reader.settle(Settle { extensions: vec![extension], ..Settle::default() }).await;
    assert_eq!(reader.confirmed().await.failures[0].reason, "ACK_EXPIRED");
}

#[tokio::test]
async fn who_acknowledges_an_event_after_a_gap_has_that_too() {
    for is_batch in [true, false] {
        let world = lossy(1, if is_batch { 2 } else { 0 }).await;
        let mut first = world.consume().await;
        first.gap().await;
        if !is_batch {
            world.append(events("kept", 2)).await;
        }
        let got = first.deliveries(2).await;
        first.settle(acks(&got[1..])).await;
        first.confirmed().await;
        drop(first);
        let mut second = world.consume_as("b").await;
        assert_eq!(ids(&second.deliveries(1).await), ids(&got[..1]), "and no gap before it");
        world.pass(61);
        assert_eq!(second.deliveries(1).await[0].attempt, 3);
    }
}

#[tokio::test]
async fn who_acknowledges_an_event_before_a_gap_or_gives_one_back_does_not_have_it() {
    let world = World::start().await;
    world.create(shared()).await;
    world.append(events("e", 3)).await;
    let mut first = world.consume().await;
    let got = first.deliveries(3).await;
    world.trim(0).await;
    first.settle(nack(&got[0], Some(0), "")).await;
    first.confirmed().await;
    let gap = first.gap().await;
    assert_eq!(gap.missed, 1);
    world.append(events("kept", 1)).await;
    let after = first.deliveries(1).await;
    for settle in [acks(&got[1..]), nack(&after[0], Some(3_600), "")] {
        first.settle(settle).await;
        first.confirmed().await;
    }
    drop(first);
    assert_eq!(world.consume_as("b").await.gap().await, gap);
}

#[tokio::test]
async fn a_gap_in_an_answer_of_pull_is_acknowledged_with_its_events_at_any_gateway() {
    let world = lossy(2, 2).await;
    let given = world.pull("", 0).await.unwrap();
    assert_eq!((given.deliveries.len(), given.gap.as_ref().map(|gap| gap.missed)), (2, Some(3)));
    world.pass(61);
    // Nobody has said that it came.
    let again = world.pull_at(1, "", 0).await.unwrap();
    assert_eq!((again.deliveries.len(), again.gap), (2, given.gap));
    assert_eq!(world.settle(acks(&again.deliveries[..1])).await.unwrap().ack_ids.len(), 1);
    world.pass(61);
    let last = world.pull_at(1, "", 0).await.unwrap();
    assert_eq!((last.deliveries.len(), last.gap), (1, None));
}

#[tokio::test]
async fn gaps_that_come_one_after_another_are_told_and_acknowledged_each_by_itself() {
    let world = lossy(1, 2).await;
    let mut reader = world.consume().await;
    let first = reader.gap().await;
    let got = reader.deliveries(2).await;
    world.trim(0).await;
    reader.settle(nack(&got[0], Some(0), "")).await;
    reader.confirmed().await;
    let second = reader.gap().await;
    assert_eq!((first.missed, second.missed), (3, 1));
    reader.settle(heard(&second)).await;
    reader.confirmed().await;
    drop(reader);
    let mut next = world.consume_as("b").await;
    assert_eq!(next.gap().await, first);
    // Its other delivery is lost too, and told at once.
    assert_eq!(next.gap().await.missed, 1);
    assert!(next.is_silent().await);
}

#[tokio::test]
async fn a_gap_that_two_gateways_found_is_told_by_one_of_them() {
    let world = lossy(2, 0).await;
    for gateway in [0, 1] {
        world.acquaint(gateway).await;
    }
    let gap = world.pull("", 0).await.unwrap().gap.unwrap();
    world.settle(heard(&gap)).await.unwrap();
    assert_eq!(world.pull_at(1, "", 0).await.unwrap().gap, None);
}

/// An ORDERED subscription that a filter leaves nothing, and a reader of it that is often told so.
async fn rare() -> (World, ConsumeStart) {
    let world = World::start().await;
    let filter = Some(EventFilter { types: vec!["email".into()], ..EventFilter::default() });
    world.create(Subscription { filter, ..ordered() }).await;
    world.append(events("e", 3)).await;
    let heartbeat_interval = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    (world, ConsumeStart { heartbeat_interval, ..start("a") })
}

/// A gap is told again though a heartbeat came after it, and once it is committed, what the filter drops is passed over.
async fn is_told_until_it_is_committed(world: World, start: ConsumeStart, reason: GapReason) {
    let mut first = world.start_at(0, start.clone()).await;
    first.opened().await;
    let gap = first.gap().await;
    assert_eq!((gap.reason(), gap.ack_id.is_empty()), (reason, true));
    assert!(matches!(first.next().await, Kind::Heartbeat(_)));
    first.hush();
    assert!(first.answer().await.unwrap().is_none());
    let mut second = world.start_at(0, start).await;
    second.opened().await;
    assert_eq!(second.gap().await, gap);
    second.commit(&gap.to_cursor).await;
    assert_eq!(second.confirmed().await.cursor, gap.to_cursor);
    assert_eq!(world.status().await.cursor, gap.to_cursor);
    assert!(matches!(second.next().await, Kind::Heartbeat(_)));
    until("it is passed over", || async { (world.status().await.backlog == 0).then_some(()) }).await;
}

#[tokio::test]
async fn an_ordered_gap_is_told_until_it_is_committed_whatever_silence_came_after_it() {
    let (world, start) = rare().await;
    world.trim(0).await;
    world.append(events("dropped", 3)).await;
    is_told_until_it_is_committed(world, start, GapReason::Retention).await;
}

#[tokio::test]
async fn an_ordered_gap_that_comes_up_on_a_stream_is_told_until_it_is_committed_too() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 1)).await;
    let heartbeat_interval = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let begin = ConsumeStart { heartbeat_interval, max_outstanding_events: 1, ..start("a") };
    let mut reader = world.start_at(0, begin).await;
    reader.opened().await;
    let got = reader.deliveries(1).await;
    world.append(events("gone", 3)).await;
    world.trim(0).await;
    reader.commit(&cursor_of(&got[0])).await;
    reader.confirmed().await;
    let gap = reader.gap().await;
    assert_eq!(gap.missed, 3);
    assert!(matches!(reader.next().await, Kind::Heartbeat(_)));
    reader.hush();
    assert!(reader.answer().await.unwrap().is_none());
    assert_eq!(world.consume().await.gap().await.missed, 3);
}

#[tokio::test]
async fn another_log_is_told_until_its_beginning_is_committed() {
    let (world, start) = rare().await;
    let elsewhere = Cursor { epoch: 7, sequence: 900, fingerprint: 3 };
    seek(&world, Position::Cursor(elsewhere.encode())).await;
    is_told_until_it_is_committed(world, start, GapReason::LogReset).await;
}

#[tokio::test]
async fn a_gap_can_be_acknowledged_at_a_gateway_that_has_not_heard_of_it() {
    let (world, way) = beside(shared()).await;
    world.acquaint(1).await;
    way.deafen(true);
    world.append(events("gone", 3)).await;
    world.trim(0).await;
    let gap = world.pull("", 0).await.unwrap().gap.unwrap();
    assert_eq!(world.settle_at(1, heard(&gap)).await.unwrap().ack_ids, heard(&gap).ack_ids);
    world.pass(61);
    assert_eq!(world.pull("", 0).await.unwrap().gap, None);
}

#[tokio::test]
async fn moving_a_subscription_takes_its_gaps_back() {
    let world = lossy(1, 0).await;
    let mut reader = world.consume().await;
    let gap = reader.gap().await;
    seek(&world, Position::Latest(())).await;
    assert_eq!(reason_of(&reader.end().await), "SUBSCRIPTION_MOVED");
    world.pass(61);
    let mut next = world.consume_as("b").await;
    assert!(next.is_silent().await);
    next.settle(heard(&gap)).await;
    assert_eq!(next.confirmed().await.failures[0].reason, "ACK_EXPIRED");
}
