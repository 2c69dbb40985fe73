//! Which ids the log keeps. Those of the newest events are in memory; the others are in an index on disk, into which they
//! go in batches and in their own order: an index page is then written for many ids at once, where ids that follow no
//! order would each write one of their own at each append. What memory holds is read from the events after a restart.

mod key;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use rusqlite::{Connection, OptionalExtension as _, Statement};

use self::key::AsGiven;
pub(super) use self::key::Key;
use super::batch::Stretch;
use crate::store::Sequence;

/// How many ids make a batch: at most about twice as many are in memory, some megabytes, and are read again after a
/// restart, some tens of milliseconds. Few in unit tests, so that they go through many.
const BATCH: usize = if cfg!(test) { 2 * 1024 } else { 32 * 1024 };
/// How many ids of a batch move for each event that is appended: a batch has moved before the next one is full.
const MOVED_EACH: usize = 2;
/// How many ids of the index are looked at for each event that retention removes, while it is swept.
const SWEPT_EACH: usize = 4;
/// Fewer stale ids than this are left alone.
const FEW_STALE: u64 = BATCH as u64;

/// The tables; `up_to`: the ids of all events up to there are in the index, and of those after it some may be. `swept`: no
/// id in the index is of an event before that place, but for the few that others are found through.
pub(super) const TABLES: &str = "
    CREATE TABLE ids (
        high INTEGER PRIMARY KEY,
        low INTEGER NOT NULL,
        sequence INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE ids_progress (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        up_to INTEGER NOT NULL,
        swept INTEGER NOT NULL
    ) STRICT;
    INSERT INTO ids_progress (one, up_to, swept) VALUES (1, 0, 0);
";

/// What is known of ids. What changes within a transaction counts once [`Ids::keep`] says that it is durable.
pub(super) struct Ids {
    /// Where each event is that is not in the index for certain.
    recent: HashMap<Key, Sequence, BuildHasherDefault<AsGiven>>,
    /// The batch that moves into the index, by id. Its ids stay among the recent until all have moved.
    batch: Vec<(Key, Sequence)>,
    /// The place of the last event of the batch.
    batch_end: Sequence,
    progress: Progress,
    durable: Progress,
    /// What was added in this transaction, with what was there before.
    added: Vec<(Key, Option<Sequence>)>,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    /// The index has the ids of all events up to this place.
    up_to: Sequence,
    /// How many of the batch have moved.
    moved: usize,
    /// The index has no ids of events before this place.
    swept: Sequence,
    sweep: Option<Sweep>,
}

/// A way through the whole index, which takes out what is of events before a place.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    after: i64,
    before: Sequence,
}

impl Ids {
    /// Reads what memory is to hold.
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let (up_to, swept) = connection.query_row("SELECT up_to, swept FROM ids_progress", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        let sql = format!("SELECT {} FROM events WHERE {}", Stretch::COLUMNS, Stretch::FROM);
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([up_to + 1])?;
        let mut recent = HashMap::default();
        while let Some(row) = rows.next()? {
            let stretch = Stretch::read(row)?;
            recent.extend(stretch.keys().filter(|(_, sequence)| *sequence > place(up_to)));
        }
        let progress = Progress { up_to: place(up_to), moved: 0, swept, sweep: None };
        let mut ids =
            Self { recent, batch: Vec::new(), batch_end: 0, progress, durable: progress, added: Vec::new() };
        ids.seal();
        Ok(ids)
    }

    /// Takes in the id of the event that is to stand at a place; false where the log keeps it already, whose first event is
    /// at `first`.
    pub(super) fn add(
        &mut self,
        connection: &Connection,
        key: Key,
        sequence: Sequence,
        first: Sequence,
    ) -> rusqlite::Result<bool> {
        let known = match self.recent.get(&key) {
            // One in the index is older.
            Some(known) => Some(*known),
            None if self.progress.up_to >= first => find(connection, key)?,
            None => None,
        };
        if known.is_some_and(|known| known >= first) {
            return Ok(false);
        }
        self.added.push((key, self.recent.insert(key, sequence)));
        Ok(true)
    }

    /// Moves some of the batch into the index, as many as what was added in this transaction asks for. Gives how many.
    pub(super) fn move_some(&mut self, connection: &Connection, first: Sequence) -> rusqlite::Result<usize> {
        let rest = self.batch.get(self.progress.moved..).unwrap_or_default();
        let moving = &rest[..rest.len().min(MOVED_EACH * self.added.len())];
        if moving.is_empty() {
            return Ok(0);
        }
        let mut insert = connection.prepare_cached(INSERT)?;
        for (key, sequence) in moving {
            // What retention has removed meanwhile need not be known.
            if *sequence >= first {
                put(&mut insert, *key, *sequence)?;
            }
        }
        let moved = moving.len();
        self.progress.moved += moved;
        if self.progress.moved == self.batch.len() {
            self.progress.up_to = self.batch_end;
            connection
                .prepare_cached("UPDATE ids_progress SET up_to = ?1")?
                .execute([self.batch_end.cast_signed()])?;
        }
        Ok(moved)
    }

