//! Filters before an index: they tell, from memory, of most keys that it does not hold. A key that is asked for is nearly
//! always new, and to look for it in the index costs as much as to keep it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use fastbloom::BloomFilter;
use rusqlite::Connection;

use super::{Key, runs};
use crate::store::sqlite::schema;

/// Bits for each key and how many of them are set: of a thousand keys that the index does not hold, one or two are looked
/// for, in each of its runs.
const BITS_EACH: usize = 14;
const HASHES: u32 = 8;
/// How many keys the first filter of several has room for, each after it for twice as many as the one before.
const FIRST_ROOM: usize = 64 * 1024;
/// How many parts of the index are read at a time: nobody who writes waits for it.
const PARTS: usize = 256;

/// Filters that hold every key of the index, once those that were there before are read.
pub(super) struct Filters {
    table: &'static str,
    /// Where the database is. Absent: in memory.
    path: Option<String>,
    /// What was there before. Absent: not read yet.
    before: Option<Chain>,
    /// What came since.
    since: Chain,
    reading: Option<Reading>,
}

impl Filters {
    /// Begins to read which keys an index holds, in a thread of its own.
    pub(super) fn open(connection: &Connection, table: &'static str) -> rusqlite::Result<Self> {
        let is_empty: bool =
            connection
                .query_row(&format!("SELECT NOT EXISTS (SELECT 1 FROM {table})"), [], |row| row.get(0))?;
        let path = connection.path().filter(|path| !path.is_empty()).map(str::to_owned);
        let before = is_empty.then(Chain::default);
        let mut filters = Self { table, path, before, since: Chain::default(), reading: None };
        if !is_empty {
            filters.read();
        }
        Ok(filters)
    }

    /// Whether the index may hold a key.
    pub(super) fn may_hold(&mut self, key: Key) -> bool {
        if let Some(read) = self.reading.as_ref().and_then(|reading| reading.read.try_recv().ok()) {
            (self.before, self.reading) = (Some(read), None);
        }
        self.since.may_hold(key) || self.before.as_ref().is_none_or(|before| before.may_hold(key))
    }

    /// The index holds a key from now on.
    pub(super) fn hold(&mut self, key: Key) {
        self.since.hold(key);
    }

    /// Reads the index anew: it has let go of many keys.
    pub(super) fn renew(&mut self) {
        let since = std::mem::take(&mut self.since);
        if let Some(before) = &mut self.before {
            before.0.extend(since.0);
        }
        self.read();
    }

    fn read(&mut self) {
        // Ended first: it may hold less than what is read now.
        self.reading = None;
        // Where it cannot be read, the index is asked for every key, or for more than needed.
        self.reading = self.path.clone().and_then(|path| Reading::start(path, self.table).ok());
    }
}

