//! Records: values that are written once or twice, hardly ever read, and forgotten together with those of their time. Those
//! that became durable together share a row, and rows follow each other: where each value would have a place of its own in
//! a table by key, it would have a page of its own written at each commit. An index tells which row has a key's last value.

use bytes::Bytes;
use prost::Message;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::index::{self, Index, Key, Take};
use crate::store::{Entry, Expect, Revision};

/// The index's table.
pub(super) const INDEX: &str = "record_keys";
/// Rows of records by the revision of their first one; `batch`: an encoded [`Batch`].
pub(super) const TABLE: &str = "
    CREATE TABLE records (
        revision INTEGER PRIMARY KEY,
        batch BLOB NOT NULL
    ) STRICT;
";
/// A row takes no further record once its values have so many bytes: whoever wants one of them reads the row.
const ROW_BYTES: usize = 32 * 1024;
/// How many rows are forgotten in one commit at most: others get their turn in between.
const FORGOTTEN_ROWS: usize = 64;
/// Of how many records that were forgotten at once the index is swept at most: more are hardly ever in so many rows.
const SWEPT_RECORDS: u64 = 16 * 1024;

/// Records in the order of their writing.
#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    records: Vec<Kept>,
}

#[derive(Clone, PartialEq, Message)]
struct Kept {
    /// How far its revision is from that of the row's first one.
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(string, tag = "2")]
    key: String,
    /// Absent: it was deleted.
    #[prost(bytes = "bytes", optional, tag = "3")]
    value: Option<Bytes>,
}

/// What the index knows of a key: the revision of its last write, and whether that deleted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(u64);

impl Mark {
    fn of(revision: Revision, is_deleted: bool) -> Self {
        Self(revision << 1 | u64::from(is_deleted))
    }

    /// The revision, where there is a value.
    fn revision(self) -> Option<Revision> {
        (self.0 & 1 == 0).then_some(self.0 >> 1)
    }
}

/// The records. What changes within a transaction counts once [`Records::keep`] says that it is durable.
pub(super) struct Records {
    index: Index,
    /// All before this revision are forgotten.
    first: Revision,
    durable_first: Revision,
    /// The row that is being filled, and the revision of its first record.
    filling: Batch,
    filling_first: Revision,
    filling_bytes: usize,
}

impl Records {
    /// Opens the records of a store, of which `last` is the last revision.
    pub(super) fn open(connection: &Connection, last: Revision) -> rusqlite::Result<Self> {
        let index = Index::open(connection, INDEX, read)?;
        let first = first_row(connection)?.unwrap_or(last + 1);
        let (filling, filling_first, filling_bytes) = (Batch::default(), 0, 0);
        Ok(Self { index, first, durable_first: first, filling, filling_first, filling_bytes })
    }

    /// Whether what is expected of a key holds.
    pub(super) fn holds(
        &mut self,
        connection: &Connection,
        key: &str,
        expect: Expect,
    ) -> rusqlite::Result<bool> {
        Ok(expect.holds(self.revision(connection, key)?))
    }

    fn revision(&mut self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Revision>> {
        let Mark(first) = Mark::of(self.first, false);
        let mark = self.index.get(connection, Key::of(key), first)?;
        Ok(mark.and_then(|mark| Mark(mark).revision()))
    }

    /// Writes a record, or deletes it.
    pub(super) fn put(
        &mut self,
        connection: &Connection,
        key: &str,
        value: Option<&Bytes>,
        revision: Revision,
    ) -> rusqlite::Result<()> {
        let bytes = value.map_or(0, Bytes::len);
        if self.filling_bytes + bytes > ROW_BYTES {
            self.write(connection)?;
        }
        if self.filling.records.is_empty() {
            self.filling_first = revision;
        }
        self.filling_bytes += bytes;
        let offset = revision - self.filling_first;
        self.filling.records.push(Kept { offset, key: key.to_owned(), value: value.cloned() });
        let Mark(mark) = Mark::of(revision, value.is_none());
        self.index.set(Key::of(key), mark);
        Ok(())
    }

    /// Writes what has no row yet, before the transaction commits. Gives about how many pages that were.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<usize> {
        let batch = std::mem::take(&mut self.filling);
        self.filling_bytes = 0;
        if batch.records.is_empty() {
            return Ok(0);
        }
        let encoded = batch.encode_to_vec();
        let sql = "INSERT INTO records (revision, batch) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute(params![self.filling_first.cast_signed(), encoded])?;
        Ok(1 + encoded.len() / 4_000)
    }

    /// Moves some of what is new into the index. Gives about how many pages that takes.
    pub(super) fn move_some(&mut self, connection: &Connection) -> rusqlite::Result<usize> {
        self.index.move_some(connection)
    }

