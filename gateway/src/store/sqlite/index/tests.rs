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
            ids.move_some(connection, first).unwrap();
            ids.keep();
        }
    }
    filling.write(connection).unwrap();
    ids.move_some(connection, first).unwrap();
    ids.keep();
    next - at
}

fn indexed(connection: &Connection) -> u64 {
    connection.query_row("SELECT count(*) FROM ids", [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
}

#[test]
fn an_id_is_known_wherever_it_is_and_after_a_restart() {
    let connection = database();
    let mut ids = ids::open(&connection).unwrap();
    let count = 4 * BATCH as u64 + 500;
    assert_eq!(append(&mut ids, &connection, 0..count, 1, 1), count);
    assert!(ids.recent.len() <= 2 * BATCH && indexed(&connection) >= count / 2, "{}", ids.recent.len());
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
    let (before, first) = (indexed(&connection), count - 99);
    let removed = first - 1;
    let sql = "DELETE FROM events WHERE sequence + count <= ?1";
    connection.execute(sql, [first.cast_signed()]).unwrap();
    for _ in 0..before / 4_000 + 2 {
        ids.sweep(&connection, first, 100, 1_000).unwrap();
        ids.keep();
    }
    assert!(indexed(&connection) < before / 100, "{} of {before}", indexed(&connection));
    // The last hundred are kept, and the others come again: also those that a batch held when they went.
    assert_eq!(append(&mut ids, &connection, 0..count, count + 1, first), removed);
    let mut ids = ids::open(&connection).unwrap();
    assert_eq!(append(&mut ids, &connection, 0..count, 3 * count, first), 0);
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
fn keys_with_one_high_half_are_told_apart_in_the_index_and_outlast_a_sweep() {
    let connection = database();
    let mut insert = connection.prepare(&put_text(TABLE)).unwrap();
    let text = Texts::of(TABLE).find;
    let keys = [Key(7, 1), Key(8, 1), Key(7, 2), Key(7, 3), Key(i64::MAX, 1), Key(i64::MAX, 2)];
    for (key, sequence) in keys.into_iter().zip(1..) {
        assert_eq!(find(&connection, &text, key).unwrap(), None);
        put(&mut insert, key, sequence).unwrap();
    }
    put(&mut insert, Key(7, 2), 9).unwrap();
    let found = |key| find(&connection, &text, key).unwrap();
    assert_eq!(keys.map(found), [Some(1), Some(2), Some(9), Some(4), Some(5), Some(6)]);

    // The first two go, but for what the others are found through.
    let mut ids = ids::open(&connection).unwrap();
    ids.progress.sweep = Some(Sweep { after: i64::MIN, before: 3 });
    ids.sweep(&connection, 3, 4, 100).unwrap();
    assert_eq!([Key(7, 2), Key(7, 3)].map(found), [Some(9), Some(4)]);
}
