//! What every event log promises.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use postern_gateway::events::cursor::Cursor;
use postern_gateway::store::{Appended, Commit, Expect, Guard, Retention};
use postern_proto::event::v1::Event;
use prost::Message as _;

use super::{Engine, Opened, delete, event, events, ids, is_conflict, put, sized_event, value, whole_log};

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
        assert_eq!(cursor, Cursor { epoch, sequence: stored.sequence, fingerprint: stored.fingerprint });
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

pub(crate) async fn a_guard_that_does_not_hold_refuses_everything(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    let revision = store.write(put("lease", "mine", Expect::Absent)).await.unwrap();
    let guarded = |key: &str| Commit {
        events: vec![event(key)],
        writes: vec![put(key, "made", Expect::Absent)],
        guards: vec![Guard { key: "lease".to_owned(), revision }],
    };
    assert_eq!(log.commit(guarded("before")).await.unwrap(), Appended { stored: 1, last: 1 });
    store.write(put("lease", "another's", Expect::Revision(revision))).await.unwrap();
    assert!(is_conflict(&log.commit(guarded("after")).await, "lease"));
    store.write(delete("lease", Expect::Any)).await.unwrap();
    assert!(is_conflict(&log.commit(guarded("later")).await, "lease"));
    assert_eq!((value(&*store, "after").await, value(&*store, "later").await), (None, None));
    assert_eq!(whole_log(&*log).await.len(), 1);
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
    let other = start_alike(engine).await.unwrap();
    let (one, two) = (engine.open().await, other.open().await);
    assert_ne!(one.log.bounds().await.unwrap().epoch, two.log.bounds().await.unwrap().epoch);
}

async fn start_alike<E: Engine>(_: &E) -> Option<E> {
    E::start().await
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
