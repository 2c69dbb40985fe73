//! The engine that several gateways share: one stream of NATS JetStream. Each key is a subject of which the last message
//! counts, events are messages of many. A gateway writes only right behind the last message that it has seen, so what it
//! checked holds; it keeps in memory what keys and ids there are, and where events begin.

mod chunk;
mod connect;
mod events;
mod follow;
mod link;
mod message;
mod mirror;
mod publish;
mod rescue;
mod settings;
mod stream;
mod turns;
mod values;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::settings::{NatsSettings, Servers};

use self::connect::Hindrance;
use self::events::Events;
use self::link::Link;
use self::mirror::Mirror;
use self::writer::{Answer, Made, QUEUE, Request, Writer};
use super::admit::{admit, recorded};
use super::migrate::Movable;
use super::{
    Appended, Bounds, Change, Commit, Entry, EventLog, IsOver, NewEvent, RECORDS, Retention, Revision,
    Sequence, Store, StoreError, StoredEvent, Write, forget_each,
};

/// The pause between two tries to open it.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a close waits for the last commit.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(25);

/// A store in a stream.
pub struct Nats {
    link: Arc<Link>,
    mirror: Arc<Mirror>,
    events: Arc<Events>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
    tasks: Mutex<Option<[JoinHandle<()>; 3]>>,
}

impl Nats {
    /// Opens the store, whose stream is made where it is missing. Takes as long as it takes to read the headers of what
    /// the stream holds.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], with what is wrong: it refuses the credentials, it is too old, the stream is another's;
    /// or no server was reached, or the stream had no leader, for as long as the settings say.
    pub async fn open(servers: &Servers, settings: &NatsSettings) -> Result<Arc<Self>, StoreError> {
        Self::begin(servers, settings, true).await
    }

    /// The same for a stream that must be there.
    ///
    /// # Errors
    /// The same, and [`StoreError::Unusable`] where there is no such stream.
    pub async fn open_there(servers: &Servers, settings: &NatsSettings) -> Result<Arc<Self>, StoreError> {
        Self::begin(servers, settings, false).await
    }

    async fn begin(servers: &Servers, settings: &NatsSettings, make: bool) -> Result<Arc<Self>, StoreError> {
        let place = format!("{servers} stream {}", settings.stream);
        let unusable = |problem: String| StoreError::Unusable { place: place.clone(), problem };
        let (until, mut told) = (Instant::now() + settings.wait, String::new());
        loop {
            // Each try is bounded by how long its questions may take, and by what there is to read.
            let problem = match Self::try_to_begin(servers, settings, make).await {
                Ok(begun) => return Ok(begun),
                Err(Hindrance::Lasting(problem)) => return Err(unusable(problem)),
                Err(Hindrance::ForNow(problem)) => problem,
            };
            if Instant::now() >= until {
                return Err(unusable(format!("{problem} (waited for {:?}: see --nats-wait)", settings.wait)));
            }
            if told != problem {
                tracing::warn!(place, problem, "NATS cannot be used yet: waiting for it");
                told = problem;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_to_begin(
        servers: &Servers,
        settings: &NatsSettings,
        make: bool,
    ) -> Result<Arc<Self>, Hindrance> {
        let link = Arc::new(Link::open(servers, settings, make).await?);
        let state = follow::state(&link).await.map_err(|error| Hindrance::ForNow(error.to_string()))?;
        let mirror = Mirror::new(state);
        let events = Arc::new(Events::new(link.clone(), mirror.clone()));
        let stop = CancellationToken::new();
        let (requests, waiting) = mpsc::channel(QUEUE);
        let own = events.clone();
        let writer = Writer::new(link.clone(), mirror.clone(), own);
        let writing = tokio::spawn(writer.run(waiting, stop.clone()));
        let following = tokio::spawn(follow::run(link.clone(), mirror.clone(), stop.clone()));
        let rescuing = tokio::spawn(rescue::run(link.clone(), stop.clone()));
        let tasks = Mutex::new(Some([writing, following, rescuing]));
        Ok(Arc::new(Self { link, mirror, events, requests, stop, tasks }))
    }

    /// Commits what was asked before, and lets go of the connection. What is asked later fails.
    ///
    /// # Errors
    /// The last commit took too long; it may still come.
    pub async fn close(&self) -> Result<(), StoreError> {
        let Some(tasks) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        self.stop.cancel();
        let ending = async {
            for task in tasks {
                if task.await.is_err() {
                    return Err(StoreError::Failed("the store's writer broke off".to_owned()));
                }
            }
            let _ = self.link.client.drain().await;
            Ok(())
        };
        let late = |_| StoreError::Failed("the store's last commit takes too long".to_owned());
        tokio::time::timeout(CLOSE_TIMEOUT, ending).await.map_err(late)?
    }

    fn usable(&self) -> Result<(), StoreError> {
        if self.stop.is_cancelled() {
            return Err(closed());
        }
        match &self.mirror.state().broken {
            Some(problem) => Err(StoreError::Failed(problem.clone())),
            None => Ok(()),
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        self.usable()?;
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    async fn make(&self, commit: Commit) -> Result<Made, StoreError> {
        admit(&commit)?;
        self.ask(|answer| Request::Commit { commit, answer }).await
    }

    /// Waits until whatever was acknowledged before, to whichever gateway, is in the mirror.
    async fn catch_up(&self) -> Result<(), StoreError> {
        self.usable()?;
        writer::reach(&self.mirror, self.link.last().await?).await.map(|_| ())
    }
}

fn closed() -> StoreError {
    StoreError::Failed("the store is closed".to_owned())
}

#[tonic::async_trait]
impl Store for Nats {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.usable()?;
        values::get(&self.link, key).await
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        Ok(self.make(Commit { writes: vec![write], ..Commit::default() }).await?.revision)
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.catch_up().await?;
        values::list(&self.link, &self.mirror, prefix, after, limit).await
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.catch_up().await?;
        let after = after.map_or("", |after| &after.key);
        values::list(&self.link, &self.mirror, RECORDS, after, limit).await
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        forget_each(self, is_over).await
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.mirror.watch()
    }
}

#[tonic::async_trait]
impl Movable for Nats {
    async fn restore(&self, events: Vec<(NewEvent, SystemTime)>) -> Result<Appended, StoreError> {
        let events = recorded(events)?;
        Ok(self.ask(|answer| Request::Restore { events, answer }).await?.appended)
    }

    async fn last_change(&self) -> Result<u64, StoreError> {
        self.link.last().await
    }
}

#[tonic::async_trait]
impl EventLog for Nats {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        Ok(self.make(commit).await?.appended)
    }

    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if let Some(found) = self.mirror.tail.read(after, events, bytes) {
            return Ok(found);
        }
        self.usable()?;
        self.events.read(after, events, bytes).await
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        self.catch_up().await?;
        Ok(self.mirror.tail.bounds())
    }

    fn seen(&self) -> Bounds {
        self.mirror.tail.bounds()
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        self.catch_up().await?;
        Ok(self.events.place_at(time))
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.mirror.tail.watch()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        self.ask(|answer| Request::Trim { retention, answer }).await
    }
}
