//! When each trigger is looked after: in its interval, sooner when nudged, later when its provider fails or asks for
//! quiet. One task owns the times; looks run beside it, bounded for all and for each connection, so that one broken
//! connection slows no other.
//!
//! It learns of triggers from the store alone, so that whoever changes one need not tell it.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _};
use postern_chassis::fault::Fault;
use postern_proto::event::v1::{PollFailure, Trigger, TriggerState, TriggerStatus};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;
use tonic::{Code, Status};

use super::poll::{Looked, Poller};
use super::stored;
use crate::connections::Connections;
use crate::error::Error;
use crate::store::{EventLog, Store, StoreError};

/// The interval of a trigger that names none.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
/// Looks at once, of all triggers: each holds an answer of up to 4 MiB.
const MAX_LOOKS: usize = 64;
/// Looks at once for one connection: few providers take more for one account, and the others' turn comes too.
const MAX_LOOKS_A_CONNECTION: usize = 4;
/// The longest wait after failures, unless the interval itself is longer.
const MAX_BACK_OFF: Duration = Duration::from_secs(300);
/// After a start, the first looks are spread over this time, or the interval where that is shorter.
const START_SPREAD: Duration = Duration::from_secs(5);
/// Nudges not yet seen. A nudge beyond is dropped: the interval stays as the fallback.
const MAX_NUDGES: usize = 1_024;
/// How many triggers are read from the store at a time.
const PAGE: usize = 500;
/// The longest quiet that a provider gets: one that asks for more is asked once a day.
const MAX_QUIET: Duration = Duration::from_secs(24 * 3_600);
/// How long to wait after a look whose place was written by somebody else meanwhile.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait before the store is asked again after it failed.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// The running schedule, as the rest of the gateway sees it.
#[derive(Clone)]
pub struct Schedule {
    nudges: mpsc::Sender<String>,
    fares: Arc<Mutex<HashMap<String, Fare>>>,
}

/// How a trigger fares, as far as this process knows.
#[derive(Debug, Clone, Default)]
struct Fare {
    last_poll: Option<SystemTime>,
    last_event: Option<SystemTime>,
    next_poll: Option<SystemTime>,
    failures: u32,
    last_failure: Option<PollFailure>,
}

impl Schedule {
    /// Starts the schedule. It ends when `stop` is cancelled; looks in flight are then dropped, which loses nothing.
    pub fn start(
        connections: Arc<Connections>,
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (nudges, nudged) = mpsc::channel(MAX_NUDGES);
        let schedule = Self { nudges, fares: Arc::default() };
        let clock = Clock {
            poller: Arc::new(Poller { connections, store, log }),
            fares: schedule.fares.clone(),
            due: DelayQueue::new(),
            watched: HashMap::new(),
            looks: JoinSet::new(),
            all: Arc::new(Semaphore::new(MAX_LOOKS)),
            by_connection: HashMap::new(),
        };
        let running = tokio::spawn(async move {
            tokio::select! {
                () = clock.run(nudged) => {}
                () = stop.cancelled() => {}
            }
        });
        (schedule, running)
    }

    /// Makes a trigger due now. Best effort: a nudge is never needed for an event to be told.
    pub fn nudge(&self, trigger: &str) {
        let _ = self.nudges.try_send(trigger.to_owned());
    }

    /// How a trigger fares.
    pub fn status(&self, trigger: &str) -> TriggerStatus {
        let fares = self.fares.lock().unwrap_or_else(PoisonError::into_inner);
        let fare = fares.get(trigger).cloned().unwrap_or_default();
        TriggerStatus {
            last_poll_time: fare.last_poll.map(Into::into),
            last_event_time: fare.last_event.map(Into::into),
            next_poll_time: fare.next_poll.map(Into::into),
            consecutive_failures: i32::try_from(fare.failures).unwrap_or(i32::MAX),
            last_failure: fare.last_failure,
            push_expire_time: None,
        }
    }
}

/// A trigger that is looked after.
struct Watched {
    trigger: Arc<Trigger>,
    turn: Turn,
}

/// Whose turn it is.
enum Turn {
    /// The queue's: it will be due.
    Waiting(Key),
    /// A look's, which this ends. `again`: it was nudged meanwhile, so the next look follows at once.
    Looking { look: AbortHandle, again: bool },
}

