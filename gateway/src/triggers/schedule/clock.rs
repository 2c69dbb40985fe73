//! The clock: the one task that owns the times of all watches.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _};
use postern_chassis::fault::{Fault, reason_of, retry_after_of};
use postern_proto::event::v1::{Trigger, TriggerState};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;
use tonic::{Code, Status};

use super::{DEFAULT_INTERVAL, OpenWatches};
use crate::error::Error;
use crate::store::{Change, Entry, Expect, StoreError, Write};
use crate::triggers::fares::Fares;
use crate::triggers::poll::{Looked, Poller, Sought, asked_bytes};
use crate::triggers::stored;
use crate::triggers::watch::WatchName;

/// Looks at once, of all watches: each holds an answer of up to 4 MiB.
const MAX_LOOKS: usize = 64;
/// Looks at once for one connection: few providers take more for one account, and the others' turn comes too.
const MAX_LOOKS_A_CONNECTION: usize = 4;
/// The longest wait after failures, unless the interval itself is longer.
const MAX_BACK_OFF: Duration = Duration::from_secs(300);
/// After a start, the first looks are spread over this time, or the interval where that is shorter.
const START_SPREAD: Duration = Duration::from_secs(5);
/// How many records are read from the store at a time.
const PAGE: usize = 500;
/// The longest quiet that a provider gets: one that asks for more is asked once a day.
pub(super) const MAX_QUIET: Duration = Duration::from_secs(24 * 3_600);
/// How long to wait after a look whose place was written by somebody else meanwhile.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait before the store is asked again after it failed.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// Within what time a trigger that comes to a watch is looked after: many that come together share a look.
const JOIN_PATIENCE: Duration = Duration::from_millis(250);

/// A watch that is looked after.
pub(super) struct Watch {
    pub(super) members: HashMap<String, Member>,
    pub(super) turn: Turn,
    /// How many bytes its triggers take in what its connector is asked.
    bytes: usize,
}

impl Watch {
    fn put(&mut self, member: Member) {
        self.bytes += asked_bytes(&member.trigger);
        let before = self.members.insert(member.trigger.name.clone(), member);
        self.bytes -= before.map_or(0, |before| asked_bytes(&before.trigger));
    }
}

/// A trigger of a watch.
pub(super) struct Member {
    trigger: Arc<Trigger>,
    /// Whether it may be alone: not known to go with its watch.
    alone: bool,
}

/// Whose turn it is.
pub(super) enum Turn {
    /// The queue's: it will be due.
    Waiting(Key),
    /// A look's, which this ends. `again`: it was nudged meanwhile, so the next look follows at once.
    Looking { look: AbortHandle, again: bool },
}

/// What a look's task gives back: the watch, and how it went.
pub(super) type Ended = (WatchName, Result<Looked, Error>);

/// The task that owns the times.
pub(super) struct Clock {
    pub(super) poller: Arc<Poller>,
    pub(super) fares: Fares,
    pub(super) open: OpenWatches,
    pub(super) due: DelayQueue<WatchName>,
    pub(super) watches: HashMap<WatchName, Watch>,
    watch_of: HashMap<String, WatchName>,
    pub(super) looks: JoinSet<Ended>,
    all: Arc<Semaphore>,
    by_connection: HashMap<String, Arc<Semaphore>>,
    /// Whether the watches that are open have changed since they were told.
    changed: bool,
}

impl Clock {
    pub(super) fn new(poller: Arc<Poller>, fares: Fares, open: OpenWatches) -> Self {
        Self {
            poller,
            fares,
            open,
            due: DelayQueue::new(),
            watches: HashMap::new(),
            watch_of: HashMap::new(),
            looks: JoinSet::new(),
            all: Arc::new(Semaphore::new(MAX_LOOKS)),
            by_connection: HashMap::new(),
            changed: true,
        }
    }

