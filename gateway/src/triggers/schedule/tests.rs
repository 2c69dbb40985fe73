//! What the clock decides, step by step: nobody runs it here.

use std::sync::Arc;

use postern_proto::event::v1::{Trigger, TriggerState};
use tokio::task::Id;
use tokio::time::Instant;

use super::clock::{Clock, Ended, MAX_QUIET};
use super::open::Turn;
use super::waits::back_off;
use super::*;
use crate::connectors::Connectors;
use crate::error::Error;
use crate::seal::KeyRing;
use crate::store::sqlite::Sqlite;
use crate::store::{Entry, Expect};
use crate::triggers::poll::Looked;
use crate::triggers::stored;

const NAME: &str = "connections/office/triggers/new-mail";
const OTHER: &str = "connections/office/triggers/other";
const HOUR: Duration = Duration::from_secs(3_600);

fn watch() -> WatchName {
    WatchName::new(NAME, "inbox")
}

/// A clock that nobody runs, over an empty store: each look fails.
async fn clock() -> (Clock, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let connectors = Arc::new(Connectors::new(Vec::new(), None).unwrap());
    let keys = KeyRing::read_or_make(&folder.path().join("keys")).unwrap();
    let connections = Arc::new(Connections::new(store.clone(), store.clone(), connectors, keys));
    let leases = Leases::start(store.clone(), String::new()).await.unwrap();
    let poller = Arc::new(Poller { connections, leases, store: store.clone(), log: store });
    (Clock::new(poller, Fares::default(), Arc::default()), folder)
}

/// The record of a trigger.
fn record(name: &str, interval: Duration, revision: u64, state: TriggerState) -> Entry {
    let interval = Some(interval.try_into().unwrap());
    let trigger = Trigger { name: name.into(), state: state.into(), interval, ..Default::default() };
    let write = stored::write(&trigger, "inbox", Expect::Any);
    Entry { key: write.key, value: write.value.unwrap(), revision }
}

/// A clock whose one watch, each hour, is being looked after.
async fn looking() -> (Clock, tempfile::TempDir) {
    let (mut clock, folder) = clock().await;
    clock.take(&record(NAME, HOUR, 1, TriggerState::Active), Duration::ZERO);
    look(&mut clock);
    (clock, folder)
}

fn look(clock: &mut Clock) {
    let Turn::Waiting(key) = &clock.watches[&watch()].turn else { panic!("it is being looked after") };
    clock.due.remove(key);
    clock.look(&watch());
}

/// How the next look that ends went.
async fn ended(clock: &mut Clock) -> (Id, Ended) {
    clock.looks.join_next_with_id().await.unwrap().unwrap()
}

/// How long until the watch is due.
fn wait(clock: &Clock) -> Duration {
    let Turn::Waiting(key) = &clock.watches[&watch()].turn else { panic!("it is being looked after") };
    clock.due.deadline(key).saturating_duration_since(Instant::now())
}

fn looked(more: bool, retry_after: Option<Duration>) -> Result<Looked, Error> {
    Ok(Looked { more, retry_after, ..Looked::default() })
}

#[test]
fn waits_after_failures_double_up_to_a_bound() {
    let second = Duration::from_secs(1);
    for (failures, most) in [(1, 1), (2, 2), (5, 16), (40, 300)] {
        let wait = back_off(second, failures);
        let most = Duration::from_secs(most);
        assert!(wait <= most && wait >= most.mul_f64(0.9), "{failures}: {wait:?}");
    }
    // However long the interval: one that fails is not left alone for hours.
    for (failures, most) in [(1, 5), (3, 20), (40, 300)] {
        let wait = back_off(HOUR, failures);
        let most = Duration::from_secs(most);
        assert!(wait <= most && wait >= most.mul_f64(0.9), "{failures}: {wait:?}");
    }
}