/// What a look's task gives back: the trigger's name, as it was looked after, and how it went.
type Ended = (Arc<Trigger>, Result<Looked, Error>);

/// The task that owns the times.
struct Clock {
    poller: Arc<Poller>,
    fares: Arc<Mutex<HashMap<String, Fare>>>,
    due: DelayQueue<String>,
    watched: HashMap<String, Watched>,
    looks: JoinSet<Ended>,
    all: Arc<Semaphore>,
    by_connection: HashMap<String, Arc<Semaphore>>,
}

impl Clock {
    async fn run(mut self, mut nudged: mpsc::Receiver<String>) {
        let mut changes = self.poller.store.watch();
        self.take_all().await;
        loop {
            tokio::select! {
                Some(due) = self.due.next() => self.look(&due.into_inner()),
                Some(ended) = self.looks.join_next_with_id() => match ended {
                    Ok((look, (trigger, looked))) => self.looked(look, &trigger, looked),
                    // Its trigger was changed, paused or deleted.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "a look ended unexpectedly"),
                },
                Some(name) = nudged.recv() => self.hasten(&name),
                change = changes.recv() => match change {
                    Ok(change) if change.key.starts_with(stored::TRIGGERS) => match change.value {
                        Some(entry) => self.take(&entry, Duration::ZERO),
                        None => self.drop_key(&change.key),
                    },
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.take_all().await,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    /// Reads all triggers anew: at the start, and when changes were missed.
    async fn take_all(&mut self) {
        let mut seen = HashSet::new();
        let mut after = String::new();
        loop {
            let page = match self.poller.store.list(stored::TRIGGERS, &after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "triggers cannot be read");
                    tokio::time::sleep(STORE_PATIENCE).await;
                    continue;
                }
            };
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for entry in &page {
                seen.insert(entry.key.clone());
                self.take(entry, START_SPREAD);
            }
        }
        let keys = self.watched.keys().map(|name| stored::trigger_key(name));
        let gone = keys.filter(|key| !seen.contains(key));
        for key in gone.collect::<Vec<_>>() {
            self.drop_key(&key);
        }
    }

    /// Takes a trigger as it now is: due within `spread`.
    fn take(&mut self, entry: &crate::store::Entry, spread: Duration) {
        let Some(trigger) = stored::decode(entry) else {
            tracing::error!(key = entry.key, "a trigger's record does not decode");
            return;
        };
        if trigger.state() == TriggerState::Paused {
            return self.drop_key(&entry.key);
        }
        let name = trigger.name.clone();
        let trigger = Arc::new(trigger);
        match self.watched.get_mut(&name) {
            Some(watched) if watched.trigger.etag == trigger.etag => {}
            Some(watched) => {
                watched.trigger = trigger;
                // What a look in flight sees was asked for by what the trigger was.
                if let Turn::Looking { look, .. } = &watched.turn {
                    look.abort();
                    watched.turn = Turn::Waiting(self.due.insert(name, Duration::ZERO));
                } else {
                    self.hasten(&name);
                }
            }
            None => {
                let spread = spread.min(interval(&trigger)).mul_f64(fastrand::f64());
                let key = self.due.insert(name.clone(), spread);
                self.fare(&name, |fare| fare.next_poll = Some(SystemTime::now() + spread));
                self.watched.insert(name, Watched { trigger, turn: Turn::Waiting(key) });
            }
        }
    }

    /// Forgets a trigger that was deleted or paused, and ends the look after it.
    fn drop_key(&mut self, key: &str) {
        let name = stored::name_of(key);
        match self.watched.remove(&name).map(|watched| watched.turn) {
            Some(Turn::Waiting(key)) => drop(self.due.try_remove(&key)),
            Some(Turn::Looking { look, .. }) => look.abort(),
            None => {}
        }
        let mut fares = self.fares.lock().unwrap_or_else(PoisonError::into_inner);
        fares.remove(&name);
    }

    /// Makes a trigger due now.
    fn hasten(&mut self, name: &str) {
        match self.watched.get_mut(name).map(|watched| &mut watched.turn) {
            Some(Turn::Waiting(key)) => self.due.reset(key, Duration::ZERO),
            Some(Turn::Looking { again, .. }) => *again = true,
            None => {}
        }
    }

    /// Starts a look after a trigger that is due.
    fn look(&mut self, name: &str) {
        let Some(watched) = self.watched.get_mut(name) else { return };
        let trigger = watched.trigger.clone();
        let connection = name.split("/triggers/").next().unwrap_or(name).to_owned();
        let limit = Arc::new(Semaphore::new(MAX_LOOKS_A_CONNECTION));
        let own = self.by_connection.entry(connection).or_insert(limit).clone();
        let (all, poller) = (self.all.clone(), self.poller.clone());
        let look = self.looks.spawn(async move {
            // Its own connection's place first: waiting for that one must not hold a place of all.
            let _own = own.acquire_owned().await;
            let _all = all.acquire_owned().await;
            let looked = AssertUnwindSafe(poller.look(&trigger)).catch_unwind().await;
            let broken = |_| Err(Fault::new(Code::Internal, "INTERNAL", "a look broke off").into());
            (trigger, looked.unwrap_or_else(broken))
        });
        watched.turn = Turn::Looking { look, again: false };
    }

    /// Says when the next look is due, after one that ended.
    fn looked(&mut self, look: Id, trigger: &Trigger, looked: Result<Looked, Error>) {
        self.by_connection.retain(|_, places| Arc::strong_count(places) > 1);
        let Some(watched) = self.watched.get(&trigger.name) else { return };
        let again = match &watched.turn {
            Turn::Looking { look: current, again } if current.id() == look => *again,
            _ => return,
        };
        let interval = interval(&watched.trigger);
        // How long the provider asks to be left alone, and how long to wait where it does not.
        let (asked, wait) = match looked {
            Ok(looked) => {
                self.fare(&trigger.name, |fare| {
                    let now = SystemTime::now();
                    fare.last_poll = Some(now);
                    fare.last_event = if looked.told { Some(now) } else { fare.last_event };
                    (fare.failures, fare.last_failure) = (0, None);
                });
                let wait = if looked.more { Duration::ZERO } else { early(interval) };
                (looked.retry_after.unwrap_or_default(), wait)
            }
            // Somebody else wrote the place: read it anew.
            Err(Error::Store(StoreError::Conflict { .. })) => (CONFLICT_PAUSE, CONFLICT_PAUSE),
            Err(error) => self.failed(&trigger.name, interval, error.into()),
        };
        let asked = asked.min(MAX_QUIET);
        let wait = if again { asked } else { asked.max(wait) };
        let key = self.due.insert_at(trigger.name.clone(), Instant::now() + wait);
        self.fare(&trigger.name, |fare| fare.next_poll = Some(SystemTime::now() + wait));
        if let Some(watched) = self.watched.get_mut(&trigger.name) {
            watched.turn = Turn::Waiting(key);
        }
    }

    /// Notes a failure. Gives how long the provider asks to be left alone, and how long to wait where it does not.
    fn failed(&mut self, name: &str, interval: Duration, status: Status) -> (Duration, Duration) {
        let reason = postern_chassis::fault::reason_of(&status);
        let asked = postern_chassis::fault::retry_after_of(&status).unwrap_or_default();
        tracing::warn!(trigger.name = name, code = ?status.code(), reason, "a look failed");
        let mut failures = 0;
        self.fare(name, |fare| {
            fare.failures = fare.failures.saturating_add(1);
            failures = fare.failures;
            let message = status.message().to_owned();
            fare.last_failure =
                Some(PollFailure { code: status.code() as i32, reason: reason.clone(), message });
        });
        (asked, back_off(interval, failures))
    }

    fn fare(&self, name: &str, change: impl FnOnce(&mut Fare)) {
        let mut fares = self.fares.lock().unwrap_or_else(PoisonError::into_inner);
        change(fares.entry(name.to_owned()).or_default());
    }
}

/// A trigger's interval.
fn interval(trigger: &Trigger) -> Duration {
    trigger.interval.and_then(|interval| interval.try_into().ok()).unwrap_or(DEFAULT_INTERVAL)
}

/// The interval less up to a twentieth, so that triggers made together drift apart and none is late.
fn early(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - fastrand::f64() / 20.0)
}

/// How long to wait after so many failures in a row: the interval, doubled each time, up to a bound, less up to a tenth.
fn back_off(interval: Duration, failures: u32) -> Duration {
    let doubled = interval.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACK_OFF.max(interval)).mul_f64(1.0 - fastrand::f64() / 10.0)
}

#[cfg(test)]
mod tests;