    pub(super) async fn run(mut self, mut nudged: mpsc::Receiver<WatchName>) {
        let mut changes = self.poller.store.watch();
        self.take_all().await;
        self.sweep().await;
        loop {
            self.tell_open();
            tokio::select! {
                Some(due) = self.due.next() => self.look(&due.into_inner()),
                Some(ended) = self.looks.join_next_with_id() => match ended {
                    Ok((look, (watch, looked))) => self.looked(look, &watch, looked),
                    // Its watch has ended.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "a look ended unexpectedly"),
                },
                Some(watch) = nudged.recv() => self.hasten(&watch, Duration::ZERO),
                change = changes.recv() => match change {
                    Ok(change) => self.hear(&change),
                    Err(RecvError::Lagged(_)) => self.take_all().await,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    /// Takes a change of the store.
    pub(super) fn hear(&mut self, change: &Change) {
        if change.key.starts_with(stored::TRIGGERS) {
            match &change.value {
                Some(entry) => self.take(entry, Duration::ZERO),
                None => self.leave(&stored::name_of(&change.key)),
            }
        } else if change.key.starts_with(stored::PLACES)
            && let Some(entry) = &change.value
        {
            let name = stored::name_of(&change.key);
            let member = self.watch_of.get(&name).and_then(|watch| self.watches.get_mut(watch));
            if let Some(member) = member.and_then(|watch| watch.members.get_mut(&name)) {
                member.alone = stored::is_alone(entry);
            }
        }
    }

    /// Reads all triggers anew: at the start, and when changes were missed.
    async fn take_all(&mut self) {
        let mut seen = HashSet::new();
        let mut after = String::new();
        loop {
            let page = self.page(stored::TRIGGERS, &after).await;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for entry in &page {
                seen.insert(stored::name_of(&entry.key));
                self.take(entry, START_SPREAD);
            }
        }
        let gone: Vec<_> = self.watch_of.keys().filter(|name| !seen.contains(*name)).cloned().collect();
        for name in gone {
            self.leave(&name);
        }
        // Which of them are alone may have been missed too; a look asks again.
        for watch in self.watches.values_mut() {
            watch.members.values_mut().for_each(|member| member.alone = true);
        }
    }

    /// Removes the places of watches that nobody is with: what a death between two steps left.
    async fn sweep(&mut self) {
        let mut after = String::new();
        loop {
            let page = self.page(stored::POLLS, &after).await;
            let Some(last) = page.last() else { return };
            after.clone_from(&last.key);
            for entry in &page {
                let name = entry.key.strip_prefix(stored::POLLS).and_then(WatchName::parse);
                if name.is_none_or(|name| !self.watches.contains_key(&name)) {
                    let (key, expect) = (entry.key.clone(), Expect::Revision(entry.revision));
                    let _ = self.poller.store.write(Write { key, value: None, expect }).await;
                }
            }
        }
    }

    async fn page(&self, prefix: &str, after: &str) -> Vec<Entry> {
        loop {
            match self.poller.store.list(prefix, after, PAGE).await {
                Ok(page) => return page,
                Err(error) => {
                    tracing::error!(%error, prefix, "records cannot be read");
                    tokio::time::sleep(STORE_PATIENCE).await;
                }
            }
        }
    }

    /// Takes a trigger as it now is: a watch that it opens is due within `spread`.
    pub(super) fn take(&mut self, entry: &Entry, spread: Duration) {
        let Some(found) = stored::decode(entry) else {
            tracing::error!(key = entry.key, "a trigger's record does not decode");
            return;
        };
        let (name, watch) = (found.trigger.name.clone(), found.watch());
        if found.trigger.state() == TriggerState::Paused {
            return self.leave(&name);
        }
        if self.watch_of.get(&name).is_some_and(|current| *current != watch) {
            self.leave(&name);
        }
        let trigger = Arc::new(found.trigger);
        let known = self.watches.get(&watch).and_then(|watch| watch.members.get(&name));
        if known.is_some_and(|known| known.trigger.etag == trigger.etag) {
            return;
        }
        let is_new = known.is_none_or(|known| known.trigger.kind != trigger.kind);
        if is_new {
            self.fares.take(&name, &watch);
        }
        let own_interval = interval(&trigger);
        let member = Member { trigger, alone: true };
        self.watch_of.insert(name, watch.clone());
        if let Some(open) = self.watches.get_mut(&watch) {
            open.put(member);
            let bytes = open.bytes;
            self.fares.change(&watch, |fare| fare.bytes = bytes);
            let within = if is_new { JOIN_PATIENCE } else { own_interval };
            self.hasten(&watch, within.min(own_interval));
        } else {
            let spread = spread.min(own_interval).mul_f64(fastrand::f64());
            let turn = Turn::Waiting(self.due.insert(watch.clone(), spread));
            let mut open = Watch { members: HashMap::new(), turn, bytes: 0 };
            open.put(member);
            self.changed = true;
            self.fares.change(&watch, |fare| {
                fare.next_poll = Some(SystemTime::now() + spread);
                fare.bytes = open.bytes;
            });
            self.watches.insert(watch, open);
        }
    }

    /// A trigger that was deleted or paused, or watches something else now, leaves its watch; with the last one it ends.
    pub(super) fn leave(&mut self, name: &str) {
        self.fares.leave(name);
        let Some(watch) = self.watch_of.remove(name) else { return };
        let Some(open) = self.watches.get_mut(&watch) else { return };
        open.bytes -= open.members.remove(name).map_or(0, |member| asked_bytes(&member.trigger));
        if !open.members.is_empty() {
            // A look in flight asks for it yet; what it tells finds the trigger's place changed, and is dropped.
            let bytes = open.bytes;
            return self.fares.change(&watch, |fare| fare.bytes = bytes);
        }
        match self.watches.remove(&watch).map(|open| open.turn) {
            Some(Turn::Waiting(key)) => drop(self.due.try_remove(&key)),
            Some(Turn::Looking { look, .. }) => look.abort(),
            None => {}
        }
        self.changed = true;
        self.fares.forget(&watch);
        let store = self.poller.store.clone();
        tokio::spawn(async move {
            // Nobody goes by it any more; one who has begun to meanwhile has written it, and keeps it.
            let reached = stored::read_reached(store.as_ref(), &watch).await?;
            let (key, expect) = (stored::reached_key(&watch), Expect::Revision(reached.revision));
            if reached.revision != 0 {
                store.write(Write { key, value: None, expect }).await?;
            }
            Ok::<(), StoreError>(())
        });
    }

    /// Tells which watches are open, where that has changed.
    fn tell_open(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let of = |(name, watch): (&WatchName, &Watch)| {
            let first = watch.members.values().min_by(|a, b| a.trigger.name.cmp(&b.trigger.name))?;
            Some((name.clone(), first.trigger.clone()))
        };
        self.open.0.send_replace(Some(Arc::new(self.watches.iter().filter_map(of).collect())));
    }

    /// Makes a watch due within a time.
    pub(super) fn hasten(&mut self, watch: &WatchName, within: Duration) {
        match self.watches.get_mut(watch).map(|watch| &mut watch.turn) {
            Some(Turn::Waiting(key)) => {
                let at = Instant::now() + within;
                if self.due.deadline(key) > at {
                    self.due.reset_at(key, at);
                    self.fares.change(watch, |fare| fare.next_poll = Some(SystemTime::now() + within));
                }
            }
            Some(Turn::Looking { again, .. }) => *again = true,
            None => {}
        }
    }

    /// Starts a look of a watch that is due.
    pub(super) fn look(&mut self, watch: &WatchName) {
        let Some(open) = self.watches.get_mut(watch) else { return };
        let mut sought: Vec<Sought> =
            open.members.values().map(|member| (member.trigger.clone(), member.alone)).collect();
        sought.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let connection = watch.connection();
        let limit = Arc::new(Semaphore::new(MAX_LOOKS_A_CONNECTION));
        let own = self.by_connection.entry(connection).or_insert(limit).clone();
        let (all, poller, watch) = (self.all.clone(), self.poller.clone(), watch.clone());
        let failed = self.fares.failures(&watch);
        let look = self.looks.spawn(async move {
            // Its own connection's place first: waiting for that one must not hold a place of all.
            let _own = own.acquire_owned().await;
            let _all = all.acquire_owned().await;
            let looked = AssertUnwindSafe(poller.look(&watch, &sought, failed)).catch_unwind().await;
            let broken = |_| Err(Fault::new(Code::Internal, "INTERNAL", "a look broke off").into());
            (watch, looked.unwrap_or_else(broken))
        });
        open.turn = Turn::Looking { look, again: false };
    }

    /// Says when the next look is due, after one that ended.
    pub(super) fn looked(&mut self, look: Id, watch: &WatchName, looked: Result<Looked, Error>) {
        self.by_connection.retain(|_, places| Arc::strong_count(places) > 1);
        let Some(open) = self.watches.get(watch) else { return };
        let again = match &open.turn {
            Turn::Looking { look: current, again } if current.id() == look => *again,
            _ => return,
        };
        let intervals = open.members.values().map(|member| interval(&member.trigger));
        let interval = intervals.min().unwrap_or(DEFAULT_INTERVAL);
        // How long the provider asks to be left alone, and how long to wait where it does not.
        let (asked, wait) = match looked {
            Ok(looked) => {
                let (behind, failure) = looked.behind.unzip();
                let behind = behind.unwrap_or_default();
                self.fares.succeeded(watch, &looked.told, &behind);
                let wait = if looked.more { Duration::ZERO } else { early(interval) };
                let asked = looked.retry_after.unwrap_or_default();
                match failure.map(Status::from) {
                    None => (asked, wait),
                    Some(status) => {
                        let failures = self.fares.failed_alone(&behind, &status);
                        (asked.max(told_failure(watch, &status)), back_off(interval, failures).min(interval))
                    }
                }
            }
            // Somebody else wrote the place: read it anew.
            Err(Error::Store(StoreError::Conflict { .. })) => (CONFLICT_PAUSE, CONFLICT_PAUSE),
            Err(error) => {
                let status = error.into();
                let failures = self.fares.failed(watch, &status);
                (told_failure(watch, &status), back_off(interval, failures))
            }
        };
        let asked = asked.min(MAX_QUIET);
        let wait = if again { asked } else { asked.max(wait) };
        let key = self.due.insert_at(watch.clone(), Instant::now() + wait);
        self.fares.change(watch, |fare| fare.next_poll = Some(SystemTime::now() + wait));
        if let Some(open) = self.watches.get_mut(watch) {
            open.turn = Turn::Waiting(key);
        }
    }
}

/// Logs a failure. Gives how long the provider asks to be left alone.
fn told_failure(watch: &WatchName, status: &Status) -> Duration {
    tracing::warn!(watch.name = %watch, code = ?status.code(), reason = reason_of(status), "a look failed");
    retry_after_of(status).unwrap_or_default()
}

/// A trigger's interval.
fn interval(trigger: &Trigger) -> Duration {
    trigger.interval.and_then(|interval| interval.try_into().ok()).unwrap_or(DEFAULT_INTERVAL)
}

/// The interval less up to a twentieth, so that watches made together drift apart and none is late.
fn early(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - fastrand::f64() / 20.0)
}

/// How long to wait after so many failures in a row: the interval, doubled each time, up to a bound, less up to a tenth.
pub(super) fn back_off(interval: Duration, failures: u32) -> Duration {
    let doubled = interval.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACK_OFF.max(interval)).mul_f64(1.0 - fastrand::f64() / 10.0)
}
