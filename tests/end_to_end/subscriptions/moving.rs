//! Subscriptions that are moved, and logs that are other ones.

use postern_chassis::fault::{reason_of, retry_after_of};
use postern_gateway::events::cursor::Cursor;
use postern_gateway::store::EventLog as _;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{
    GapPolicy, GapReason, SeekSubscriptionRequest, Subscription, UpdateSubscriptionRequest,
};
use tonic::{Code, Status};

use super::world::{NAME, World, acks, at, cursor_of, ids, nack, ordered, shared, start};
use crate::store::conformance::events;

async fn seek(world: &World, to: Position) -> Result<Subscription, Status> {
    seek_with(world, to, GapPolicy::Tell).await
}

async fn seek_with(world: &World, to: Position, policy: GapPolicy) -> Result<Subscription, Status> {
    let request = SeekSubscriptionRequest {
        name: NAME.to_owned(),
        to: at(to),
        gap_policy: policy.into(),
        ..Default::default()
    };
    Ok(world.subscriptions().seek_subscription(request).await?.into_inner().subscription.unwrap())
}

#[tokio::test]
async fn an_ordered_subscription_goes_on_from_where_it_was_moved_to() {
    let world = World::of(2).await;
    world.create(ordered()).await;
    world.append(events("e", 10)).await;
    let mut older = world.start_at(1, start("a")).await;
    older.opened().await;
    let got = older.deliveries(10).await;
    older.commit(&cursor_of(&got[9])).await;
    older.confirmed().await;
    for (to, left) in [
        (Position::Cursor(cursor_of(&got[3])), 6),
        (Position::Earliest(()), 10),
        (Position::Cursor(cursor_of(&got[7])), 2),
        (Position::Latest(()), 0),
    ] {
        let moved = seek(&world, to).await.unwrap();
        assert_eq!(moved.status.unwrap().backlog, left);
        let status = older.end().await;
        assert_eq!((status.code(), &*reason_of(&status)), (Code::Aborted, "SUBSCRIPTION_MOVED"));
        assert!(retry_after_of(&status).is_some());
        older = world.start_at(1, start("a")).await;
        older.opened().await;
        let again = older.deliveries(usize::try_from(left).unwrap()).await;
        assert_eq!(ids(&again), ids(&got[10 - again.len()..]));
    }
}

#[tokio::test]
async fn what_was_outstanding_of_a_shared_subscription_is_void_once_it_is_moved() {
    for gateway in [0, 1] {
        let world = World::of(2).await;
        world.create(shared()).await;
        world.append(events("e", 6)).await;
        let mut subscriber = world.start_at(gateway, start("a")).await;
        subscriber.opened().await;
        let got = subscriber.deliveries(6).await;
        seek(&world, Position::Cursor(cursor_of(&got[3]))).await.unwrap();
        assert_eq!(reason_of(&subscriber.end().await), "SUBSCRIPTION_MOVED");
        let failures = world.settle(acks(&got)).await.unwrap().failures;
        assert!(failures.len() == 6 && failures.iter().all(|failure| failure.reason == "ACK_EXPIRED"));
        let mut subscriber = world.start_at(gateway, start("a")).await;
        subscriber.opened().await;
        let again = subscriber.deliveries(2).await;
        assert_eq!((ids(&again), again[0].attempt), (ids(&got[4..]), 1));
    }
}

#[tokio::test]
async fn events_that_were_set_aside_or_are_replayed_stay_set_aside() {
    let world = World::start().await;
    world.create(Subscription { max_attempts: 1, ..shared() }).await;
    world.append(events("e", 2)).await;
    let mut subscriber = world.consume().await;
    for delivery in subscriber.deliveries(2).await {
        subscriber.settle(nack(&delivery, None, "")).await;
    }
    let mut confirmed = 0;
    while confirmed < 2 {
        confirmed += subscriber.confirmed().await.ack_ids.len();
    }
    let replay = postern_proto::event::v1::ReplaySetAsideEventsRequest {
        name: NAME.to_owned(),
        event_ids: vec![events("e", 1)[0].id.clone()],
        ..Default::default()
    };
    world.subscriptions().replay_set_aside_events(replay).await.unwrap();
    subscriber.deliveries(1).await;
    assert_eq!(world.status().await.set_aside, 1);
    let moved = seek(&world, Position::Latest(())).await.unwrap();
    assert_eq!(moved.status.unwrap().set_aside, 2);
}