    /// The record of a key.
    pub(super) fn get(&mut self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Entry>> {
        self.write(connection)?;
        let Some(revision) = self.revision(connection, key)? else { return Ok(None) };
        let mut found = None;
        each(connection, revision, |at, record| {
            if at == revision {
                found = entry(at, record);
            }
            at < revision
        })?;
        Ok(found)
    }

    /// Up to `limit` records, in the order of their last writes: those after a revision.
    pub(super) fn list(
        &mut self,
        connection: &Connection,
        after: Revision,
        limit: usize,
    ) -> rusqlite::Result<Vec<Entry>> {
        self.write(connection)?;
        let mut found = Vec::new();
        let mut failed = None;
        each(connection, after + 1, |revision, record| {
            if revision <= after {
                return true;
            }
            match self.revision(connection, &record.key) {
                // Otherwise it was written again, or deleted.
                Ok(last) if last == Some(revision) => found.extend(entry(revision, record)),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none() && found.len() < limit
        })?;
        failed.map_or(Ok(found), Err)
    }

    /// Forgets the rows whose records were all written before a revision, up to [`FORGOTTEN_ROWS`]. `last` is the last one
    /// given. Gives how many rows.
    pub(super) fn forget(
        &mut self,
        connection: &Connection,
        before: Revision,
        last: Revision,
    ) -> rusqlite::Result<u64> {
        self.write(connection)?;
        let sql = format!("SELECT revision FROM records ORDER BY revision LIMIT {FORGOTTEN_ROWS}");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], |row| row.get::<_, i64>(0))?;
        let mut ends: Vec<_> =
            rows.map(|row| row.map(i64::cast_unsigned)).collect::<rusqlite::Result<_>>()?;
        // Each row ends where the next one begins.
        if ends.len() < FORGOTTEN_ROWS {
            ends.push(last + 1);
        }
        ends.remove(0);
        let count = ends.partition_point(|end| *end <= before);
        let Some(first) = ends[..count].last() else { return Ok(0) };
        connection
            .prepare_cached("DELETE FROM records WHERE revision < ?1")?
            .execute([first.cast_signed()])?;
        let removed = first.saturating_sub(self.first).min(SWEPT_RECORDS);
        self.first = *first;
        let Mark(first) = Mark::of(self.first, false);
        self.index.sweep(connection, first, removed)?;
        Ok(count as u64)
    }

    /// The transaction is durable.
    pub(super) fn keep(&mut self) {
        self.durable_first = self.first;
        self.index.keep();
    }

    /// The transaction was undone.
    pub(super) fn undo(&mut self) {
        (self.filling, self.filling_bytes) = (Batch::default(), 0);
        self.first = self.durable_first;
        self.index.undo();
    }
}

/// Calls with each record of the row that holds a revision and of those after it, for as long as it says true.
fn each(
    connection: &Connection,
    from: Revision,
    mut call: impl FnMut(Revision, Kept) -> bool,
) -> rusqlite::Result<()> {
    let sql = "SELECT revision, batch FROM records
               WHERE revision >= coalesce((SELECT max(revision) FROM records WHERE revision <= ?1), ?1)
               ORDER BY revision";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([from.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let first = row.get::<_, i64>(0)?.cast_unsigned();
        let batch = Batch::decode(row.get_ref(1)?.as_blob()?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, error.into())
        })?;
        for record in batch.records {
            if !call(first + record.offset, record) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads the keys of what was written after a mark.
fn read(connection: &Connection, up_to: u64, take: &mut Take<'_>) -> rusqlite::Result<()> {
    let mut done = Ok(());
    each(connection, up_to >> 1, |revision, record| {
        let Mark(mark) = Mark::of(revision, record.value.is_none());
        if mark > up_to {
            done = take(Key::of(&record.key), mark);
        }
        done.is_ok()
    })?;
    done
}

/// Fills the index, which is empty.
pub(super) fn fill_index(connection: &Connection) -> rusqlite::Result<()> {
    index::fill(connection, INDEX, read)
}

fn first_row(connection: &Connection) -> rusqlite::Result<Option<Revision>> {
    let sql = "SELECT revision FROM records ORDER BY revision LIMIT 1";
    let first: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(first.map(i64::cast_unsigned))
}

fn entry(revision: Revision, Kept { key, value, .. }: Kept) -> Option<Entry> {
    Some(Entry { key, value: value?, revision })
}

/// Moves the records that lie among the other values to where they belong.
pub(super) fn fill(connection: &Connection, prefix: &str) -> rusqlite::Result<()> {
    let mut records = Records::open(connection, 0)?;
    let below = "key >= ?1 AND key < ?1 || char(1114111)";
    let mut select = connection
        .prepare(&format!("SELECT key, revision, value FROM entries WHERE {below} ORDER BY revision"))?;
    let mut rows = select.query([prefix])?;
    while let Some(row) = rows.next()? {
        let value = Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?);
        records.put(
            connection,
            row.get_ref(0)?.as_str()?,
            Some(&value),
            row.get::<_, i64>(1)?.cast_unsigned(),
        )?;
    }
    records.write(connection)?;
    connection.execute(&format!("DELETE FROM entries WHERE {below}"), [prefix])?;
    Ok(())
}

#[cfg(test)]
mod tests;
