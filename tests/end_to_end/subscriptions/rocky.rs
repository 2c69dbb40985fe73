//! A gateway's way to a store on which it can fail, be held up, and hear late of what others write.

use std::sync::Arc;
use std::time::SystemTime;

use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{
    Appended, Bounds, Change, Commit, Entry, EventLog, IsOver, Retention, Revision, Sequence, Store,
    StoreError, StoredEvent, Write,
};
use postern_proto::event::v1::Subscription;
use tokio::sync::{broadcast, watch};

use super::world::{Gateway, World};

/// Where calls can be held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The log's bounds are asked for.
    Bounds,
    /// A commit is durable, and who made it does not know yet.
    Committed,
}

/// The way.
pub(crate) struct Rocky {
    sqlite: Arc<Sqlite>,
    fails: watch::Sender<bool>,
    deaf: watch::Sender<bool>,
    holds: watch::Sender<Option<Step>>,
    /// How many calls were held up so far, and how many reads of the log found nothing.
    held: watch::Sender<usize>,
    empty: watch::Sender<usize>,
    told: broadcast::Sender<Change>,
}

impl Rocky {
    /// A way on which all goes well.
    pub(crate) fn new(sqlite: &Arc<Sqlite>) -> Arc<Self> {
        let (told, mut changes) = (broadcast::Sender::new(1_024), sqlite.watch());
        let (fails, deaf) = (watch::Sender::new(false), watch::Sender::new(false));
        let (telling, mut is_deaf) = (told.clone(), deaf.subscribe());
        tokio::spawn(async move {
            while let Ok(change) = changes.recv().await {
                let _ = is_deaf.wait_for(|deaf| !deaf).await;
                let _ = telling.send(change);
            }
        });
        let (holds, held, empty) = Default::default();
        Arc::new(Self { sqlite: sqlite.clone(), fails, deaf, holds, held, empty, told })
    }

    /// Holds up the calls that come to a step.
    pub(crate) fn hold(&self, step: Step) {
        self.held.send_replace(0);
        self.holds.send_replace(Some(step));
    }

    /// Waits until a call is held up.
    pub(crate) async fn holds_one(&self) {
        self.held.subscribe().wait_for(|held| *held > 0).await.unwrap();
    }

    /// Lets go on what is held up.
    pub(crate) fn let_go(&self) {
        self.holds.send_replace(None);
    }

    /// Tells of each read of the log that finds nothing from now on.
    pub(crate) fn empty_reads(&self) -> watch::Receiver<usize> {
        self.empty.subscribe()
    }

    async fn come_to(&self, step: Step) {
        let mut holds = self.holds.subscribe();
        if *holds.borrow_and_update() == Some(step) {
            self.held.send_modify(|held| *held += 1);
            holds.wait_for(|holds| *holds != Some(step)).await.unwrap();
        }
    }

    /// Has all fail, or go well again.
    pub(crate) fn fail(&self, fails: bool) {
        self.fails.send_replace(fails);
    }

    /// Has nothing heard of what is written, or all that was not heard.
    pub(crate) fn deafen(&self, deaf: bool) {
        self.deaf.send_replace(deaf);
    }

    fn whole(&self) -> Result<&Sqlite, StoreError> {
        match *self.fails.borrow() {
            true => Err(StoreError::Failed("the disk is full".to_owned())),
            false => Ok(&self.sqlite),
        }
    }
}

#[tonic::async_trait]
impl Store for Rocky {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.whole()?.get(key).await
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        self.whole()?.write(write).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.whole()?.list(prefix, after, limit).await
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.whole()?.records(after, limit).await
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        self.whole()?.forget(is_over).await
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.told.subscribe()
    }

    fn is_shared(&self) -> bool {
        true
    }
}

#[tonic::async_trait]
impl EventLog for Rocky {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        let committed = self.whole()?.commit(commit).await;
        self.come_to(Step::Committed).await;
        committed
    }

    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let found = self.whole()?.read(after, events, bytes).await?;
        if found.is_empty() {
            self.empty.send_modify(|empty| *empty += 1);
        }
        Ok(found)
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        self.come_to(Step::Bounds).await;
        self.whole()?.bounds().await
    }

    fn seen(&self) -> Bounds {
        self.sqlite.seen()
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        self.whole()?.place_at(time).await
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.sqlite.tail()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        self.whole()?.trim(retention).await
    }
}

/// A gateway, and beside it one on such a way.
pub(crate) async fn beside(subscription: Subscription) -> (World, Arc<Rocky>) {
    let mut world = World::start().await;
    let way = Rocky::new(&world.sqlite);
    world.gateways.push(Gateway::start_apart(way.clone(), way.clone(), &world.clock));
    world.create(subscription).await;
    (world, way)
}
