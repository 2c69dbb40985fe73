//! Groups that fail, conflicts within them, and clocks that jump.

use super::*;
use crate::events::new_event;
use crate::store::sqlite::{ids, query, schema};
use crate::store::{Expect, Sequence, Write, tail};
use postern_proto::event::v1::Event;
use prost::Message as _;
use std::time::SystemTime;

fn writer(folder: &std::path::Path) -> Writer {
    let folder = Folder::open(folder).unwrap();
    let (connection, counters) = schema::open(&folder.database, folder.made).unwrap();
    let (changes, _) = broadcast::channel(16);
    Writer {
        ids: ids::open(&connection).unwrap(),
        records: Records::open(&connection, counters.revision).unwrap(),
        connection,
        checkpoints: None,
        counters,
        tail: Arc::new(Tail::new(counters)),
        changes,
        runtime: None,
        folder: Some(folder),
    }
}

type Answered = oneshot::Receiver<Result<Done, StoreError>>;

fn append(events: Vec<NewEvent>, key: &str) -> (Request, Answered) {
    let (answer, answered) = oneshot::channel();
    let write = Write { key: key.to_owned(), value: Some("value".into()), expect: Expect::Absent };
    let commit = Commit { events, writes: vec![write], guards: Vec::new() };
    (Request::Commit { commit, answer }, answered)
}

fn events(count: usize) -> Vec<NewEvent> {
    let source = "connections/office";
    let event = |number| new_event(source, "email.received", None, &format!("{number}"), None, None);
    (0..count).map(event).collect()
}

#[test]
fn a_full_disk_fails_the_whole_group_and_mended_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let mut watching = writer.changes.subscribe();
    let before = writer.counters;
    // SQLite answers a bound of pages as it answers a full disk.
    let pages: i64 = writer.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    writer.connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 3), [], |_| Ok(())).unwrap();
    let (small, mut small_answer) = append(events(1), "small");
    let (large, mut large_answer) = append(events(500), "large");
    writer.commit(vec![small, large]);
    for answer in [&mut small_answer, &mut large_answer] {
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Failed(text)) if text.contains("full")));
    }
    assert_eq!(writer.counters, before);
    assert!(watching.try_recv().is_err());
    assert_eq!(writer.tail.bounds().last, 0);
    assert!(query::list(&writer.connection, "", "", 9).unwrap().is_empty());

    writer.connection.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
    let (small, mut small_answer) = append(events(1), "small");
    let (large, mut large_answer) = append(events(500), "large");
    writer.commit(vec![small, large]);
    assert_eq!(small_answer.try_recv().unwrap().unwrap().appended, Appended { stored: 1, last: 1 });
    assert_eq!(large_answer.try_recv().unwrap().unwrap().appended, Appended { stored: 499, last: 500 });
    assert_eq!(writer.tail.bounds().last, 500);
    assert_eq!(watching.try_recv().unwrap().key, "small");
}

#[test]
fn a_commit_that_fails_at_its_very_end_is_answered_so_and_shown_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let mut watching = writer.changes.subscribe();
    // Every statement of it succeeds: what is owed falls due with the commit itself.
    let owing = "PRAGMA foreign_keys = ON; CREATE TABLE paid (id INTEGER PRIMARY KEY);
         CREATE TABLE owed (id INTEGER REFERENCES paid DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER owing AFTER INSERT ON entries BEGIN INSERT INTO owed VALUES (1); END;";
    writer.connection.execute_batch(owing).unwrap();
    let (asked, mut answer) = append(events(1), "key");
    writer.commit(vec![asked]);
    assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Failed(_))));
    assert!(watching.try_recv().is_err());
    assert_eq!(writer.tail.bounds().last, 0);

    writer.connection.execute_batch("DROP TRIGGER owing").unwrap();
    let (asked, mut answer) = append(events(1), "key");
    writer.commit(vec![asked]);
    assert_eq!(answer.try_recv().unwrap().unwrap().appended, Appended { stored: 1, last: 1 });
}

#[test]
fn a_group_is_answered_also_where_the_runtime_has_ended_that_would_do_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    writer.runtime = Some(runtime.handle().clone());
    drop(runtime);
    let (requests, answers): (Vec<_>, Vec<_>) =
        (0..=FEW).map(|number| append(Vec::new(), &format!("key-{number}"))).unzip();
    writer.commit(requests);
    assert!(answers.into_iter().all(|mut answer| answer.try_recv().unwrap().is_ok()));
}

#[test]
fn a_conflict_refuses_its_own_request_of_a_group_and_sees_those_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let (requests, answers): (Vec<_>, Vec<_>) =
        ["one", "one", "two"].map(|key| append(Vec::new(), key)).into_iter().unzip();
    writer.commit(requests);
    let made: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap().is_ok()).collect();
    assert_eq!(made, [true, false, true]);
}

#[test]
fn record_times_do_not_follow_a_clock_that_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = writer(folder.path());
    // As if the clock had been an hour ahead at the event before.
    let ahead = tail::milliseconds(SystemTime::now()) + 3_600_000;
    first.counters.recorded = ahead;
    first.commit(vec![append(events(1), "one").0]);
    let place: Sequence = first.counters.last;
    drop(first);
    // The bound outlasts the process.
    let mut second = writer(folder.path());
    second.commit(vec![append(events(2), "two").0]);
    let stored = second.tail.read(place, 1, 1).unwrap().remove(0);
    let recorded = Event::decode(stored.encoded).unwrap().record_time.unwrap();
    assert_eq!(tail::milliseconds(SystemTime::try_from(recorded).unwrap()), ahead);
}

#[test]
fn events_recorded_by_a_clock_that_was_ahead_make_none_before_them_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    writer.commit(vec![append(events(3), "before").0]);
    // As if the clock had been a year ahead at the next event, and had been mended then.
    writer.counters.recorded = tail::milliseconds(SystemTime::now()) + 365 * 86_400_000;
    writer.commit(vec![append(events(5), "ahead").0]);
    assert_eq!(writer.counters.last, 5);
    let age = std::time::Duration::from_secs(3_600);
    let (answer, mut answered) = oneshot::channel();
    writer.commit(vec![Request::Trim { retention: Retention { age, bytes: u64::MAX }, answer }]);
    assert_eq!((answered.try_recv().unwrap().unwrap(), writer.counters.first), (0, 1));
}
