//! The index as that of ids, which is read from events after a restart.

use postern_chassis::digest;

use super::*;
use crate::store::sqlite::batch::{self, Filling, Placed};
use crate::store::sqlite::ids::{self, TABLE};

/// A database with what this module reads of events.
fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(batch::TABLE).unwrap();
    connection.execute_batch(&tables(TABLE)).unwrap();
    connection
}

/// Sets the place of a key that has none yet.
fn add(ids: &mut Index, connection: &Connection, key: Key, place: u64, first: u64) -> bool {
    let is_new = ids.get(connection, key, first).unwrap().is_none();
    if is_new {
        ids.set(key, place);
    }
    is_new
}

fn key(number: u64) -> Key {
    Key::of(&digest::hex(&digest::of(&number.to_be_bytes())[..16]))
}

/// Appends in transactions of a hundred, as a writer does. Gives how many were taken.
fn append(
    ids: &mut Index,
    connection: &Connection,
    numbers: std::ops::Range<u64>,
    at: u64,
    first: u64,
) -> u64 {
    let (mut next, mut filling) = (at, Filling::default());
    for number in numbers {
        let key = key(number);
        if add(ids, connection, key, next, first) {
            let (source, event_type) = ("connections/office", "email.received");
            let (sequence, recorded, fingerprint, encoded) = (next, 0, 0, bytes::Bytes::new());
            let placed = Placed { sequence, recorded, source, event_type, key, fingerprint, encoded };
            filling.add(connection, placed).unwrap();
            next += 1;
        }
        if number % 100 == 99 {
            filling.write(connection).unwrap();
            ids.move_some(connection).unwrap();
            ids.keep();
        }
    }
    filling.write(connection).unwrap();
    ids.move_some(connection).unwrap();
    ids.keep();
    next - at
}

/// How many keys an index has on disk.
pub(in crate::store::sqlite) fn indexed(connection: &Connection, table: &str) -> u64 {
    let mut select = connection.prepare(&format!("SELECT keys FROM {table}")).unwrap();
    let count = |row: &rusqlite::Row<'_>| Ok(runs::keys(row.get_ref(0)?.as_blob()?).count() as u64);
    select.query_map([], count).unwrap().map(Result::unwrap).sum()
}

#[test]
fn an_id_is_known_wherever_it_is_and_after_a_restart() {
    let connection = database();
    let mut ids = ids::open(&connection).unwrap();
    let count = 4 * BATCH as u64 + 500;
    assert_eq!(append(&mut ids, &connection, 0..count, 1, 1), count);
    assert!(
        ids.recent.len() <= 2 * BATCH && indexed(&connection, TABLE) >= count / 2,
        "{}",
        ids.recent.len()
    );
    for mut ids in [ids, ids::open(&connection).unwrap()] {
        assert_eq!(append(&mut ids, &connection, 0..count, count + 1, 1), 0);
        assert!(ids.recent.len() <= 2 * BATCH);
    }
}

#[test]
fn what_retention_removed_is_taken_again_and_leaves_the_index() {
    let connection = database();
    let mut ids = ids::open(&connection).unwrap();
    let count = 6 * BATCH as u64;
    append(&mut ids, &connection, 0..count, 1, 1);
    let (before, first) = (indexed(&connection, TABLE), count - 99);
    let removed = first - 1;
    let sql = "DELETE FROM events WHERE sequence + count <= ?1";
    connection.execute(sql, [first.cast_signed()]).unwrap();
    for _ in 0..before / 2_000 + 2 {
        ids.sweep(&connection, first, 1_000).unwrap();
        ids.keep();
    }
    // What is left is of the run that is being written.
    assert_eq!((ids.runs.count(), indexed(&connection, TABLE)), (0, ids.progress.moved as u64));
    // The last hundred are kept, and the others come again: also those that a batch held when they went.
    assert_eq!(append(&mut ids, &connection, 0..count, count + 1, first), removed);
    let mut ids = ids::open(&connection).unwrap();
    assert_eq!(append(&mut ids, &connection, 0..count, 3 * count, first), 0);
}

