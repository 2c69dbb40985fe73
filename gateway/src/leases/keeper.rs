//! The task that takes and gives leases. It compares what is stored with what should be, again whenever something has
//! changed, so that no order of events can mislead it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use prost::Message as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::plan::{Step, View, plan};
use super::record::{self, LEASES, Lease, MEMBERS, Member, lease_key, member_key};
use super::{HANDOVER_PATIENCE, Held, PARTITIONS, Room, Stage};
use crate::store::{Change, Entry, Expect, Revision, StoreError, Write};

/// How often the others are judged.
const JUDGE_INTERVAL: Duration = Duration::from_millis(500);
/// How long the store may take for all that one turn asks of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// More gateways than share a store.
const MOST_MEMBERS: usize = 1_000;

/// Another gateway, as it was last seen.
struct Seen {
    revision: Revision,
    /// When it was first seen at this revision.
    since: Instant,
    retiring: bool,
}

/// The task.
pub(super) struct Keeper {
    room: Arc<Room>,
    changes: Receiver<Change>,
    seen: HashMap<String, Seen>,
    /// Whether something has changed that a turn may follow from.
    is_due: bool,
}

impl Keeper {
    /// Takes what is free, if the store lets it; else that is tried again.
    pub(super) async fn start(room: Arc<Room>) -> Self {
        let changes = room.store.watch();
        let mut keeper = Self { room, changes, seen: HashMap::new(), is_due: false };
        keeper.bounded_turn().await;
        keeper
    }

