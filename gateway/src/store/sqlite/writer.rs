//! The one writer: a thread that takes whatever waits, commits it as one group, and then answers each. A request whose
//! expectations do not hold is answered so and leaves its neighbours alone.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

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
/// Events in one commit: beyond this a group gains nothing more, and its first would wait for its last.
const GROUP_EVENTS: usize = 1024;
/// How long a group that is smaller than the one before waits for those who were just answered to ask again, at most, and
/// at most this part of what the last commit took. Without it a large group and a small one alternate, and each costs a
/// sync of the disk.
const GATHER: Duration = Duration::from_micros(500);
const GATHER_PART: u32 = 2;
/// How long the thread stays awake after a commit, likewise: one caller who writes again and again asks within less, and to
/// be woken takes longer than that.
const AWAKE: Duration = Duration::from_micros(60);
const AWAKE_PART: u32 = 4;
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
    /// Locked until the last commit is made.
    pub(super) folder: Option<Folder>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(self, requests: mpsc::Receiver<Request>) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || self.run(requests))
    }

    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        let (mut expected, mut took) = (0, Duration::ZERO);
        while closing.is_none() {
            let first = taken_within(&mut requests, AWAKE.min(took / AWAKE_PART));
            let Some(first) = first.or_else(|| requests.blocking_recv()) else { break };
            let mut group = Vec::new();
            let mut events = 0;
            let (mut next, begun) = (Some(first), Instant::now());
            let patience = GATHER.min(took / GATHER_PART);
            while let Some(request) = next.take() {
                match request {
                    Request::Close { answer } => {
                        closing = Some(answer);
                        break;
                    }
                    Request::Commit { ref commit, .. } => events += commit.events.len().max(1),
                    Request::Restore { events: ref restored, .. } => events += restored.len(),
                    Request::Trim { .. } | Request::Records { .. } | Request::Forget { .. } => {
                        events += TRIM_EVENTS;
                    }
                    Request::Recall { .. } => events += 1,
                }
                group.push(request);
                if events < GROUP_EVENTS {
                    let is_small = group.len() < expected;
                    let left = patience.saturating_sub(begun.elapsed());
                    next = taken_within(&mut requests, if is_small { left } else { Duration::ZERO });
                }
            }
            expected = group.len();
            let begun = Instant::now();
            self.commit(group);
            took = begun.elapsed();
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

    /// Commits a group and answers each of it.
    pub(super) fn commit(&mut self, group: Vec<Request>) {
        match self.transact(&group) {
            Ok((outcomes, pending)) => {
                self.counters = pending.counters;
                let bytes: usize = pending.events.iter().map(|event| event.encoded.len()).sum();
                let pages = pending.pages + 3 + bytes / 3_000;
                self.tail.publish(pending.counters, pending.events);
                for change in pending.changes {
                    // Nobody may be watching.
                    let _ = self.changes.send(change);
                }
                for (request, outcome) in group.into_iter().zip(outcomes) {
                    answer(request, outcome);
                }
                if let Some(checkpoints) = &mut self.checkpoints {
                    checkpoints.grown(&self.connection, pages as u64);
                }
            }
            Err(error) => {
                let error = failed(&error);
                tracing::error!(%error, requests = group.len(), "a commit failed, nothing of it was written");
                for request in group {
                    answer(request, Outcome::Refused(error.clone()));
                }
            }
        }
    }

    /// All of the group in one transaction, which an error undoes whole.
    fn transact(&mut self, group: &[Request]) -> rusqlite::Result<(Vec<Outcome>, Pending)> {
        let done = self.attempt(group);
        if done.is_ok() {
            self.ids.keep();
            self.records.keep();
        } else {
            self.ids.undo();
            self.records.undo();
        }
        done
    }

    fn attempt(&mut self, group: &[Request]) -> rusqlite::Result<(Vec<Outcome>, Pending)> {
        let (ids, records) = (&mut self.ids, &mut self.records);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut pending = Pending::new(self.counters);
        let mut changed = false;
        let outcomes = group
            .iter()
            .map(|request| match request {
                Request::Commit { commit, .. } => {
                    apply::commit(&transaction, &mut pending, ids, records, commit)
                }
                Request::Restore { events, .. } => apply::restore(&transaction, &mut pending, ids, events),
                Request::Trim { retention, .. } => apply::trim(&transaction, &mut pending, ids, *retention),
                Request::Recall { key, .. } => {
                    let records = records.get(&transaction, key)?.into_iter().collect();
                    Ok(Outcome::Found(Found { records, up_to: pending.counters.revision }))
                }
                Request::Records { after, limit, .. } => {
                    let records = records.list(&transaction, *after, *limit)?;
                    Ok(Outcome::Found(Found { records, up_to: pending.counters.revision }))
                }
                Request::Forget { before, .. } => {
                    let forgotten = records.forget(&transaction, *before, pending.counters.revision)?;
                    changed |= forgotten > 0;
                    Ok(Outcome::Removed(forgotten))
                }
                Request::Close { .. } => Ok(Outcome::Removed(0)),
            })
            .collect::<rusqlite::Result<_>>()?;
        changed |= pending.counters != self.counters;
        if !changed {
            // Nothing to make durable: spare the disk.
            transaction.rollback()?;
        } else {
            pending.write(&transaction)?;
            let written = records.write(&transaction)?;
            let moved =
                ids.move_some(&transaction, pending.counters.first)? + records.move_some(&transaction)?;
            pending.pages += written + moved / 2;
            write_counters(&transaction, &pending.counters)?;
            transaction.commit()?;
        }
        Ok((outcomes, pending))
    }
}

