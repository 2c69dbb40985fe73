//! The one seam of storage: [`Store`] for small values with revisions, [`EventLog`] for the log of events. All else in
//! the gateway is written on these two. Engines are modules of this one; one conformance suite runs against each.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::watch;

mod admit;
pub mod engine;
pub mod metered;
pub mod migrate;
pub mod nats;
pub mod sqlite;
mod surely;
pub(crate) mod tail;

pub use admit::admit;
pub use surely::write_surely;

/// The largest value of a key, in bytes: with its key it fits a message of 1 MiB, which is what NATS takes.
pub const MAX_VALUE_BYTES: usize = 1000 * 1024;
/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// The most writes of one commit. NATS takes 1,000 messages as one: each write is one, and the other 200 hold 180 MiB of
/// events, which is more than any look of a trigger tells. Guards are checked and not written: they do not count.
pub const MAX_WRITES: usize = 800;
/// How many records are looked at, at a time, for whether they can be forgotten.
const FORGET_PAGE: usize = 500;
/// How many changes a watcher may fall behind.
pub const WATCH_BACKLOG: usize = 1024;

/// Where large values lie that nobody waits for.
pub const CONTENT: &str = "content/";
/// Where records lie: values that are written once or twice each, hardly ever read, and all forgotten after about as long.
/// An engine may keep them apart from the others.
pub const RECORDS: &str = "ledger/";

/// Whether watchers are told of a key's changes: not of large values, which each of them would hold, and not of records,
/// which change more often than all else.
#[must_use]
pub fn is_watched(key: &str) -> bool {
    !key.starts_with(CONTENT) && !key.starts_with(RECORDS)
}

/// A value's revision: grows with each change in the store, never 0.
pub type Revision = u64;

/// An event's place in the log: 1 for the first, without holes in the order of what was appended. Retention removes from
/// the front only, so a hole tells how many events went. 0 is the place before the first.
pub type Sequence = u64;

/// A value as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key: segments joined by `/`, each of `[a-zA-Z0-9._-]`, such as `connections/billing`.
    pub key: String,
    /// The value: up to [`MAX_VALUE_BYTES`].
    pub value: Bytes,
    /// Its revision.
    pub revision: Revision,
}

/// What must hold of a key for a write to take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key is not there.
    Absent,
    /// The key's value has this revision.
    Revision(Revision),
}

impl Expect {
    /// Whether it holds of a key whose value has this revision; `None`: it is not there.
    #[must_use]
    pub fn holds(self, revision: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => revision.is_none(),
            Self::Revision(expected) => revision == Some(expected),
        }
    }
}

/// A write of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
    /// What must hold.
    pub expect: Expect,
}

/// What must hold of a key that is not written: that it has not changed since it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: String,
    /// The revision that its value has.
    pub revision: Revision,
}

/// What is to become durable together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Events to append.
    pub events: Vec<NewEvent>,
    /// Writes, each of another key: at most [`MAX_WRITES`].
    pub writes: Vec<Write>,
    /// What must hold besides.
    pub guards: Vec<Guard>,
}

/// One change, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The new value; `None`: deleted.
    pub value: Option<Entry>,
}

/// Why storage could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A write's expectation did not hold; nothing was written.
    #[error("{key} has changed since it was read")]
    Conflict {
        /// The key.
        key: String,
    },
    /// The store cannot be opened: no right to write, another process has it, a newer version made it, it is damaged.
    #[error("store {place}: {problem}")]
    Unusable {
        /// Where the store is.
        place: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// What was asked is beyond the bounds of every store, such as a value that is too large. A repeat is refused too.
    #[error("not storable: {0}")]
    Refused(String),
    /// It failed for now, such as on a full disk. Whether the write took place is known: it did not.
    #[error("storage failed: {0}")]
    Failed(String),
    /// Whether a write took place is not known, and will not be: the answer was lost, and what would tell is gone or
    /// not to be reached. An embedded engine never says this.
    #[error("storage broke off: {0}")]
    Unknown(String),
}

/// Whether a record is to be forgotten.
pub type IsOver = dyn Fn(&Entry) -> bool + Send + Sync;