#[test]
fn a_run_goes_whole_while_the_next_one_is_being_written() {
    let connection = database();
    let mut ids = ids::open(&connection).unwrap();
    let half = BATCH as u64 * 9 / 4;
    append(&mut ids, &connection, 0..half, 1, 1);
    assert!(ids.runs.count() > 0 && !ids.batch.is_empty() && ids.progress.moved > 0);
    // The first run goes, and the second one goes on as it began.
    let first = ids.runs.up_to() + 1;
    while ids.runs.count() > 0 {
        ids.sweep(&connection, first, 100).unwrap();
        ids.keep();
    }
    connection.execute("DELETE FROM events WHERE sequence + count <= ?1", [first.cast_signed()]).unwrap();
    let count = 2 * half;
    append(&mut ids, &connection, half..count, half + 1, first);
    assert!(ids.runs.count() > 0 && indexed(&connection, TABLE) > ids.runs.count());
    for mut ids in [ids, ids::open(&connection).unwrap()] {
        assert_eq!(append(&mut ids, &connection, first - 1..count, count + 1, first), 0);
    }
}

#[test]
fn what_is_undone_was_never_there() {
    let connection = database();
    let mut ids = ids::open(&connection).unwrap();
    let (one, two) = (key(1), key(2));
    assert!(add(&mut ids, &connection, one, 1, 1));
    assert!(!add(&mut ids, &connection, one, 2, 1));
    ids.keep();
    // Its event goes and it comes again, both in a transaction that fails: it is still kept.
    assert!(add(&mut ids, &connection, one, 2, 2));
    assert!(add(&mut ids, &connection, two, 3, 2));
    ids.undo();
    assert!(!add(&mut ids, &connection, one, 2, 1));
    assert!(add(&mut ids, &connection, two, 2, 1));
}

#[test]
fn a_key_that_was_set_anew_has_its_last_place_whatever_run_it_is_in() {
    let connection = database();
    let mut runs = Runs::open(&connection, TABLE).unwrap();
    // As near to each other as keys can be, at both ends and in the middle.
    let keys =
        [Key(0, 0), Key(0, 1), Key(0, -1), Key(i64::MAX, -1), Key(i64::MIN, 0), Key(-1, 0), Key(-1, -1)];
    for (written, held) in [(&keys[..], 1), (&keys[2..4], 20), (&keys[3..5], 30)] {
        let entries: Vec<_> = written.iter().copied().zip(held..).collect();
        // A part at a time.
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let moved = (1..).find_map(|due| match runs.write(&connection, rest, due).unwrap() {
                0 => None,
                moved => Some(moved),
            });
            rest = &rest[moved.unwrap()..];
        }
        let (count, last) = (entries.len() as u64, entries.last().unwrap().1);
        runs.push(runs.finish(&connection, count, last).unwrap());
    }
    let reopened = Runs::open(&connection, TABLE).unwrap();
    for runs in [&runs, &reopened] {
        let places = |first| keys.map(|key| runs.find(&connection, key, first).unwrap());
        assert_eq!(places(1), [Some(1), Some(2), Some(20), Some(30), Some(31), Some(6), Some(7)]);
        // What is older than all of a run is not looked for in it.
        assert_eq!(places(22), [None, None, None, Some(30), Some(31), None, None]);
        assert_eq!(runs.find(&connection, Key(1, 0), 1).unwrap(), None);
        assert_eq!((runs.count(), runs.up_to()), (11, 31));
    }
    assert_eq!(indexed(&connection, TABLE), 11);
}

#[test]
fn a_run_that_was_not_written_to_its_end_is_written_anew() {
    let connection = database();
    let mut ids = ids::open(&connection).unwrap();
    let count = BATCH as u64 * 5 / 4;
    append(&mut ids, &connection, 0..count, 1, 1);
    let some = indexed(&connection, TABLE);
    assert!(0 < some && some < BATCH as u64, "{some}");
    let mut ids = ids::open(&connection).unwrap();
    assert_eq!(indexed(&connection, TABLE), 0);
    assert_eq!(append(&mut ids, &connection, 0..count, count + 1, 1), 0);
    append(&mut ids, &connection, count..3 * BATCH as u64, count + 1, 1);
    assert!(indexed(&connection, TABLE) > BATCH as u64);
    for mut ids in [ids, ids::open(&connection).unwrap()] {
        assert_eq!(append(&mut ids, &connection, 0..3 * BATCH as u64, 9 * BATCH as u64, 1), 0);
    }
}
