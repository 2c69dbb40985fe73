//! What the clock decides, step by step: nobody runs it here.

use std::sync::Arc;

use postern_proto::event::v1::{Trigger, TriggerState};
use tokio::task::Id;
use tokio::time::Instant;

use super::clock::{Clock, Ended, MAX_QUIET, START_SPREAD};
use super::lines::{MAX_LOOKS, MAX_LOOKS_A_CONNECTION};
use super::open::{Member, Turn, Watch};
use super::waits::back_off;
use super::*;
use crate::connectors::Connectors;
use crate::error::Error;
use crate::seal::KeyRing;
use crate::store::sqlite::Sqlite;
use crate::store::{Entry, Expect, Write};
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
    record_of("inbox", name, interval, revision, state)
}

/// The record of a trigger that watches something else.
fn record_of(key: &str, name: &str, interval: Duration, revision: u64, state: TriggerState) -> Entry {
    let interval = Some(interval.try_into().unwrap());
    let trigger = Trigger { name: name.into(), state: state.into(), interval, ..Default::default() };
    let write = stored::write(&trigger, key, Expect::Any);
    Entry { key: write.key, value: write.value.unwrap(), revision }
}

/// A clock whose one watch, each hour, is being looked after.
async fn looking() -> (Clock, tempfile::TempDir) {
    let (mut clock, folder) = clock().await;
    take(&mut clock, &record(NAME, HOUR, 1, TriggerState::Active));
    look(&mut clock);
    (clock, folder)
}

fn look(clock: &mut Clock) {
    let Turn::Waiting(key) = &clock.watches[&watch()].turn else { panic!("it is being looked after") };
    clock.due.remove(key);
    clock.is_due(watch());
}

/// Takes a trigger as the clock does that hears of it.
fn take(clock: &mut Clock, entry: &Entry) {
    if let Some(opened) = clock.take(entry) {
        clock.plan(&opened, Duration::ZERO);
    }
}

/// How the next look that ends went.
async fn ended(clock: &mut Clock) -> (Id, Ended) {
    let ended = clock.looks.join_next_with_id().await.unwrap().unwrap();
    clock.lines.ended(ended.0);
    ended
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
    take(&mut clock, &record(OTHER, HOUR / 60, 2, TriggerState::Active));
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
        take(&mut clock, &record(name, HOUR, revision, TriggerState::Active));
    }
    look(&mut clock);
    take(&mut clock, &record(NAME, HOUR, 3, TriggerState::Paused));
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
    take(&mut clock, &record(NAME, HOUR, 2, TriggerState::Active));
    look(&mut clock);
    clock.looked(first, &name, failed);
    let turn = &clock.watches[&watch()].turn;
    assert!(matches!(turn, Turn::Looking { look, .. } if look.id() != first));
    assert!(clock.fares.status(NAME).last_failure.is_none());
}

#[tokio::test]
async fn who_cannot_catch_up_says_so_and_the_others_are_well() {
    let (mut clock, _folder) = looking().await;
    take(&mut clock, &record(OTHER, HOUR, 2, TriggerState::Active));
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
    take(&mut clock, &record(NAME, HOUR, 2, TriggerState::Active));
    look(&mut clock);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(clock.looks.try_join_next().is_none(), "it waits");
    removed.cancel();
    let (_, (name, _)) = ended(&mut clock).await;
    assert_eq!(name, watch());
}

#[tokio::test]
async fn very_many_that_are_due_at_once_are_few_looks_at_a_time_and_each_has_its_turn() {
    let (mut clock, _folder) = clock().await;
    for number in 0..1_200 {
        let name = format!("connections/office-{}/triggers/new-{number}", number % 100);
        let opened = clock.take(&record_of(&name, &name, HOUR, 1, TriggerState::Active)).unwrap();
        clock.is_due(opened);
    }
    let mut looks = 0;
    while let Some(ended) = clock.looks.join_next_with_id().await {
        assert!(clock.looks.len() < MAX_LOOKS, "{}", clock.looks.len());
        clock.ended(ended);
        looks += 1;
    }
    assert_eq!(looks, 1_200);
    assert!(clock.watches.values().all(|open| matches!(open.turn, Turn::Waiting(_))));
    assert_eq!(clock.due.len(), 1_200);
}

