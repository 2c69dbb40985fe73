//! The embedded engine: SQLite in one folder, used by one process. One thread writes and commits in groups, a few
//! connections read, the newest events are in memory. What is answered is synced to disk.

mod apply;
mod batch;
mod checkpoint;
mod folder;
mod ids;
mod index;
mod query;
mod readers;
mod records;
mod schema;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::checkpoint::Checkpoints;
pub(super) use self::folder::DATABASE_FILE;
use self::folder::{Folder, unusable};
use self::readers::Readers;
use self::records::Records;
use self::writer::{Answer, Done, QUEUE, Request, TRIM_EVENTS, Writer};
use super::admit::{admit, recorded};
use super::migrate::Movable;
use super::tail::Tail;
use super::{
    Appended, Bounds, Change, Commit, Entry, EventLog, FORGET_PAGE, IsOver, NewEvent, RECORDS, Retention,
    Revision, Sequence, Store, StoreError, StoredEvent, WATCH_BACKLOG, Write,
};

/// How long a close waits for the last commit: a disk that takes longer has stopped answering.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A store in a folder.
pub struct Sqlite {
    requests: mpsc::Sender<Request>,
    readers: Readers,
    tail: Arc<Tail>,
    changes: broadcast::Sender<Change>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Sqlite {
    /// Opens the store in a folder, which is made where it is missing. Blocks for some milliseconds, or up to about a
    /// second where the database is to be checked.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], with what is wrong: the folder cannot be made or written, another process uses it, a
    /// newer version made the database, it is damaged.
    pub fn open(folder: &Path) -> Result<Arc<Self>, StoreError> {
        let mut locked = Folder::open(folder)?;
        let (connection, counters) = schema::open(&locked.database, locked.made)?;
        locked
            .mark()
            .map_err(|error| unusable(folder, format!("the file lock cannot be written: {error}")))?;
        let ids = ids::open(&connection)
            .map_err(|error| unusable(&locked.database, format!("its ids cannot be read: {error}")))?;
        let records = Records::open(&connection, counters.revision)
            .map_err(|error| unusable(&locked.database, format!("its records cannot be read: {error}")))?;
        let readers = Readers::open(&locked.database)
            .map_err(|error| unusable(&locked.database, format!("it cannot be read: {error}")))?;
        let tail = Arc::new(Tail::new(counters));
        let (changes, _) = broadcast::channel(WATCH_BACKLOG);
        let (requests, waiting) = mpsc::channel(QUEUE);
        let checkpoints = Checkpoints::start(&connection, &locked.database)
            .map_err(|error| unusable(&locked.database, format!("it cannot be opened: {error}")))?;
        let writer = Writer {
            connection,
            checkpoints: Some(checkpoints),
            counters,
            ids,
            records,
            tail: tail.clone(),
            changes: changes.clone(),
            runtime: Handle::try_current().ok(),
            folder: Some(locked),
        };
        let thread = writer
            .start(waiting)
            .map_err(|error| unusable(folder, format!("its writer cannot be started: {error}")))?;
        Ok(Arc::new(Self { requests, readers, tail, changes, writer: Mutex::new(Some(thread)) }))
    }

    /// Commits what was asked before, and lets go of the folder. What is asked later fails.
    ///
    /// # Errors
    /// The last commit took longer than ten seconds; it may still come.
    pub async fn close(&self) -> Result<(), StoreError> {
        let Some(thread) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let closing = async {
            self.readers.close().await;
            let (answer, closed) = oneshot::channel();
            if self.requests.send(Request::Close { answer }).await.is_ok() {
                // An error means that the thread has ended, which is what is waited for.
                let _ = closed.await;
            }
            tokio::task::spawn_blocking(|| thread.join()).await
        };
        match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(_) => Err(StoreError::Failed("the store's writer broke off".to_owned())),
            Err(_) => Err(StoreError::Failed("the store's last commit takes too long".to_owned())),
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        let closed = || StoreError::Failed("the store is closed".to_owned());
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    async fn make(&self, commit: Commit) -> Result<Done, StoreError> {
        admit(&commit)?;
        self.ask(|answer| Request::Commit { commit, answer }).await
    }
}

/// An error of SQLite's where the store was usable: nothing was written, and a repeat may succeed.
fn failed(error: &rusqlite::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[tonic::async_trait]
impl Store for Sqlite {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        if key.starts_with(RECORDS) {
            return Ok(self.ask(|answer| Request::Recall { key, answer }).await?.records.pop());
        }
        self.readers.run(move |connection| query::get(connection, &key)).await
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        Ok(self.make(Commit { writes: vec![write], ..Commit::default() }).await?.revision)
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.readers.run(move |connection| query::list(connection, &prefix, &after, limit)).await
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let after = after.map_or(0, |after| after.revision);
        Ok(self.ask(|answer| Request::Records { after, limit, answer }).await?.records)
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        let (mut after, limit) = (0, FORGET_PAGE);
        let before = loop {
            let found = self.ask(|answer| Request::Records { after, limit, answer }).await?;
            if let Some(kept) = found.records.iter().find(|record| !is_over(record)) {
                break kept.revision;
            }
            match found.records.last() {
                Some(last) => after = last.revision,
                // Deletions and what was written again go too.
                None => break found.up_to + 1,
            }
        };
        while self.ask(|answer| Request::Forget { before, answer }).await? > 0 {}
        Ok(())
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn is_shared(&self) -> bool {
        // The folder is locked by the one process that has it open.
        false
    }
}

#[tonic::async_trait]
impl Movable for Sqlite {
    async fn restore(&self, events: Vec<(NewEvent, SystemTime)>) -> Result<Appended, StoreError> {
        let events = recorded(events)?;
        Ok(self.ask(|answer| Request::Restore { events, answer }).await?.appended)
    }
}

#[tonic::async_trait]
impl EventLog for Sqlite {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        Ok(self.make(commit).await?.appended)
    }

    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if let Some(found) = self.tail.read(after, events, bytes) {
            return Ok(found);
        }
        let Bounds { first, last, .. } = self.tail.bounds();
        self.readers
            .run(move |connection| query::events(connection, after, first..=last, events, bytes))
            .await
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        Ok(self.tail.bounds())
    }

    fn seen(&self) -> Bounds {
        self.tail.bounds()
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        let Bounds { first, last, .. } = self.tail.bounds();
        self.readers.run(move |connection| query::place_at(connection, time, first..=last)).await
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.tail.watch()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let step = self.ask(|answer| Request::Trim { retention, answer }).await?;
            removed += step;
            if step < TRIM_EVENTS as u64 {
                return Ok(removed);
            }
        }
    }
}
