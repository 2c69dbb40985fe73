//! What every engine of the store and the event log promises, written once and run against each.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postern_gateway::events::cursor::Cursor;
use postern_gateway::events::new_event;
use postern_gateway::store::{
    Appended, EventLog, Expect, MAX_VALUE_BYTES, NewEvent, Retention, Store, StoreError, StoredEvent, Write,
};
use postern_proto::event::v1::{ConnectionStateChanged, Event, EventData, event_data};
use prost::Message as _;

/// An engine under test: a place of its own where what is stored lasts, opened as often as wanted.
pub(crate) trait Engine: Send + Sync {
    fn start() -> Self;
    fn open(&self) -> impl Future<Output = Opened> + Send;
}

/// An engine at work.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) close: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Runs the whole suite against an engine.
macro_rules! conform {
    ($name:ident: $engine:ident) => {
        mod $name {
            use super::$engine;
            use super::conformance::{self, Engine as _};
            super::conform!(@each $engine:
                what_is_written_is_read,
                a_key_that_is_there_is_not_made_again,
                of_two_writers_at_one_revision_one_wins,
                a_refused_write_leaves_its_neighbours_alone,
                revisions_grow_over_deletions,
                a_list_pages_through_a_prefix_in_order,
                watchers_see_each_change_once_and_in_order,
                what_no_store_takes_is_refused,
                events_are_read_in_the_order_of_their_append,
                an_event_holds_its_own_place_and_the_time_it_was_recorded,
                an_id_that_is_kept_is_not_stored_again,
                a_conflict_of_a_write_appends_nothing,
                events_and_writes_are_made_together,
                reads_keep_to_their_bounds,
                the_tail_tells_of_what_is_readable,
                a_time_has_its_place,
                retention_by_size_removes_the_oldest,
                retention_by_age_removes_all_that_is_older,
                a_long_trim_ends_with_all_of_it_removed,
                an_id_that_retention_removed_can_come_again,
                reopening_keeps_everything,
                two_logs_have_two_epochs,
                appends_at_once_lose_nothing_and_double_nothing,
            );
        }
    };
    (@each $engine:ident: $($test:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let engine = <$engine>::start();
            conformance::$test(&engine).await;
        }
    )*};
}
pub(crate) use conform;

/// An event of a connection, told from others by its key.
pub(crate) fn event(key: &str) -> NewEvent {
    sized_event(key, 10)
}

/// An event with so many bytes of data.
pub(crate) fn sized_event(key: &str, bytes: usize) -> NewEvent {
    let changed = ConnectionStateChanged { state: 1, reason: "x".repeat(bytes) };
    let data = EventData { kind: Some(event_data::Kind::ConnectionStateChanged(changed)) };
    new_event("connections/office", "connection.state_changed", None, key, None, Some(data))
}

/// Events with the keys `{prefix}0`, `{prefix}1` …
pub(crate) fn events(prefix: &str, count: usize) -> Vec<NewEvent> {
    (0..count).map(|number| event(&format!("{prefix}{number}"))).collect()
}

/// The whole log, by reads of a few.
pub(crate) async fn whole_log(log: &dyn EventLog) -> Vec<StoredEvent> {
    let mut all: Vec<StoredEvent> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event.sequence);
        let more = log.read(after, 500, 1 << 20).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

pub(crate) fn id_of(event: &StoredEvent) -> String {
    Event::decode(event.encoded.clone()).unwrap().id
}

fn ids(events: &[StoredEvent]) -> Vec<String> {
    events.iter().map(id_of).collect()
}

pub(crate) fn put(key: &str, value: &str, expect: Expect) -> Write {
    Write { key: key.to_owned(), value: Some(Bytes::copy_from_slice(value.as_bytes())), expect }
}

fn delete(key: &str, expect: Expect) -> Write {
    Write { key: key.to_owned(), value: None, expect }
}

fn is_conflict<T>(answer: &Result<T, StoreError>, key: &str) -> bool {
    matches!(answer, Err(StoreError::Conflict { key: conflicting }) if conflicting == key)
}

