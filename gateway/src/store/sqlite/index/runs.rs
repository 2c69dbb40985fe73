//! What an index has on disk: runs of keys, one for each batch, the newest last. A run is written once, in parts by what its
//! keys begin with, and goes whole once all of its places are let go of. In a tree of single keys each would be written to
//! a place of its own, with the page around it; here some scores of them are a row, after the one before it.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{BATCH, Key};

/// About how many keys of a batch share a part: whoever looks for one reads them all.
pub(super) const PART_KEYS: usize = 64;
/// How many bits of a key tell its part.
const PART_BITS: u32 = (BATCH / PART_KEYS).ilog2();
const KEY_BYTES: usize = size_of::<u128>();
/// A key and its place, as they lie in a part: numbers with their highest byte first, so that they are found by their order.
const ENTRY_BYTES: usize = KEY_BYTES + size_of::<u64>();

/// The tables of an index. `part`: the number of its run, then that of the part in it; `keys`: the entries, by key.
/// `count`: how many keys a run has; `last`: the last of their places.
pub(in crate::store::sqlite) fn tables(table: &str) -> String {
    format!(
        "CREATE TABLE {table} (
            part INTEGER PRIMARY KEY,
            keys BLOB NOT NULL
        ) STRICT;
        CREATE TABLE {table}_runs (
            run INTEGER PRIMARY KEY,
            count INTEGER NOT NULL,
            last INTEGER NOT NULL
        ) STRICT;"
    )
}

/// A run that is whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) number: i64,
    pub(super) count: u64,
    pub(super) last: u64,
}

impl Run {
    /// The numbers of its parts.
    pub(super) fn parts(&self) -> std::ops::Range<i64> {
        self.number << PART_BITS..(self.number + 1) << PART_BITS
    }
}

/// The runs of an index.
pub(super) struct Runs {
    /// Those that are whole and durable.
    whole: Vec<Run>,
    /// The number of the run that is written next.
    next: i64,
    find: String,
    put: String,
    finish: String,
    delete: String,
    forget: String,
}

impl Runs {
    /// Opens the runs of an index, and removes one that was not written to its end.
    pub(super) fn open(connection: &Connection, table: &str) -> rusqlite::Result<Self> {
        let sql = format!("SELECT run, count, last FROM {table}_runs ORDER BY run");
        let mut select = connection.prepare(&sql)?;
        let runs = select.query_map([], |row| {
            let count = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
            Ok(Run { number: row.get(0)?, count: count(1)?, last: count(2)? })
        })?;
        let whole: Vec<Run> = runs.collect::<rusqlite::Result<_>>()?;
        let runs = Self {
            next: whole.last().map_or(1, |run| run.number + 1),
            whole,
            find: format!("SELECT keys FROM {table} WHERE part = ?1"),
            put: format!("INSERT INTO {table} (part, keys) VALUES (?1, ?2)"),
            finish: format!("INSERT INTO {table}_runs (run, count, last) VALUES (?1, ?2, ?3)"),
            delete: format!("DELETE FROM {table} WHERE part >= ?1 AND part < ?2"),
            forget: format!("DELETE FROM {table}_runs WHERE run = ?1"),
        };
        connection.execute(&runs.delete, [runs.next << PART_BITS, i64::MAX])?;
        Ok(runs)
    }

    /// The keys of all places up to this one are in the index, or let go of.
    pub(super) fn up_to(&self) -> u64 {
        self.whole.last().map_or(0, |run| run.last)
    }

    /// How many keys they have.
    pub(super) fn count(&self) -> u64 {
        self.whole.iter().map(|run| run.count).sum()
    }

    pub(super) fn oldest(&self) -> Option<Run> {
        self.whole.first().copied()
    }

    /// The last place of a key, unless all of its run's places are before `first`.
    pub(super) fn find(
        &self,
        connection: &Connection,
        key: Key,
        first: u64,
    ) -> rusqlite::Result<Option<u64>> {
        let mut select = connection.prepare_cached(&self.find)?;
        let wanted = key.bits().to_be_bytes();
        for run in self.whole.iter().rev().take_while(|run| run.last >= first) {
            let in_part = |keys: &[u8]| {
                let (entries, _) = keys.as_chunks::<ENTRY_BYTES>();
                let at = entries.binary_search_by(|entry| entry[..KEY_BYTES].cmp(&wanted)).ok()?;
                entries[at].last_chunk().map(|place| u64::from_be_bytes(*place))
            };
            let part = run.parts().start + part(key);
            let found = select.query_row([part], |row| Ok(in_part(row.get_ref(0)?.as_blob()?)));
            if let Some(place) = found.optional()?.flatten() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Writes parts of the next run from the front of its keys, which are in the order of their bits: as many as hold up to `due` of them.
    /// Gives how many keys that were.
    pub(super) fn write(
        &self,
        connection: &Connection,
        keys: &[(Key, u64)],
        due: usize,
    ) -> rusqlite::Result<usize> {
        let mut insert = connection.prepare_cached(&self.put)?;
        let mut written = 0;
        for entries in keys.chunk_by(|(one, _), (next, _)| part(*one) == part(*next)) {
            if written + entries.len() > due {
                break;
            }
            let entry =
                |(key, place): &(Key, u64)| key.bits().to_be_bytes().into_iter().chain(place.to_be_bytes());
            let bytes: Vec<u8> = entries.iter().flat_map(entry).collect();
            insert.execute(params![self.next << PART_BITS | part(entries[0].0), bytes])?;
            written += entries.len();
        }
        Ok(written)
    }

    /// All of the next run is written.
    pub(super) fn finish(&self, connection: &Connection, count: u64, last: u64) -> rusqlite::Result<Run> {
        let run = Run { number: self.next, count, last };
        let row = [run.number, count.cast_signed(), last.cast_signed()];
        connection.prepare_cached(&self.finish)?.execute(row)?;
        Ok(run)
    }

    /// Deletes some parts of a run; with its last one the run too.
    pub(super) fn delete(
        &self,
        connection: &Connection,
        run: Run,
        parts: std::ops::Range<i64>,
    ) -> rusqlite::Result<()> {
        connection.prepare_cached(&self.delete)?.execute([parts.start, parts.end])?;
        if parts.end == run.parts().end {
            connection.prepare_cached(&self.forget)?.execute([run.number])?;
        }
        Ok(())
    }

    /// A run that was finished is durable.
    pub(super) fn push(&mut self, run: Run) {
        self.next = run.number + 1;
        self.whole.push(run);
    }

    /// That the oldest run is deleted is durable. Gives how many keys it had.
    pub(super) fn pop(&mut self) -> u64 {
        self.whole.remove(0).count
    }
}

/// The keys of a part.
pub(super) fn keys(part: &[u8]) -> impl Iterator<Item = Key> {
    let (entries, _) = part.as_chunks::<ENTRY_BYTES>();
    entries.iter().filter_map(|entry| Some(Key::of_bits(u128::from_be_bytes(*entry.first_chunk()?))))
}

/// Which part of a run has a key.
fn part(key: Key) -> i64 {
    i64::try_from(key.bits() >> (u128::BITS - PART_BITS)).unwrap_or_default()
}
