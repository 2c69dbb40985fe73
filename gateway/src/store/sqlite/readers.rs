//! Reading from disk: a few connections that each see the last commit, used off the async threads and never for long,
//! because a long reader keeps the write-ahead log from being cut back.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{failed, schema};
use crate::store::StoreError;

/// Reads at once. More would wait for the same disk and cores; what follows the log live reads from memory.
const CONNECTIONS: usize = 4;

/// A small pool of connections.
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Opens the connections.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let idle: Vec<_> =
            (0..CONNECTIONS).map(|_| schema::open_reader(path)).collect::<rusqlite::Result<_>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), permits: Arc::new(Semaphore::new(CONNECTIONS)) })
    }

    /// Runs one short read.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Failed("the store is closed".to_owned());
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        let idle = self.idle.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or_else(closed)?;
            let found = read(&connection).map_err(|error| failed(&error));
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            found
        });
        reading.await.map_err(|error| StoreError::Failed(format!("a read was broken off: {error}")))?
    }

    /// Lets reads under way end, refuses new ones and closes the connections.
    pub(super) async fn close(&self) {
        let count = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        let all = self.permits.acquire_many(count).await;
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop(all);
    }
}
