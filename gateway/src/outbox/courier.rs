//! The courier: the one task that owns the times of all queued mails. It learns of them from the store alone, so that
//! whoever queues, cancels or retries one need not tell it; what a mail says is read only when it is due.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _};
use postern_proto::outbox::v1::QueuedEmailState;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::attempt::{Attempted, Bench, Ended};
use super::lines::Lines;
use super::record::{OUTBOX, Stored};
use super::tally::Tally;
use crate::connections;
use crate::leases::Owned;
use crate::store::{Change, Revision};

/// Mails that are handed over at once through all connections: each is held in memory, up to 3 MiB a few times over.
const MAX_AT_ONCE: usize = 32;
/// How many records are read from the store at a time.
const PAGE: usize = 200;
/// How long to wait before the store is asked again after it failed.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// The longest that the time of a scheduled mail is trusted to come as clocks said: they may be set meanwhile.
const RECHECK: Duration = Duration::from_secs(10 * 60);

/// The task that owns the times.
pub(super) struct Courier {
    bench: Arc<Bench>,
    tally: Tally,
    due: DelayQueue<Due>,
    mails: HashMap<Arc<str>, Mail>,
    lines: Lines,
    sending: JoinSet<(Arc<str>, Attempted)>,
    /// The names of connections, each held once.
    names: HashMap<Arc<str>, usize>,
}

/// What comes due.
enum Due {
    /// A mail.
    Mail(Arc<str>),
    /// The end of the time for which a connection's line is held.
    Line(Arc<str>),
}

/// A mail that waits, in so far as it must be known before it is due.
struct Mail {
    connection: Arc<str>,
    revision: Revision,
    turn: Turn,
    /// Not before this time, by the clock of the wall. Absent: when its wait is over.
    not_before: Option<SystemTime>,
    /// Whether it waits for its connection to be signed in anew.
    for_sign_in: bool,
}

enum Turn {
    /// Until it is due.
    Waiting(Key),
    /// In its connection's line.
    Ready,
    /// Being handed over; what was heard of it meanwhile.
    Sending(Option<Box<Stored>>),
    /// For another gateway to deliver it.
    Elsewhere,
}