/// A thread that reads the index.
struct Reading {
    read: Receiver<Chain>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reading {
    fn start(path: String, table: &'static str) -> std::io::Result<Self> {
        let (done, read) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("store-filter".to_owned()).spawn(move || {
            match schema::open_reader(path.as_ref())
                .and_then(|connection| hold_all(&connection, table, &stopped))
            {
                Ok(chain) => drop(done.send(chain)),
                Err(error) => tracing::warn!(%error, table, "an index was not read: appends are slower"),
            }
        })?;
        Ok(Self { read, stop, thread: Some(thread) })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads all keys of an index, some parts at a time, so that no long reader keeps the write-ahead log from beginning anew.
fn hold_all(connection: &Connection, table: &str, stop: &AtomicBool) -> rusqlite::Result<Chain> {
    let sql = format!("SELECT coalesce(sum(count), 0) FROM {table}_runs");
    let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    let mut chain = Chain::default();
    chain.grow(usize::try_from(count).unwrap_or(0).max(FIRST_ROOM));
    let sql = format!("SELECT part, keys FROM {table} WHERE part > ?1 ORDER BY part LIMIT {PARTS}");
    let mut select = connection.prepare(&sql)?;
    let mut after = i64::MIN;
    while !stop.load(Ordering::Relaxed) {
        let mut rows = select.query([after])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            (after, count) = (row.get(0)?, count + 1);
            runs::keys(row.get_ref(1)?.as_blob()?).for_each(|key| chain.hold(key));
        }
        if count < PARTS {
            break;
        }
    }
    Ok(chain)
}

/// Filters that grow.
#[derive(Default)]
struct Chain(Vec<Filter>);

struct Filter {
    bits: BloomFilter,
    /// How many keys more it takes.
    room: usize,
}

impl Chain {
    fn may_hold(&self, Key(_, low): Key) -> bool {
        self.0.iter().any(|filter| filter.bits.contains(&low))
    }

    /// Half of a key tells it from nearly all others.
    fn hold(&mut self, Key(_, low): Key) {
        if self.0.last().is_none_or(|filter| filter.room == 0) {
            self.grow(FIRST_ROOM << self.0.len().min(16));
        }
        if let Some(filter) = self.0.last_mut() {
            filter.room = filter.room.saturating_sub(1);
            filter.bits.insert(&low);
        }
    }

    fn grow(&mut self, room: usize) {
        let bits = BloomFilter::with_num_bits(room.saturating_mul(BITS_EACH)).seed(&0).hashes(HASHES);
        self.0.push(Filter { bits, room });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::index::runs::{Runs, tables};

    const COUNT: i64 = 50_000;

    fn key(number: i64) -> Key {
        // As far apart as those of digests.
        let spread = |factor: i64| (number + 1).wrapping_mul(factor);
        Key(spread(0x1e37_79b9_7f4a_7c15), spread(0x5851_f42d_4c95_7f2d))
    }

    /// Has the index hold keys of numbers, as another run.
    fn put(connection: &Connection, numbers: std::ops::Range<i64>) {
        let transaction = connection.unchecked_transaction().unwrap();
        let runs = Runs::open(&transaction, "ids").unwrap();
        let mut keys: Vec<_> = numbers.map(|number| (key(number), 1)).collect();
        keys.sort_unstable_by_key(|(key, _)| key.bits());
        runs.write(&transaction, &keys, keys.len()).unwrap();
        runs.finish(&transaction, keys.len() as u64, 1).unwrap();
        transaction.commit().unwrap();
    }

    /// Waits until the index is read.
    fn read(filters: &mut Filters) {
        while filters.reading.is_some() {
            assert!(filters.may_hold(key(0)) || filters.before.is_some());
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_filter_of_an_index_on_disk_knows_every_key_and_few_others() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("database")).unwrap();
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        connection.execute_batch(&tables("ids")).unwrap();
        put(&connection, 0..1_000);
        put(&connection, 1_000..COUNT);
        let mut filters = Filters::open(&connection, "ids").unwrap();
        // Until it is read nothing is said not to be there, and what comes meanwhile is known.
        put(&connection, COUNT..COUNT + 1);
        filters.hold(key(COUNT));
        read(&mut filters);
        let mut held =
            |numbers: std::ops::Range<i64>| numbers.filter(|number| filters.may_hold(key(*number))).count();
        let all = usize::try_from(COUNT + 1).unwrap();
        assert_eq!(held(0..COUNT + 1), all);
        assert!(held(2 * COUNT..3 * COUNT) < all / 100);

        // Read anew it has let go of what the index has, and of nothing else.
        let runs = Runs::open(&connection, "ids").unwrap();
        let oldest = runs.oldest().unwrap();
        runs.delete(&connection, oldest, oldest.parts()).unwrap();
        filters.renew();
        read(&mut filters);
        let mut held =
            |numbers: std::ops::Range<i64>| numbers.filter(|number| filters.may_hold(key(*number))).count();
        assert_eq!(held(1_000..COUNT + 1), all - 1_000);
        assert!(held(0..1_000) < 20);
    }
}
