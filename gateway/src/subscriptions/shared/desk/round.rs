//! One round of a desk: what was said and what is to be given, as one write, and then the answers.

use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;
use tonic::Status;

use super::super::assign::{Assigning, Plan, lost};
use super::super::draft::{Draft, Settled};
use super::{By, Desk, FLUSH, Held};
use crate::error::Error;
use crate::store::{Expect, MAX_WRITES, StoreError, Write};
use crate::subscriptions::clock::{milliseconds, timestamp};
use crate::subscriptions::settle::ACKS_AT_ONCE;
use crate::subscriptions::stored::{self, Kept, Reading, SetAside};

/// How often a round is made anew because another gateway wrote first.
const TRIES: u32 = 30;
/// How many events are set aside at once: each is copied.
const ASIDE_AT_ONCE: usize = 128;
/// How many copies of events that were set aside are removed at once.
const COPIES_AT_ONCE: usize = ACKS_AT_ONCE;
const _: () = assert!(COPIES_AT_ONCE + ASIDE_AT_ONCE < MAX_WRITES);
/// How many events are set aside at most. Beyond it those that were delivered in vain are delivered on.
const MOST_SET_ASIDE: u64 = 100_000;

impl Desk {
    /// Deals with all that was asked, and gives what there is. A failure of storage is told to those who asked.
    ///
    /// # Errors
    /// The subscription was deleted.
    pub(super) async fn round(&mut self) -> Result<(), Error> {
        self.takes.retain(|take| !take.answer.is_closed());
        for tried in 0..TRIES {
            match self.attempt().await {
                Ok(()) => {
                    self.failed = false;
                    return Ok(());
                }
                Err(Error::Store(StoreError::Conflict { .. })) => {
                    if !self.catch_up().await? {
                        return Ok(());
                    }
                    // Not in step with whom it met.
                    let most = 1_u64 << tried.min(6);
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..=most))).await;
                }
                Err(error @ Error::NotFound(..)) => return Err(error),
                Err(error) => return self.put_off(error).await,
            }
        }
        let key = stored::reading_key(&self.id);
        self.put_off(StoreError::Conflict { key }.into()).await
    }

    /// Tells those who wait that it failed for now. The pause keeps a storage that is down from being asked in a loop.
    pub(super) async fn put_off(&mut self, error: Error) -> Result<(), Error> {
        self.fail(&Status::from(error));
        // What was due then is still to be seen to, though nobody asks.
        (self.more, self.failed, self.judged) = (false, true, i64::MIN);
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    /// Tells an error to all who wait.
    pub(super) fn fail(&mut self, status: &Status) {
        let error = || Error::Connector(Box::new(status.clone()));
        for (_, answer) in self.settles.drain(..) {
            drop(answer.send(Err(error())));
        }
        for take in self.takes.drain(..) {
            drop(take.answer.send(Err(error())));
        }
    }

    async fn attempt(&mut self) -> Result<(), Error> {
        let now = self.of.clock.now();
        self.judged = now;
        let mut draft = Draft::new(&self.kept.value);
        draft.expire(now);
        draft.give_back(&self.leaving, now);
        let ack_deadline = self.stored.ack_deadline();
        let mut settled = Vec::new();
        for (checked, _) in &self.settles {
            // The rest is done in the next round.
            if draft.copies_with(checked) > COPIES_AT_ONCE {
                break;
            }
            settled.push(draft.settle(checked, ack_deadline, now));
        }
        let is_all_said = settled.len() == self.settles.len();
        let mut writes = Vec::new();
        for (generation, sequence) in &draft.done_copies {
            let key = stored::set_aside_key(&self.id, *generation, *sequence);
            writes.push(Write { key, value: None, expect: Expect::Any });
        }
        let is_full = draft.reading.set_aside >= MOST_SET_ASIDE;
        let of = self.of.clone();
        let assigning = Assigning {
            id: &self.id,
            store: &*of.store,
            log: &*of.log,
            filter: &self.filter,
            ack_deadline: milliseconds(ack_deadline),
            max_attempts: if is_full { u32::MAX } else { self.stored.max_attempts() },
            now,
        };
        let rooms = self.rooms();
        let mut plan = Plan::new(rooms.len(), self.scan);
        if self.is_other_log && !rooms.is_empty() {
            // What is outstanding is of a log that is no more; copies are of none.
            draft.reading.generation += 1;
            draft.reading.unsettled.retain(|one| one.copy > 0);
        }
        if let Some(gap) = self.gap.as_ref().filter(|_| !rooms.is_empty()) {
            draft.owe(gap.clone());
        }
        if !self.is_other_log || !rooms.is_empty() {
            let (spent, _) = draft.due(now, assigning.max_attempts);
            plan.more = spent.len() > ASIDE_AT_ONCE;
            for one in spent.iter().take(ASIDE_AT_ONCE) {
                draft.remove(one);
                let Some(event) = assigning.event(one).await? else {
                    draft.owe(lost(self.scan, one));
                    continue;
                };
                let generation = if one.copy > 0 { one.copy } else { draft.reading.generation };
                let reason = draft.reasons.get(&one.nonce).cloned().unwrap_or_default();
                let aside = SetAside { event, attempts: one.attempt, time: Some(timestamp(now)), reason };
                draft.reading.set_aside += 1;
                writes.push(Write {
                    key: stored::set_aside_key(&self.id, generation, one.sequence),
                    value: Some(aside.encode_to_vec().into()),
                    expect: Expect::Any,
                });
            }
            assigning.assign(&mut draft, &mut plan, &rooms).await?;
        }
        for (take, given) in self.takes.iter().zip(&mut plan.given) {
            let until = now.saturating_add(assigning.ack_deadline);
            draft.tell(&self.id, given, self.told_last(take.by), (now, until));
        }
        let mut reading = draft.reading;
        let is_behind = plan.scan != self.kept.value.place() && !rooms.is_empty();
        // What is not found may have been given out elsewhere a moment ago: only the newest reading tells, and that it is
        // the newest shows when it is written.
        let leans_on_absence = settled.iter().any(|settled| settled.leans_on_absence);
        if reading != self.kept.value || leans_on_absence || (is_behind && self.flushed.elapsed() >= FLUSH) {
            // Past what is not owed to anybody yet there is no place to be.
            if self.gap.is_none() || !rooms.is_empty() {
                reading.cursor = plan.scan.encode();
            }
            self.kept = self.written(reading, writes).await?;
            self.flushed = Instant::now();
        }
        self.scan = plan.scan;
        if !rooms.is_empty() {
            (self.gap, self.is_other_log) = (None, false);
        }
        (self.more, self.is_stuck) = (plan.more || !is_all_said, plan.is_stuck);
        let is_all_settled = self.kept.value.unsettled.iter().all(|one| one.copy > 0) && self.gap.is_none();
        let floor = if is_all_settled { self.scan } else { self.kept.value.floor() };
        if self.floor.send_if_modified(|told| std::mem::replace(told, floor) != floor) {
            self.streams.values().for_each(|member| member.subscriber.reach(floor.sequence));
        }
        self.answer(settled, plan).await;
        Ok(())
    }

    /// Makes the write, and gives what was written: others may have gone on from it already.
    async fn written(&self, reading: Reading, mut writes: Vec<Write>) -> Result<Kept, Error> {
        let write = self.kept.replaced(&self.id, &reading);
        if writes.is_empty() {
            let revision = self.of.store.write(write).await?;
            return Ok(Kept { value: reading, revision });
        }
        writes.push(write);
        self.of.log.append(Vec::new(), writes).await?;
        let kept = stored::read_reading(&*self.of.store, &self.id).await?;
        // Somebody else wrote in the moment after: that is taken over as a whole when it is read anew, which a revision
        // that nothing has brings about.
        Ok(if kept.value == reading { kept } else { Kept { value: reading, revision: 0 } })
    }

    /// Tells those who asked what became of it, now that it is durable.
    async fn answer(&mut self, settled: Vec<Settled>, plan: Plan) {
        self.leaving.clear();
        let asked: Vec<_> = self.settles.drain(..settled.len()).collect();
        for ((_, answer), mut settled) in asked.into_iter().zip(settled) {
            for (ack_id, id) in std::mem::take(&mut settled.unknown) {
                if self.is_set_aside(id.generation, id.sequence).await {
                    settled.fail(&ack_id, "ACK_EXPIRED");
                } else {
                    settled.confirm(&ack_id);
                }
            }
            drop(answer.send(Ok(settled.confirmed)));
        }
        let takes = std::mem::take(&mut self.takes);
        for (take, given) in takes.into_iter().zip(plan.given) {
            if given.deliveries.is_empty() && given.gap.is_none() && (!take.at_once || self.more) {
                self.takes.push_back(take);
                continue;
            }
            let stream = match take.by {
                By::Stream(stream) => Some(stream),
                By::Pull(_) => None,
            };
            let nonces = given.nonces.clone();
            let gap = given.gap.is_some().then_some(given.gap_id);
            // Whoever was told of it before.
            self.told.retain(|(told, _)| Some(*told) != gap);
            if take.answer.send(Ok(given)).is_ok() {
                let held = nonces.into_iter().map(|(nonce, bytes)| (nonce, Held { stream, bytes }));
                self.held.extend(held);
                self.told.extend(gap.zip(stream));
            } else {
                // Gone in the moment: it was not sent to anybody, and is given to another at once.
                self.leaving
                    .extend(nonces.into_iter().map(|(nonce, _)| nonce).chain(gap).map(|id| (id, false)));
            }
        }
        self.told.retain(|(told, _)| self.kept.value.gaps.iter().any(|owed| owed.id == *told));
        let open = self.kept.value.unsettled.iter().filter(|one| !one.waits).map(|one| one.nonce);
        let open: std::collections::HashSet<_> = open.collect();
        self.held.retain(|nonce, _| open.contains(nonce));
    }

    /// The last gap that who asks was told of and nobody has acknowledged.
    fn told_last(&self, by: By) -> Option<u64> {
        let By::Stream(stream) = by else { return None };
        self.told.iter().rev().find(|(_, told)| *told == stream).map(|(gap, _)| *gap)
    }

    /// Whether an event that is not outstanding was set aside. Where that cannot be known it is taken to be so.
    async fn is_set_aside(&self, generation: u64, sequence: u64) -> bool {
        if self.kept.value.set_aside == 0 {
            return false;
        }
        let key = stored::set_aside_key(&self.id, generation, sequence);
        !matches!(self.of.store.get(&key).await, Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::draft::next_due;
    use super::super::Ask;
    use super::*;
    use crate::events::new_event;
    use crate::store::sqlite::Sqlite;
    use crate::store::{EventLog as _, Retention};
    use crate::subscriptions::Subscriptions;
    use crate::subscriptions::clock::Clock;
    use postern_proto::event::v1::start_position::Position;
    use postern_proto::event::v1::{
        CreateSubscriptionRequest, StartPosition, Subscription, SubscriptionMode,
    };
    use std::sync::Arc;
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;

    const ID: &str = "billing";

    /// A subscription that begins with a gap of three events.
    async fn world() -> (tempfile::TempDir, Arc<Sqlite>, Arc<Subscriptions>) {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(folder.path()).unwrap();
        let stop = CancellationToken::new();
        let of = Subscriptions::start(sqlite.clone(), sqlite.clone(), Clock::default(), stop);
        let subscription = Subscription { mode: SubscriptionMode::Shared.into(), ..Default::default() };
        let request = CreateSubscriptionRequest {
            subscription_id: ID.to_owned(),
            subscription: Some(subscription),
            start: Some(StartPosition { position: Some(Position::Earliest(())) }),
            ..Default::default()
        };
        of.create(request).await.unwrap();
        append(&sqlite, 0..3).await;
        sqlite.trim(Retention { age: Duration::from_secs(3_600), bytes: 0 }).await.unwrap();
        (folder, sqlite, of)
    }

    async fn append(sqlite: &Sqlite, numbers: std::ops::Range<usize>) {
        let event = |number: usize| {
            new_event("connections/shop", "email.received", None, &number.to_string(), None, None)
        };
        sqlite.append(numbers.map(event).collect(), Vec::new()).await.unwrap();
    }

    fn ask(desk: &mut Desk, at_once: bool) -> oneshot::Receiver<Result<super::super::Given, Error>> {
        let (answer, given) = oneshot::channel();
        desk.take_in(Ask::Take { by: By::Pull(10), at_once, answer });
        given
    }

    #[tokio::test]
    async fn a_gap_whose_asker_has_gone_is_told_to_the_next_one_once() {
        let (_folder, _sqlite, of) = world().await;
        let mut desk = Desk::open(of, ID.to_owned(), 1).await.unwrap();
        // Both go while it is written.
        drop((ask(&mut desk, true), ask(&mut desk, true)));
        desk.attempt().await.unwrap();
        for missed in [Some(3), None] {
            let mut next = ask(&mut desk, true);
            desk.attempt().await.unwrap();
            let told = next.try_recv().unwrap().unwrap().gap;
            assert_eq!(told.map(|gap| gap.missed), missed);
        }
    }

    #[tokio::test]
    async fn a_gap_whose_asker_has_gone_is_told_at_once_to_who_waits_on() {
        let (_folder, _sqlite, of) = world().await;
        let mut desk = Desk::open(of, ID.to_owned(), 1).await.unwrap();
        drop(ask(&mut desk, false));
        let mut waiting = ask(&mut desk, false);
        desk.attempt().await.unwrap();
        assert!(!desk.leaving.is_empty() && waiting.try_recv().is_err());
        desk.attempt().await.unwrap();
        assert_eq!(waiting.try_recv().unwrap().unwrap().gap.map(|gap| gap.missed), Some(3));
        assert!(desk.leaving.is_empty());
    }

    #[tokio::test]
    async fn what_waits_when_storage_fails_is_seen_to_again_though_nobody_asks() {
        let (_folder, sqlite, of) = world().await;
        append(&sqlite, 3..4).await;
        let mut desk = Desk::open(of, ID.to_owned(), 1).await.unwrap();
        let _given = ask(&mut desk, true);
        desk.attempt().await.unwrap();
        let nonce = desk.kept.value.unsettled[0].nonce;
        desk.leaving.insert(nonce, true);
        desk.attempt().await.unwrap();
        assert_eq!(next_due(&desk.kept.value, desk.judged), desk.kept.value.gaps.first().map(|gap| gap.due));
        desk.put_off(StoreError::Failed("down".to_owned()).into()).await.unwrap();
        assert_eq!(next_due(&desk.kept.value, desk.judged), Some(desk.kept.value.unsettled[0].due));
    }

    #[tokio::test]
    async fn a_gap_whose_asker_has_gone_is_told_though_another_gateway_has_gone_on() {
        let (_folder, sqlite, of) = world().await;
        let mut desk = Desk::open(of.clone(), ID.to_owned(), 1).await.unwrap();
        drop(ask(&mut desk, true));
        desk.attempt().await.unwrap();
        append(&sqlite, 3..5).await;
        let mut other = Desk::open(of, ID.to_owned(), 2).await.unwrap();
        let mut given = ask(&mut other, true);
        other.attempt().await.unwrap();
        let given = given.try_recv().unwrap().unwrap();
        assert_eq!((given.deliveries.len(), given.gap), (2, None));
        assert!(desk.catch_up().await.unwrap());
        let mut next = ask(&mut desk, true);
        desk.attempt().await.unwrap();
        let next = next.try_recv().unwrap().unwrap();
        assert_eq!((next.deliveries.len(), next.gap.map(|gap| gap.missed)), (0, Some(3)));
    }
}