#[tokio::test]
async fn a_place_that_is_no_longer_kept_is_refused_or_told_as_a_gap() {
    for kind in [ordered(), shared()] {
        let world = World::start().await;
        world.create(kind).await;
        world.append(events("gone", 10)).await;
        let got = world.pull("a", 0).await.unwrap().deliveries;
        world.trim(0).await;
        world.append(events("kept", 2)).await;
        let to = Position::Cursor(cursor_of(&got[3]));
        let status = seek_with(&world, to.clone(), GapPolicy::Fail).await.unwrap_err();
        assert_eq!((status.code(), &*reason_of(&status)), (Code::OutOfRange, "CURSOR_EXPIRED"));
        seek(&world, to).await.unwrap();
        let mut subscriber = world.consume().await;
        assert_eq!(subscriber.gap().await.missed, 6);
        assert_eq!(subscriber.deliveries(2).await.len(), 2);
    }
}

#[tokio::test]
async fn an_acknowledgement_from_before_a_move_does_not_undo_it() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 5)).await;
    let pulled = world.pull("a", 0).await.unwrap();
    seek(&world, Position::Earliest(())).await.unwrap();
    let status = world.acknowledge("a", &pulled.cursor).await.unwrap_err();
    assert_eq!((status.code(), &*reason_of(&status)), (Code::Aborted, "SUBSCRIPTION_MOVED"));
    assert_eq!(world.pull("a", 0).await.unwrap().deliveries.len(), 5);
}

#[tokio::test]
async fn a_log_that_is_another_one_is_told_and_read_from_its_beginning() {
    for (kind, other_epoch) in [(ordered(), 1), (ordered(), 0), (shared(), 1), (shared(), 0)] {
        let world = World::start().await;
        world.create(kind).await;
        world.append(events("e", 3)).await;
        // As after a restore: the subscription is of a log with another epoch, or of the same one that was further.
        let epoch = world.sqlite.bounds().await.unwrap().epoch;
        let elsewhere = Cursor { epoch: epoch ^ other_epoch, sequence: 900, fingerprint: 3 }.encode();
        seek(&world, Position::Cursor(elsewhere)).await.unwrap();
        assert_eq!(world.status().await.backlog, 3);
        let mut subscriber = world.consume().await;
        assert_eq!(subscriber.gap().await.reason(), GapReason::LogReset);
        let got = subscriber.deliveries(3).await;
        // It looks again, and still nothing of this log is committed.
        let renamed = Subscription { name: NAME.into(), display_name: "Bills".into(), ..Default::default() };
        let request = UpdateSubscriptionRequest { subscription: Some(renamed), ..Default::default() };
        world.subscriptions().update_subscription(request).await.unwrap();
        if got[0].ack_id.is_empty() {
            subscriber.commit(&cursor_of(&got[2])).await;
            assert_eq!(subscriber.confirmed().await.cursor, cursor_of(&got[2]));
        } else {
            subscriber.settle(acks(&got)).await;
            assert_eq!(subscriber.confirmed().await.ack_ids.len(), 3);
        }
        assert_eq!(world.status().await.cursor, cursor_of(&got[2]));
        drop(subscriber);
        world.append(events("later", 1)).await;
        assert_eq!(ids(&world.consume().await.deliveries(1).await), [events("later", 1)[0].id.clone()]);
    }
}

#[tokio::test]
async fn a_move_without_a_place_is_refused_with_the_field() {
    let world = World::start().await;
    world.create(ordered()).await;
    let request = SeekSubscriptionRequest { name: NAME.to_owned(), ..Default::default() };
    let status = world.subscriptions().seek_subscription(request).await.unwrap_err();
    assert!(status.message().contains("to: is absent"), "{status:?}");
    let status = seek(&world, Position::Cursor("x".into())).await.unwrap_err();
    assert_eq!(reason_of(&status), "CURSOR_INVALID");
}
