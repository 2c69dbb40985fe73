//! A gateway's way to a store that it shares with others, which a test can cut, and on which it can hold up what is sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use postern_gateway::store::{
    Appended, Bounds, Change, Commit, Entry, EventLog, IsOver, Retention, Revision, Sequence, Store,
    StoreError, StoredEvent, Write,
};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};

/// The way.
pub(crate) struct Way {
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
    /// Whether nothing gets through.
    cut: watch::Sender<bool>,
    /// Whether commits stay on the way. They arrive later, whoever has given up on them.
    held: watch::Sender<bool>,
    waiting: Arc<AtomicUsize>,
    /// The keys that commits met another revision of.
    conflicts: Arc<Mutex<Vec<String>>>,
    outside: Handle,
}

impl Way {
    /// A way on which all gets through.
    pub(crate) fn new(store: Arc<dyn Store>, log: Arc<dyn EventLog>) -> Arc<Self> {
        Arc::new(Self {
            store,
            log,
            cut: watch::Sender::new(false),
            held: watch::Sender::new(false),
            waiting: Arc::default(),
            conflicts: Arc::default(),
            outside: Handle::current(),
        })
    }

    /// Cuts it, or mends it.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// Holds commits up, or lets them arrive. The conflicts of those before are forgotten.
    pub(crate) fn hold(&self, held: bool) {
        self.conflicts.lock().unwrap().clear();
        self.held.send_replace(held);
    }

    /// How many commits are held up.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The keys that commits met another revision of.
    pub(crate) fn conflicts(&self) -> Vec<String> {
        self.conflicts.lock().unwrap().clone()
    }

    async fn open(&self) {
        let _ = self.cut.subscribe().wait_for(|cut| !cut).await;
    }
}

#[tonic::async_trait]
impl Store for Way {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.open().await;
        self.store.get(key).await
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        self.open().await;
        self.store.write(write).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.open().await;
        self.store.list(prefix, after, limit).await
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.open().await;
        self.store.records(after, limit).await
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        self.open().await;
        self.store.forget(is_over).await
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.store.watch()
    }

    fn is_shared(&self) -> bool {
        true
    }
}

#[tonic::async_trait]
impl EventLog for Way {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        let (log, held) = (self.log.clone(), self.held.subscribe());
        let (waiting, conflicts) = (self.waiting.clone(), self.conflicts.clone());
        let sent = self.outside.spawn(async move {
            let mut held = held;
            waiting.fetch_add(1, Ordering::SeqCst);
            let _ = held.wait_for(|held| !held).await;
            waiting.fetch_sub(1, Ordering::SeqCst);
            let made = log.commit(commit).await;
            if let Err(StoreError::Conflict { key }) = &made {
                conflicts.lock().unwrap().push(key.clone());
            }
            made
        });
        sent.await.map_err(|error| StoreError::Failed(error.to_string()))?
    }

    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.log.read(after, events, bytes).await
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        self.log.bounds().await
    }

    fn seen(&self) -> Bounds {
        self.log.seen()
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        self.log.place_at(time).await
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.log.tail()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        self.log.trim(retention).await
    }
}
