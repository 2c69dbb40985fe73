//! The database's form: its tables, its version, and the counters that are kept beside the rows so that nothing has to
//! be counted.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use super::folder::unusable;
use super::{batch, ids, index, records};
use crate::store::tail::Counters;
use crate::store::{RECORDS, StoreError};

/// What tells our databases from other programs': "post".
const APPLICATION_ID: i32 = 0x706f_7374;
/// The form that this version writes, kept as `user_version`.
const FORMAT: i32 = 6;
/// A database up to this size is checked page by page when it is opened: it takes less than a second. Damage in a
/// larger one shows when it is read.
const CHECKED_BYTES: u64 = 64 * 1024 * 1024;

/// The write-ahead log is synced at each commit: what is answered is on disk. It is cut back to the limit after a burst.
/// The timeout is for a backup that reads the database from outside.
const PRAGMAS: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA busy_timeout = 5000;
    PRAGMA temp_store = MEMORY;
";

/// What the writer holds of the database at most, in KiB (as a negative number): most of the index by ids of a log of
/// some hundred thousand events.
const WRITER_CACHE: &str = "PRAGMA cache_size = -16384;";

const TABLES: &str = "
    CREATE TABLE counters (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        last INTEGER NOT NULL,
        recorded INTEGER NOT NULL,
        trimmed INTEGER,
        bytes INTEGER NOT NULL,
        first INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE entries (
        key TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// What every earlier form loses: its indexes, which are made anew.
const INDEXES: &str = "
    DROP INDEX IF EXISTS events_recorded;
    DROP TABLE IF EXISTS ids;
    DROP TABLE IF EXISTS ids_progress;
    DROP TABLE IF EXISTS record_keys;
    DROP TABLE IF EXISTS record_keys_progress;
";
/// Where a database of form 1 to 3 is brought to form 4: what was there makes way.
const BEFORE: &str = "
    ALTER TABLE events RENAME TO events_before;
    ALTER TABLE counters ADD COLUMN first INTEGER NOT NULL DEFAULT 1;
    UPDATE counters SET first = coalesce((SELECT min(sequence) FROM events_before), last + 1);
";
/// And what it held is in its new place.
const AFTER: &str = "DROP TABLE events_before;";

/// Opens the database for writing, makes it where it is empty, and reads its counters. One that was made before is not
/// made again.
pub(super) fn open(path: &Path, made: bool) -> Result<(Connection, Counters), StoreError> {
    let wrong = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => unusable(
            path,
            format!("it is damaged: {error}: expected a database of Postern's, restore it from a backup"),
        ),
        _ => unusable(path, format!("it cannot be opened: {error}")),
    };
    if made && std::fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        // Before SQLite, which drops the write-ahead log of an empty database: something may be saved from it.
        return Err(emptied(path));
    }
    // Pages at the end may be there in part while the write-ahead log still holds them.
    let is_whole = !has_log(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
    let journal: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(wrong)?;
    if journal != "wal" {
        return Err(unusable(path, "its file system cannot share memory: expected a local disk"));
    }
    connection.execute_batch(PRAGMAS).map_err(wrong)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.execute_batch(WRITER_CACHE).map_err(wrong)?;
    if table_count(&connection).map_err(wrong)? == 0 {
        if made {
            return Err(emptied(path));
        }
        create(&mut connection).map_err(wrong)?;
    }
    if is_whole && is_cut_off(&connection, path).map_err(wrong)? {
        return Err(unusable(path, "it is damaged: it ends within a page: restore it from a backup"));
    }
    check(&connection, path, wrong)?;
    upgrade(&mut connection).map_err(wrong)?;
    let counters = read_counters(&connection).map_err(wrong)?;
    let counters = counters.ok_or_else(|| unusable(path, "it is damaged: its counters are gone"))?;
    Ok((connection, counters))
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Whether the file ends within a page. SQLite reads what is missing as zeros, and takes it for content.
fn is_cut_off(connection: &Connection, path: &Path) -> rusqlite::Result<bool> {
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(std::fs::metadata(path).is_ok_and(|file| !file.len().is_multiple_of(page.cast_unsigned().max(1))))
}

fn emptied(path: &Path) -> StoreError {
    let expected = "restore it from a backup, or remove the file lock beside it to begin anew with nothing";
    unusable(path, format!("it is empty, and was not: {expected}"))
}

/// Opens the database for reading.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch("PRAGMA busy_timeout = 5000;")?;
    Ok(connection)
}

/// Opens the database beside the writer, to move its write-ahead log.
pub(super) fn open_beside(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch(PRAGMAS)?;
    Ok(connection)
}

fn table_count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for tables in [TABLES, batch::TABLE, records::TABLE] {
        transaction.execute_batch(tables)?;
    }
    create_indexes(&transaction)?;
    transaction.execute(
        "INSERT INTO counters (one, epoch, revision, last, recorded, bytes, first)
         VALUES (1, ?1, 0, 0, 0, 0, 1)",
        [fastrand::u64(..).cast_signed()],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

fn create_indexes(connection: &Connection) -> rusqlite::Result<()> {
    [ids::TABLE, records::INDEX].iter().try_for_each(|table| connection.execute_batch(&index::tables(table)))
}

/// Brings a database of an earlier version to the present form: all or nothing, and in seconds for each gigabyte. Before
/// form 4 each event had a row of its own; before form 5 records lay among the other values; before form 6 each key of an
/// index had a row of its own.
fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    let format: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if format == FORMAT {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(INDEXES)?;
    create_indexes(&transaction)?;
    if format < 4 {
        transaction.execute_batch(BEFORE)?;
        transaction.execute_batch(batch::TABLE)?;
        batch::fill(&transaction, "events_before")?;
        transaction.execute_batch(AFTER)?;
    }
    if format < 5 {
        transaction.execute_batch(records::TABLE)?;
        records::fill(&transaction, RECORDS)?;
    }
    ids::fill(&transaction)?;
    records::fill_index(&transaction)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

fn check(
    connection: &Connection,
    path: &Path,
    wrong: impl Fn(rusqlite::Error) -> StoreError,
) -> Result<(), StoreError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    if pragma("application_id").map_err(&wrong)? != APPLICATION_ID {
        return Err(unusable(path, "it is another program's database: expected one of Postern's"));
    }
    let format = pragma("user_version").map_err(&wrong)?;
    if format > FORMAT {
        let problem = format!("a newer version made it: its form is {format}, expected at most {FORMAT}");
        return Err(unusable(path, problem));
    }
    if std::fs::metadata(path).is_ok_and(|file| file.len() > CHECKED_BYTES) {
        return Ok(());
    }
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(&wrong)?;
    if verdict != "ok" {
        return Err(unusable(path, format!("it is damaged: {verdict}: restore it from a backup")));
    }
    Ok(())
}

fn read_counters(connection: &Connection) -> rusqlite::Result<Option<Counters>> {
    let sql = "SELECT epoch, revision, last, recorded, trimmed, bytes, first FROM counters";
    connection
        .query_row(sql, [], |row| {
            let count = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
            Ok(Counters {
                epoch: count(0)?,
                revision: count(1)?,
                last: count(2)?,
                recorded: row.get(3)?,
                trimmed: row.get(4)?,
                bytes: count(5)?,
                first: count(6)?,
            })
        })
        .optional()
}

/// Writes the counters, in the transaction that changed what they count.
pub(super) fn write_counters(connection: &Connection, counters: &Counters) -> rusqlite::Result<()> {
    let sql = "UPDATE counters
               SET revision = ?1, last = ?2, recorded = ?3, trimmed = ?4, bytes = ?5, first = ?6";
    connection.prepare_cached(sql)?.execute(params![
        counters.revision.cast_signed(),
        counters.last.cast_signed(),
        counters.recorded,
        counters.trimmed,
        counters.bytes.cast_signed(),
        counters.first.cast_signed(),
    ])?;
    Ok(())
}