    /// Keeps the leases until the gateway's end.
    pub(super) async fn run(mut self) {
        let mut stage = self.room.stage.subscribe();
        let mut judging = tokio::time::interval(JUDGE_INTERVAL);
        judging.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = self.room.clone();
            tokio::select! {
                change = self.changes.recv() => match change {
                    Ok(change) => self.hear(&change),
                    Err(RecvError::Lagged(_)) => self.is_due = true,
                    Err(RecvError::Closed) => return,
                },
                _ = judging.tick() => self.is_due |= self.has_more_to_do(),
                () = room.wake.notified() => self.is_due = true,
                _ = stage.changed() => self.is_due = true,
            }
            self.hear_the_rest();
            if *stage.borrow_and_update() == Stage::Ended {
                return;
            }
            if self.is_due {
                self.bounded_turn().await;
            }
        }
    }

    /// One turn. After one that fails the next judging comes soon enough.
    async fn bounded_turn(&mut self) {
        let turned = timeout(PATIENCE, self.turn()).await;
        if !matches!(turned, Ok(Ok(()))) {
            let error = turned.ok().and_then(Result::err).map(|error| error.to_string());
            tracing::warn!(error = error.unwrap_or_default(), "leases could not be seen to");
        }
    }

    /// Takes what else has been heard meanwhile: many changes are one turn.
    fn hear_the_rest(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(change) => self.hear(&change),
                Err(TryRecvError::Lagged(_)) => self.is_due = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn hear(&mut self, change: &Change) {
        if change.key.starts_with(LEASES) {
            self.is_due = true;
        } else if let Some(id) = change.key.strip_prefix(MEMBERS) {
            match &change.value {
                Some(entry) => self.is_due |= self.see(id, entry),
                None => self.is_due = true,
            }
        }
    }

    /// Takes the record of a gateway. Gives whether a turn may follow from it.
    fn see(&mut self, id: &str, entry: &Entry) -> bool {
        let before = self.seen.get(id);
        if before.is_some_and(|seen| seen.revision >= entry.revision) {
            return false;
        }
        let retiring = Member::decode(entry.value.clone()).is_ok_and(|member| member.retiring);
        let has_changed = before.is_none_or(|seen| seen.retiring != retiring);
        let seen = Seen { revision: entry.revision, since: Instant::now(), retiring };
        self.seen.insert(id.to_owned(), seen);
        has_changed
    }

    /// Whether something is to be done although nothing has changed: somebody has gone silent, or time is over for what
    /// keeps a lease from being handed over, or a turn failed.
    fn has_more_to_do(&self) -> bool {
        let tenure = self.room.tenure();
        let is_silent = self.seen.iter().any(|(id, seen)| *id != *self.room.id && tenure.judges(seen.since));
        let is_leaving = tenure.held.iter().flatten().any(|held| held.leaving.is_some());
        is_silent || is_leaving || self.is_due
    }

    /// Compares what is stored with what should be, and does what follows.
    async fn turn(&mut self) -> Result<(), StoreError> {
        self.is_due = true;
        // Leases first: whoever owns one of these has been a gateway before, and is found below if it still is.
        let leases = self.room.store.list(LEASES, "", PARTITIONS + 1).await?;
        let members = self.room.store.list(MEMBERS, "", MOST_MEMBERS).await?;
        let leases = record::leases(leases);
        let stored: HashSet<String> =
            members.iter().filter_map(|entry| Some(entry.key.strip_prefix(MEMBERS)?.to_owned())).collect();
        self.seen.retain(|id, _| stored.contains(id));
        for entry in &members {
            if let Some(id) = entry.key.strip_prefix(MEMBERS) {
                self.see(id, entry);
            }
        }
        self.bury().await?;
        let mut takers: Vec<String> =
            self.seen.iter().filter(|(_, seen)| !seen.retiring).map(|(id, _)| id.clone()).collect();
        if *self.room.stage.borrow() != Stage::Serving {
            takers.retain(|id| **id != *self.room.id);
        }
        let living = self.seen.keys().cloned().collect();
        let (held, life) = {
            let tenure = self.room.tenure();
            (tenure.held.map(|held| held.map(|held| held.revision)), tenure.life)
        };
        let steps =
            plan(&View { id: &self.room.id, takers: &takers, living: &living, leases: &leases, held });
        let done = self.room.follow(steps, life).await;
        self.is_due = false;
        done
    }

    /// Removes the records of those who have said nothing for too long. Whoever has said something after all keeps its.
    async fn bury(&mut self) -> Result<(), StoreError> {
        let dead: Vec<_> = {
            let tenure = self.room.tenure();
            let silent = self.seen.iter().filter(|(_, seen)| tenure.judges(seen.since));
            let others = silent.filter(|(id, _)| **id != *self.room.id);
            others.map(|(id, seen)| (id.clone(), seen.revision)).collect()
        };
        for (id, revision) in dead {
            match self.room.remove_member(&id, Some(revision)).await {
                Ok(()) => {
                    tracing::warn!(gateway = id, "a gateway is silent: what it saw to is taken over");
                    self.seen.remove(&id);
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Room {
    /// Does what was planned for the leases that were held in a life.
    async fn follow(&self, steps: [Step; PARTITIONS], life: u64) -> Result<(), StoreError> {
        let (mut taking, mut leaving) = (Vec::new(), Vec::new());
        {
            let mut tenure = self.tenure();
            if tenure.life != life {
                // The next turn sees it.
                return Ok(());
            }
            for (partition, step) in steps.into_iter().enumerate() {
                let works = tenure.works[partition];
                match (step, &mut tenure.held[partition]) {
                    (Step::Take(expect), _) => taking.push((partition, expect)),
                    (Step::Lost, held) => *held = None,
                    (Step::Leave, Some(held)) => {
                        let since = *held.leaving.get_or_insert_with(Instant::now);
                        if works == 0 || since.elapsed() > HANDOVER_PATIENCE {
                            leaving.push((partition, held.revision));
                        }
                    }
                    (Step::Disown(revision), None) => leaving.push((partition, revision)),
                    (Step::Stay, Some(held)) => held.leaving = None,
                    _ => {}
                }
            }
            self.tell(&tenure);
        }
        let given = join_all(leaving.into_iter().map(|(partition, revision)| self.give(partition, revision)));
        let taken =
            join_all(taking.into_iter().map(|(partition, expect)| self.take(partition, expect, life)));
        let (given, taken) = tokio::join!(given, taken);
        // Told at once: each telling has followers read what is stored.
        self.tell(&self.tenure());
        given.into_iter().chain(taken).collect()
    }

    /// Takes a lease, unless another was first.
    async fn take(&self, partition: usize, expect: Expect, life: u64) -> Result<(), StoreError> {
        let value = Lease { owner: self.id.to_string() }.encode_to_vec();
        let write = Write { key: lease_key(partition), value: Some(value.into()), expect };
        let revision = match self.store.write(write).await {
            Ok(revision) => revision,
            Err(StoreError::Conflict { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut tenure = self.tenure();
        if tenure.life == life {
            tenure.held[partition] = Some(Held { revision, leaving: None });
        }
        Ok(())
    }

    /// Gives a lease up.
    async fn give(&self, partition: usize, revision: Revision) -> Result<(), StoreError> {
        let expect = Expect::Revision(revision);
        match self.store.write(Write { key: lease_key(partition), value: None, expect }).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut tenure = self.tenure();
        if tenure.held[partition].is_some_and(|held| held.revision == revision) {
            tenure.held[partition] = None;
        }
        Ok(())
    }

    /// Takes all, in a store that is this process's alone: whoever had it before is dead.
    pub(super) async fn take_all(&self) -> Result<(), StoreError> {
        let leases = record::leases(self.store.list(LEASES, "", PARTITIONS + 1).await?);
        let life = {
            let mut tenure = self.tenure();
            for (held, lease) in tenure.held.iter_mut().zip(&leases) {
                // As good as one of its own, and no write.
                *held = lease.as_ref().map(|lease| Held { revision: lease.revision, leaving: None });
            }
            tenure.life
        };
        let absent = (0..PARTITIONS).filter(|partition| leases[*partition].is_none());
        let taken = join_all(absent.map(|partition| self.take(partition, Expect::Absent, life))).await;
        self.tell(&self.tenure());
        taken.into_iter().collect()
    }

    /// Removes a gateway's record, where it has this revision.
    pub(super) async fn remove_member(&self, id: &str, revision: Option<Revision>) -> Result<(), StoreError> {
        let expect = revision.map_or(Expect::Any, Expect::Revision);
        self.store.write(Write { key: member_key(id), value: None, expect }).await.map(drop)
    }
}
