//! Which ids the log keeps. Those of the newest events are in memory; the others are in an index on disk, into which they
//! go in batches and in their own order: an index page is then written for many ids at once, where ids that follow no
//! order would each write one of their own at each append. What memory holds is read from the events after a restart.

use std::collections::HashMap;

use postern_chassis::digest;
use rusqlite::{Connection, OptionalExtension as _, params};

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
/// id in the index is of an event before that place.
pub(super) const TABLES: &str = "
    CREATE TABLE ids (
        id BLOB PRIMARY KEY,
        sequence INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE ids_progress (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        up_to INTEGER NOT NULL,
        swept INTEGER NOT NULL
    ) STRICT;
    INSERT INTO ids_progress (one, up_to, swept) VALUES (1, 0, 0);
";

/// How an id is kept. Those that the gateway makes are 128 bits in hexadecimal digits; any other is known by as many bits
/// of its digest.
type Key = u128;

/// What is known of ids. What changes within a transaction counts once [`Ids::keep`] says that it is durable.
pub(super) struct Ids {
    /// Where each event is that is not in the index for certain.
    recent: HashMap<Key, Sequence>,
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
    after: Key,
    before: Sequence,
}

impl Ids {
    /// Reads what memory is to hold.
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let (up_to, swept) = connection.query_row("SELECT up_to, swept FROM ids_progress", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        let mut statement = connection.prepare("SELECT id, sequence FROM events WHERE sequence > ?1")?;
        let recent =
            statement.query_map([up_to], |row| Ok((key(row.get_ref(0)?.as_str()?), place(row.get(1)?))));
        let recent: HashMap<_, _> = recent?.collect::<rusqlite::Result<_>>()?;
        let progress = Progress { up_to: place(up_to), moved: 0, swept, sweep: None };
        let mut ids =
            Self { recent, batch: Vec::new(), batch_end: 0, progress, durable: progress, added: Vec::new() };
        ids.seal();
        Ok(ids)
    }

    /// Takes in the id of the event that is to stand at a place; false where the log keeps the id already, whose first
    /// event is at `first`.
    pub(super) fn add(
        &mut self,
        connection: &Connection,
        id: &str,
        sequence: Sequence,
        first: Sequence,
    ) -> rusqlite::Result<bool> {
        let key = key(id);
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
        let sql = "INSERT INTO ids (id, sequence) VALUES (?1, ?2)
                   ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence";
        let mut insert = connection.prepare_cached(sql)?;
        for (key, sequence) in moving {
            // What retention has removed meanwhile need not be known.
            if *sequence >= first {
                insert.execute(params![key.to_be_bytes(), sequence.cast_signed()])?;
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
            None if stale > kept.max(FEW_STALE) => Sweep { after: 0, before: first },
            None => return Ok(()),
        };
        let count = usize::try_from(removed).unwrap_or(usize::MAX).saturating_mul(SWEPT_EACH);
        let sql = "SELECT id, sequence FROM ids WHERE id > ?1 ORDER BY id LIMIT ?2";
        let mut select = connection.prepare_cached(sql)?;
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = select.query_map(params![after.to_be_bytes(), limit], |row| {
            Ok((Key::from_be_bytes(row.get(0)?), place(row.get(1)?)))
        })?;
        let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
        let mut delete = connection.prepare_cached("DELETE FROM ids WHERE id = ?1")?;
        for (key, _) in rows.iter().filter(|(_, sequence)| *sequence < before) {
            delete.execute([key.to_be_bytes()])?;
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

/// Fills the index from a table of events that has an index of its own by their ids.
pub(super) fn fill(connection: &Connection, events: &str) -> rusqlite::Result<()> {
    let mut select = connection.prepare(&format!("SELECT id, sequence FROM {events} ORDER BY id"))?;
    let mut insert = connection.prepare("INSERT INTO ids (id, sequence) VALUES (?1, ?2)")?;
    let mut rows = select.query([])?;
    let mut last = 0;
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(1)?;
        last = last.max(sequence);
        insert.execute(params![key(row.get_ref(0)?.as_str()?).to_be_bytes(), sequence])?;
    }
    connection.execute("UPDATE ids_progress SET up_to = ?1", [last])?;
    Ok(())
}

fn find(connection: &Connection, key: Key) -> rusqlite::Result<Option<Sequence>> {
    let sql = "SELECT sequence FROM ids WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([key.to_be_bytes()], |row| row.get(0).map(place)).optional()
}

fn place(sequence: i64) -> Sequence {
    sequence.cast_unsigned()
}

fn key(id: &str) -> Key {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = id.bytes().try_fold(0, |key: Key, byte| Some(key << 4 | Key::from(digit(&byte)?)));
    digits.filter(|_| id.len() == 32).unwrap_or_else(|| {
        let digest = digest::of(id.as_bytes());
        digest.iter().take(size_of::<Key>()).fold(0, |key, byte| key << 8 | Key::from(*byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with what this module reads of events.
    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE events (sequence INTEGER PRIMARY KEY, id TEXT)").unwrap();
        connection.execute_batch(TABLES).unwrap();
        connection
    }

    fn id(number: u64) -> String {
        digest::hex(&digest::of(&number.to_be_bytes())[..16])
    }

    /// Appends in transactions of a hundred, as a writer does. Gives how many were taken.
    fn append(
        ids: &mut Ids,
        connection: &Connection,
        numbers: std::ops::Range<u64>,
        at: u64,
        first: u64,
    ) -> u64 {
        let mut next = at;
        for number in numbers {
            if ids.add(connection, &id(number), next, first).unwrap() {
                let sql = "INSERT INTO events (sequence, id) VALUES (?1, ?2)";
                connection
                    .prepare_cached(sql)
                    .unwrap()
                    .execute(params![next.cast_signed(), id(number)])
                    .unwrap();
                next += 1;
            }
            if number % 100 == 99 {
                ids.move_some(connection, first).unwrap();
                ids.keep();
            }
        }
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
        connection.execute("DELETE FROM events WHERE sequence < ?1", [first.cast_signed()]).unwrap();
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
        assert!(ids.add(&connection, "one", 1, 1).unwrap());
        assert!(!ids.add(&connection, "one", 2, 1).unwrap());
        ids.keep();
        // Its event goes and it comes again, both in a transaction that fails: it is still kept.
        assert!(ids.add(&connection, "one", 2, 2).unwrap());
        assert!(ids.add(&connection, "two", 3, 2).unwrap());
        ids.undo();
        assert!(!ids.add(&connection, "one", 2, 1).unwrap());
        assert!(ids.add(&connection, "two", 2, 1).unwrap());
    }

    #[test]
    fn ids_that_are_no_digits_are_told_apart_all_the_same() {
        assert_eq!(key("000102030405060708090a0b0c0d0e0f"), 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        let others = ["", "0", "00", "000102030405060708090A0B0C0D0E0F", "+00102030405060708090a0b0c0d0e0f"];
        let keys: std::collections::HashSet<_> = others.into_iter().map(key).collect();
        assert_eq!(keys.len(), others.len());
        assert!(!keys.contains(&key("000102030405060708090a0b0c0d0e0f")) && !keys.contains(&0));
    }
}