#[tokio::test]
async fn a_watch_that_ends_in_line_is_looked_after_by_nobody_and_made_again_once() {
    let (mut clock, _folder) = clock().await;
    let names: Vec<_> =
        (0..=MAX_LOOKS_A_CONNECTION).map(|number| format!("connections/office/triggers/{number}")).collect();
    for name in &names {
        let opened = clock.take(&record_of(name, name, HOUR, 1, TriggerState::Active)).unwrap();
        clock.is_due(opened);
    }
    let last = names.last().unwrap();
    clock.leave(last);
    assert_eq!(clock.looks.len(), MAX_LOOKS_A_CONNECTION);
    // Asked for while in line, it is looked after once.
    take(&mut clock, &record(NAME, HOUR, 2, TriggerState::Active));
    look(&mut clock);
    clock.nudged(&Nudge::Asked(watch()));
    let mut looked = Vec::new();
    while !clock.looks.is_empty() {
        let ended = ended(&mut clock).await;
        looked.push(ended.1.0.clone());
        clock.ended(Ok(ended));
    }
    assert_eq!(looked.len(), names.len());
    assert_eq!(looked.iter().filter(|name| **name == watch()).count(), 1);
    assert!(!looked.contains(&WatchName::new(NAME, last)));
}

#[tokio::test]
async fn the_first_looks_of_very_many_keep_a_pace_and_none_waits_longer_than_its_interval() {
    const COUNT: usize = 12_000;
    let (mut clock, _folder) = clock().await;
    for begin in (0..COUNT).step_by(500) {
        let writes = (begin..begin + 500).map(|number| {
            let interval = Duration::from_secs(if number % 100 == 0 { 2 } else { 3_600 });
            let name = format!("connections/office-{number:05}/triggers/new-mail");
            let Entry { key, value, .. } = record(&name, interval, 1, TriggerState::Active);
            Write { key, value: Some(value), expect: Expect::Any }
        });
        clock.poller.log.append(Vec::new(), writes.collect()).await.unwrap();
    }
    clock.take_all(START_SPREAD).await;
    let now = Instant::now();
    let mut seconds = [0; 12];
    for open in clock.watches.values() {
        let Turn::Waiting(key) = &open.turn else { panic!("it is not planned") };
        let wait = clock.due.deadline(key).saturating_duration_since(now);
        assert!(wait <= open.interval().min(Duration::from_secs(12)), "{wait:?}");
        seconds[usize::try_from(wait.as_secs()).unwrap().min(11)] += 1;
    }
    // About 1,000 each second; the short ones come sooner.
    assert!(seconds.iter().all(|looks| (850..1_250).contains(looks)), "{seconds:?}");
    // Taken once more, as after changes that were missed, nothing moves and nothing is made twice.
    let (due, first) = (clock.due.len(), clock.due.peek());
    clock.take_all(START_SPREAD).await;
    assert_eq!((clock.due.len(), clock.due.peek()), (due, first));
    assert_eq!((due, clock.watches.len()), (COUNT, COUNT));
}

#[test]
fn a_watch_and_a_trigger_of_it_take_little_room() {
    // Of the 2 KiB that a trigger may take at rest, with its record, its names and how it fares.
    assert!(size_of::<Watch>() <= 112, "{}", size_of::<Watch>());
    assert!(size_of::<Member>() <= 88, "{}", size_of::<Member>());
}

#[tokio::test]
async fn a_start_knows_who_goes_with_its_watch_and_asks_for_the_places_of_the_others_alone() {
    const THIRD: &str = "connections/office/triggers/third";
    let (mut clock, _folder) = clock().await;
    let mut writes: Vec<_> = [NAME, OTHER, THIRD]
        .map(|name| {
            let Entry { key, value, .. } = record(name, HOUR, 1, TriggerState::Active);
            Write { key, value: Some(value), expect: Expect::Any }
        })
        .into();
    let with_watch = stored::At::<stored::Place>::default();
    writes.push(with_watch.replaced(stored::place_key(NAME), &with_watch.value));
    writes.push(stored::alone_at(OTHER, "cursor".into()));
    clock.poller.log.append(Vec::new(), writes).await.unwrap();
    clock.take_all(START_SPREAD).await;
    let alone = [NAME, OTHER, THIRD].map(|name| clock.watches[&watch()].get(name).unwrap().alone);
    assert_eq!(alone, [false, true, true]);
}
