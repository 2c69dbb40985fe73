//! Which gateway sees to what, where several share a store: each thing is one gateway's at a time.
//!
//! What is seen to maps to one of 64 partitions by its name; a partition is owned by a lease in the store, whose revision
//! is the fencing token: a write that is guarded by it fails once another gateway has the lease, however late it comes.

mod beat;
mod keeper;
mod plan;
mod record;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::store::{Guard, Revision, Store, StoreError};
use record::lease_key;
pub use record::member_key;

/// How many partitions there are: the same for ever, for names map to them.
pub const PARTITIONS: usize = 64;
/// How often a gateway says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a gateway's word holds, counted from before it was given: then it counts its leases as lost. Shorter than
/// [`DEATH`], so that it does so before others take them.
const TENURE: Duration = Duration::from_secs(4);
/// How long a gateway that says nothing counts as alive, on the clock of whoever judges: no two clocks are compared.
const DEATH: Duration = Duration::from_secs(6);
/// How long what is held may keep a lease from being handed over: what is written later fails.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a start tries to say that it lives, longer than servers of NATS take to agree on a leader.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long an end waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// The leases of a gateway. Dropped without [`Leases::end`], it goes silent, and others take over as after a crash.
pub struct Leases {
    room: Arc<Room>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// What the tasks share with those who ask.
struct Room {
    id: Arc<str>,
    /// Where people find this gateway.
    address: String,
    store: Arc<dyn Store>,
    tenure: Mutex<Tenure>,
    owned: watch::Sender<Owned>,
    stage: watch::Sender<Stage>,
    /// How many leases the store may have in this gateway's name.
    held: watch::Sender<usize>,
    /// Wakes the keeper: there is something to do.
    wake: Notify,
}

/// What is held now.
struct Tenure {
    held: [Option<Held>; PARTITIONS],
    /// How many work in each partition.
    works: [usize; PARTITIONS],
    /// Until when it holds; `None`: for good.
    until: Option<Instant>,
    /// Since when it has held without a break.
    since: Instant,
    /// Grows each time that all was lost: a lease that was asked for before is not held after.
    life: u64,
}

/// A lease that is held.
#[derive(Debug, Clone, Copy)]
struct Held {
    revision: Revision,
    /// Since when it is on its way to another gateway.
    leaving: Option<Instant>,
}

/// How far a gateway's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It takes what is its own.
    Serving,
    /// It gives all to others.
    Retiring,
    /// It is gone.
    Ended,
}

/// The partitions that are owned, at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owned(u64);

impl Owned {
    /// Whether what has this name is this gateway's to see to.
    #[must_use]
    pub fn owns(self, name: &str) -> bool {
        self.has(partition(name))
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is owned here and was not in `before`.
    #[must_use]
    pub fn gained(self, before: Self) -> Self {
        Self(self.0 & !before.0)
    }

    fn has(self, partition: usize) -> bool {
        self.0 & (1 << partition) != 0
    }
}

/// The right to work on something: its lease is not handed over before this is dropped, unless it takes longer than ten
/// seconds. What the work writes is to be guarded all the same: a gateway may be taken for dead meanwhile.
pub struct Hold {
    room: Arc<Room>,
    partition: usize,
    guard: Guard,
}

impl Hold {
    /// For [`crate::store::Commit::guards`].
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut tenure = self.room.tenure();
        tenure.works[self.partition] = tenure.works[self.partition].saturating_sub(1);
        let is_leaving = tenure.held[self.partition].is_some_and(|held| held.leaving.is_some());
        if is_leaving && tenure.works[self.partition] == 0 {
            self.room.wake.notify_one();
        }
    }
}