    /// Retention has removed some events, of which `kept` are left from `first` on: takes stale ids out of the index, once
    /// they are as many as the others.
    pub(super) fn sweep(
        &mut self,
        connection: &Connection,
        first: Sequence,
        kept: u64,
        removed: u64,
    ) -> rusqlite::Result<()> {
        let stale = first.min(self.progress.up_to + 1).saturating_sub(self.progress.swept);
        let Sweep { after, before } = match self.progress.sweep {
            Some(sweep) => sweep,
            None if stale > kept.max(FEW_STALE) => Sweep { after: i64::MIN, before: first },
            None => return Ok(()),
        };
        let count = usize::try_from(removed).unwrap_or(usize::MAX).saturating_mul(SWEPT_EACH);
        let sql = "SELECT high, sequence FROM ids WHERE high > ?1 ORDER BY high LIMIT ?2";
        let mut select = connection.prepare_cached(sql)?;
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = select.query_map([after, limit], |row| Ok((row.get::<_, i64>(0)?, place(row.get(1)?))))?;
        let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
        // One whose place was taken stands after those that took it: it is found through them.
        let sql = "DELETE FROM ids
                   WHERE high = ?1 AND NOT EXISTS (SELECT 1 FROM ids AS next WHERE next.high = ?1 + 1)";
        let mut delete = connection.prepare_cached(sql)?;
        for (high, _) in rows.iter().filter(|(_, sequence)| *sequence < before) {
            delete.execute([high])?;
        }
        match rows.last() {
            Some((last, _)) if rows.len() == count => {
                self.progress.sweep = Some(Sweep { after: *last, before });
            }
            _ => {
                self.progress.sweep = None;
                self.progress.swept = before;
                let sql = "UPDATE ids_progress SET swept = ?1";
                connection.prepare_cached(sql)?.execute([before.cast_signed()])?;
            }
        }
        Ok(())
    }

    /// The transaction is durable.
    pub(super) fn keep(&mut self) {
        self.added.clear();
        if self.progress.up_to > self.durable.up_to {
            for (key, sequence) in self.batch.drain(..) {
                // An id that was removed and came again has another place, which is not in the index yet.
                if self.recent.get(&key) == Some(&sequence) {
                    self.recent.remove(&key);
                }
            }
            self.progress.moved = 0;
        }
        self.durable = self.progress;
        self.seal();
    }

    /// The transaction was undone.
    pub(super) fn undo(&mut self) {
        for (key, before) in self.added.drain(..).rev() {
            match before {
                Some(sequence) => self.recent.insert(key, sequence),
                None => self.recent.remove(&key),
            };
        }
        self.progress = self.durable;
    }

    /// Begins to move what is recent, where that is enough and nothing moves.
    fn seal(&mut self) {
        if self.batch.is_empty() && self.recent.len() >= BATCH {
            self.batch.extend(self.recent.iter().map(|(key, sequence)| (*key, *sequence)));
            self.batch.sort_unstable();
            self.batch_end = self.batch.iter().map(|(_, sequence)| *sequence).max().unwrap_or(0);
        }
    }
}

/// Fills the index from a table that has each event in a row of its own.
pub(super) fn fill(connection: &Connection, events: &str) -> rusqlite::Result<()> {
    let mut select = connection.prepare(&format!("SELECT id, sequence FROM {events} ORDER BY id"))?;
    let mut insert = connection.prepare(INSERT)?;
    let mut rows = select.query([])?;
    let mut last = 0;
    while let Some(row) = rows.next()? {
        let sequence = place(row.get(1)?);
        last = last.max(sequence);
        put(&mut insert, Key::of(row.get_ref(0)?.as_str()?), sequence)?;
    }
    connection.execute("UPDATE ids_progress SET up_to = ?1", [last.cast_signed()])?;
    Ok(())
}

const INSERT: &str = "INSERT INTO ids (high, low, sequence) VALUES (?1, ?2, ?3)
                      ON CONFLICT (high) DO UPDATE SET sequence = excluded.sequence WHERE low = excluded.low";

/// Has the index know a key's place: at its high half, or after those that took that before and have another low half, of
/// which there is hardly ever one.
fn put(insert: &mut Statement<'_>, Key(high, low): Key, sequence: Sequence) -> rusqlite::Result<()> {
    let mut at = high;
    while insert.execute([at, low, sequence.cast_signed()])? == 0 {
        at = at.wrapping_add(1);
    }
    Ok(())
}

