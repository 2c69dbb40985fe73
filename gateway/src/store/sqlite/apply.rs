//! What the writer does with each request inside a transaction. Expectations are checked before anything is written, so
//! that a request is applied whole or not at all, and a refusal needs no undoing.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::batch::{Filling, Placed, Stretch};
use super::index::{Index, Key};
use super::records::Records;
use super::writer::{Done, TRIM_EVENTS};
use crate::events::cursor::{self, Cursor};
use crate::events::record;
use crate::store::tail::{Counters, milliseconds, time_of};
use crate::store::{
    Appended, Change, Commit, Entry, Expect, NewEvent, RECORDS, Retention, Revision, StoreError, StoredEvent,
    Write, is_watched,
};

/// What became of one request, told once the transaction is durable.
pub(super) enum Outcome {
    Done(Done),
    Removed(u64),
    Found(Found),
    Refused(StoreError),
}

/// Records that were found.
pub(super) struct Found {
    pub(super) records: Vec<Entry>,
    /// All that were written up to this revision were looked at.
    pub(super) up_to: Revision,
}

/// What the transaction will have done once it commits.
pub(super) struct Pending {
    pub(super) counters: Counters,
    pub(super) events: Vec<StoredEvent>,
    pub(super) changes: Vec<Change>,
    /// The last of the events, which have no row yet.
    filling: Filling,
    /// About how many pages it adds to the write-ahead log.
    pub(super) pages: usize,
    /// The time of what is done: no earlier than that of anything before.
    now: i64,
    /// The machine's time. What is too old is told by this one: after events that were recorded by a clock that had gone
    /// ahead, all before them would seem old.
    clock: i64,
}

impl Pending {
    pub(super) fn new(counters: Counters) -> Self {
        let (events, changes, filling) = (Vec::new(), Vec::new(), Filling::default());
        Self { counters, events, changes, filling, pages: 0, now: 0, clock: 0 }
    }

    /// Has what is done next be of now: of no earlier than it was asked for. Comes before each request.
    pub(super) fn look_at_clock(&mut self) {
        self.clock = milliseconds(SystemTime::now());
        self.now = self.clock.max(self.counters.recorded);
    }

    /// Writes what has no row yet.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.filling.write(connection)
    }
}

/// Appends events and makes writes, where what is expected holds.
pub(super) fn commit(
    connection: &Connection,
    pending: &mut Pending,
    ids: &mut Index,
    records: &mut Records,
    Commit { events, writes, guards }: &Commit,
) -> rusqlite::Result<Outcome> {
    let writes_expect = writes.iter().map(|write| (&write.key, write.expect));
    let guards_expect = guards.iter().map(|guard| (&guard.key, Expect::Revision(guard.revision)));
    for (key, expect) in writes_expect.chain(guards_expect) {
        let holds = if key.starts_with(RECORDS) {
            records.holds(connection, key, expect)?
        } else {
            holds(connection, key, expect)?
        };
        if !holds {
            return Ok(Outcome::Refused(StoreError::Conflict { key: key.clone() }));
        }
    }
    let mut stored = 0;
    for event in events {
        stored += usize::from(append_event(connection, pending, ids, event)?);
    }
    for write in writes {
        if write.key.starts_with(RECORDS) {
            pending.counters.revision += 1;
            records.put(connection, &write.key, write.value.as_ref(), pending.counters.revision)?;
        } else {
            put(connection, pending, write)?;
        }
    }
    let appended = Appended { stored, last: pending.counters.last };
    Ok(Outcome::Done(Done { appended, revision: pending.counters.revision }))
}

/// Appends events that another log recorded.
pub(super) fn restore(
    connection: &Connection,
    pending: &mut Pending,
    ids: &mut Index,
    events: &[(NewEvent, i64)],
) -> rusqlite::Result<Outcome> {
    let mut stored = 0;
    for (event, recorded) in events {
        pending.now = pending.counters.recorded.max(*recorded);
        stored += usize::from(append_event(connection, pending, ids, event)?);
    }
    let appended = Appended { stored, last: pending.counters.last };
    Ok(Outcome::Done(Done { appended, revision: pending.counters.revision }))
}

