//! The right to make a change: its place among those being made, and its record, in which its end is written down.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message as _;

use super::Ledger;
use super::record::{Keep, Record, Whole};
use crate::store::{Expect, Revision, StoreError, Write, write_surely};

/// How often the end of a change is written down anew where another write came in between: that of its stream's end,
/// which may have been given up on its way.
const TRIES: usize = 3;

/// The right to make a change. Dropped without an end, the record stays as begun.
pub(super) struct Ticket {
    entry: Arc<Entry>,
    /// Whether an earlier try may have left something at the connector.
    pub(super) is_repeat: bool,
}

/// The record of a change being made.
pub(super) struct Entry {
    claim: Claim,
    written: Mutex<(Record, Revision)>,
}

/// A key's place among the changes being made. Dropped, it frees the key and wakes those who wait for it.
pub(super) struct Claim {
    ledger: Arc<Ledger>,
    key: String,
}

impl Ticket {
    pub(super) fn new(claim: Claim, revision: Revision, record: Record, is_repeat: bool) -> Self {
        Self { entry: Arc::new(Entry { claim, written: Mutex::new((record, revision)) }), is_repeat }
    }

    /// The record, for the stream to be written down in.
    pub(super) fn entry(&self) -> Arc<Entry> {
        self.entry.clone()
    }

    /// Whether the end of its stream may have been handed over.
    pub(super) fn is_whole(&self) -> bool {
        self.entry.written().0.whole.is_some()
    }

    /// Has it written down how the change ended. Waits for room to do so, not for the store.
    pub(super) async fn end(self, keep: Keep) {
        let ledger = self.entry.claim.ledger.clone();
        // It is never closed, so there is room in the end.
        let room = ledger.unwritten.clone().acquire_owned().await;
        ledger.tasks.spawn(async move {
            let _room = room;
            if let Err(error) = self.write_end(keep).await {
                tracing::error!(%error, "the answer of a change could not be written down");
            }
        });
    }

    async fn write_end(self, keep: Keep) -> Result<(), StoreError> {
        let (value, mut revision) = self.value(keep)?;
        let Claim { ledger, key, .. } = &self.entry.claim;
        for _ in 1..TRIES {
            let expect = Expect::Revision(revision);
            let write = Write { key: key.clone(), value: value.clone(), expect };
            match write_surely(ledger.store.as_ref(), write).await {
                Err(StoreError::Conflict { .. }) => {}
                ended => return ended.map(|_| ()),
            }
            let Some(entry) = ledger.store.get(key).await? else { return Ok(()) };
            if Record::decode(entry.value).is_ok_and(|record| record.run != ledger.run) {
                // This gateway was taken for dead, and another makes the change again.
                return Ok(());
            }
            revision = entry.revision;
        }
        let expect = Expect::Revision(revision);
        write_surely(ledger.store.as_ref(), Write { key: key.clone(), value, expect }).await.map(|_| ())
    }

    /// The record as it is at the end, where one is kept, and the revision that it follows.
    fn value(&self, keep: Keep) -> Result<(Option<Bytes>, Revision), StoreError> {
        let Claim { ledger, key, .. } = &self.entry.claim;
        let (mut record, revision) = self.entry.written().clone();
        match keep {
            Keep::Answer(answer) | Keep::Unknown(answer) => {
                let sealed = answer.seal(&ledger.keys, key);
                record.answer = sealed.map_err(|error| StoreError::Failed(error.to_string()))?;
            }
            Keep::Begun => record.run = Bytes::new(),
            Keep::Nothing => return Ok((None, revision)),
        }
        Ok((Some(record.encode_to_vec().into()), revision))
    }
}

impl Entry {
    /// Writes down what the whole stream held. After this, its end may be handed over.
    pub(super) async fn write_whole(&self, whole: Whole) -> Result<(), StoreError> {
        let (mut record, revision) = self.written().clone();
        record.whole = Some(whole);
        let value = Some(record.encode_to_vec().into());
        let write = Write { key: self.claim.key.clone(), value, expect: Expect::Revision(revision) };
        let revision = write_surely(self.claim.ledger.store.as_ref(), write).await?;
        *self.written() = (record, revision);
        Ok(())
    }

    fn written(&self) -> MutexGuard<'_, (Record, Revision)> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Takes a key's place, unless it is taken.
    pub(super) fn take(ledger: &Arc<Ledger>, key: &str) -> Option<Self> {
        let mut all = ledger.running.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(key) {
            return None;
        }
        all.insert(key.to_owned(), Vec::new());
        Some(Self { ledger: ledger.clone(), key: key.to_owned() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ledger.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