/// The next request, where it waits or comes within a time that is too short to sleep.
fn taken_within(requests: &mut mpsc::Receiver<Request>, time: Duration) -> Option<Request> {
    let begun = Instant::now();
    loop {
        match requests.try_recv() {
            Ok(request) => return Some(request),
            Err(TryRecvError::Empty) if begun.elapsed() < time => std::thread::yield_now(),
            Err(_) => return None,
        }
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
mod tests {
    use super::*;
    use crate::events::new_event;
    use crate::store::sqlite::{ids, query, schema};
    use crate::store::{Expect, Sequence, Write, tail};
    use postern_proto::event::v1::Event;
    use prost::Message as _;
    use std::time::SystemTime;

    fn writer(folder: &std::path::Path) -> Writer {
        let folder = Folder::open(folder).unwrap();
        let (connection, counters) = schema::open(&folder.database, folder.made).unwrap();
        let (changes, _) = broadcast::channel(16);
        Writer {
            ids: ids::open(&connection).unwrap(),
            records: Records::open(&connection, counters.revision).unwrap(),
            connection,
            checkpoints: None,
            counters,
            tail: Arc::new(Tail::new(counters)),
            changes,
            folder: Some(folder),
        }
    }

    type Answered = oneshot::Receiver<Result<Done, StoreError>>;

    fn append(events: Vec<NewEvent>, key: &str) -> (Request, Answered) {
        let (answer, answered) = oneshot::channel();
        let write = Write { key: key.to_owned(), value: Some("value".into()), expect: Expect::Absent };
        let commit = Commit { events, writes: vec![write], guards: Vec::new() };
        (Request::Commit { commit, answer }, answered)
    }

    fn events(count: usize) -> Vec<NewEvent> {
        let source = "connections/office";
        let event = |number| new_event(source, "email.received", None, &format!("{number}"), None, None);
        (0..count).map(event).collect()
    }

    #[test]
    fn a_full_disk_fails_the_whole_group_and_mended_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path());
        let mut watching = writer.changes.subscribe();
        let before = writer.counters;
        // SQLite answers a bound of pages as it answers a full disk.
        let pages: i64 = writer.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        writer
            .connection
            .query_row(&format!("PRAGMA max_page_count = {}", pages + 3), [], |_| Ok(()))
            .unwrap();
        let (small, mut small_answer) = append(events(1), "small");
        let (large, mut large_answer) = append(events(500), "large");
        writer.commit(vec![small, large]);
        for answer in [&mut small_answer, &mut large_answer] {
            assert!(
                matches!(answer.try_recv().unwrap(), Err(StoreError::Failed(text)) if text.contains("full"))
            );
        }
        assert_eq!(writer.counters, before);
        assert!(watching.try_recv().is_err());
        assert_eq!(writer.tail.bounds().last, 0);
        assert!(query::list(&writer.connection, "", "", 9).unwrap().is_empty());

        writer.connection.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
        let (small, mut small_answer) = append(events(1), "small");
        let (large, mut large_answer) = append(events(500), "large");
        writer.commit(vec![small, large]);
        assert_eq!(small_answer.try_recv().unwrap().unwrap().appended, Appended { stored: 1, last: 1 });
        assert_eq!(large_answer.try_recv().unwrap().unwrap().appended, Appended { stored: 499, last: 500 });
        assert_eq!(writer.tail.bounds().last, 500);
        assert_eq!(watching.try_recv().unwrap().key, "small");
    }

    #[test]
    fn a_commit_that_fails_at_its_very_end_is_answered_so_and_shown_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path());
        let mut watching = writer.changes.subscribe();
        // Every statement of it succeeds: what is owed falls due with the commit itself.
        let owing = "PRAGMA foreign_keys = ON; CREATE TABLE paid (id INTEGER PRIMARY KEY);
             CREATE TABLE owed (id INTEGER REFERENCES paid DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER owing AFTER INSERT ON entries BEGIN INSERT INTO owed VALUES (1); END;";
        writer.connection.execute_batch(owing).unwrap();
        let (asked, mut answer) = append(events(1), "key");
        writer.commit(vec![asked]);
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Failed(_))));
        assert!(watching.try_recv().is_err());
        assert_eq!(writer.tail.bounds().last, 0);

        writer.connection.execute_batch("DROP TRIGGER owing").unwrap();
        let (asked, mut answer) = append(events(1), "key");
        writer.commit(vec![asked]);
        assert_eq!(answer.try_recv().unwrap().unwrap().appended, Appended { stored: 1, last: 1 });
    }

    #[test]
    fn a_conflict_refuses_its_own_request_of_a_group_and_sees_those_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path());
        let (requests, answers): (Vec<_>, Vec<_>) =
            ["one", "one", "two"].map(|key| append(Vec::new(), key)).into_iter().unzip();
        writer.commit(requests);
        let made: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap().is_ok()).collect();
        assert_eq!(made, [true, false, true]);
    }

    #[test]
    fn record_times_do_not_follow_a_clock_that_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = writer(folder.path());
        // As if the clock had been an hour ahead at the event before.
        let ahead = tail::milliseconds(SystemTime::now()) + 3_600_000;
        first.counters.recorded = ahead;
        first.commit(vec![append(events(1), "one").0]);
        let place: Sequence = first.counters.last;
        drop(first);
        // The bound outlasts the process.
        let mut second = writer(folder.path());
        second.commit(vec![append(events(2), "two").0]);
        let stored = second.tail.read(place, 1, 1).unwrap().remove(0);
        let recorded = Event::decode(stored.encoded).unwrap().record_time.unwrap();
        assert_eq!(tail::milliseconds(SystemTime::try_from(recorded).unwrap()), ahead);
    }

    #[test]
    fn events_recorded_by_a_clock_that_was_ahead_make_none_before_them_old() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path());
        writer.commit(vec![append(events(3), "before").0]);
        // As if the clock had been a year ahead at the next event, and had been mended then.
        writer.counters.recorded = tail::milliseconds(SystemTime::now()) + 365 * 86_400_000;
        writer.commit(vec![append(events(5), "ahead").0]);
        assert_eq!(writer.counters.last, 5);
        let age = std::time::Duration::from_secs(3_600);
        let (answer, mut answered) = oneshot::channel();
        writer.commit(vec![Request::Trim { retention: Retention { age, bytes: u64::MAX }, answer }]);
        assert_eq!((answered.try_recv().unwrap().unwrap(), writer.counters.first), (0, 1));
    }
}
