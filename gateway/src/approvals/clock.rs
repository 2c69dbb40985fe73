//! The clock: the one task that owns the times of approvals and of notices. It learns of both from the store alone, so
//! that whoever asks or answers need not tell it.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _};
use postern_proto::approval::v1::ApprovalState;
use prost::Message as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::Inner;
use super::record::{APPROVALS, KEPT, NOTICES, NoticeRecord, Stored, time};
use crate::error::Error;
use crate::store::{Change, Commit, Entry, StoreError};

/// Answers that are posted at once.
const MAX_AT_ONCE: usize = 16;
/// How many records are read from the store at a time.
const PAGE: usize = 200;
/// How long to wait before the store is asked again after it failed, and before something that is another gateway's is
/// looked at again.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
const ELSEWHERE: Duration = Duration::from_secs(5);
/// The longest that a time is trusted to come as the clock of the wall said: it may be set meanwhile.
const RECHECK: Duration = Duration::from_secs(10 * 60);
/// How often those are removed whose time of being kept is over.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3_600);

/// The task that owns the times.
pub(super) struct Clock {
    inner: Arc<Inner>,
    due: DelayQueue<String>,
    /// The approvals that are pending, by key.
    pending: HashMap<String, Key>,
    notices: HashMap<String, Turn>,
    /// The notices that are due.
    ready: VecDeque<String>,
    posting: JoinSet<String>,
}

/// Whose turn a notice's is.
enum Turn {
    /// The queue's.
    Waiting(Key),
    /// It is due, or being posted.
    Busy,
}

