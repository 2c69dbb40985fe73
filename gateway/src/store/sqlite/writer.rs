//! The one writer: a thread that takes whatever waits, commits it as one group, and then answers each. A request whose
//! expectations do not hold is answered so and leaves its neighbours alone.

mod group;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot};

use self::group::{Group, Pace, taken_within};
use super::apply::{self, Found, Outcome, Pending};
use super::checkpoint::Checkpoints;
use super::failed;
use super::folder::Folder;
use super::index::Index;
use super::records::Records;
use super::schema::write_counters;
use crate::store::tail::{Counters, Tail};
use crate::store::{Appended, Change, Commit, NewEvent, Retention, Revision, StoreError};

/// Requests that may wait. Beyond them callers wait for room: a disk that is too slow slows whoever writes.
pub(super) const QUEUE: usize = 256;
/// How long the thread stays awake after a commit at most, and at most this part of what that took: one caller who writes
/// again and again asks within less, and to be woken takes longer than that.
const AWAKE: Duration = Duration::from_micros(60);
const AWAKE_PART: u32 = 4;
/// A group of so many is answered from the writer's own thread.
const FEW: usize = 4;
/// The most rows that one trim request removes: a commit of a few milliseconds, and others get their turn in between.
pub(super) const TRIM_EVENTS: usize = 1_000;

/// What is asked of the writer.
pub(super) enum Request {
    /// Append events and make writes, where what is expected holds.
    Commit { commit: Commit, answer: Answer<Done> },
    /// Append events that another log recorded, at those times.
    Restore { events: Vec<(NewEvent, i64)>, answer: Answer<Done> },
    /// Remove the oldest events that retention has passed, up to [`TRIM_EVENTS`].
    Trim { retention: Retention, answer: Answer<u64> },
    /// Give the record of a key, if there is one.
    Recall { key: String, answer: Answer<Found> },
    /// Give up to so many records, in the order of their last writes: those after a revision.
    Records { after: Revision, limit: usize, answer: Answer<Found> },
    /// Forget some of the records that were written before a revision. Answers with how many rows they were.
    Forget { before: Revision, answer: Answer<u64> },
    /// Stop, after what was asked before.
    Close { answer: oneshot::Sender<()> },
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What an append has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) appended: Appended,
    /// The revision of the last write.
    pub(super) revision: Revision,
}