fn holds(connection: &Connection, key: &str, expect: Expect) -> rusqlite::Result<bool> {
    if expect == Expect::Any {
        return Ok(true);
    }
    let mut statement = connection.prepare_cached("SELECT revision FROM entries WHERE key = ?1")?;
    let revision: Option<i64> = statement.query_row([key], |row| row.get(0)).optional()?;
    Ok(expect.holds(revision.map(i64::cast_unsigned)))
}

/// Appends one event, unless its id is kept already.
fn append_event(
    connection: &Connection,
    pending: &mut Pending,
    ids: &mut Index,
    event: &NewEvent,
) -> rusqlite::Result<bool> {
    let (sequence, key) = (pending.counters.last + 1, Key::of(&event.id));
    if ids.get(connection, key, pending.counters.first)?.is_some() {
        return Ok(false);
    }
    ids.set(key, sequence);
    let fingerprint = cursor::fingerprint(&event.id, pending.now);
    let cursor = Cursor { epoch: pending.counters.epoch, sequence, fingerprint };
    let encoded = record::complete(&event.encoded, cursor, time_of(pending.now));
    pending.counters.last = sequence;
    pending.counters.recorded = pending.now;
    pending.counters.bytes += encoded.len() as u64;
    let placed = Placed {
        sequence,
        recorded: pending.now,
        source: &event.source,
        event_type: &event.event_type,
        key,
        fingerprint,
        encoded: encoded.clone(),
    };
    pending.filling.add(connection, placed)?;
    let before = pending.events.last();
    let source = shared(&event.source, before.map(|before| &before.source));
    let event_type = shared(&event.event_type, before.map(|before| &before.event_type));
    pending.events.push(StoredEvent { sequence, fingerprint, source, event_type, encoded });
    Ok(true)
}

/// A text, shared with the event before where that has the same.
fn shared(text: &str, before: Option<&Arc<str>>) -> Arc<str> {
    before.filter(|before| ***before == *text).map_or_else(|| Arc::from(text), Arc::clone)
}

fn put(connection: &Connection, pending: &mut Pending, write: &Write) -> rusqlite::Result<()> {
    pending.counters.revision += 1;
    // Each lies anywhere in the table.
    pending.pages += 1;
    let revision = pending.counters.revision;
    let key = write.key.clone();
    let Some(value) = &write.value else {
        let sql = "DELETE FROM entries WHERE key = ?1";
        if connection.prepare_cached(sql)?.execute([&key])? > 0 && is_watched(&key) {
            pending.changes.push(Change { key, value: None });
        }
        return Ok(());
    };
    let sql = "INSERT INTO entries (key, revision, value) VALUES (?1, ?2, ?3)
               ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value";
    connection.prepare_cached(sql)?.execute(params![key, revision.cast_signed(), &**value])?;
    if is_watched(&key) {
        let entry = Entry { key: key.clone(), value: value.clone(), revision };
        pending.changes.push(Change { key, value: Some(entry) });
    }
    Ok(())
}

/// Removes the oldest events that are too old or too much, up to [`TRIM_EVENTS`].
pub(super) fn trim(
    connection: &Connection,
    pending: &mut Pending,
    ids: &mut Index,
    retention: Retention,
) -> rusqlite::Result<Outcome> {
    pending.write(connection)?;
    let age = i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX);
    let oldest = pending.clock.saturating_sub(age);
    let sql = format!("SELECT {} FROM events ORDER BY sequence", Stretch::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut counters = pending.counters;
    let most = counters.first + TRIM_EVENTS as u64;
    'rows: while let Some(row) = rows.next()? {
        let stretch = Stretch::read(row)?;
        for (sequence, bytes) in stretch.lengths().filter(|(sequence, _)| *sequence >= pending.counters.first)
        {
            let is_kept = stretch.recorded >= oldest && counters.bytes <= retention.bytes;
            if is_kept || sequence == most {
                break 'rows;
            }
            counters.first = sequence + 1;
            counters.trimmed = Some(stretch.recorded);
            counters.bytes = counters.bytes.saturating_sub(bytes as u64);
        }
    }
    drop(rows);
    let removed = counters.first - pending.counters.first;
    if removed > 0 {
        let first = counters.first.cast_signed();
        // A row stays until all of its events are passed.
        let sql = "DELETE FROM events WHERE sequence < ?1 AND sequence + count <= ?1";
        connection.prepare_cached(sql)?.execute([first])?;
        pending.counters = counters;
        ids.sweep(connection, counters.first, removed)?;
    }
    Ok(Outcome::Removed(removed))
}
