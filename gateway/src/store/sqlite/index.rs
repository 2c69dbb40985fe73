//! Which place a key has: an index on disk, with what is new in memory. Keys follow no order. They go into the index in
//! batches and in their own order; what memory holds is read from what is indexed after a restart.

mod filter;
mod key;
mod runs;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use rusqlite::Connection;

use self::filter::Filters;
use self::key::AsGiven;
pub(super) use self::key::Key;
pub(super) use self::runs::tables;
use self::runs::{PART_KEYS, Run, Runs};

/// How many keys make a batch: at most about twice as many are in memory, some megabytes, and are read again after a
/// restart, some tenths of a second. Few in unit tests, so that they go through many.
pub(super) const BATCH: usize = if cfg!(test) { 2 * 1024 } else { 128 * 1024 };
/// How many keys of a batch move for each one that is new: a batch has moved before the next one is full.
const MOVED_EACH: usize = 2;
/// How many parts' worth of keys of a run that is stale are deleted for each that is let go of.
const DELETED_EACH: u64 = 2;
/// Fewer keys that are gone than this do not make the filters be read anew.
const FEW_STALE: u64 = BATCH as u64;

/// What takes keys and their places, in the order of these.
pub(super) type Take<'a> = dyn FnMut(Key, u64) -> rusqlite::Result<()> + 'a;
/// Reads the keys of all places after one, from what they are the keys of.
type Read = fn(&Connection, u64, &mut Take<'_>) -> rusqlite::Result<()>;
/// Places by key.
type Places = HashMap<Key, u64, BuildHasherDefault<AsGiven>>;

/// The places of keys: they grow from each new one to the next, and are never 0. What changes within a transaction counts
/// once [`Index::keep`] says that it is durable.
pub(super) struct Index {
    runs: Runs,
    /// Tell most of the keys that are not in the index without asking it.
    filters: Filters,
    /// How many keys went that the filters still hold.
    stale: u64,
    /// The place of each key whose last one is not in the index for certain.
    recent: Places,
    /// The batch that moves into the index, by key. Its keys stay among the recent until all have moved.
    batch: Vec<(Key, u64)>,
    progress: Progress,
    durable: Progress,
    /// What was set in this transaction, with what was there before.
    set: Vec<(Key, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// How many of the batch have moved.
    moved: usize,
    /// How many more are to be moved by now.
    due: usize,
    /// All of the batch is this run in this transaction.
    finished: Option<Run>,
    /// The parts of the oldest run before this one are deleted.
    deleted: i64,
}

impl Index {
    /// Opens an index, and reads what it does not have yet.
    pub(super) fn open(connection: &Connection, table: &'static str, read: Read) -> rusqlite::Result<Self> {
        let runs = Runs::open(connection, table)?;
        let mut recent = Places::default();
        read(connection, runs.up_to(), &mut |key, place| {
            recent.insert(key, place);
            Ok(())
        })?;
        let progress = Progress::default();
        let mut index = Self {
            runs,
            filters: Filters::open(connection, table)?,
            stale: 0,
            recent,
            batch: Vec::new(),
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
            None if self.runs.up_to() >= first && self.filters.may_hold(key) => {
                self.runs.find(connection, key, first)?
            }
            None => None,
        };
        Ok(known.filter(|known| *known >= first))
    }

    /// Sets the place of a key: one after all that were set before.
    pub(super) fn set(&mut self, key: Key, place: u64) {
        self.set.push((key, self.recent.insert(key, place)));
    }

    /// Moves some of the batch into the index, as many as what was set in this transaction asks for. Gives about how many
    /// pages that takes.
    pub(super) fn move_some(&mut self, connection: &Connection) -> rusqlite::Result<usize> {
        let rest = self.batch.get(self.progress.moved..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(0);
        }
        let due = self.progress.due + MOVED_EACH * self.set.len();
        let moved = self.runs.write(connection, rest, due)?;
        rest[..moved].iter().for_each(|(key, _)| self.filters.hold(*key));
        self.progress.moved += moved;
        self.progress.due = due - moved;
        if moved == rest.len() {
            let last = self.batch.iter().map(|(_, place)| *place).max().unwrap_or(0);
            self.progress.finished = Some(self.runs.finish(connection, self.batch.len() as u64, last)?);
        }
        Ok(moved.div_ceil(PART_KEYS))
    }

    /// About `removed` places before `first` were let go of: deletes as much of what no other place is found through.
    pub(super) fn sweep(
        &mut self,
        connection: &Connection,
        first: u64,
        removed: u64,
    ) -> rusqlite::Result<()> {
        let Some(run) = self.runs.oldest().filter(|run| run.last < first) else { return Ok(()) };
        let parts = run.parts();
        let from = self.progress.deleted.max(parts.start);
        let some = DELETED_EACH * removed / PART_KEYS as u64 + 1;
        let to = from.saturating_add_unsigned(some).min(parts.end);
        self.progress.deleted = to;
        self.runs.delete(connection, run, from..to)
    }

    /// The transaction is durable.
    pub(super) fn keep(&mut self) {
        self.set.clear();
        if let Some(run) = self.progress.finished.take() {
            self.runs.push(run);
            for (key, place) in self.batch.drain(..) {
                // One that was set anew has another place, which is not in the index yet.
                if self.recent.get(&key) == Some(&place) {
                    self.recent.remove(&key);
                }
            }
            (self.progress.moved, self.progress.due) = (0, 0);
        }
        if self.runs.oldest().is_some_and(|run| run.parts().end == self.progress.deleted) {
            self.stale += self.runs.pop();
            if self.stale > self.runs.count().max(FEW_STALE) {
                self.filters.renew();
                self.stale = 0;
            }
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
            self.batch.sort_unstable_by_key(|(key, _)| key.bits());
        }
    }
}

/// Fills an index, which is empty.
pub(super) fn fill(connection: &Connection, table: &str, read: Read) -> rusqlite::Result<()> {
    let mut runs = Runs::open(connection, table)?;
    let mut write = |batch: &mut Places| {
        let Some(last) = batch.values().max().copied() else { return Ok(()) };
        let mut sorted: Vec<_> = batch.drain().collect();
        sorted.sort_unstable_by_key(|(key, _)| key.bits());
        runs.write(connection, &sorted, sorted.len())?;
        let run = runs.finish(connection, sorted.len() as u64, last)?;
        runs.push(run);
        Ok(())
    };
    let mut batch = Places::default();
    read(connection, 0, &mut |key, place| {
        batch.insert(key, place);
        if batch.len() < BATCH { Ok(()) } else { write(&mut batch) }
    })?;
    write(&mut batch)
}

#[cfg(test)]
pub(super) mod tests;
