//! Which place a key has: an index on disk, with what is new in memory. Keys follow no order. They go into the index in
//! batches and in their own order: a page of it is then written for many keys at once, where each by itself would have one
//! of its own written at every commit. What memory holds is read from what is indexed after a restart.

mod filter;
mod key;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use rusqlite::{Connection, OptionalExtension as _, Statement};

use self::filter::Filters;
use self::key::AsGiven;
pub(super) use self::key::Key;

/// How many keys make a batch: at most about twice as many are in memory, some megabytes, and are read again after a
/// restart, some tenths of a second. Few in unit tests, so that they go through many.
pub(super) const BATCH: usize = if cfg!(test) { 2 * 1024 } else { 128 * 1024 };
/// How many keys of a batch move for each one that is new: a batch has moved before the next one is full.
const MOVED_EACH: usize = 2;
/// How many keys of the index are looked at for each place that is let go of, while it is swept.
const SWEPT_EACH: usize = 4;
/// Fewer stale keys than this are left alone.
const FEW_STALE: u64 = BATCH as u64;

/// The tables of an index. A key's two halves, and its place. `up_to`: the keys of all places up to there are in the index,
/// and of those after it some may be. `swept`: no key in the index has a place before that one, but for the few that others
/// are found through.
pub(super) fn tables(table: &str) -> String {
    format!(
        "CREATE TABLE {table} (
            high INTEGER PRIMARY KEY,
            low INTEGER NOT NULL,
            place INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE {table}_progress (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            up_to INTEGER NOT NULL,
            swept INTEGER NOT NULL
        ) STRICT;
        INSERT INTO {table}_progress (one, up_to, swept) VALUES (1, 0, 0);"
    )
}

/// The questions put to an index.
struct Texts {
    find: String,
    put: String,
    up_to: String,
    sweep: String,
    delete: String,
    swept: String,
}

impl Texts {
    fn of(table: &str) -> Self {
        Self {
            find: format!("SELECT low, place FROM {table} WHERE high = ?1"),
            put: put_text(table),
            up_to: format!("UPDATE {table}_progress SET up_to = ?1"),
            sweep: format!("SELECT high, place FROM {table} WHERE high > ?1 ORDER BY high LIMIT ?2"),
            // One whose place was taken stands after those that took it: it is found through them.
            delete: format!(
                "DELETE FROM {table}
                 WHERE high = ?1 AND NOT EXISTS (SELECT 1 FROM {table} AS next WHERE next.high = ?1 + 1)"
            ),
            swept: format!("UPDATE {table}_progress SET swept = ?1"),
        }
    }
}

fn put_text(table: &str) -> String {
    format!(
        "INSERT INTO {table} (high, low, place) VALUES (?1, ?2, ?3)
         ON CONFLICT (high) DO UPDATE SET place = excluded.place WHERE low = excluded.low"
    )
}

/// The places of keys: they grow from each new one to the next, and are never 0. What changes within a transaction counts
/// once [`Index::keep`] says that it is durable.
pub(super) struct Index {
    texts: Texts,
    /// Tell most of the keys that are not in the index without asking it.
    filters: Filters,
    /// The place of each key whose last one is not in the index for certain.
    recent: HashMap<Key, u64, BuildHasherDefault<AsGiven>>,
    /// The batch that moves into the index, by key. Its keys stay among the recent until all have moved.
    batch: Vec<(Key, u64)>,
    /// The last place of the batch.
    batch_end: u64,
    progress: Progress,
    durable: Progress,
    /// What was set in this transaction, with what was there before.
    set: Vec<(Key, Option<u64>)>,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    /// The index has the keys of all places up to this one.
    up_to: u64,
    /// How many of the batch have moved.
    moved: usize,
    /// The index has no keys of places before this one.
    swept: u64,
    sweep: Option<Sweep>,
}

/// A way through the whole index, which takes out what has a place before one.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    after: i64,
    before: u64,
}

impl Index {
    /// Opens an index. `after` gives the keys of what lies after a place.
    pub(super) fn open(
        connection: &Connection,
        table: &'static str,
        after: impl FnOnce(u64) -> rusqlite::Result<Vec<(Key, u64)>>,
    ) -> rusqlite::Result<Self> {
        let progress = format!("SELECT up_to, swept FROM {table}_progress");
        let (up_to, swept) =
            connection.query_row(&progress, [], |row| Ok((place(row.get(0)?), place(row.get(1)?))))?;
        let mut recent = HashMap::default();
        recent.extend(after(up_to)?);
        let progress = Progress { up_to, moved: 0, swept, sweep: None };
        let mut index = Self {
            texts: Texts::of(table),
            filters: Filters::open(connection, table)?,
            recent,
            batch: Vec::new(),
            batch_end: 0,
            progress,
            durable: progress,
            set: Vec::new(),
        };
        index.seal();
        Ok(index)
    }

    /// The place of a key, unless it is before `first`.
    pub(super) fn get(
        &mut self,
        connection: &Connection,
        key: Key,
        first: u64,
    ) -> rusqlite::Result<Option<u64>> {
        let known = match self.recent.get(&key) {
            // One in the index is older.
            Some(known) => Some(*known),
            None if self.progress.up_to >= first && self.filters.may_hold(key) => {
                find(connection, &self.texts.find, key)?
            }
            None => None,
        };
        Ok(known.filter(|known| *known >= first))
    }