#[tokio::test]
async fn a_nudge_during_a_look_that_fails_is_not_lost() {
    let (mut clock, _folder) = looking().await;
    clock.hasten(&watch(), Duration::ZERO);
    let (look, (watch, _)) = ended(&mut clock).await;
    clock.looked(look, &watch, Err(Error::field("cursor", "expected another")));
    assert!(wait(&clock) < Duration::from_secs(1), "{:?}", wait(&clock));
}

#[tokio::test]
async fn triggers_that_watch_the_same_share_a_watch_at_the_shortest_of_their_intervals() {
    let (mut clock, _folder) = looking().await;
    let (look, (name, _)) = ended(&mut clock).await;
    clock.looked(look, &name, looked(false, None));
    assert!(wait(&clock) > HOUR.mul_f64(0.9), "{:?}", wait(&clock));
    clock.take(&record(OTHER, HOUR / 60, 2, TriggerState::Active), Duration::ZERO);
    assert_eq!((clock.watches.len(), clock.watches[&watch()].members.len()), (1, 2));
    // It that has come is looked after soon, and many that come together at once.
    assert!(wait(&clock) < Duration::from_secs(1), "{:?}", wait(&clock));
    self::look(&mut clock);
    let (look, (name, _)) = ended(&mut clock).await;
    clock.looked(look, &name, looked(false, None));
    assert!(wait(&clock) <= HOUR / 60 && wait(&clock) > HOUR / 70, "{:?}", wait(&clock));
    let bytes = clock.fares.watch(&watch()).bytes;
    clock.leave(OTHER);
    assert!(bytes > clock.fares.watch(&watch()).bytes && clock.fares.watch(&watch()).bytes > 0);
}

#[tokio::test]
async fn a_trigger_that_leaves_ends_no_look_of_the_others_and_the_last_one_does() {
    let (mut clock, _folder) = clock().await;
    for (name, revision) in [(NAME, 1), (OTHER, 2)] {
        clock.take(&record(name, HOUR, revision, TriggerState::Active), Duration::ZERO);
    }
    look(&mut clock);
    clock.take(&record(NAME, HOUR, 3, TriggerState::Paused), Duration::ZERO);
    assert!(matches!(clock.watches[&watch()].turn, Turn::Looking { .. }));
    clock.leave(OTHER);
    assert!(clock.looks.join_next().await.unwrap().unwrap_err().is_cancelled());
    assert!(clock.watches.is_empty() && clock.due.is_empty());
    assert_eq!(clock.fares.watch_of(NAME), None);
}

#[tokio::test]
async fn the_end_of_a_look_does_not_count_for_the_one_after_it() {
    let (mut clock, _folder) = looking().await;
    let (first, (name, failed)) = ended(&mut clock).await;
    // Made anew between the end of the look and the clock's hearing of it.
    clock.leave(NAME);
    clock.take(&record(NAME, HOUR, 2, TriggerState::Active), Duration::ZERO);
    look(&mut clock);
    clock.looked(first, &name, failed);
    let turn = &clock.watches[&watch()].turn;
    assert!(matches!(turn, Turn::Looking { look, .. } if look.id() != first));
    assert!(clock.fares.status(NAME).last_failure.is_none());
}

#[tokio::test]
async fn who_cannot_catch_up_says_so_and_the_others_are_well() {
    let (mut clock, _folder) = looking().await;
    clock.take(&record(OTHER, HOUR, 2, TriggerState::Active), Duration::ZERO);
    let (look, (name, _)) = ended(&mut clock).await;
    let error = Error::field("cursor", "expected another");
    let behind = Some((vec![OTHER.to_owned()], error));
    clock.looked(look, &name, Ok(Looked { behind, told: vec![NAME.to_owned()], ..Looked::default() }));
    let (well, behind) = (clock.fares.status(NAME), clock.fares.status(OTHER));
    assert!(well.last_failure.is_none() && well.last_event_time.is_some() && well.last_poll_time.is_some());
    assert_eq!(
        (behind.consecutive_failures, behind.last_failure.unwrap().reason.as_str()),
        (1, "FIELD_INVALID")
    );
    assert_eq!(clock.fares.failures(&watch()), 1);
    clock.fares.succeeded(&watch(), &[], &[]);
    assert_eq!(clock.fares.status(OTHER).consecutive_failures, 0);
}