fn find(connection: &Connection, Key(high, low): Key) -> rusqlite::Result<Option<Sequence>> {
    let mut statement = connection.prepare_cached("SELECT low, sequence FROM ids WHERE high = ?1")?;
    let mut at = high;
    loop {
        let found = statement.query_row([at], |row| Ok((row.get::<_, i64>(0)?, place(row.get(1)?))));
        match found.optional()? {
            Some((known, sequence)) if known == low => return Ok(Some(sequence)),
            Some(_) => at = at.wrapping_add(1),
            None => return Ok(None),
        }
    }
}

fn place(sequence: i64) -> Sequence {
    sequence.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::batch::{self, Filling, Placed};
    use postern_chassis::digest;

    /// A database with what this module reads of events.
    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(batch::TABLE).unwrap();
        connection.execute_batch(TABLES).unwrap();
        connection
    }

    fn key(number: u64) -> Key {
        Key::of(&digest::hex(&digest::of(&number.to_be_bytes())[..16]))
    }

    /// Appends in transactions of a hundred, as a writer does. Gives how many were taken.
    fn append(
        ids: &mut Ids,
        connection: &Connection,
        numbers: std::ops::Range<u64>,
        at: u64,
        first: u64,
    ) -> u64 {
        let (mut next, mut filling) = (at, Filling::default());
        for number in numbers {
            let key = key(number);
            if ids.add(connection, key, next, first).unwrap() {
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
        connection
            .query_row("SELECT count(*) FROM ids", [], |row| row.get::<_, i64>(0))
            .unwrap()
            .cast_unsigned()
    }

    #[test]
    fn an_id_is_known_wherever_it_is_and_after_a_restart() {
        let connection = database();
        let mut ids = Ids::open(&connection).unwrap();
        let count = 4 * BATCH as u64 + 500;
        assert_eq!(append(&mut ids, &connection, 0..count, 1, 1), count);
        assert!(ids.recent.len() <= 2 * BATCH && indexed(&connection) >= count / 2, "{}", ids.recent.len());
        for mut ids in [ids, Ids::open(&connection).unwrap()] {
            assert_eq!(append(&mut ids, &connection, 0..count, count + 1, 1), 0);
            assert!(ids.recent.len() <= 2 * BATCH);
        }
    }

    #[test]
    fn what_retention_removed_is_taken_again_and_leaves_the_index() {
        let connection = database();
        let mut ids = Ids::open(&connection).unwrap();
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
        let mut ids = Ids::open(&connection).unwrap();
        assert_eq!(append(&mut ids, &connection, 0..count, 3 * count, first), 0);
    }

    #[test]
    fn what_is_undone_was_never_there() {
        let connection = database();
        let mut ids = Ids::open(&connection).unwrap();
        let (one, two) = (key(1), key(2));
        assert!(ids.add(&connection, one, 1, 1).unwrap());
        assert!(!ids.add(&connection, one, 2, 1).unwrap());
        ids.keep();
        // Its event goes and it comes again, both in a transaction that fails: it is still kept.
        assert!(ids.add(&connection, one, 2, 2).unwrap());
        assert!(ids.add(&connection, two, 3, 2).unwrap());
        ids.undo();
        assert!(!ids.add(&connection, one, 2, 1).unwrap());
        assert!(ids.add(&connection, two, 2, 1).unwrap());
    }

    #[test]
    fn keys_with_one_high_half_are_told_apart_in_the_index_and_outlast_a_sweep() {
        let connection = database();
        let mut insert = connection.prepare(INSERT).unwrap();
        let keys = [Key(7, 1), Key(8, 1), Key(7, 2), Key(7, 3), Key(i64::MAX, 1), Key(i64::MAX, 2)];
        for (key, sequence) in keys.into_iter().zip(1..) {
            assert_eq!(find(&connection, key).unwrap(), None);
            put(&mut insert, key, sequence).unwrap();
        }
        put(&mut insert, Key(7, 2), 9).unwrap();
        let found = |key| find(&connection, key).unwrap();
        assert_eq!(keys.map(found), [Some(1), Some(2), Some(9), Some(4), Some(5), Some(6)]);

        // The first two go, but for what the others are found through.
        let mut ids = Ids::open(&connection).unwrap();
        ids.progress.sweep = Some(Sweep { after: i64::MIN, before: 3 });
        ids.sweep(&connection, 3, 4, 100).unwrap();
        assert_eq!([Key(7, 2), Key(7, 3)].map(found), [Some(9), Some(4)]);
    }
}