impl Leases {
    /// Joins the gateways that share a store, under a new id. `address`: where people find this one. Where the store is
    /// this process's alone, all is owned once this returns; else what falls to this gateway comes as others give it up.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn start(store: Arc<dyn Store>, address: String) -> Result<Arc<Self>, StoreError> {
        let tenure = Tenure {
            held: [None; PARTITIONS],
            works: [0; PARTITIONS],
            until: store.is_shared().then(Instant::now),
            since: Instant::now(),
            life: 0,
        };
        let room = Arc::new(Room {
            id: format!("{:032x}", fastrand::u128(..)).into(),
            address,
            store,
            tenure: Mutex::new(tenure),
            owned: watch::Sender::new(Owned::default()),
            stage: watch::Sender::new(Stage::Serving),
            held: watch::Sender::new(0),
            wake: Notify::new(),
        });
        let tasks = if room.store.is_shared() {
            let mut beating = beat::Beat::new(room.clone());
            let beaten = tokio::time::timeout(START_PATIENCE, beating.first()).await;
            beaten.map_err(|_| StoreError::Failed("the store does not answer".to_owned()))?;
            let keeper = keeper::Keeper::start(room.clone()).await;
            [tokio::spawn(beating.run()), tokio::spawn(keeper.run())]
        } else {
            room.take_all().await?;
            [tokio::spawn(async {}), tokio::spawn(async {})]
        };
        Ok(Arc::new(Self { room, _tasks: tasks.map(AbortOnDropHandle::new) }))
    }

    /// This gateway's id: another one at each start.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.room.id
    }

    /// What a write must be guarded by that only the owner of `name` may make, for [`crate::store::Commit::guards`].
    /// `None`: it is not this gateway's, or not for certain. Taken before what the write follows from is read.
    #[must_use]
    pub fn guard(&self, name: &str) -> Option<Guard> {
        let partition = partition(name);
        let revision = self.room.tenure().revision(partition)?;
        Some(Guard { key: lease_key(partition), revision })
    }

    /// The same for work that a stop or a handover in good order should wait for.
    #[must_use]
    pub fn hold(&self, name: &str) -> Option<Hold> {
        let partition = partition(name);
        let mut tenure = self.room.tenure();
        let revision = tenure.revision(partition)?;
        tenure.works[partition] += 1;
        let guard = Guard { key: lease_key(partition), revision };
        Some(Hold { room: self.room.clone(), partition, guard })
    }

    /// Whether a duty that one gateway does for all is this one's now. What is lost and what is gained shows in
    /// [`Leases::changes`].
    #[must_use]
    pub fn leads(&self, duty: &str) -> bool {
        self.guard(duty).is_some()
    }

    /// What is owned, as it changes. What is no longer owned is to be left at once; what is owned may be guarded.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Owned> {
        self.room.owned.subscribe()
    }

    /// Whether a gateway has not ended and is not taken for dead: what it has begun, it may end. Its end shows as the
    /// deletion of [`member_key`].
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn is_live(&self, id: &str) -> Result<bool, StoreError> {
        if *self.room.id == *id {
            return Ok(true);
        }
        Ok(self.room.store.is_shared() && self.room.store.get(&record::member_key(id)).await?.is_some())
    }

    /// Gives all leases to others, each once what is held of it has ended. The gateway still counts as alive.
    pub async fn retire(&self) {
        let room = &self.room;
        room.stage.send_if_modified(|stage| {
            let serving = *stage == Stage::Serving;
            *stage = Stage::Retiring.max(*stage);
            serving
        });
        if !room.store.is_shared() {
            return room.lose_all();
        }
        let mut held = room.held.subscribe();
        let given = tokio::time::timeout(HANDOVER_PATIENCE + DEATH, held.wait_for(|held| *held == 0)).await;
        if given.is_err() {
            tracing::warn!("not all leases could be given to others: they will take them");
        }
    }

    /// Ends this gateway's life among the others, after [`Leases::retire`]: what it has left undone is nobody's.
    pub async fn end(&self) {
        self.retire().await;
        self.room.stage.send_replace(Stage::Ended);
        if self.room.store.is_shared()
            && tokio::time::timeout(STORE_PATIENCE, self.room.remove_member(&self.room.id, None))
                .await
                .is_err()
        {
            tracing::warn!("the store did not take this gateway's end: others will notice");
        }
    }
}

impl Room {
    fn tenure(&self) -> MutexGuard<'_, Tenure> {
        self.tenure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what is owned, where that has changed.
    fn tell(&self, tenure: &Tenure) {
        let bits = (0..PARTITIONS).filter(|partition| tenure.revision(*partition).is_some());
        let owned = Owned(bits.fold(0, |bits, partition| bits | 1 << partition));
        self.owned.send_if_modified(|told| std::mem::replace(told, owned) != owned);
        let held = tenure.held.iter().flatten().count();
        self.held.send_if_modified(|told| std::mem::replace(told, held) != held);
    }

    /// Counts all leases as lost.
    fn lose_all(&self) {
        let mut tenure = self.tenure();
        tenure.life += 1;
        tenure.held = [None; PARTITIONS];
        self.tell(&tenure);
    }
}

impl Tenure {
    /// The revision of a lease that is held for certain.
    fn revision(&self, partition: usize) -> Option<Revision> {
        let held = self.held[partition].filter(|held| held.leaving.is_none())?;
        self.is_in_force().then_some(held.revision)
    }

    fn is_in_force(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }

    /// Whether one who has said nothing since a moment counts as dead. Where this gateway could not say that it lives
    /// either, silence tells nothing: a store that stands still for all, as NATS does while it votes, makes nobody dead.
    fn judges(&self, silent_since: Instant) -> bool {
        self.is_in_force() && silent_since.max(self.since).elapsed() > DEATH
    }
}

/// The partition of a name.
fn partition(name: &str) -> usize {
    // The remainder is less than their number.
    usize::try_from(stable_hash(&[name]) % PARTITIONS as u64).unwrap_or_default()
}

/// A hash that is the same in every gateway, whatever its version. FNV-1a over the parts, then the finalizer of
/// MurmurHash3, which spreads what FNV leaves alike.
fn stable_hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests;
