//! The clock: the one task that owns the times of all watches.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _};
use postern_chassis::fault::{Fault, reason_of, retry_after_of};
use postern_proto::event::v1::TriggerState;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tonic::{Code, Status};

use super::open::{Member, Turn, Watch};
use super::waits::{PUSHED_BACK_OFF, back_off, early, interval};
use super::{Nudge, OpenWatches};
use crate::connections;
use crate::error::Error;
use crate::store::{Change, Entry, Expect, StoreError, Write};
use crate::triggers::fares::Fares;
use crate::triggers::poll::{Looked, Poller};
use crate::triggers::stored;
use crate::triggers::watch::WatchName;

/// Looks at once, of all watches: each holds an answer of up to 4 MiB.
const MAX_LOOKS: usize = 64;
/// Looks at once for one connection: few providers take more for one account, and the others' turn comes too.
const MAX_LOOKS_A_CONNECTION: usize = 4;
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
    /// Watches whose places are being removed, until they are.
    pub(super) ending: HashMap<WatchName, CancellationToken>,
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
            ending: HashMap::new(),
            changed: true,
        }
    }

    pub(super) async fn run(mut self, mut nudged: mpsc::Receiver<Nudge>) {
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
                Some(nudge) = nudged.recv() => self.nudged(&nudge),
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
        } else if change.value.as_ref().is_some_and(connections::is_ready) {
            self.mended(&change.key);
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

    /// Makes the watches of a connection due that failed: it was changed, and may work now.
    fn mended(&mut self, connection: &str) {
        let failing = |watch: &&WatchName| watch.connection() == connection && self.fares.is_failing(watch);
        let failing: Vec<_> = self.watches.keys().filter(failing).cloned().collect();
        failing.iter().for_each(|watch| self.hasten(watch, Duration::ZERO));
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
            let mut open = Watch::new(Turn::Waiting(self.due.insert(watch.clone(), spread)));
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
        open.remove(name);
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
        self.end(watch);
    }

    /// Removes the place of a watch that nobody goes by any more. Looks of one of that name wait until it is done: a
    /// removal that came late would take the place that they have written, and who goes by it would begin anew.
    fn end(&mut self, watch: WatchName) {
        let (store, ended) = (self.poller.store.clone(), CancellationToken::new());
        self.ending.retain(|_, ended| !ended.is_cancelled());
        let before = self.ending.insert(watch.clone(), ended.clone());
        tokio::spawn(async move {
            let _ended = ended.drop_guard();
            if let Some(before) = before {
                before.cancelled().await;
            }
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
            // Any will do: what they watch is the same.
            Some((name.clone(), watch.members.values().next()?.trigger.clone()))
        };
        self.open.0.send_replace(Some(Arc::new(self.watches.iter().filter_map(of).collect())));
    }

    /// Takes a wish for a look.
    pub(super) fn nudged(&mut self, nudge: &Nudge) {
        match nudge {
            Nudge::Asked(watch) => self.hasten(watch, Duration::ZERO),
            Nudge::Pushed(watch) => {
                let Some(pace) = self.watches.get(watch).map(Watch::pace) else { return };
                let patience = if self.fares.is_failing(watch) { PUSHED_BACK_OFF } else { Duration::ZERO };
                self.hasten(watch, pace.max(patience));
            }
        }
    }

    /// Makes a watch due within a time, or as soon as its provider has had the quiet that it asked for.
    pub(super) fn hasten(&mut self, watch: &WatchName, within: Duration) {
        let Some(open) = self.watches.get_mut(watch) else { return };
        let at = (Instant::now() + within).max(open.quiet_until);
        match &mut open.turn {
            Turn::Waiting(key) => {
                if self.due.deadline(key) > at {
                    self.due.reset_at(key, at);
                    let within = at.saturating_duration_since(Instant::now());
                    self.fares.change(watch, |fare| fare.next_poll = Some(SystemTime::now() + within));
                }
            }
            Turn::Looking { again, .. } => *again = Some(again.map_or(at, |sooner| sooner.min(at))),
        }
    }

    /// Starts a look of a watch that is due.
    pub(super) fn look(&mut self, watch: &WatchName) {
        let Some(open) = self.watches.get_mut(watch) else { return };
        open.begin();
        let (sought, ending) = (open.sought(), self.ending.get(watch).cloned());
        let connection = watch.connection();
        let limit = Arc::new(Semaphore::new(MAX_LOOKS_A_CONNECTION));
        let own = self.by_connection.entry(connection).or_insert(limit).clone();
        let (all, poller, watch) = (self.all.clone(), self.poller.clone(), watch.clone());
        let failed = self.fares.failures(&watch);
        let look = self.looks.spawn(async move {
            if let Some(ending) = ending {
                ending.cancelled().await;
            }
            // Its own connection's place first: waiting for that one must not hold a place of all.
            let _own = own.acquire_owned().await;
            let _all = all.acquire_owned().await;
            let looked = AssertUnwindSafe(poller.look(&watch, &sought, failed)).catch_unwind().await;
            let broken = |_| Err(Fault::new(Code::Internal, "INTERNAL", "a look broke off").into());
            (watch, looked.unwrap_or_else(broken))
        });
        open.turn = Turn::Looking { look, again: None };
    }

    /// Says when the next look is due, after one that ended.
    pub(super) fn looked(&mut self, look: Id, watch: &WatchName, looked: Result<Looked, Error>) {
        self.by_connection.retain(|_, places| Arc::strong_count(places) > 1);
        let Some(open) = self.watches.get(watch) else { return };
        let again = match &open.turn {
            Turn::Looking { look: current, again } if current.id() == look => *again,
            _ => return,
        };
        let interval = open.interval();
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
        let (asked, now) = (asked.min(MAX_QUIET), Instant::now());
        let again = again.map(|at| at.saturating_duration_since(now));
        let wait = asked.max(again.map_or(wait, |again| again.min(wait)));
        let key = self.due.insert_at(watch.clone(), Instant::now() + wait);
        self.fares.change(watch, |fare| fare.next_poll = Some(SystemTime::now() + wait));
        if let Some(open) = self.watches.get_mut(watch) {
            (open.turn, open.quiet_until) = (Turn::Waiting(key), now + asked);
        }
    }
}

/// Logs a failure. Gives how long the provider asks to be left alone.
fn told_failure(watch: &WatchName, status: &Status) -> Duration {
    tracing::warn!(watch.name = %watch, code = ?status.code(), reason = reason_of(status), "a look failed");
    retry_after_of(status).unwrap_or_default()
}