async fn value(store: &dyn Store, key: &str) -> Option<String> {
    let entry = store.get(key).await.unwrap()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

pub(crate) async fn what_is_written_is_read(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    assert_eq!(store.get("connections/billing").await.unwrap(), None);
    let revision = store.write(put("connections/billing", "one", Expect::Any)).await.unwrap();
    let entry = store.get("connections/billing").await.unwrap().unwrap();
    assert_eq!(
        (entry.key.as_str(), &*entry.value, entry.revision),
        ("connections/billing", &b"one"[..], revision)
    );
    assert!(revision > 0);
    store.write(delete("connections/billing", Expect::Any)).await.unwrap();
    assert_eq!(store.get("connections/billing").await.unwrap(), None);
}

pub(crate) async fn a_key_that_is_there_is_not_made_again(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    let revision = store.write(put("a", "first", Expect::Absent)).await.unwrap();
    assert!(is_conflict(&store.write(put("a", "second", Expect::Absent)).await, "a"));
    assert!(is_conflict(&store.write(put("a", "second", Expect::Revision(revision + 1))).await, "a"));
    assert!(is_conflict(&store.write(put("b", "second", Expect::Revision(revision))).await, "b"));
    assert_eq!(value(&*store, "a").await.unwrap(), "first");
    store.write(put("a", "second", Expect::Revision(revision))).await.unwrap();
    assert_eq!(value(&*store, "a").await.unwrap(), "second");
    assert!(is_conflict(&store.write(delete("a", Expect::Revision(revision))).await, "a"));
    assert!(value(&*store, "a").await.is_some());
}

pub(crate) async fn of_two_writers_at_one_revision_one_wins(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    let mut revision = store.write(put("lease", "free", Expect::Absent)).await.unwrap();
    for round in 0..50 {
        let writes = ["one", "two", "three"].map(|name| {
            let (store, value) = (store.clone(), format!("{name} {round}"));
            tokio::spawn(async move {
                store.write(put("lease", &value, Expect::Revision(revision))).await.map(|new| (new, value))
            })
        });
        let mut won = Vec::new();
        for write in writes {
            match write.await.unwrap() {
                Ok(winner) => won.push(winner),
                answer => assert!(is_conflict(&answer, "lease"), "{answer:?}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        assert!(won[0].0 > revision);
        revision = won[0].0;
        assert_eq!(value(&*store, "lease").await.unwrap(), won[0].1);
    }
}

pub(crate) async fn a_refused_write_leaves_its_neighbours_alone(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    store.write(put("taken", "first", Expect::Absent)).await.unwrap();
    let writes = (0..200).map(|number| {
        let store = store.clone();
        let refused = number % 3 == 0;
        let key = if refused { "taken".to_owned() } else { format!("free/{number}") };
        tokio::spawn(async move { (refused, store.write(put(&key, "new", Expect::Absent)).await) })
    });
    for write in writes.collect::<Vec<_>>() {
        let (refused, answer) = write.await.unwrap();
        assert_eq!(refused, is_conflict(&answer, "taken"), "{answer:?}");
        assert_eq!(refused, answer.is_err(), "{answer:?}");
    }
    assert_eq!(store.list("free/", "", 1_000).await.unwrap().len(), 133);
    assert_eq!(value(&*store, "taken").await.unwrap(), "first");
}

pub(crate) async fn revisions_grow_over_deletions(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    let first = store.write(put("a", "first", Expect::Absent)).await.unwrap();
    let deleted = store.write(delete("a", Expect::Revision(first))).await.unwrap();
    let second = store.write(put("a", "second", Expect::Absent)).await.unwrap();
    assert!(first < deleted && deleted < second);
    assert!(is_conflict(&store.write(put("a", "third", Expect::Revision(first))).await, "a"));
}

pub(crate) async fn a_list_pages_through_a_prefix_in_order(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    let keys = [
        "connections/c",
        "connections/a",
        "connections/b-1",
        "connections",
        "connections0",
        "triggers/a",
        "b",
    ];
    for key in keys {
        store.write(put(key, key, Expect::Absent)).await.unwrap();
    }
    let list = async |prefix: &str, after: &str, limit| {
        let entries = store.list(prefix, after, limit).await.unwrap();
        entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert_eq!(list("connections/", "", 2).await, ["connections/a", "connections/b-1"]);
    assert_eq!(list("connections/", "connections/b-1", 2).await, ["connections/c"]);
    assert_eq!(list("connections/", "connections/b", 9).await, ["connections/b-1", "connections/c"]);
    assert_eq!(list("connections/", "connections/c", 2).await, [""; 0]);
    assert_eq!(list("connections/", "a", 1).await, ["connections/a"]);
    assert_eq!(list("", "triggers", 9).await, ["triggers/a"]);
    assert_eq!(list("", "", 9).await.len(), keys.len());
    assert_eq!(list("nothing/", "", 9).await, [""; 0]);
}

pub(crate) async fn watchers_see_each_change_once_and_in_order(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    store.write(put("before", "unseen", Expect::Any)).await.unwrap();
    let (mut one, mut two) = (store.watch(), store.watch());
    let mut expected = Vec::new();
    for number in 0..20 {
        let key = format!("key/{}", number % 5);
        let revision = store.write(put(&key, &number.to_string(), Expect::Any)).await.unwrap();
        expected.push((key, Some(revision)));
    }
    assert!(store.write(put("key/0", "refused", Expect::Absent)).await.is_err());
    store.write(delete("key/1", Expect::Any)).await.unwrap();
    expected.push(("key/1".to_owned(), None));
    log.append(Vec::new(), vec![put("with-events", "seen", Expect::Absent)]).await.unwrap();
    for watcher in [&mut one, &mut two] {
        for (key, revision) in &expected {
            let change = watcher.recv().await.unwrap();
            assert_eq!((&change.key, change.value.map(|entry| entry.revision)), (key, *revision));
        }
        assert_eq!(watcher.recv().await.unwrap().key, "with-events");
        assert!(watcher.is_empty());
    }
}

pub(crate) async fn what_no_store_takes_is_refused(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    let refused = |answer: Result<u64, StoreError>| {
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}")
    };
    for key in ["", "/a", "a/", "a//b", "a b", "a/ü", &"k".repeat(600)] {
        refused(store.write(put(key, "value", Expect::Any)).await);
    }
    let large = "x".repeat(MAX_VALUE_BYTES);
    store.write(put("large", &large, Expect::Any)).await.unwrap();
    refused(store.write(put("large", &format!("{large}x"), Expect::Any)).await);
    let twice = vec![put("a", "1", Expect::Any), put("a", "2", Expect::Any)];
    refused(log.append(Vec::new(), twice).await.map(|appended| appended.last));
    let event = NewEvent { encoded: vec![0; 70_000].into(), ..event("too-large") };
    refused(log.append(vec![event], Vec::new()).await.map(|appended| appended.last));
    assert_eq!(value(&*store, "a").await, None);
    assert_eq!(log.bounds().await.unwrap().last, 0);
}

pub(crate) async fn events_are_read_in_the_order_of_their_append(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    assert!(whole_log(&*log).await.is_empty());
    let new = events("e", 1_200);
    for group in new.chunks(7) {
        log.append(group.to_vec(), Vec::new()).await.unwrap();
    }
    let all = whole_log(&*log).await;
    assert_eq!(ids(&all), new.iter().map(|event| event.id.clone()).collect::<Vec<_>>());
    assert!(all.iter().zip(1..).all(|(event, place)| event.sequence == place));
    assert_eq!((&*all[0].source, &*all[0].event_type), ("connections/office", "connection.state_changed"));
}

pub(crate) async fn an_event_holds_its_own_place_and_the_time_it_was_recorded(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    let before = SystemTime::now() - Duration::from_millis(1);
    log.append(events("a", 3), Vec::new()).await.unwrap();
    log.append(events("b", 3), Vec::new()).await.unwrap();
    let after = SystemTime::now();
    let epoch = log.bounds().await.unwrap().epoch;
    let mut recorded = before;
    for stored in whole_log(&*log).await {
        let event = Event::decode(stored.encoded).unwrap();
        let cursor = Cursor::decode(&event.cursor).unwrap();
        assert_eq!(cursor, Cursor { epoch, sequence: stored.sequence });
        let time = SystemTime::try_from(event.record_time.unwrap()).unwrap();
        assert!(recorded <= time && time <= after, "{recorded:?} {time:?} {after:?}");
        recorded = time;
    }
}

pub(crate) async fn an_id_that_is_kept_is_not_stored_again(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    let first = log.append(events("e", 3), Vec::new()).await.unwrap();
    assert_eq!(first, Appended { stored: 3, last: 3 });
    let mixed = vec![event("e1"), event("new"), event("new"), event("e0")];
    assert_eq!(log.append(mixed, Vec::new()).await.unwrap(), Appended { stored: 1, last: 4 });
    assert_eq!(log.append(events("e", 3), Vec::new()).await.unwrap(), Appended { stored: 0, last: 4 });
    assert_eq!(whole_log(&*log).await.len(), 4);
}

pub(crate) async fn a_conflict_of_a_write_appends_nothing(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    store.write(put("cursor", "one", Expect::Absent)).await.unwrap();
    let writes = vec![put("other", "new", Expect::Absent), put("cursor", "two", Expect::Absent)];
    assert!(is_conflict(&log.append(events("e", 5), writes).await, "cursor"));
    assert_eq!(log.bounds().await.unwrap().last, 0);
    assert!(whole_log(&*log).await.is_empty());
    assert_eq!(value(&*store, "other").await, None);
    assert_eq!(value(&*store, "cursor").await.unwrap(), "one");
    assert_eq!(log.append(events("e", 5), Vec::new()).await.unwrap().stored, 5);
}

pub(crate) async fn events_and_writes_are_made_together(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    let revision = store.write(put("cursor", "one", Expect::Absent)).await.unwrap();
    let writes = vec![put("cursor", "two", Expect::Revision(revision)), delete("due", Expect::Absent)];
    assert_eq!(log.append(events("e", 2), writes).await.unwrap(), Appended { stored: 2, last: 2 });
    assert_eq!(value(&*store, "cursor").await.unwrap(), "two");
    assert_eq!(whole_log(&*log).await.len(), 2);
}

pub(crate) async fn reads_keep_to_their_bounds(engine: &impl Engine) {
    let opened = engine.open().await;
    let new: Vec<_> = (0..20).map(|number| sized_event(&format!("e{number}"), 1_000)).collect();
    opened.log.append(new, Vec::new()).await.unwrap();
    opened.close.await;
    // Read both what was just appended and what is found after reopening.
    let Opened { log, .. } = engine.open().await;
    for more in ["", "more"] {
        if !more.is_empty() {
            let new = (0..20).map(|number| sized_event(&format!("{more}{number}"), 1_000)).collect();
            log.append(new, Vec::new()).await.unwrap();
        }
        let last = log.bounds().await.unwrap().last;
        let places = async |after, events, bytes| {
            let found = log.read(after, events, bytes).await.unwrap();
            found.into_iter().map(|event| event.sequence).collect::<Vec<_>>()
        };
        let base = last - 20;
        assert_eq!(places(base, 3, usize::MAX).await, [base + 1, base + 2, base + 3]);
        assert_eq!(places(base + 4, 100, 3_500).await, [base + 5, base + 6, base + 7]);
        assert_eq!(places(base + 4, 100, 1).await, [base + 5]);
        assert_eq!(places(last - 1, 100, usize::MAX).await, [last]);
        assert!(places(last, 100, usize::MAX).await.is_empty());
        assert!(places(last + 5, 100, usize::MAX).await.is_empty());
    }
}

pub(crate) async fn the_tail_tells_of_what_is_readable(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    let mut tail = log.tail();
    assert_eq!(*tail.borrow_and_update(), 0);
    let appending = tokio::spawn({
        let log = log.clone();
        async move {
            for number in 0..100 {
                log.append(vec![event(&format!("e{number}"))], Vec::new()).await.unwrap();
            }
        }
    });
    let mut seen = 0;
    while seen < 100 {
        tail.changed().await.unwrap();
        let last = *tail.borrow_and_update();
        assert!(last > seen);
        seen = last;
        assert_eq!(log.read(last - 1, 1, 1).await.unwrap()[0].sequence, last);
        assert!(log.bounds().await.unwrap().last >= last);
    }
    appending.await.unwrap();
}

pub(crate) async fn a_time_has_its_place(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    let now = SystemTime::now();
    assert_eq!(log.place_at(now).await.unwrap(), 0);
    let mut times = Vec::new();
    for place in 1..=3 {
        log.append(vec![event(&format!("e{place}"))], Vec::new()).await.unwrap();
        let stored = log.read(place - 1, 1, 1).await.unwrap().remove(0);
        let time = Event::decode(stored.encoded).unwrap().record_time.unwrap();
        times.push(SystemTime::try_from(time).unwrap());
        // The next one gets another millisecond.
        while SystemTime::now() < times[times.len() - 1] + Duration::from_millis(2) {
            tokio::task::yield_now().await;
        }
    }
    for (place, time) in (0..).zip(&times) {
        assert_eq!(log.place_at(*time).await.unwrap(), place);
        assert_eq!(log.place_at(*time - Duration::from_micros(500)).await.unwrap(), place);
        assert_eq!(log.place_at(*time + Duration::from_micros(500)).await.unwrap(), place + 1);
    }
    assert_eq!(log.place_at(SystemTime::UNIX_EPOCH).await.unwrap(), 0);
    assert_eq!(log.place_at(now + Duration::from_secs(3_600)).await.unwrap(), 3);
}

const AN_HOUR: Duration = Duration::from_secs(3_600);

pub(crate) async fn retention_by_size_removes_the_oldest(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    let new: Vec<_> = (0..30).map(|number| sized_event(&format!("e{number}"), 1_000)).collect();
    log.append(new, Vec::new()).await.unwrap();
    let sizes: Vec<_> = whole_log(&*log).await.iter().map(|event| event.encoded.len() as u64).collect();
    let bytes = sizes[20..].iter().sum();
    assert_eq!(log.trim(Retention { age: AN_HOUR, bytes: u64::MAX }).await.unwrap(), 0);
    assert_eq!(log.bounds().await.unwrap().trimmed, None);
    assert_eq!(log.trim(Retention { age: AN_HOUR, bytes }).await.unwrap(), 20);
    let bounds = log.bounds().await.unwrap();
    assert_eq!((bounds.first, bounds.last), (21, 30));
    assert!(bounds.trimmed.is_some());
    let kept: Vec<_> = whole_log(&*log).await.iter().map(|event| event.sequence).collect();
    assert_eq!(kept, (21..=30).collect::<Vec<_>>());
    assert_eq!(log.trim(Retention { age: AN_HOUR, bytes }).await.unwrap(), 0);
    assert_eq!(log.trim(Retention { age: AN_HOUR, bytes: bytes - 1 }).await.unwrap(), 1);
}

pub(crate) async fn retention_by_age_removes_all_that_is_older(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    log.append(events("old", 5), Vec::new()).await.unwrap();
    let old = SystemTime::now();
    while SystemTime::now() < old + Duration::from_millis(20) {
        tokio::task::yield_now().await;
    }
    let retention = Retention { age: Duration::from_millis(10), bytes: u64::MAX };
    assert_eq!(log.trim(retention).await.unwrap(), 5);
    let bounds = log.bounds().await.unwrap();
    assert_eq!((bounds.first, bounds.last), (6, 5));
    assert!(bounds.trimmed.unwrap() <= old);
    assert!(whole_log(&*log).await.is_empty());
    assert_eq!(log.place_at(SystemTime::UNIX_EPOCH).await.unwrap(), 5);
    assert_eq!(log.append(events("new", 1), Vec::new()).await.unwrap(), Appended { stored: 1, last: 6 });
    assert_eq!(whole_log(&*log).await[0].sequence, 6);
}

pub(crate) async fn a_long_trim_ends_with_all_of_it_removed(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    log.append(events("e", 2_500), Vec::new()).await.unwrap();
    assert_eq!(log.trim(Retention { age: AN_HOUR, bytes: 0 }).await.unwrap(), 2_500);
    assert_eq!(log.bounds().await.unwrap().first, 2_501);
    assert!(whole_log(&*log).await.is_empty());
}

pub(crate) async fn an_id_that_retention_removed_can_come_again(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    log.append(events("e", 3), Vec::new()).await.unwrap();
    log.trim(Retention { age: AN_HOUR, bytes: 0 }).await.unwrap();
    assert_eq!(log.append(events("e", 3), Vec::new()).await.unwrap(), Appended { stored: 3, last: 6 });
}

pub(crate) async fn reopening_keeps_everything(engine: &impl Engine) {
    let opened = engine.open().await;
    let revision = opened.store.write(put("a", "value", Expect::Absent)).await.unwrap();
    opened.log.append(events("e", 300), Vec::new()).await.unwrap();
    let half = whole_log(&*opened.log).await[150..].iter().map(|event| event.encoded.len() as u64).sum();
    assert_eq!(opened.log.trim(Retention { age: AN_HOUR, bytes: half }).await.unwrap(), 150);
    let (bounds, kept) = (opened.log.bounds().await.unwrap(), whole_log(&*opened.log).await);
    opened.close.await;
    assert!(opened.store.write(put("a", "late", Expect::Any)).await.is_err());

    let Opened { store, log, close } = engine.open().await;
    assert_eq!(log.bounds().await.unwrap(), bounds);
    assert_eq!(whole_log(&*log).await, kept);
    assert_eq!(*log.tail().borrow(), 300);
    assert_eq!(store.get("a").await.unwrap().unwrap().revision, revision);
    assert!(store.write(put("b", "value", Expect::Absent)).await.unwrap() > revision);
    // The size is known without counting: one byte less than all removes one event.
    assert_eq!(log.trim(Retention { age: AN_HOUR, bytes: half - 1 }).await.unwrap(), 1);
    // Places are not given twice, not even where nothing is kept.
    log.trim(Retention { age: AN_HOUR, bytes: 0 }).await.unwrap();
    close.await;
    let Opened { log, .. } = engine.open().await;
    let emptied = log.bounds().await.unwrap();
    assert_eq!((emptied.first, emptied.last, emptied.epoch), (301, 300, bounds.epoch));
    assert_eq!(log.append(events("new", 1), Vec::new()).await.unwrap().last, 301);
}

pub(crate) async fn two_logs_have_two_epochs(engine: &(impl Engine + 'static)) {
    let other = start_alike(engine);
    let (one, two) = (engine.open().await, other.open().await);
    assert_ne!(one.log.bounds().await.unwrap().epoch, two.log.bounds().await.unwrap().epoch);
}

fn start_alike<E: Engine>(_: &E) -> E {
    E::start()
}

pub(crate) async fn appends_at_once_lose_nothing_and_double_nothing(engine: &impl Engine) {
    let Opened { log, .. } = engine.open().await;
    // Each event is appended by two tasks at once.
    let tasks = (0..16).map(|task| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut stored = 0;
            for number in 0..50 {
                let new = events(&format!("{}-{number}-", task / 2), 3);
                stored += log.append(new, Vec::new()).await.unwrap().stored;
            }
            stored
        })
    });
    let mut stored = 0;
    for task in tasks.collect::<Vec<_>>() {
        stored += task.await.unwrap();
    }
    let all = whole_log(&*log).await;
    let distinct: BTreeSet<_> = ids(&all).into_iter().collect();
    assert_eq!((stored, all.len(), distinct.len()), (1_200, 1_200, 1_200));
}
