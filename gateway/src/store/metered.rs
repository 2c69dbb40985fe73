//! A store and a log whose commits are timed and counted, whatever engine is behind them.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::{
    Appended, Bounds, Change, Commit, Entry, EventLog, IsOver, Retention, Revision, Sequence, Store,
    StoreError, StoredEvent, Write,
};
use crate::metrics::{self, STORE};
use crate::pulse::PULSE;

/// A store and a log that are measured.
pub struct Metered {
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
}

impl Metered {
    /// Measures what an engine does.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, log: Arc<dyn EventLog>) -> Arc<Self> {
        Arc::new(Self { store, log })
    }
}

/// Counts what went wrong.
fn counted<T>(done: Result<T, StoreError>) -> Result<T, StoreError> {
    match &done {
        Err(StoreError::Conflict { .. }) => STORE.conflicts.inc(),
        Err(StoreError::Failed(_) | StoreError::Unknown(_) | StoreError::Unusable { .. }) => {
            STORE.failures.inc()
        }
        Ok(_) | Err(StoreError::Refused(_)) => {}
    }
    done
}

/// Counts and times a commit.
async fn timed<T>(commit: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let begun = Instant::now();
    let done = counted(commit.await);
    if done.is_ok() {
        STORE.seconds.record(begun.elapsed());
    }
    done
}

#[tonic::async_trait]
impl Store for Metered {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        counted(self.store.get(key).await)
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        timed(self.store.write(write)).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        counted(self.store.list(prefix, after, limit).await)
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        counted(self.store.records(after, limit).await)
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        counted(self.store.forget(is_over).await)
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.store.watch()
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }
}

#[tonic::async_trait]
impl EventLog for Metered {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        let asked = commit.events.len();
        let appended = timed(self.log.commit(commit)).await?;
        STORE.events.add(appended.stored as u64);
        STORE.repeated.add(asked.saturating_sub(appended.stored) as u64);
        PULSE.events(appended.stored as u64);
        metrics::log_grew(appended.last);
        Ok(appended)
    }

    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        counted(self.log.read(after, events, bytes).await)
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        let bounds = counted(self.log.bounds().await)?;
        metrics::log_grew(bounds.last);
        Ok(bounds)
    }

    fn seen(&self) -> Bounds {
        self.log.seen()
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        counted(self.log.place_at(time).await)
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.log.tail()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        counted(self.log.trim(retention).await)
    }
}
