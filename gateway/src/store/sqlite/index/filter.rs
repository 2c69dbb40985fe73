//! Filters before an index: they tell, from memory, of most keys that it does not hold. A key that is asked for is nearly
//! always new, and to look for it in the index costs as much as to keep it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use fastbloom::BloomFilter;
use rusqlite::Connection;

use super::Key;
use crate::store::sqlite::schema;

/// Bits for each key and how many of them are set: of a hundred keys that the index does not hold, one is looked for.
const BITS_EACH: usize = 10;
const HASHES: u32 = 6;
/// How many keys the first filter of several has room for, each after it for twice as many as the one before.
const FIRST_ROOM: usize = 64 * 1024;
/// How many keys are read from the index at a time: nobody who writes waits for it.
const PAGE: usize = 16 * 1024;

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
            match schema::open_reader(path.as_ref()).and_then(|connection| keys(&connection, table, &stopped))
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

/// Reads all keys of an index, a page at a time, so that no long reader keeps the write-ahead log from beginning anew.
fn keys(connection: &Connection, table: &str, stop: &AtomicBool) -> rusqlite::Result<Chain> {
    let count: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    let mut chain = Chain::default();
    chain.grow(usize::try_from(count).unwrap_or(0).max(FIRST_ROOM));
    let mut select = connection
        .prepare(&format!("SELECT high, low FROM {table} WHERE high >= ?1 ORDER BY high LIMIT {PAGE}"))?;
    let mut from = i64::MIN;
    while !stop.load(Ordering::Relaxed) {
        let mut read = 0;
        let mut rows = select.query([from])?;
        let mut last = from;
        while let Some(row) = rows.next()? {
            let (high, low) = (row.get(0)?, row.get(1)?);
            chain.hold(Key(high, low));
            (last, read) = (high, read + 1);
        }
        match last.checked_add(1) {
            Some(next) if read == PAGE => from = next,
            _ => break,
        }
    }
    Ok(chain)
}

/// Filters that grow. They know a key by its low half: it stands at another high half where its own was taken.
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
    use crate::store::sqlite::index::tables;

    const COUNT: i64 = 50_000;

    fn key(number: i64) -> Key {
        // As far apart as those of digests.
        let spread = |factor: i64| (number + 1).wrapping_mul(factor);
        Key(spread(0x1e37_79b9_7f4a_7c15), spread(0x5851_f42d_4c95_7f2d))
    }

    fn put(connection: &Connection, numbers: std::ops::Range<i64>) {
        let transaction = connection.unchecked_transaction().unwrap();
        let mut insert = transaction.prepare("INSERT INTO ids VALUES (?1, ?2, 1)").unwrap();
        for Key(high, low) in numbers.map(key) {
            insert.execute([high, low]).unwrap();
        }
        drop(insert);
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
        put(&connection, 0..COUNT);
        let mut filters = Filters::open(&connection, "ids").unwrap();
        // Until it is read nothing is said not to be there, and what comes meanwhile is known.
        put(&connection, COUNT..COUNT + 1);
        filters.hold(key(COUNT));
        read(&mut filters);
        let mut held =
            |numbers: std::ops::Range<i64>| numbers.filter(|number| filters.may_hold(key(*number))).count();
        let all = usize::try_from(COUNT + 1).unwrap();
        assert_eq!(held(0..COUNT + 1), all);
        assert!(held(2 * COUNT..3 * COUNT) < all / 20);

        // Read anew it has let go of what the index has, and of nothing else.
        let mut delete = connection.prepare("DELETE FROM ids WHERE high = ?1").unwrap();
        assert!((0..1_000).all(|number| delete.execute([key(number).0]).unwrap() == 1));
        filters.renew();
        read(&mut filters);
        let mut held =
            |numbers: std::ops::Range<i64>| numbers.filter(|number| filters.may_hold(key(*number))).count();
        assert_eq!(held(1_000..COUNT + 1), all - 1_000);
        assert!(held(0..1_000) < 50);
    }
}