impl Clock {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let (due, pending, notices) = (DelayQueue::new(), HashMap::new(), HashMap::new());
        Self { inner, due, pending, notices, ready: VecDeque::new(), posting: JoinSet::new() }
    }

    /// Works until `stop` is cancelled. What is being posted then is posted again after the next start.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let inner = self.inner.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
            () = sweep(&inner) => {}
        }
    }

    async fn work(&mut self) {
        let inner = self.inner.clone();
        let mut changes = inner.store.watch();
        let mut owned = inner.leases.changes();
        self.take_all().await;
        loop {
            self.post_some();
            inner.pending.store(self.pending.len(), Ordering::Relaxed);
            tokio::select! {
                Some(due) = self.due.next() => self.came(due.into_inner()).await,
                Some(posted) = self.posting.join_next() => if let Ok(key) = posted {
                    self.posted(key).await;
                },
                Ok(()) = owned.changed() => self.take_all().await,
                change = changes.recv() => match change {
                    Ok(change) => self.hear(&change),
                    Err(RecvError::Lagged(_)) => self.take_all().await,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    /// Takes everything that lies in the store.
    async fn take_all(&mut self) {
        for prefix in [APPROVALS, NOTICES] {
            let mut after = String::new();
            loop {
                let page = match self.inner.store.list(prefix, &after, PAGE).await {
                    Ok(page) => page,
                    Err(error) => {
                        tracing::error!(%error, "approvals cannot be read");
                        tokio::time::sleep(STORE_PATIENCE).await;
                        continue;
                    }
                };
                page.iter().for_each(|entry| self.take(entry));
                match page.last() {
                    Some(last) if page.len() == PAGE => after.clone_from(&last.key),
                    _ => break,
                }
            }
        }
    }

    fn hear(&mut self, change: &Change) {
        match &change.value {
            Some(entry) => self.take(entry),
            None => self.leave(&change.key),
        }
    }

    /// Takes an approval or a notice as it now is.
    fn take(&mut self, entry: &Entry) {
        let key = &entry.key;
        if key.starts_with(APPROVALS) {
            match Stored::decode(entry) {
                Ok(stored) if stored.record.state() == ApprovalState::Pending => {
                    self.wait(key, left(stored.record.expires()));
                }
                _ => self.leave(key),
            }
        } else if key.starts_with(NOTICES) && !matches!(self.notices.get(key), Some(Turn::Busy)) {
            match NoticeRecord::decode(entry.value.clone()) {
                Ok(notice) => self.wait(key, left(time(notice.due_time))),
                Err(_) => tracing::error!(key, "a notice's record does not decode"),
            }
        }
    }

    /// Has something wait until it is due.
    fn wait(&mut self, key: &str, wait: Duration) {
        self.leave(key);
        let timer = self.due.insert(key.to_owned(), wait.min(RECHECK));
        if key.starts_with(APPROVALS) {
            self.pending.insert(key.to_owned(), timer);
        } else {
            self.notices.insert(key.to_owned(), Turn::Waiting(timer));
        }
    }

    /// Forgets what has ended or gone.
    fn leave(&mut self, key: &str) {
        if let Some(timer) = self.pending.remove(key) {
            self.due.try_remove(&timer);
        }
        match self.notices.remove(key) {
            Some(Turn::Waiting(timer)) => drop(self.due.try_remove(&timer)),
            // Its end tells where it goes on.
            Some(Turn::Busy) => drop(self.notices.insert(key.to_owned(), Turn::Busy)),
            None => {}
        }
    }

    /// What came due.
    async fn came(&mut self, key: String) {
        if key.starts_with(NOTICES) {
            match self.inner.guards(&key) {
                None => self.wait(&key, ELSEWHERE),
                Some(_) => {
                    self.notices.insert(key.clone(), Turn::Busy);
                    self.ready.push_back(key);
                }
            }
            return;
        }
        self.pending.remove(&key);
        match self.expire(&key).await {
            Ok(None) => {}
            Ok(Some(wait)) => self.wait(&key, wait),
            Err(error) => {
                tracing::warn!(%error, approval.name = key, "an approval could not be ended yet");
                self.wait(&key, STORE_PATIENCE);
            }
        }
    }

    /// Ends an approval whose time is over. Gives how long to wait where it goes on.
    async fn expire(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        let Some(guards) = self.inner.guards(name) else { return Ok(Some(ELSEWHERE)) };
        let stored = match Stored::read(self.inner.store.as_ref(), name).await {
            Ok(stored) => stored,
            Err(Error::Store(error)) => return Err(error),
            // Gone, or nothing that can be read.
            Err(_) => return Ok(None),
        };
        if stored.record.state() != ApprovalState::Pending {
            return Ok(None);
        }
        let now = SystemTime::now();
        if stored.record.is_open(now) {
            return Ok(Some(left(stored.record.expires())));
        }
        match self.inner.end(stored, ApprovalState::Expired, now, guards).await {
            Ok(_) => Ok(None),
            // Looked at again: by then it has ended, or it is this gateway's to end.
            Err(StoreError::Conflict { .. }) => Ok(Some(STORE_PATIENCE)),
            Err(error) => Err(error),
        }
    }

    /// Begins to post, as many answers as may be at once.
    fn post_some(&mut self) {
        while self.posting.len() < MAX_AT_ONCE {
            let Some(key) = self.ready.pop_front() else { return };
            let inner = self.inner.clone();
            self.posting.spawn(async move {
                if AssertUnwindSafe(inner.post(&key)).catch_unwind().await.is_err() {
                    tracing::error!(key, "posting an answer broke off");
                }
                key
            });
        }
    }

    /// Goes on with a notice that was posted, or could not be.
    async fn posted(&mut self, key: String) {
        self.notices.remove(&key);
        match self.inner.store.get(&key).await {
            Ok(None) => {}
            Ok(Some(entry)) => {
                self.take(&entry);
                // However due it is: what could not even be written down is not tried in a loop.
                if let Some(Turn::Waiting(timer)) = self.notices.get(&key)
                    && self.due.deadline(timer) <= tokio::time::Instant::now() + Duration::from_millis(1)
                {
                    self.wait(&key, STORE_PATIENCE);
                }
            }
            Err(_) => self.wait(&key, STORE_PATIENCE),
        }
    }
}

/// How long until a time.
fn left(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Removes approvals from time to time that ended long ago.
async fn sweep(inner: &Inner) {
    loop {
        if let Err(error) = sweep_once(inner, SystemTime::now()).await {
            tracing::warn!(%error, "ended approvals could not be removed");
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

async fn sweep_once(inner: &Inner, now: SystemTime) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let page = inner.store.list(APPROVALS, &after, PAGE).await?;
        for stored in page.iter().flat_map(Stored::decode) {
            let ended = stored.record.end_time.map(|ended| time(Some(ended)));
            if !ended.is_some_and(|ended| now.duration_since(ended).is_ok_and(|age| age >= KEPT)) {
                continue;
            }
            let Some(guards) = inner.guards(stored.record.name()) else { continue };
            let commit = Commit { writes: stored.removal(), guards, ..Commit::default() };
            match inner.log.commit(commit).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after.clone_from(&last.key),
            _ => return Ok(()),
        }
    }
}
