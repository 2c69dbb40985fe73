//! Records through many batches of their index, restarts, and what is undone or forgotten.

use super::*;
use crate::store::sqlite::index::tests::indexed;
use crate::store::sqlite::index::{BATCH, tables};

/// A revision after all.
const LAST: Revision = 18 * BATCH as Revision + 3;

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(TABLE).unwrap();
    connection.execute_batch(&tables(INDEX)).unwrap();
    connection
}

fn commit(records: &mut Records, connection: &Connection) {
    records.write(connection).unwrap();
    records.move_some(connection).unwrap();
    records.keep();
}

/// What stands under a key of a number: each third is written twice, and each fifth deleted in the end.
fn value(number: u64) -> Option<Bytes> {
    let text = if number.is_multiple_of(3) { format!("ended {number}") } else { format!("begun {number}") };
    (!number.is_multiple_of(5)).then(|| text.into())
}

/// Writes records of numbers in transactions of a hundred, from a revision on.
fn fill(records: &mut Records, connection: &Connection, numbers: std::ops::Range<u64>) {
    // Three writes each at most.
    for number in numbers {
        let (key, revision) = (number.to_string(), 3 * number + 1);
        assert!(records.holds(connection, &key, Expect::Absent).unwrap());
        records.put(connection, &key, Some(&format!("begun {number}").into()), revision).unwrap();
        assert!(!records.holds(connection, &key, Expect::Absent).unwrap());
        if number % 3 == 0 {
            assert!(records.holds(connection, &key, Expect::Revision(revision)).unwrap());
            records.put(connection, &key, Some(&format!("ended {number}").into()), revision + 1).unwrap();
        }
        if number % 5 == 0 {
            records.put(connection, &key, None, revision + 2).unwrap();
            assert!(!records.holds(connection, &key, Expect::Revision(revision + 2)).unwrap());
            assert!(records.holds(connection, &key, Expect::Absent).unwrap());
        }
        if number % 100 == 99 {
            commit(records, connection);
        }
    }
    commit(records, connection);
}

fn assert_kept(records: &mut Records, connection: &Connection, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let found = records.get(connection, &number.to_string()).unwrap();
        assert_eq!(found.map(|entry| entry.value), value(number), "{number}");
    }
}

#[test]
fn a_record_is_found_wherever_it_is_and_after_a_restart() {
    let connection = database();
    let mut records = Records::open(&connection, 0).unwrap();
    let count = 4 * BATCH as u64;
    fill(&mut records, &connection, 0..count);
    assert!(indexed(&connection, INDEX) > count / 2, "{}", indexed(&connection, INDEX));
    let kept = (0..count).filter(|number| value(*number).is_some()).count();
    for mut records in [records, Records::open(&connection, LAST).unwrap()] {
        assert_kept(&mut records, &connection, 0..count);
        let all = records.list(&connection, 0, usize::MAX).unwrap();
        assert_eq!(all.len(), kept);
        assert!(all.is_sorted_by_key(|entry| entry.revision));
        let rest = records.list(&connection, all[9].revision, 5).unwrap();
        assert_eq!(rest, all[10..15]);
    }
}

#[test]
fn what_is_forgotten_is_free_again_and_leaves_rows_and_index() {
    let connection = database();
    let mut records = Records::open(&connection, 0).unwrap();
    let count = 6 * BATCH as u64;
    fill(&mut records, &connection, 0..count);
    // The last hundred share the last row.
    let first_kept = count - 100;
    let mut rows = 0;
    for before in (0..first_kept).step_by(500).chain([first_kept]) {
        loop {
            let forgotten = records.forget(&connection, 3 * before + 1, LAST).unwrap();
            commit(&mut records, &connection);
            assert!(forgotten <= FORGOTTEN_ROWS as u64);
            rows += forgotten;
            if forgotten == 0 {
                break;
            }
        }
    }
    assert!(rows >= count / 100 - 2, "{rows}");
    for mut records in [records, Records::open(&connection, LAST).unwrap()] {
        assert_kept(&mut records, &connection, first_kept..count);
        assert!(records.holds(&connection, "1", Expect::Absent).unwrap());
        assert_eq!(records.get(&connection, "1").unwrap(), None);
        assert!(records.list(&connection, 0, usize::MAX).unwrap().len() < 300);
    }
    assert!(indexed(&connection, INDEX) < 2 * BATCH as u64, "{}", indexed(&connection, INDEX));

    // And all of them, the last row too.
    let mut records = Records::open(&connection, LAST).unwrap();
    while records.forget(&connection, LAST + 1, LAST).unwrap() > 0 {}
    commit(&mut records, &connection);
    for mut records in [records, Records::open(&connection, LAST).unwrap()] {
        for number in [0, first_kept + 1, count - 1] {
            assert!(records.holds(&connection, &number.to_string(), Expect::Absent).unwrap());
        }
    }
    let mut records = Records::open(&connection, LAST).unwrap();
    records.put(&connection, "1", Some(&"anew".into()), LAST + 1).unwrap();
    assert_eq!(records.get(&connection, "1").unwrap().unwrap().value, "anew");
}

#[test]
fn what_is_undone_was_never_there() {
    let connection = database();
    let mut records = Records::open(&connection, 0).unwrap();
    records.put(&connection, "a", Some(&"begun".into()), 1).unwrap();
    commit(&mut records, &connection);
    let transaction = connection.unchecked_transaction().unwrap();
    records.put(&connection, "a", Some(&"ended".into()), 2).unwrap();
    records.put(&connection, "b", Some(&"begun".into()), 3).unwrap();
    assert_eq!(records.get(&connection, "a").unwrap().unwrap().value, "ended");
    records.put(&connection, "c", Some(&"begun".into()), 4).unwrap();
    transaction.rollback().unwrap();
    records.undo();
    assert!(records.holds(&connection, "a", Expect::Revision(1)).unwrap());
    assert_eq!(records.get(&connection, "a").unwrap().unwrap().value, "begun");
    for key in ["b", "c"] {
        assert!(records.holds(&connection, key, Expect::Absent).unwrap());
    }
    assert_eq!(records.list(&connection, 0, 9).unwrap().len(), 1);
}

#[test]
fn a_large_value_has_a_row_of_its_own() {
    let connection = database();
    let mut records = Records::open(&connection, 0).unwrap();
    let large = Bytes::from(vec![7; 3 * ROW_BYTES]);
    for (key, value, revision) in [("a", "1".into(), 1), ("b", large.clone(), 2), ("c", "3".into(), 3)] {
        records.put(&connection, key, Some(&value), revision).unwrap();
    }
    commit(&mut records, &connection);
    let rows: i64 = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
    assert_eq!((rows, records.get(&connection, "b").unwrap().unwrap().value), (3, large));
    assert_eq!(records.get(&connection, "c").unwrap().unwrap().revision, 3);
}