#[tokio::test]
async fn a_provider_that_asks_for_quiet_gets_it_within_reason() {
    for (retry_after, more, least, most) in [
        (Some(2 * HOUR), true, 2 * HOUR, 2 * HOUR),
        (Some(Duration::MAX), false, MAX_QUIET, MAX_QUIET),
        (None, true, Duration::ZERO, Duration::ZERO),
        (None, false, HOUR.mul_f64(0.95), HOUR),
    ] {
        let (mut clock, _folder) = looking().await;
        let (look, (name, _)) = ended(&mut clock).await;
        clock.looked(look, &name, looked(more, retry_after));
        let (wait, slack) = (wait(&clock), Duration::from_secs(5));
        assert!(wait + slack >= least && wait <= most + slack, "{wait:?} for {retry_after:?}");
    }
}

#[tokio::test]
async fn a_flood_of_pushes_is_told_at_once_at_first_and_then_at_a_pace() {
    let (mut clock, _folder) = looking().await;
    // Each look as soon as the one before has ended, which is sooner than the pace has it.
    for looks in 1..40 {
        let (look, (name, _)) = ended(&mut clock).await;
        clock.looked(look, &name, looked(false, None));
        for _ in 0..100 {
            clock.nudged(&Nudge::Pushed(watch()));
        }
        let wait = wait(&clock);
        // The queue counts whole milliseconds.
        let most = Duration::from_millis(if looks < 20 { 5 } else { 1_005 });
        assert!(wait <= most, "{looks}: {wait:?}");
        assert!(looks < 39 || wait > Duration::from_millis(500), "{looks}: {wait:?}");
        self::look(&mut clock);
    }
    // Who asks is not kept waiting.
    let (look, (name, _)) = ended(&mut clock).await;
    clock.looked(look, &name, looked(false, None));
    clock.nudged(&Nudge::Asked(watch()));
    assert!(wait(&clock) < Duration::from_millis(5), "{:?}", wait(&clock));
}

#[tokio::test]
async fn quiet_that_a_provider_asked_for_is_kept_whoever_nudges_and_a_failing_one_is_not_flooded() {
    let (mut clock, _folder) = looking().await;
    let (look, (name, _)) = ended(&mut clock).await;
    clock.looked(look, &name, looked(false, Some(HOUR / 2)));
    clock.nudged(&Nudge::Asked(watch()));
    clock.nudged(&Nudge::Pushed(watch()));
    assert!(
        wait(&clock) > HOUR / 3 && wait(&clock) <= HOUR / 2 + Duration::from_secs(1),
        "{:?}",
        wait(&clock)
    );

    let (mut clock, _folder) = looking().await;
    let (look, (name, _)) = ended(&mut clock).await;
    clock.looked(look, &name, Err(Error::field("cursor", "expected another")));
    clock.nudged(&Nudge::Pushed(watch()));
    assert!(wait(&clock) > Duration::from_secs(1), "{:?}", wait(&clock));
    clock.nudged(&Nudge::Asked(watch()));
    assert!(wait(&clock) < Duration::from_secs(1), "{:?}", wait(&clock));
}

#[tokio::test]
async fn a_watch_that_is_made_again_waits_until_the_place_of_the_one_before_is_removed() {
    let (mut clock, _folder) = looking().await;
    let removed = tokio_util::sync::CancellationToken::new();
    clock.leave(NAME);
    assert!(clock.looks.join_next().await.unwrap().unwrap_err().is_cancelled());
    clock.ending.insert(watch(), removed.clone());
    clock.take(&record(NAME, HOUR, 2, TriggerState::Active), Duration::ZERO);
    look(&mut clock);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(clock.looks.try_join_next().is_none(), "it waits");
    removed.cancel();
    let (_, (name, _)) = ended(&mut clock).await;
    assert_eq!(name, watch());
}
