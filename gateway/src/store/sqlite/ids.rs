//! Which ids the log keeps: an index of the places of their events.

use rusqlite::Connection;

use super::batch::Stretch;
use super::index::{self, Index, Key};
use crate::store::Sequence;

/// The index's table.
pub(super) const TABLE: &str = "ids";

/// Opens the index.
pub(super) fn open(connection: &Connection) -> rusqlite::Result<Index> {
    Index::open(connection, TABLE, |up_to| {
        let sql = format!("SELECT {} FROM events WHERE {}", Stretch::COLUMNS, Stretch::FROM);
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([(up_to + 1).cast_signed()])?;
        let mut recent = Vec::new();
        while let Some(row) = rows.next()? {
            let stretch = Stretch::read(row)?;
            recent.extend(stretch.keys().filter(|(_, sequence)| *sequence > up_to));
        }
        Ok(recent)
    })
}

/// Fills the index from a table that has each event in a row of its own.
pub(super) fn fill(connection: &Connection, events: &str) -> rusqlite::Result<()> {
    let mut select = connection.prepare(&format!("SELECT id, sequence FROM {events} ORDER BY id"))?;
    let rows = select.query_map([], |row| {
        let sequence: Sequence = row.get::<_, i64>(1)?.cast_unsigned();
        Ok((Key::of(row.get_ref(0)?.as_str()?), sequence))
    })?;
    index::fill(connection, TABLE, rows)
}
