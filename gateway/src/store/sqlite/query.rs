//! The questions put to the database by readers. Each sees one commit, whole.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::events::cursor;
use crate::store::tail::Budget;
use crate::store::{Entry, Sequence, StoredEvent};

/// How much room is made at once for what is read.
const READ_BYTES: usize = 64 * 1024;
/// Sorts after every key that begins as asked: keys hold ASCII only.
const AFTER_ALL: char = char::MAX;

pub(super) fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<Entry>> {
    let sql = "SELECT key, revision, value FROM entries WHERE key = ?1";
    connection.prepare_cached(sql)?.query_row([key], entry).optional()
}

pub(super) fn list(
    connection: &Connection,
    prefix: &str,
    after: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let (sql, from) = if after < prefix {
        (
            "SELECT key, revision, value FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3",
            prefix,
        )
    } else {
        ("SELECT key, revision, value FROM entries WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3", after)
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![from, format!("{prefix}{AFTER_ALL}"), limit], entry)?;
    rows.collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        key: row.get(0)?,
        revision: row.get::<_, i64>(1)?.cast_unsigned(),
        value: Bytes::from(row.get::<_, Vec<u8>>(2)?),
    })
}

/// The events after a place and up to the last durable one.
pub(super) fn events(
    connection: &Connection,
    after: Sequence,
    last: Sequence,
    events: usize,
    bytes: usize,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let sql = "SELECT sequence, source, type, encoded, id, recorded FROM events
               WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3";
    let limit = i64::try_from(events.max(1)).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![after.cast_signed(), last.cast_signed(), limit])?;
    let mut budget = Budget::new(bytes);
    let mut found: Vec<StoredEvent> = Vec::new();
    // One buffer for all of them: they are read together and let go of together.
    let mut buffer = BytesMut::new();
    while let Some(row) = rows.next()? {
        let encoded = row.get_ref(3)?.as_blob()?;
        if !budget.takes(encoded.len()) {
            break;
        }
        if buffer.capacity() < encoded.len() {
            buffer.reserve(encoded.len().max(bytes.min(READ_BYTES)));
        }
        buffer.extend_from_slice(encoded);
        let before = found.last();
        found.push(StoredEvent {
            sequence: row.get::<_, i64>(0)?.cast_unsigned(),
            fingerprint: cursor::fingerprint(row.get_ref(4)?.as_str()?, row.get(5)?),
            source: shared(row.get_ref(1)?.as_str()?, before.map(|before| &before.source)),
            event_type: shared(row.get_ref(2)?.as_str()?, before.map(|before| &before.event_type)),
            encoded: buffer.split().freeze(),
        });
    }
    Ok(found)
}

/// A text, shared with the event before where that has the same.
pub(super) fn shared(text: &str, before: Option<&Arc<str>>) -> Arc<str> {
    before.filter(|before| ***before == *text).map_or_else(|| Arc::from(text), Arc::clone)
}

/// The place before the first event recorded at or after a time; the last place where there is none. Times never go back
/// from one event to the next, so that halving finds it, and no index has to be kept.
pub(super) fn place_at(
    connection: &Connection,
    time: SystemTime,
    last: Sequence,
) -> rusqlite::Result<Sequence> {
    // Recorded times are whole milliseconds: one that is at or after the time is so after rounding the time up.
    let age = time.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_nanos(999_999);
    let wanted = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    let first: Option<i64> =
        connection.prepare_cached("SELECT min(sequence) FROM events")?.query_row([], |row| row.get(0))?;
    let sql = "SELECT sequence, recorded FROM events WHERE sequence >= ?1 ORDER BY sequence LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    // The place is one of these or between them.
    let (mut low, mut high) = (first.map_or(last, |first| first.cast_unsigned() - 1).min(last), last);
    while low < high {
        let middle = low + (high - low) / 2;
        let next = statement
            .query_row([(middle + 1).cast_signed()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        match next {
            // Everything up to it is too old.
            Some((sequence, recorded)) if recorded < wanted => low = sequence.cast_unsigned().min(high),
            _ => high = middle,
        }
    }
    Ok(low)
}