/// The writer's own: nobody else writes.
pub(super) struct Writer {
    pub(super) connection: Connection,
    /// Absent: SQLite moves its log itself.
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) counters: Counters,
    pub(super) ids: Index,
    pub(super) records: Records,
    pub(super) tail: Arc<Tail>,
    pub(super) changes: broadcast::Sender<Change>,
    /// Where those who ask wait, if that is one runtime.
    pub(super) runtime: Option<Handle>,
    /// Locked until the last commit is made.
    pub(super) folder: Option<Folder>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(self, requests: mpsc::Receiver<Request>) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || self.run(requests))
    }

    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let (mut before, mut closing) = (Pace::default(), None);
        while closing.is_none() {
            let awake = AWAKE.min(before.took / AWAKE_PART);
            let first = taken_within(&mut requests, awake, awake);
            let Some(first) = first.or_else(|| requests.blocking_recv()) else { break };
            let mut group = Group::new(first, &mut requests, before);
            self.commit(&mut group);
            (before, closing) = group.end();
        }
        drop(self.checkpoints);
        // Their filters may still be reading.
        drop((self.ids, self.records));
        // The last connection of all to close folds the write-ahead log into the database; then the lock goes.
        drop(self.connection);
        drop(self.folder);
        if let Some(answer) = closing {
            let _ = answer.send(());
        }
    }

    /// Commits a group, whose requests are done as they come, and then answers each of it.
    pub(super) fn commit(&mut self, group: impl IntoIterator<Item = Request>) {
        let mut group = group.into_iter();
        let mut asked = Vec::from_iter(group.next());
        if asked.is_empty() {
            return;
        }
        match self.transact(&mut asked, group) {
            Ok((outcomes, pending)) => {
                self.counters = pending.counters;
                let bytes: usize = pending.events.iter().map(|event| event.encoded.len()).sum();
                let pages = pending.pages + 3 + bytes / 3_000;
                self.tail.publish(pending.counters, pending.events);
                for change in pending.changes {
                    // Nobody may be watching.
                    let _ = self.changes.send(change);
                }
                self.answer(Answers(asked.into_iter().zip(outcomes).collect()));
                if let Some(checkpoints) = &mut self.checkpoints {
                    checkpoints.grown(&self.connection, pages as u64);
                }
            }
            Err(error) => {
                let error = failed(&error);
                tracing::error!(%error, requests = asked.len(), "a commit failed, nothing of it was written");
                for request in asked {
                    answer(request, Outcome::Refused(error.clone()));
                }
            }
        }
    }

    /// Answers a group.
    fn answer(&self, answers: Answers) {
        match &self.runtime {
            // To wake one who waits is a matter of the runtime's own threads: from this one each costs several times that.
            Some(runtime) if answers.0.len() > FEW => drop(runtime.spawn(async move { drop(answers) })),
            _ => drop(answers),
        }
    }

    /// All of the group in one transaction, which an error undoes whole: what was asked so far, and what else comes of it,
    /// which is then asked too.
    fn transact(
        &mut self,
        asked: &mut Vec<Request>,
        group: impl Iterator<Item = Request>,
    ) -> rusqlite::Result<(Vec<Outcome>, Pending)> {
        let done = self.attempt(asked, group);
        if done.is_ok() {
            self.ids.keep();
            self.records.keep();
        } else {
            self.ids.undo();
            self.records.undo();
        }
        done
    }

    fn attempt(
        &mut self,
        asked: &mut Vec<Request>,
        mut group: impl Iterator<Item = Request>,
    ) -> rusqlite::Result<(Vec<Outcome>, Pending)> {
        let (ids, records) = (&mut self.ids, &mut self.records);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut pending = Pending::new(self.counters);
        let mut outcomes = Vec::new();
        let mut changed = false;
        while let Some(request) = asked.get(outcomes.len()) {
            pending.look_at_clock();
            outcomes.push(match request {
                Request::Commit { commit, .. } => {
                    apply::commit(&transaction, &mut pending, ids, records, commit)?
                }
                Request::Restore { events, .. } => apply::restore(&transaction, &mut pending, ids, events)?,
                Request::Trim { retention, .. } => apply::trim(&transaction, &mut pending, ids, *retention)?,
                Request::Recall { key, .. } => {
                    let records = records.get(&transaction, key)?.into_iter().collect();
                    Outcome::Found(Found { records, up_to: pending.counters.revision })
                }
                Request::Records { after, limit, .. } => {
                    let records = records.list(&transaction, *after, *limit)?;
                    Outcome::Found(Found { records, up_to: pending.counters.revision })
                }
                Request::Forget { before, .. } => {
                    let forgotten = records.forget(&transaction, *before, pending.counters.revision)?;
                    changed |= forgotten > 0;
                    Outcome::Removed(forgotten)
                }
                Request::Close { .. } => Outcome::Removed(0),
            });
            asked.extend(group.next());
        }
        changed |= pending.counters != self.counters;
        if !changed {
            // Nothing to make durable: spare the disk.
            transaction.rollback()?;
        } else {
            pending.write(&transaction)?;
            pending.pages += records.write(&transaction)?;
            pending.pages += ids.move_some(&transaction)? + records.move_some(&transaction)?;
            write_counters(&transaction, &pending.counters)?;
            transaction.commit()?;
        }
        Ok((outcomes, pending))
    }
}

/// The answers of a group, which are given when they are let go of: also by a runtime that has ended and makes no task of
/// them.
struct Answers(Vec<(Request, Outcome)>);

impl Drop for Answers {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(request, outcome)| answer(request, outcome));
    }
}

/// Answers one request. Who asked may have gone.
fn answer(request: Request, outcome: Outcome) {
    match (request, outcome) {
        (Request::Commit { answer, .. } | Request::Restore { answer, .. }, Outcome::Done(done)) => {
            drop(answer.send(Ok(done)));
        }
        (Request::Commit { answer, .. } | Request::Restore { answer, .. }, Outcome::Refused(error)) => {
            drop(answer.send(Err(error)));
        }
        (Request::Trim { answer, .. } | Request::Forget { answer, .. }, Outcome::Removed(removed)) => {
            drop(answer.send(Ok(removed)));
        }
        (Request::Trim { answer, .. } | Request::Forget { answer, .. }, Outcome::Refused(error)) => {
            drop(answer.send(Err(error)));
        }
        (Request::Recall { answer, .. } | Request::Records { answer, .. }, Outcome::Found(found)) => {
            drop(answer.send(Ok(found)));
        }
        (Request::Recall { answer, .. } | Request::Records { answer, .. }, Outcome::Refused(error)) => {
            drop(answer.send(Err(error)));
        }
        // A request is applied by its own kind, so the other pairs do not come.
        _ => {}
    }
}

#[cfg(test)]
mod tests;
