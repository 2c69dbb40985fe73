//! A store and a log whose commits are timed and counted, whatever engine is behind them.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::{
    Appended, Bounds, Change, Commit, Entry, EventLog, Retention, Revision, Sequence, Store, StoreError,
    StoredEvent, Write,
};
use crate::metrics::{self, STORE};
use crate::pulse::PULSE;

/// An engine that is measured.
#[derive(Debug)]
pub struct Metered<E>(Arc<E>);

impl<E: Store + EventLog> Metered<E> {
    /// Measures an engine.
    pub fn new(engine: Arc<E>) -> Arc<Self> {
        Arc::new(Self(engine))
    }
}

/// Counts what went wrong.
fn counted<T>(done: Result<T, StoreError>) -> Result<T, StoreError> {
    match &done {
        Err(StoreError::Conflict { .. }) => STORE.conflicts.inc(),
        Err(StoreError::Failed(_) | StoreError::Unusable { .. }) => STORE.failures.inc(),
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
impl<E: Store> Store for Metered<E> {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        counted(self.0.get(key).await)
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        timed(self.0.write(write)).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        counted(self.0.list(prefix, after, limit).await)
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.0.watch()
    }
}

#[tonic::async_trait]
impl<E: EventLog> EventLog for Metered<E> {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        let asked = commit.events.len();
        let appended = timed(self.0.commit(commit)).await?;
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
        counted(self.0.read(after, events, bytes).await)
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        let bounds = counted(self.0.bounds().await)?;
        metrics::log_grew(bounds.last);
        Ok(bounds)
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        counted(self.0.place_at(time).await)
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.0.tail()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        counted(self.0.trim(retention).await)
    }
}
