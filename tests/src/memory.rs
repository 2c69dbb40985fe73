//! An engine of the store and the event log in memory, for simulations: it keeps what every engine promises, at once and
//! without a thread. What fails, and when, is for whoever stands between it and a gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_gateway::events::cursor::{Cursor, fingerprint};
use postern_gateway::events::record::complete;
use postern_gateway::store::{
    Appended, Bounds, Change, Commit, Entry, EventLog, Expect, Guard, IsOver, NewEvent, RECORDS, Retention,
    Revision, Sequence, Store, StoreError, StoredEvent, WATCH_BACKLOG, Write, admit, forget_each, is_watched,
};
use tokio::sync::{broadcast, watch};

/// What lasts: any number of [`Memory`]s work on one.
pub struct Disk {
    kept: Mutex<Kept>,
    tail: watch::Sender<Sequence>,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct Kept {
    epoch: u64,
    revision: Revision,
    entries: BTreeMap<String, Entry>,
    /// Without holes up to the last, each with when it was recorded, in milliseconds since 1970.
    events: Vec<(StoredEvent, u64, String)>,
    ids: BTreeSet<String>,
    last: Sequence,
    recorded: u64,
    trimmed: Option<u64>,
}

impl Kept {
    fn holds(&self, key: &str, expect: Expect) -> bool {
        expect.holds(self.entries.get(key).map(|entry| entry.revision))
    }

    fn append(&mut self, event: NewEvent) -> bool {
        let NewEvent { id, source, event_type, encoded } = event;
        if !self.ids.insert(id.clone()) {
            return false;
        }
        let (sequence, recorded) = (self.last + 1, self.recorded);
        let fingerprint = fingerprint(&id, recorded.cast_signed());
        let cursor = Cursor { epoch: self.epoch, sequence, fingerprint };
        let encoded = complete(&encoded, cursor, time_of(recorded));
        let (source, event_type) = (source.into(), event_type.into());
        let stored = StoredEvent { sequence, fingerprint, source, event_type, encoded };
        self.events.push((stored, recorded, id));
        self.last = sequence;
        true
    }

    fn put(&mut self, Write { key, value, .. }: Write) -> Change {
        self.revision += 1;
        let entry = value.map(|value| Entry { key: key.clone(), value, revision: self.revision });
        match &entry {
            Some(entry) => self.entries.insert(key.clone(), entry.clone()),
            None => self.entries.remove(&key),
        };
        Change { key, value: entry }
    }

    fn bounds(&self) -> Bounds {
        let first = self.events.first().map_or(self.last + 1, |(event, ..)| event.sequence);
        Bounds { epoch: self.epoch, first, last: self.last, trimmed: self.trimmed.map(time_of) }
    }
}

impl Disk {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let kept = Mutex::new(Kept { epoch: fastrand::u64(..), ..Kept::default() });
        let changes = broadcast::Sender::new(WATCH_BACKLOG);
        Arc::new(Self { kept, tail: watch::Sender::new(0), changes })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a commit of `now`. Gives what was appended, and the last revision.
    ///
    /// # Errors
    /// What no store takes, or what does not hold.
    pub fn commit(&self, commit: Commit, now: SystemTime) -> Result<(Appended, Revision), StoreError> {
        admit(&commit)?;
        let mut kept = self.kept();
        let Commit { events, writes, guards } = commit;
        let expected = writes.iter().map(|write| (&write.key, write.expect));
        let guarded = guards.iter().map(|Guard { key, revision }| (key, Expect::Revision(*revision)));
        if let Some((key, _)) = expected.chain(guarded).find(|(key, expect)| !kept.holds(key, *expect)) {
            return Err(StoreError::Conflict { key: key.clone() });
        }
        kept.recorded = kept.recorded.max(milliseconds(now));
        let stored = events.into_iter().filter(|event| kept.append(event.clone())).count();
        let changes: Vec<_> = writes.into_iter().map(|write| kept.put(write)).collect();
        let (last, revision) = (kept.last, kept.revision);
        // Under the lock, so that nobody reads what watchers have not been told.
        for change in changes.into_iter().filter(|change| is_watched(&change.key)) {
            let _ = self.changes.send(change);
        }
        drop(kept);
        self.tail.send_if_modified(|told| std::mem::replace(told, last) != last);
        Ok((Appended { stored, last }, revision))
    }
}

/// The engine on a disk.
pub struct Memory {
    disk: Arc<Disk>,
    is_closed: watch::Sender<bool>,
}

impl Memory {
    /// Opens a disk.
    #[must_use]
    pub fn open(disk: Arc<Disk>) -> Arc<Self> {
        Arc::new(Self { disk, is_closed: watch::Sender::new(false) })
    }

    /// Takes nothing more.
    pub fn close(&self) {
        self.is_closed.send_replace(true);
    }

    fn disk(&self) -> Result<&Disk, StoreError> {
        match *self.is_closed.borrow() {
            true => Err(StoreError::Failed("the store is closed".to_owned())),
            false => Ok(&self.disk),
        }
    }
}

#[tonic::async_trait]
impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.disk()?.kept().entries.get(key).cloned())
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        let commit = Commit { writes: vec![write], ..Commit::default() };
        Ok(self.disk()?.commit(commit, SystemTime::now())?.1)
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let begin = prefix.max(after).to_owned();
        let kept = self.disk()?.kept();
        let from = kept.entries.range(begin..).map(|(_, entry)| entry);
        let found = from.filter(|entry| entry.key.starts_with(prefix) && *entry.key > *after);
        let found = found.filter(|entry| prefix.starts_with(RECORDS) || !entry.key.starts_with(RECORDS));
        Ok(found.take(limit).cloned().collect())
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.list(RECORDS, after.map_or("", |after| &after.key), limit).await
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        forget_each(self, is_over).await
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.disk.changes.subscribe()
    }
}

#[tonic::async_trait]
impl EventLog for Memory {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        Ok(self.disk()?.commit(commit, SystemTime::now())?.0)
    }

    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let kept = self.disk()?.kept();
        let begin = kept.events.partition_point(|(event, ..)| event.sequence <= after);
        let (mut found, mut left) = (Vec::new(), bytes);
        for (event, ..) in kept.events[begin..].iter().take(events.max(1)) {
            let size = event.encoded.len();
            // The first one always fits.
            if size > left && !found.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            found.push(event.clone());
        }
        Ok(found)
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        Ok(self.disk()?.kept().bounds())
    }

    fn seen(&self) -> Bounds {
        self.disk.kept().bounds()
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        let kept = self.disk()?.kept();
        let at = kept.events.partition_point(|(_, recorded, _)| time_of(*recorded) < time);
        Ok(kept.events.get(at).map_or(kept.last, |(event, ..)| event.sequence - 1))
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.disk.tail.subscribe()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        let mut kept = self.disk()?.kept();
        let age = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
        let oldest = milliseconds(SystemTime::now()).max(kept.recorded).saturating_sub(age);
        let mut bytes: u64 = kept.events.iter().map(|(event, ..)| event.encoded.len() as u64).sum();
        let mut count = 0;
        for (event, recorded, _) in &kept.events {
            if bytes <= retention.bytes && *recorded >= oldest {
                break;
            }
            (bytes, count) = (bytes - event.encoded.len() as u64, count + 1);
        }
        let gone: Vec<_> = kept.events.drain(..count).collect();
        for (_, recorded, id) in &gone {
            kept.ids.remove(id);
            kept.trimmed = Some(*recorded);
        }
        Ok(gone.len() as u64)
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn time_of(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}
