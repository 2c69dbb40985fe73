//! How events lie in the database: those that became durable together share a row. A row costs several times what an event
//! in it does, to write and to read.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rusqlite::{Connection, Row, params};

use super::index::Key;
use crate::events::cursor;
use crate::store::{Sequence, StoredEvent};

/// A row takes no further event once its events have so many bytes: whoever wants one of them reads the row.
const ROW_BYTES: usize = 32 * 1024;

/// Rows of events by the place of their first one. `count`: how many there are, of which retention may have passed some;
/// `recorded`: when they became durable, in milliseconds since 1970; `batch`: an encoded [`Batch`].
pub(super) const TABLE: &str = "
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        recorded INTEGER NOT NULL,
        batch BLOB NOT NULL
    ) STRICT;
";

/// The events of a row, one after the other in the log.
#[derive(Clone, PartialEq, Message)]
struct Batch {
    /// Their sources and types, each once.
    #[prost(string, repeated, tag = "1")]
    texts: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    events: Vec<Kept>,
}

/// An event of a row.
#[derive(Clone, PartialEq, Message)]
struct Kept {
    /// Its source, by its number among the texts.
    #[prost(uint32, tag = "1")]
    source: u32,
    /// Its type, likewise.
    #[prost(uint32, tag = "2")]
    event_type: u32,
    /// What its cursor knows it by.
    #[prost(fixed32, tag = "3")]
    fingerprint: u32,
    /// What its id is known by.
    #[prost(sfixed64, tag = "4")]
    id_high: i64,
    #[prost(sfixed64, tag = "5")]
    id_low: i64,
    /// The whole encoded event.
    #[prost(bytes = "bytes", tag = "6")]
    encoded: Bytes,
}

/// A row as it is read.
pub(super) struct Stretch {
    /// The place of its first event.
    pub(super) first: Sequence,
    /// When its events became durable.
    pub(super) recorded: i64,
    batch: Batch,
}

impl Stretch {
    /// What to select for [`Stretch::read`].
    pub(super) const COLUMNS: &str = "sequence, recorded, batch";
    /// What selects the row that holds the place of the first parameter, and those after it.
    pub(super) const FROM: &str =
        "sequence >= coalesce((SELECT max(sequence) FROM events WHERE sequence <= ?1), ?1)";

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        // One buffer for all of them: they are read together and mostly let go of together.
        let batch = Batch::decode(Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?)).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Blob, error.into())
        })?;
        Ok(Self { first: row.get::<_, i64>(0)?.cast_unsigned(), recorded: row.get(1)?, batch })
    }

    /// The places of its events, with how long each is.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (Sequence, usize)> {
        (self.first..).zip(self.batch.events.iter().map(|event| event.encoded.len()))
    }

    /// What the ids of its events are known by, with their places.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Key, Sequence)> {
        self.batch.events.iter().map(|event| Key(event.id_high, event.id_low)).zip(self.first..)
    }

    /// Its events.
    pub(super) fn events(self) -> impl Iterator<Item = StoredEvent> {
        let Batch { texts, events } = self.batch;
        let texts: Vec<Arc<str>> = texts.into_iter().map(Arc::from).collect();
        let text = move |number: u32| {
            let text = usize::try_from(number).ok().and_then(|number| texts.get(number));
            text.cloned().unwrap_or_default()
        };
        (self.first..).zip(events).map(move |(sequence, event)| StoredEvent {
            sequence,
            fingerprint: event.fingerprint,
            source: text(event.source),
            event_type: text(event.event_type),
            encoded: event.encoded,
        })
    }
}

/// An event and its place.
pub(super) struct Placed<'a> {
    pub(super) sequence: Sequence,
    pub(super) recorded: i64,
    pub(super) source: &'a str,
    pub(super) event_type: &'a str,
    pub(super) key: Key,
    pub(super) fingerprint: u32,
    pub(super) encoded: Bytes,
}

/// The row that is being filled.
#[derive(Default)]
pub(super) struct Filling {
    batch: Batch,
    /// The place of its first event.
    first: Sequence,
    recorded: i64,
    bytes: usize,
}

impl Filling {
    /// Adds the event after the last one. Writes the row that was being filled where it takes no more.
    pub(super) fn add(&mut self, connection: &Connection, event: Placed<'_>) -> rusqlite::Result<()> {
        let Placed { sequence, recorded, source, event_type, key, fingerprint, encoded } = event;
        if self.bytes + encoded.len() > ROW_BYTES || self.recorded != recorded {
            self.write(connection)?;
        }
        if self.batch.events.is_empty() {
            (self.first, self.recorded) = (sequence, recorded);
        }
        self.bytes += encoded.len();
        let (source, event_type) = (self.text(source), self.text(event_type));
        let Key(id_high, id_low) = key;
        self.batch.events.push(Kept { source, event_type, fingerprint, id_high, id_low, encoded });
        Ok(())
    }

    fn text(&mut self, text: &str) -> u32 {
        let texts = &mut self.batch.texts;
        let number = texts.iter().position(|known| known == text).unwrap_or_else(|| {
            texts.push(text.to_owned());
            texts.len() - 1
        });
        // A row has few texts: each is of one of its events.
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// Writes what there is.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Self { batch, first, recorded, .. } = std::mem::take(self);
        let count = batch.events.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let sql = "INSERT INTO events (sequence, count, recorded, batch) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![
            first.cast_signed(),
            count.cast_signed(),
            recorded,
            batch.encode_to_vec(),
        ])?;
        Ok(())
    }
}

/// Fills the table from one that has each event in a row of its own.
pub(super) fn fill(connection: &Connection, events: &str) -> rusqlite::Result<()> {
    let sql = format!("SELECT sequence, id, source, type, recorded, encoded FROM {events} ORDER BY sequence");
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    let mut filling = Filling::default();
    while let Some(row) = rows.next()? {
        let (id, recorded) = (row.get_ref(1)?.as_str()?, row.get(4)?);
        let event = Placed {
            sequence: row.get::<_, i64>(0)?.cast_unsigned(),
            recorded,
            source: row.get_ref(2)?.as_str()?,
            event_type: row.get_ref(3)?.as_str()?,
            key: Key::of(id),
            fingerprint: cursor::fingerprint(id, recorded),
            encoded: Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?),
        };
        filling.add(connection, event)?;
    }
    filling.write(connection)
}
