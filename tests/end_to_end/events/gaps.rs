//! Events that are no longer kept: a gap tells of them, or the stream ends where its subscriber prefers that.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postern_chassis::fault::reason_of;
use postern_gateway::events::cursor::Cursor;
use postern_gateway::store::{EventLog as _, Retention};
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind;
use postern_proto::event::v1::{Gap, GapPolicy, GapReason, SubscribeRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::world::{Subscriber, World, from};
use crate::store::conformance::{event, events, sized_event};

/// Lets retention pass all but the newest events, which have `kept` bytes together.
async fn trim(world: &World, kept: u64) {
    let retention = Retention { age: Duration::from_secs(3_600), bytes: kept };
    assert!(world.sqlite.trim(retention).await.unwrap() > 0);
}

fn ending_at_gaps(request: SubscribeRequest) -> SubscribeRequest {
    SubscribeRequest { gap_policy: GapPolicy::Fail.into(), ..request }
}

async fn gap(subscriber: &mut Subscriber) -> Gap {
    match subscriber.next().await {
        Kind::Gap(gap) => gap,
        other => panic!("no gap: {other:?}"),
    }
}

fn place(cursor: &[u8]) -> u64 {
    Cursor::decode(cursor).unwrap().sequence
}

fn missed(status: &Status) -> HashMap<String, String> {
    assert_eq!((status.code(), &*reason_of(status)), (Code::OutOfRange, "CURSOR_EXPIRED"));
    status.get_details_error_info().unwrap().metadata
}

/// Appends ten events, gives their cursors, and lets retention pass them all.
async fn ten_gone(world: &World) -> Vec<Bytes> {
    world.append(events("gone", 10)).await;
    let got = world.opened(from(Position::Earliest(()))).await.events(10).await;
    trim(world, 0).await;
    got.into_iter().map(|event| event.cursor).collect()
}

#[tokio::test]
async fn a_cursor_that_retention_passed_gets_a_gap_and_then_what_is_kept() {
    let world = World::start().await;
    let cursors = ten_gone(&world).await;
    world.append(events("kept", 2)).await;
    let mut subscriber = world.opened(from(Position::Cursor(cursors[3].clone()))).await;
    let told = gap(&mut subscriber).await;
    assert_eq!((told.reason(), told.missed), (GapReason::Retention, 6));
    assert_eq!((&told.from_cursor, place(&told.to_cursor)), (&cursors[3], 10));
    assert_eq!(subscriber.events(2).await[0].id, event("kept0").id);

    // The gap's own cursor goes on after it, and the last one that was passed misses nothing.
    for cursor in [told.to_cursor, cursors[9].clone()] {
        let mut subscriber = world.opened(ending_at_gaps(from(Position::Cursor(cursor)))).await;
        assert_eq!(subscriber.events(2).await[0].id, event("kept0").id);
    }
}

#[tokio::test]
async fn a_gap_that_was_not_told_is_told_again() {
    let world = World::start().await;
    let cursors = ten_gone(&world).await;
    for start in [
        Position::Cursor(cursors[3].clone()),
        Position::Time(SystemTime::UNIX_EPOCH.into()),
        Position::Cursor(Cursor { epoch: 1, sequence: 1, fingerprint: 0 }.encode()),
    ] {
        let mut subscriber = world.subscribe(from(start)).await;
        let Kind::Opened(opened) = subscriber.next().await else { panic!("another answer") };
        let told = gap(&mut subscriber).await;
        // The stream broke after `opened`: its cursor must not lead past the gap unsaid.
        let mut again = world.opened(from(Position::Cursor(opened.cursor))).await;
        assert_eq!(gap(&mut again).await.to_cursor, told.to_cursor);
    }
}

#[tokio::test]
async fn a_subscriber_that_prefers_it_is_refused_with_what_it_missed() {
    let world = World::start().await;
    let cursors = ten_gone(&world).await;
    let status = world.refused(ending_at_gaps(from(Position::Cursor(cursors[3].clone())))).await;
    assert_eq!(missed(&status)["missed"], "6");
    let elsewhere = Cursor { epoch: 1, sequence: 1, fingerprint: 0 }.encode();
    let status = world.refused(ending_at_gaps(from(Position::Cursor(elsewhere)))).await;
    assert_eq!(missed(&status)["missed"], "0");
}

#[tokio::test]
async fn a_time_that_retention_passed_gets_a_gap_of_unknown_size() {
    let world = World::start().await;
    let before = SystemTime::now() - Duration::from_secs(1);
    ten_gone(&world).await;
    let after = SystemTime::now() + Duration::from_secs(1);
    world.append(vec![event("kept")]).await;
    let mut subscriber = world.opened(from(Position::Time(before.into()))).await;
    let told = gap(&mut subscriber).await;
    assert_eq!((told.reason(), told.missed), (GapReason::Retention, 0));
    assert_eq!((&*told.from_cursor, place(&told.to_cursor)), (&b""[..], 10));
    assert_eq!(subscriber.events(1).await[0].id, event("kept").id);
    // A time after all that was removed misses nothing.
    world.opened(ending_at_gaps(from(Position::Time(after.into())))).await;
}

#[tokio::test]
async fn earliest_and_latest_never_have_a_gap() {
    let world = World::start().await;
    ten_gone(&world).await;
    let mut earliest = world.opened(ending_at_gaps(from(Position::Earliest(())))).await;
    let mut latest = world.opened(ending_at_gaps(from(Position::Latest(())))).await;
    world.append(events("kept", 2)).await;
    for subscriber in [&mut earliest, &mut latest] {
        assert_eq!(subscriber.events(2).await[0].id, event("kept0").id);
    }
}

#[tokio::test]
async fn a_cursor_of_another_log_gets_a_reset_and_then_the_log_from_its_beginning() {
    let (world, other) = (World::start().await, World::start().await);
    for world in [&world, &other] {
        world.append(events("e", 5)).await;
    }
    let foreign = other.opened(from(Position::Earliest(()))).await.events(5).await[2].cursor.clone();
    let epoch = world.sqlite.bounds().await.unwrap().epoch;
    let beyond = Cursor { epoch, sequence: 6, fingerprint: 0 }.encode();
    for cursor in [foreign, beyond] {
        let mut subscriber = world.opened(from(Position::Cursor(cursor.clone()))).await;
        let told = gap(&mut subscriber).await;
        assert_eq!((told.reason(), told.missed, told.from_cursor), (GapReason::LogReset, 0, cursor));
        let got: Vec<_> = subscriber.events(5).await.into_iter().map(|event| event.id).collect();
        assert_eq!(got, events("e", 5).into_iter().map(|event| event.id).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_log_that_went_back_to_a_backup_and_was_filled_anew_is_told_from_the_old_one() {
    let world = World::start().await;
    world.append(events("kept", 3)).await;
    let folder = world.stop().await;
    let database = folder.path().join("postern.db");
    let backup = std::fs::read(&database).unwrap();
    let world = World::start_in(folder).await;
    world.append(events("lost", 3)).await;
    let cursors: Vec<_> = world.opened(from(Position::Earliest(()))).await.events(6).await;
    let mut latest = world.subscribe(SubscribeRequest::default()).await;
    let Kind::Opened(opened) = latest.next().await else { panic!("another answer") };
    let folder = world.stop().await;

    std::fs::write(&database, backup).unwrap();
    let world = World::start_in(folder).await;
    world.append(events("new", 5)).await;
    for cursor in [&cursors[3].cursor, &cursors[5].cursor, &opened.cursor] {
        let mut subscriber = world.opened(from(Position::Cursor(cursor.clone()))).await;
        assert_eq!(gap(&mut subscriber).await.reason(), GapReason::LogReset);
        assert_eq!(subscriber.events(8).await[3].id, event("new0").id);
    }
    // What the backup holds too is where it was.
    let mut subscriber = world.opened(from(Position::Cursor(cursors[2].cursor.clone()))).await;
    assert_eq!(subscriber.events(5).await[0].id, event("new0").id);
}

#[tokio::test]
async fn a_slow_subscriber_that_retention_overtakes_is_told_so_in_mid_stream() {
    let world = World::start().await;
    let mut slow = world.opened(from(Position::Earliest(()))).await;
    let mut strict = world.opened(ending_at_gaps(from(Position::Earliest(())))).await;
    // More than all buffers on the way hold, so that both stand still in the midst of it.
    let new = |round: usize| (0..100).map(move |number| sized_event(&format!("{round}-{number}"), 32_000));
    for round in 0..10 {
        world.append(new(round).collect()).await;
    }
    // Each has begun.
    let Kind::Batch(first) = slow.next().await else { panic!("another answer") };
    strict.next().await;
    trim(&world, 100_000).await;

    let (mut got, mut told) = (Vec::new(), None);
    got.extend(first.events.iter().map(|event| place(&event.cursor)));
    while got.last() != Some(&1_000) {
        match slow.next().await {
            Kind::Batch(batch) => got.extend(batch.events.iter().map(|event| place(&event.cursor))),
            Kind::Gap(gap) => assert!(told.replace((gap, got.len())).is_none()),
            other => panic!("{other:?}"),
        }
    }
    let (gap, before) = told.expect("a gap");
    let (from, to) = (place(&gap.from_cursor), place(&gap.to_cursor));
    assert_eq!((gap.reason(), gap.missed), (GapReason::Retention, (to - from).cast_signed()));
    assert_eq!((got[before - 1], got[before]), (from, to + 1));
    assert_eq!(got.len(), 1_000 - usize::try_from(gap.missed).unwrap());

    let status = loop {
        if let Err(status) = strict.answer().await {
            break status;
        }
    };
    assert!(missed(&status)["missed"].parse::<i64>().unwrap() > 0);
}