impl Courier {
    pub(super) fn new(bench: Arc<Bench>, tally: Tally) -> Self {
        Self {
            bench,
            tally,
            due: DelayQueue::new(),
            mails: HashMap::new(),
            lines: Lines::default(),
            sending: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// Works until `stop` is cancelled; what is being handed over then has `grace` to come to its end.
    pub(super) async fn run(mut self, stop: CancellationToken, grace: Duration) {
        tokio::select! {
            () = self.work() => {}
            () = stop.cancelled() => {}
        }
        let ending = async { while self.sending.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ending).await.is_err() {
            tracing::warn!("queued mails were still being handed over at the end of the grace period");
        }
    }

    async fn work(&mut self) {
        let mut owned = self.bench.leases.changes();
        let mut changes = self.bench.store.watch();
        self.take_all().await;
        loop {
            self.send_some();
            tokio::select! {
                Some(due) = self.due.next() => self.came(due.into_inner()),
                Some(ended) = self.sending.join_next() => match ended {
                    Ok((name, attempted)) => self.ended(&name, attempted),
                    Err(error) => tracing::error!(%error, "an attempt ended unexpectedly"),
                },
                Ok(()) = owned.changed() => {
                    let now = *owned.borrow_and_update();
                    self.look_again(now);
                }
                change = changes.recv() => match change {
                    Ok(change) => self.hear(&change),
                    Err(RecvError::Lagged(_)) => self.take_all().await,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    /// Takes every mail that lies in the store, and leaves those that do not any more.
    async fn take_all(&mut self) {
        let (mut after, mut gone) = (String::new(), self.mails.keys().cloned().collect::<HashSet<_>>());
        loop {
            let page = match self.bench.store.list(OUTBOX, &after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "queued mails cannot be read");
                    tokio::time::sleep(STORE_PATIENCE).await;
                    continue;
                }
            };
            for stored in page.iter().flat_map(Stored::decode) {
                gone.remove(stored.record.name());
                self.take(stored);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after.clone_from(&last.key),
                _ => break,
            }
        }
        for name in gone {
            self.leave(&name);
        }
    }

    /// Takes a change of the store.
    fn hear(&mut self, change: &Change) {
        if change.key.starts_with(OUTBOX) {
            match &change.value {
                Some(entry) => {
                    if let Ok(stored) = Stored::decode(entry) {
                        self.take(stored);
                    }
                }
                None => self.leave(&change.key),
            }
        } else if let Some((connection, usable)) = connections::told_usable(change)
            && let Some((connection, _)) = self.names.get_key_value(connection)
        {
            let connection = connection.clone();
            if !usable {
                // It was deleted: nothing is asked of its provider any more.
                self.lines.release(&connection, None);
            }
            self.hasten(&connection, !usable);
        }
    }

    /// Takes a mail as it now is.
    fn take(&mut self, stored: Stored) {
        let Stored { record, revision } = &stored;
        let name = record.name();
        if let Some(Mail { turn: Turn::Sending(heard), .. }) = self.mails.get_mut(name) {
            // Its end says where it goes on; what somebody did after that end may be heard before it.
            *heard = Some(Box::new(stored));
            return;
        }
        if self.mails.get(name).is_some_and(|known| known.revision >= *revision) {
            return;
        }
        if record.is_settled() {
            return self.leave(name);
        }
        let refusal =
            record.email().last_failure.as_ref().filter(|_| record.state() == QueuedEmailState::Deferred);
        let shut = [connections::CREDENTIALS_REFUSED, connections::CONFIGURATION_REFUSED];
        let for_sign_in = refusal.is_some_and(|failure| shut.contains(&failure.reason.as_str()));
        let (due, now) = (record.due(), SystemTime::now());
        let left = due.duration_since(now).unwrap_or_default();
        let (wait, not_before) = match record.longest_wait() {
            Some(longest) => (left.min(longest), None),
            None => (left.min(RECHECK), Some(due)),
        };
        let (name, connection): (Arc<str>, _) = match self.mails.get_key_value(name) {
            Some((name, known)) => (name.clone(), known.connection.clone()),
            None => (name.into(), self.named(record.connection())),
        };
        self.tally.seen(name.clone(), record.bytes);
        let (turn, revision) = match self.mails.remove(&name) {
            // Its attempt finds that it has changed, and it is taken anew.
            Some(Mail { turn: Turn::Ready, revision, .. }) => (Turn::Ready, revision),
            Some(Mail { turn: Turn::Waiting(key), .. }) => {
                self.due.reset(&key, wait);
                (Turn::Waiting(key), *revision)
            }
            _ => (Turn::Waiting(self.due.insert(Due::Mail(name.clone()), wait)), *revision),
        };
        let mail = Mail { connection, revision, turn, not_before, for_sign_in };
        self.mails.insert(name, mail);
    }

    /// Forgets a mail that is settled or gone.
    fn leave(&mut self, name: &str) {
        self.tally.gone(name);
        if matches!(self.mails.get(name), Some(Mail { turn: Turn::Sending(_), .. })) {
            return;
        }
        let Some(mail) = self.mails.remove(name) else { return };
        if let Turn::Waiting(key) = mail.turn {
            self.due.try_remove(&key);
        }
        self.forget_name(&mail.connection);
    }

    /// What came due.
    fn came(&mut self, due: Due) {
        match due {
            Due::Line(connection) => {
                if let Some(until) = self.lines.release(&connection, Some(Instant::now())) {
                    self.due.insert_at(Due::Line(connection), until);
                }
            }
            Due::Mail(name) => {
                let Some(mail) = self.mails.get_mut(&name) else { return };
                let left = mail.not_before.and_then(|due| due.duration_since(SystemTime::now()).ok());
                match left.filter(|left| !left.is_zero()) {
                    Some(left) => {
                        let key = self.due.insert(Due::Mail(name), left.min(RECHECK));
                        mail.turn = Turn::Waiting(key);
                    }
                    None => {
                        mail.turn = Turn::Ready;
                        let connection = mail.connection.clone();
                        self.lines.join(&connection, name);
                    }
                }
            }
        }
    }

    /// Makes mails of a connection due that wait: all of them, or those that wait for its sign-in.
    fn hasten(&mut self, connection: &Arc<str>, all: bool) {
        for mail in self.mails.values_mut() {
            if mail.connection != *connection || !(all || mail.for_sign_in) {
                continue;
            }
            mail.for_sign_in = false;
            if let Turn::Waiting(key) = &mail.turn {
                mail.not_before = None;
                self.due.reset(key, Duration::ZERO);
            }
        }
    }

    /// Looks whether mails that were another gateway's are this one's now.
    fn look_again(&mut self, owned: Owned) {
        for (name, mail) in &mut self.mails {
            if matches!(mail.turn, Turn::Elsewhere) && owned.owns(name) {
                mail.turn = Turn::Waiting(self.due.insert(Due::Mail(name.clone()), Duration::ZERO));
            }
        }
    }

    /// Begins attempts, as many as may be made at once.
    fn send_some(&mut self) {
        while self.sending.len() < MAX_AT_ONCE {
            let Some((connection, name)) = self.lines.next() else { return };
            // One that was settled while it stood in line gives its place away.
            let Some(mail) = self.mails.get_mut(&name).filter(|mail| matches!(mail.turn, Turn::Ready)) else {
                self.lines.ended(&connection);
                continue;
            };
            mail.turn = Turn::Sending(None);
            let (bench, revision) = (self.bench.clone(), mail.revision);
            self.sending.spawn(async move {
                let attempt = AssertUnwindSafe(bench.attempt(&name, revision)).catch_unwind().await;
                let broken = |_| Attempted { ended: Ended::NotBegun, quiet: None };
                (name, attempt.unwrap_or_else(broken))
            });
        }
    }

    /// Goes on with a mail whose attempt has ended.
    fn ended(&mut self, name: &Arc<str>, Attempted { ended, quiet }: Attempted) {
        let Some(mut mail) = self.mails.remove(name) else { return };
        let connection = mail.connection.clone();
        if let Some(quiet) = quiet {
            let until = Instant::now() + quiet;
            self.lines.hold(&connection, until);
            self.due.insert_at(Due::Line(connection.clone()), until);
        }
        self.lines.ended(&connection);
        let heard = match std::mem::replace(&mut mail.turn, Turn::Elsewhere) {
            Turn::Sending(heard) => heard,
            _ => None,
        };
        match ended {
            // Where a lease is on its way, its coming or going is not heard of a second time.
            Ended::Elsewhere if !self.bench.leases.changes().borrow().owns(name) => {
                self.mails.insert(name.clone(), mail);
            }
            Ended::Elsewhere | Ended::NotBegun => {
                mail.turn = Turn::Waiting(self.due.insert(Due::Mail(name.clone()), STORE_PATIENCE));
                self.mails.insert(name.clone(), mail);
            }
            Ended::Over => {
                self.tally.gone(name);
                self.forget_name(&connection);
            }
            Ended::Waits(stored) => {
                self.forget_name(&connection);
                self.take(*stored);
            }
        }
        if let Some(heard) = heard {
            self.take(*heard);
        }
    }

    /// A connection's name, held once for all its mails.
    fn named(&mut self, connection: &str) -> Arc<str> {
        let name = self.names.get_key_value(connection).map(|(name, _)| name.clone());
        let name = name.unwrap_or_else(|| connection.into());
        *self.names.entry(name.clone()).or_default() += 1;
        name
    }

    fn forget_name(&mut self, connection: &Arc<str>) {
        if let Some(mails) = self.names.get_mut(connection) {
            *mails -= 1;
            if *mails == 0 {
                self.names.remove(connection);
            }
        }
    }
}
