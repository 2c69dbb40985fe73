//! The questions put to the database by readers. Each sees one commit, whole.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::batch::Stretch;
use crate::store::tail::Budget;
use crate::store::{Entry, Sequence, StoredEvent};

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

/// The events after a place and up to the last durable one, of those that the log keeps.
pub(super) fn events(
    connection: &Connection,
    after: Sequence,
    kept: RangeInclusive<Sequence>,
    events: usize,
    bytes: usize,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let (begin, last) = ((after + 1).max(*kept.start()), *kept.end());
    let sql = format!(
        "SELECT {} FROM events WHERE {} AND sequence <= ?2 ORDER BY sequence",
        Stretch::COLUMNS,
        Stretch::FROM
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![begin.cast_signed(), last.cast_signed()])?;
    let mut budget = Budget::new(bytes);
    let mut found: Vec<StoredEvent> = Vec::new();
    while let Some(row) = rows.next()? {
        for event in Stretch::read(row)?.events().skip_while(|event| event.sequence < begin) {
            if event.sequence > last || found.len() == events.max(1) || !budget.takes(event.encoded.len()) {
                return Ok(found);
            }
            found.push(event);
        }
    }
    Ok(found)
}

/// The place before the first event recorded at or after a time; the last place where there is none. Times never go back
/// from one event to the next, so that halving finds it, and no index has to be kept.
pub(super) fn place_at(
    connection: &Connection,
    time: SystemTime,
    kept: RangeInclusive<Sequence>,
) -> rusqlite::Result<Sequence> {
    // Recorded times are whole milliseconds: one that is at or after the time is so after rounding the time up.
    let age = time.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_nanos(999_999);
    let wanted = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    // The row that holds a place, with what retention has not passed of it.
    let sql =
        "SELECT sequence, count, recorded FROM events WHERE sequence <= ?1 ORDER BY sequence DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    // The place is one of these or between them.
    let (mut low, mut high) = ((*kept.start() - 1).min(*kept.end()), *kept.end());
    while low < high {
        let middle = low + (high - low) / 2 + 1;
        let row = statement
            .query_row([middle.cast_signed()], |row| {
                let place = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
                Ok((place(0)?, place(1)?, row.get::<_, i64>(2)?))
            })
            .optional()?;
        match row {
            Some((first, _, recorded)) if recorded >= wanted => high = (first - 1).max(low),
            // Everything up to its end is too old; or has gone meanwhile.
            Some((first, count, _)) => low = (first + count - 1).clamp(middle, high),
            None => low = middle,
        }
    }
    Ok(low)
}
