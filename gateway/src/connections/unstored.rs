//! Grants that a provider gave and the store did not take: kept, sealed, until it does. Some providers take a refresh token
//! once, so that the one in such a grant may be the only one that works.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Opened;
use super::record::GrantRecord;
use crate::store::Revision;

/// From how many on the one of another connection gives way: a grant has 16 KiB at most.
const MOST: usize = 1_000;

/// The grants that are not stored yet, by connection, each with the revision of the one that it follows.
#[derive(Default)]
pub(super) struct Unstored(Mutex<HashMap<String, (Revision, GrantRecord)>>);

impl Unstored {
    /// Keeps one that follows the grant of a connection as it was opened.
    pub(super) fn keep(&self, opened: &Opened, record: GrantRecord) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST
            && let Some(other) = kept.keys().next().cloned()
        {
            kept.remove(&other);
        }
        kept.insert(opened.name().to_owned(), (opened.grant().revision(), record));
    }

    /// The one that follows the grant of a connection as it was opened. One that follows another grant, or is for
    /// another edition, is worth nothing any more.
    pub(super) fn take(&self, opened: &Opened) -> Option<GrantRecord> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (after, record) = kept.remove(opened.name())?;
        (after == opened.grant().revision() && record.edition == opened.edition()).then_some(record)
    }
}
