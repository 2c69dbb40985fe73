//! Device codes are asked about for as long as nobody has typed them, by one gateway at a time: whoever writes down that
//! it asks. What has ended is kept for a day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use postern_proto::connection::v1::{SignInKind, SignInState};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

use super::record::{self, EXPIRED, Name, Record, SIGN_INS, Stored, time};
use super::{COMPLETE_TIMEOUT, failure, told};
use crate::connections::Room;
use crate::error::Error;
use crate::store::{Change, Expect, StoreError, Write};

/// Questions at once: each is a call to a provider.
const MAX_AT_ONCE: usize = 16;
/// The longest wait between two questions where the provider is out of order.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long to wait where somebody else was first, or storage failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a sign-in is kept.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How often what is kept is looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// How many records are read at a time.
const PAGE: usize = 500;

/// A device code that is asked about.
struct Kept {
    /// When it is due; `None`: it is being asked about.
    due: Option<delay_queue::Key>,
    failures: u32,
}

/// How a question ended.
enum Next {
    /// There is nothing more to ask.
    Ended,
    /// To be asked again after a while.
    Again(Duration),
    /// The same, for it failed.
    Failed(Duration),
}

/// The task that owns the times.
struct Asking {
    room: Arc<Room>,
    due: DelayQueue<Name>,
    kept: HashMap<Name, Kept>,
    questions: JoinSet<(Name, Next)>,
    places: Arc<Semaphore>,
}

/// Asks about device codes and forgets what is old, for as long as it is polled.
pub(in crate::connections) async fn keep(mut changes: Receiver<Change>, room: Arc<Room>) {
    let mut asking = Asking {
        room,
        due: DelayQueue::new(),
        kept: HashMap::new(),
        questions: JoinSet::new(),
        places: Arc::new(Semaphore::new(MAX_AT_ONCE)),
    };
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(due) = asking.due.next() => asking.ask(due.into_inner()),
            Some(Ok((name, next))) = asking.questions.join_next() => asking.asked(name, next),
            _ = sweep.tick() => asking.look_through().await,
            change = changes.recv() => match change {
                Ok(change) => asking.hear(&change),
                Err(RecvError::Lagged(_)) => asking.look_through().await,
                Err(RecvError::Closed) => return,
            },
        }
    }
}

impl Asking {
    fn hear(&mut self, change: &Change) {
        let Some(name) = Name::of_key(&change.key) else { return };
        match change.value.as_ref().and_then(Stored::read) {
            Some(stored) => self.take(name, &stored),
            None => self.leave(&name),
        }
    }

    /// Takes a sign-in as it now is.
    fn take(&mut self, name: Name, stored: &Stored) {
        let record = &stored.record;
        if record.kind() != SignInKind::DeviceCode || record.state() != SignInState::Pending {
            return self.leave(&name);
        }
        let now = SystemTime::now();
        let wait =
            time(record.busy_until).and_then(|until| until.duration_since(now).ok()).unwrap_or_default();
        let at = Instant::now() + wait;
        match self.kept.get_mut(&name) {
            Some(Kept { due: Some(due), .. }) => self.due.reset_at(due, at),
            // It is being asked about here.
            Some(Kept { due: None, .. }) => {}
            None => {
                let due = Some(self.due.insert_at(name.clone(), at));
                self.kept.insert(name, Kept { due, failures: 0 });
            }
        }
    }

    fn leave(&mut self, name: &Name) {
        if let Some(Kept { due: Some(due), .. }) = self.kept.remove(name) {
            self.due.try_remove(&due);
        }
    }

    /// Starts to ask about one that is due.
    fn ask(&mut self, name: Name) {
        let Some(kept) = self.kept.get_mut(&name) else { return };
        kept.due = None;
        let (room, places) = (self.room.clone(), self.places.clone());
        // Apart from this task: an answer with a grant must be stored, whatever becomes of who waits for it.
        let question = tokio::spawn(async move {
            let _place = places.acquire_owned().await;
            let next = room.ask_about(&name).await.unwrap_or_else(|error| {
                let (code, reason) = told(error);
                tracing::warn!(
                    connection.name = name.connection,
                    ?code,
                    reason,
                    "a device code cannot be asked about"
                );
                Next::Failed(PAUSE)
            });
            (name, next)
        });
        self.questions.spawn(async move {
            match question.await {
                Ok(asked) => asked,
                // It broke off with the runtime.
                Err(_) => std::future::pending().await,
            }
        });
    }

