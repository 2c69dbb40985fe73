//! Which ids the log keeps: an index of the places of their events.

use rusqlite::Connection;

use super::batch::Stretch;
use super::index::{self, Index, Take};

/// The index's table.
pub(super) const TABLE: &str = "ids";

/// Opens the index.
pub(super) fn open(connection: &Connection) -> rusqlite::Result<Index> {
    Index::open(connection, TABLE, read)
}

/// Fills the index, which is empty.
pub(super) fn fill(connection: &Connection) -> rusqlite::Result<()> {
    index::fill(connection, TABLE, read)
}

fn read(connection: &Connection, up_to: u64, take: &mut Take<'_>) -> rusqlite::Result<()> {
    let sql = format!("SELECT {} FROM events WHERE {}", Stretch::COLUMNS, Stretch::FROM);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([(up_to + 1).cast_signed()])?;
    while let Some(row) = rows.next()? {
        let stretch = Stretch::read(row)?;
        stretch.keys().filter(|(_, place)| *place > up_to).try_for_each(|(key, place)| take(key, place))?;
    }
    Ok(())
}