    /// Sets the place of a key: one after all that were set before.
    pub(super) fn set(&mut self, key: Key, place: u64) {
        self.set.push((key, self.recent.insert(key, place)));
    }

    /// Moves some of the batch into the index, as many as what was set in this transaction asks for: what has a place
    /// before `first` need not be known any more. Gives how many.
    pub(super) fn move_some(&mut self, connection: &Connection, first: u64) -> rusqlite::Result<usize> {
        let rest = self.batch.get(self.progress.moved..).unwrap_or_default();
        let moving = &rest[..rest.len().min(MOVED_EACH * self.set.len())];
        if moving.is_empty() {
            return Ok(0);
        }
        let mut statement = connection.prepare_cached(&self.texts.put)?;
        for (key, place) in moving.iter().filter(|(_, place)| *place >= first) {
            put(&mut statement, *key, *place)?;
            self.filters.hold(*key);
        }
        let moved = moving.len();
        self.progress.moved += moved;
        if self.progress.moved == self.batch.len() {
            self.progress.up_to = self.batch_end;
            connection.prepare_cached(&self.texts.up_to)?.execute([self.batch_end.cast_signed()])?;
        }
        Ok(moved)
    }

    /// The first `removed` places were let go of, so that about `kept` are left from `first` on: takes stale keys out of
    /// the index, once they are as many as the others.
    pub(super) fn sweep(
        &mut self,
        connection: &Connection,
        first: u64,
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
        let mut select = connection.prepare_cached(&self.texts.sweep)?;
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = select.query_map([after, limit], |row| Ok((row.get::<_, i64>(0)?, place(row.get(1)?))))?;
        let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
        let mut delete = connection.prepare_cached(&self.texts.delete)?;
        for (high, _) in rows.iter().filter(|(_, place)| *place < before) {
            delete.execute([high])?;
        }
        match rows.last() {
            Some((last, _)) if rows.len() == count => {
                self.progress.sweep = Some(Sweep { after: *last, before });
            }
            _ => {
                self.progress.sweep = None;
                self.progress.swept = before;
                connection.prepare_cached(&self.texts.swept)?.execute([before.cast_signed()])?;
            }
        }
        Ok(())
    }

    /// The transaction is durable.
    pub(super) fn keep(&mut self) {
        self.set.clear();
        if self.progress.up_to > self.durable.up_to {
            for (key, place) in self.batch.drain(..) {
                // One that was set anew has another place, which is not in the index yet.
                if self.recent.get(&key) == Some(&place) {
                    self.recent.remove(&key);
                }
            }
            self.progress.moved = 0;
        }
        if self.progress.swept > self.durable.swept {
            self.filters.renew();
        }
        self.durable = self.progress;
        self.seal();
    }

    /// The transaction was undone.
    pub(super) fn undo(&mut self) {
        for (key, before) in self.set.drain(..).rev() {
            match before {
                Some(place) => self.recent.insert(key, place),
                None => self.recent.remove(&key),
            };
        }
        self.progress = self.durable;
    }

    /// Begins to move what is recent, where that is enough and nothing moves.
    fn seal(&mut self) {
        if self.batch.is_empty() && self.recent.len() >= BATCH {
            self.batch.extend(self.recent.iter().map(|(key, place)| (*key, *place)));
            self.batch.sort_unstable();
            self.batch_end = self.batch.iter().map(|(_, place)| *place).max().unwrap_or(0);
        }
    }
}

/// Fills an index from rows of keys and places, in the order of the keys.
pub(super) fn fill(
    connection: &Connection,
    table: &str,
    rows: impl Iterator<Item = rusqlite::Result<(Key, u64)>>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&put_text(table))?;
    let mut last = 0;
    for row in rows {
        let (key, place) = row?;
        last = last.max(place);
        put(&mut statement, key, place)?;
    }
    connection.execute(&format!("UPDATE {table}_progress SET up_to = ?1"), [last.cast_signed()])?;
    Ok(())
}

/// Has the index know a key's place: at its high half, or after those that took that before and have another low half, of
/// which there is hardly ever one.
fn put(statement: &mut Statement<'_>, Key(high, low): Key, place: u64) -> rusqlite::Result<()> {
    let mut at = high;
    while statement.execute([at, low, place.cast_signed()])? == 0 {
        at = at.wrapping_add(1);
    }
    Ok(())
}

fn find(connection: &Connection, text: &str, Key(high, low): Key) -> rusqlite::Result<Option<u64>> {
    let mut statement = connection.prepare_cached(text)?;
    let mut at = high;
    loop {
        let found = statement.query_row([at], |row| Ok((row.get::<_, i64>(0)?, place(row.get(1)?))));
        match found.optional()? {
            Some((known, place)) if known == low => return Ok(Some(place)),
            Some(_) => at = at.wrapping_add(1),
            None => return Ok(None),
        }
    }
}

fn place(stored: i64) -> u64 {
    stored.cast_unsigned()
}

#[cfg(test)]
mod tests;
