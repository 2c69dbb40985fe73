//! A simulated gateway's way to the store that all share: it takes time, fails, loses answers, and is cut. What was sent
//! arrives, maybe late, whatever became of its sender.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use postern_gateway::store::{
    Appended, Bounds, Change, Commit, Entry, EventLog, IsOver, Retention, Revision, Sequence, Store,
    StoreError, StoredEvent, Write,
};
use postern_tests::memory::{Disk, Memory};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};

use crate::journal::Journal;
use crate::weather::{Weather, lock};

/// How long an answer may take.
const USUAL_MS: u64 = 30;
/// How long one takes that takes too long: longer than a lease holds.
const LONGEST_MS: u64 = 9_000;

/// Where sign-ins lie in the store.
const SIGN_INS: &str = "sign-ins/";

/// One gateway's way.
pub(crate) struct Way {
    disk: Arc<Disk>,
    memory: Arc<Memory>,
    journal: Arc<Journal>,
    weather: Arc<Weather>,
    /// Where what was sent goes on by itself.
    outside: Handle,
    /// What the gateway goes by in traces.
    name: String,
    /// What it goes by in leases, once known.
    pub(crate) id: Mutex<String>,
    pub(crate) is_cut: AtomicBool,
}

impl Way {
    pub(crate) fn new(
        (disk, journal): (&Arc<Disk>, &Arc<Journal>),
        weather: &Arc<Weather>,
        outside: Handle,
        name: String,
    ) -> Arc<Self> {
        Arc::new(Self {
            disk: disk.clone(),
            memory: Memory::open(disk.clone()),
            journal: journal.clone(),
            weather: weather.clone(),
            outside,
            name,
            id: Mutex::default(),
            is_cut: AtomicBool::new(false),
        })
    }

    /// The way there. Fails, or takes until it is mended.
    async fn go(&self) -> Result<(), StoreError> {
        self.weather.wait(USUAL_MS, LONGEST_MS).await;
        while self.is_cut.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        match self.weather.strikes(8) {
            true => Err(StoreError::Failed("no luck".to_owned())),
            false => Ok(()),
        }
    }

    async fn send(&self, commit: Commit) -> Result<(Appended, Revision), StoreError> {
        self.go().await?;
        let (disk, weather, now) = (self.disk.clone(), self.weather.clone(), SystemTime::now());
        let (name, id, journal) = (self.name.clone(), lock(&self.id).clone(), self.journal.clone());
        let sent = self.outside.spawn(async move {
            if weather.strikes(10) {
                // Held up on the way: its sender may be taken for dead before it arrives.
                tokio::time::sleep(weather.within(15_000)).await;
            }
            let moves: Vec<_> = commit.writes.iter().map(|write| write.key.clone()).collect();
            let guards: Vec<_> = commit.guards.iter().map(|guard| guard.key.clone()).collect();
            let events: Vec<_> = commit.events.iter().map(|event| event.id.clone()).collect();
            let owner = match moves.iter().find(|key| key.starts_with("polls/")) {
                Some(_) => Some(owner(&disk, guards.first()).await),
                None => None,
            };
            let made = disk.commit(commit, now);
            if let Ok((made, _)) = &made {
                journal.note(&disk, made).await;
            }
            let outcome = made.as_ref().map_or_else(ToString::to_string, |(made, _)| made.last.to_string());
            // Ids of sign-ins are the system's, so that nobody guesses them: a seed does not say what they are.
            match moves.iter().any(|key| key.starts_with(SIGN_INS)) {
                true => weather.trace(format_args!("{name} sign-ins {events:?}: {}", made.is_ok())),
                false => weather.trace(format_args!("{name} {moves:?} {events:?}: {outcome}")),
            }
            if let (Ok(_), Some(owner)) = (&made, owner)
                && !owner.contains(&id)
            {
                weather.wrong(format!("{name} moved {moves:?}, and is not who owns it ({guards:?})"));
            }
            made
        });
        let made = sent.await.map_err(|error| StoreError::Unknown(error.to_string()))?;
        self.weather.wait(USUAL_MS, LONGEST_MS).await;
        match self.weather.strikes(6) {
            true => Err(StoreError::Unknown("the answer was lost".to_owned())),
            false => made,
        }
    }
}

/// What the lease says that a commit is guarded by.
async fn owner(disk: &Arc<Disk>, lease: Option<&String>) -> String {
    let Some(lease) = lease else { return "nobody".to_owned() };
    let entry = Memory::open(disk.clone()).get(lease).await;
    let entry = entry.ok().flatten().map(|entry| entry.value);
    entry.map_or("nobody".to_owned(), |value| String::from_utf8_lossy(&value).into_owned())
}

#[tonic::async_trait]
impl Store for Way {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.go().await?;
        self.memory.get(key).await
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        Ok(self.send(Commit { writes: vec![write], ..Commit::default() }).await?.1)
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.go().await?;
        self.memory.list(prefix, after, limit).await
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.go().await?;
        self.memory.records(after, limit).await
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        self.go().await?;
        self.memory.forget(is_over).await
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.memory.watch()
    }
}

#[tonic::async_trait]
impl EventLog for Way {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        Ok(self.send(commit).await?.0)
    }

    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.go().await?;
        self.memory.read(after, events, bytes).await
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        self.go().await?;
        self.memory.bounds().await
    }

    fn seen(&self) -> Bounds {
        self.memory.seen()
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        self.memory.place_at(time).await
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.memory.tail()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        self.go().await?;
        if !self.weather.has_begun() {
            return Ok(0);
        }
        let gone = self.memory.trim(retention).await?;
        self.journal.trimmed(&self.disk).await;
        self.weather.trace(format_args!("{} trims {gone}", self.name));
        Ok(gone)
    }
}
