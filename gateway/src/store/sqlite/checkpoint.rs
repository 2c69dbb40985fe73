//! Moves what was committed from the write-ahead log into the database, beside the writer, who would else stand still for
//! it. A log that is moved whole begins anew at its front; the writer moves the little that came meanwhile itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::schema;

/// How many pages the log grows by before it is moved: what is written often in between is moved once.
const PAGES: u64 = 4_096;
/// What the writer moves itself without being missed.
const FEW_PAGES: i64 = 256;
/// How often what came meanwhile is moved before the writer is asked for the rest.
const PASSES: usize = 4;

/// The thread that moves, and how much there is to move.
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    moved: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    grown: u64,
}

impl Checkpoints {
    /// Starts the thread. From now on the writer's own connection moves nothing by itself.
    pub(super) fn start(writer: &Connection, database: &Path) -> rusqlite::Result<Self> {
        let connection = schema::open_beside(database)?;
        writer.pragma_update(None, "wal_autocheckpoint", 0)?;
        let (wake, woken) = sync_channel(1);
        let moved = Arc::new(AtomicBool::new(false));
        let told = moved.clone();
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(&connection, &woken, &told))
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(Self { wake: Some(wake), moved, thread: Some(thread), grown: 0 })
    }

    /// A commit has added about so many pages to the log.
    pub(super) fn grown(&mut self, writer: &Connection, pages: u64) {
        if self.moved.swap(false, Ordering::AcqRel) {
            // What fails here is tried again with the next pages.
            let _ = pass(writer);
        }
        self.grown += pages;
        if self.grown >= PAGES {
            self.grown = 0;
            // Where it is at it still, it will look again.
            let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, woken: &Receiver<()>, moved: &AtomicBool) {
    while woken.recv().is_ok() {
        let mut known = 0;
        for _ in 0..PASSES {
            match pass(connection) {
                Ok(pages) if pages - known <= FEW_PAGES => break,
                Ok(pages) => known = pages,
                Err(error) => {
                    tracing::warn!(%error, "the write-ahead log was not moved into the database: it grows");
                    break;
                }
            }
        }
        moved.store(true, Ordering::Release);
    }
}

/// Moves what the log holds and nobody reads any more. Gives how many pages the log has.
fn pass(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}

#[cfg(test)]
mod tests {
    use crate::store::EventLog as _;
    use crate::store::sqlite::Sqlite;

    #[tokio::test]
    async fn the_write_ahead_log_begins_anew_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(folder.path()).unwrap();
        let text = "x".repeat(1_000);
        for round in 0..300 {
            let event = |number: usize| {
                let key = format!("{round} {number} {text}");
                crate::events::new_event(&text, "email.received", None, &key, None, None)
            };
            sqlite.append((0..200).map(event).collect(), Vec::new()).await.unwrap();
        }
        let written = std::fs::metadata(folder.path().join("postern.db")).unwrap().len();
        let log = std::fs::metadata(folder.path().join("postern.db-wal")).unwrap().len();
        // All that was committed is several times as much as the log grew to.
        assert!(written > 60_000_000 && log < written, "{log} bytes of log for {written}");
        sqlite.close().await.unwrap();
        let sqlite = Sqlite::open(folder.path()).unwrap();
        assert_eq!(sqlite.bounds().await.unwrap().last, 60_000);
    }
}