    fn asked(&mut self, name: Name, next: Next) {
        let Some(kept) = self.kept.get_mut(&name) else { return };
        let wait = match next {
            Next::Ended => {
                self.kept.remove(&name);
                return;
            }
            Next::Again(wait) => {
                kept.failures = 0;
                wait
            }
            Next::Failed(wait) => {
                kept.failures = kept.failures.saturating_add(1);
                wait.saturating_mul(1 << kept.failures.min(6)).min(MAX_WAIT.max(wait))
            }
        };
        kept.due = Some(self.due.insert(name, wait));
    }

    /// Looks through all sign-ins: takes up what is to be asked about, ends what nobody did in time, forgets what is old.
    async fn look_through(&mut self) {
        let mut after = String::new();
        loop {
            let page = match self.room.store.list(SIGN_INS, &after, PAGE).await {
                Ok(page) => page,
                Err(error) => return tracing::warn!(%error, "sign-ins cannot be read"),
            };
            let Some(last) = page.last() else { return };
            after.clone_from(&last.key);
            let now = SystemTime::now();
            for entry in &page {
                let found = Name::of_key(&entry.key).zip(Stored::read(entry));
                let made = found.as_ref().and_then(|(_, stored)| time(stored.record.create_time));
                if made.is_none_or(|made| made + KEPT <= now) {
                    let (key, expect) = (entry.key.clone(), Expect::Revision(entry.revision));
                    let _ = self.room.store.write(Write { key, value: None, expect }).await;
                } else if let Some((name, stored)) = found {
                    if stored.record.state() == SignInState::Pending && stored.is_over(now) {
                        // Who goes on with it at this moment wins.
                        let _ = self.room.fail_sign_in(&name, &stored, EXPIRED.0, EXPIRED.1).await;
                    } else {
                        self.take(name, &stored);
                    }
                }
            }
        }
    }
}

impl Room {
    /// Asks about a device code, once.
    async fn ask_about(&self, name: &Name) -> Result<Next, Error> {
        let now = SystemTime::now();
        let Some(found) = record::read(self.store.as_ref(), name).await? else { return Ok(Next::Ended) };
        if found.record.state() != SignInState::Pending {
            return Ok(Next::Ended);
        }
        if let Some(wait) = time(found.record.busy_until).and_then(|until| until.duration_since(now).ok()) {
            return Ok(Next::Again(wait));
        }
        if found.is_over(now) {
            self.fail_sign_in(name, &found, EXPIRED.0, EXPIRED.1).await?;
            return Ok(Next::Ended);
        }
        let busy = |after: Duration| Some((SystemTime::now() + after).into());
        let taken = Record { busy_until: busy(COMPLETE_TIMEOUT + PAUSE), ..found.record };
        let taken = match record::write(self.store.as_ref(), name, found.revision, taken).await {
            Err(StoreError::Conflict { .. }) => return Ok(Next::Again(PAUSE)),
            taken => taken?,
        };
        let interval = |wait: Option<prost_types::Duration>| {
            wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or(PAUSE).clamp(PAUSE, MAX_WAIT)
        };
        match self.ask_to_complete(name, &taken, "").await {
            Ok(answer) if !answer.grant.is_empty() => {
                self.signed_in(name, &taken, &answer).await?;
                Ok(Next::Ended)
            }
            Ok(answer) => {
                let wait = interval(answer.poll_interval.or(taken.record.poll_interval));
                let poll_interval = answer.poll_interval.or(taken.record.poll_interval);
                let waiting = Record { busy_until: busy(wait), poll_interval, ..taken.record };
                record::write(self.store.as_ref(), name, taken.revision, waiting).await?;
                Ok(Next::Again(wait))
            }
            // The connection is gone, and this with it.
            Err(Error::NotFound(..)) => Ok(Next::Ended),
            Err(error) => match failure(&error) {
                Some((reason, message)) => {
                    self.fail_sign_in(name, &taken, &reason, &message).await?;
                    Ok(Next::Ended)
                }
                None => {
                    let (code, reason) = told(error);
                    tracing::warn!(
                        connection.name = name.connection,
                        ?code,
                        reason,
                        "a device code is to be asked about again"
                    );
                    let wait = interval(taken.record.poll_interval);
                    let waiting = Record { busy_until: busy(wait), ..taken.record };
                    record::write(self.store.as_ref(), name, taken.revision, waiting).await?;
                    Ok(Next::Failed(wait))
                }
            },
        }
    }
}