/// Removes records that are over one by one, as [`Store::forget`] does where they lie among the other values.
pub async fn forget_each(store: &dyn Store, is_over: &IsOver) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = store.records(after.as_ref(), FORGET_PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for Entry { key, revision, .. } in page.into_iter().filter(|record| is_over(record)) {
            match store.write(Write { key, value: None, expect: Expect::Revision(revision) }).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Small values with revisions. A write is durable once it is answered.
#[tonic::async_trait]
pub trait Store: Send + Sync + 'static {
    /// The value of a key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Writes one key if its expectation holds. Gives the new revision (for a deletion: that of the deletion).
    async fn write(&self, write: Write) -> Result<Revision, StoreError>;

    /// The values whose keys begin with `prefix` and come after the key `after`, by key, at most `limit`. Fewer than
    /// `limit` means that these were the last. Passes over those below [`RECORDS`], where `prefix` must not lie.
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// The values below [`RECORDS`], in an order of the engine's own: those after the last one that was given, at most
    /// `limit`. None means that there are no more.
    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Removes the values below [`RECORDS`] that are over: the older ones, as it must be, for an engine may leave those that
    /// were written after one which is not.
    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError>;

    /// All changes of all keys but those below [`CONTENT`] and [`RECORDS`], from now on, in order, each once it is durable.
    /// Where another process changes a key again at once, the change in between may be left out; a key's last change never
    /// is.
    /// A watcher that falls more than [`WATCH_BACKLOG`] changes behind gets an error from its receiver and lists anew. To
    /// miss nothing: watch, then list.
    fn watch(&self) -> tokio::sync::broadcast::Receiver<Change>;

    /// Whether other processes may use it at the same time. If not, whoever used it before is dead.
    fn is_shared(&self) -> bool {
        true
    }
}

/// An event to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What tells it from all others: an id that the log keeps is not stored again.
    pub id: String,
    /// `Event.source`.
    pub source: String,
    /// `Event.type`.
    pub event_type: String,
    /// The encoded `postern.event.v1.Event`, without `cursor` and `record_time`: the log appends these two fields.
    pub encoded: Bytes,
}

/// An event as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place.
    pub sequence: Sequence,
    /// What its cursor knows it by: see [`crate::events::cursor`].
    pub fingerprint: u32,
    /// `Event.source`.
    pub source: Arc<str>,
    /// `Event.type`.
    pub event_type: Arc<str>,
    /// The whole encoded `postern.event.v1.Event`, encoded once and shared by all who receive it.
    pub encoded: Bytes,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// How many events were new; the others' ids were kept already.
    pub stored: usize,
    /// The last place in the log after it.
    pub last: Sequence,
}

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What tells this log from another, such as the same one restored from a backup.
    pub epoch: u64,
    /// The place of the first event kept, or the place after `last` where none is.
    pub first: Sequence,
    /// The place of the last event; 0 where there never was one.
    pub last: Sequence,
    /// When the last event that retention removed had become durable. `None` where none was removed.
    pub trimmed: Option<SystemTime>,
}

/// How long events are kept: an event goes once it passes either bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The greatest age.
    pub age: std::time::Duration,
    /// The greatest size of all events in bytes, encoded.
    pub bytes: u64,
}

/// The log of events: append-only, each id once for as long as it is kept.
#[tonic::async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Appends events and makes writes, all or nothing: durable once answered. Where a write's expectation or a guard
    /// does not hold, nothing is done. Goes on in the background where the caller stops waiting.
    ///
    /// # Errors
    /// All but [`StoreError::Unknown`] say that nothing was done.
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError>;

    /// The same without guards.
    async fn append(&self, events: Vec<NewEvent>, writes: Vec<Write>) -> Result<Appended, StoreError> {
        self.commit(Commit { events, writes, guards: Vec::new() }).await
    }

    /// Events after a place, in order: at most `events` of them and about `bytes` (one event at least, where there is
    /// one). Places that retention has passed are skipped: compare with [`EventLog::bounds`].
    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// What the log holds now: whatever was appended before by anybody is within.
    async fn bounds(&self) -> Result<Bounds, StoreError>;

    /// What the log holds as far as this process has seen: at once, and behind what other processes do by an instant.
    fn seen(&self) -> Bounds;

    /// The place before the first kept event that became durable at or after a time.
    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError>;

    /// The last durable place, as it grows.
    fn tail(&self) -> watch::Receiver<Sequence>;

    /// Removes what retention has passed. Gives how many events went.
    async fn trim(&self, retention: Retention) -> Result<u64, StoreError>;
}
