//! Tells who reads a subscription that it was written, by this gateway or another: one watcher of the store for all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::stored::{READINGS, SUBSCRIPTIONS};
use crate::store::{Change, Revision};

/// What is known of a subscription's values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The latest revision heard of.
    pub(super) subscription: Revision,
    /// The same of its reading.
    pub(super) reading: Revision,
    /// Grows where something may have happened that has no revision: a deletion, or changes that were not heard.
    pub(super) look_again: u64,
}

/// Who follows which subscription.
#[derive(Debug, Default)]
pub(super) struct News(Mutex<HashMap<String, watch::Sender<Known>>>);

impl News {
    /// Follows a subscription from now on.
    pub(super) fn follow(&self, id: &str) -> watch::Receiver<Known> {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|_, known| known.receiver_count() > 0);
        followed.entry(id.to_owned()).or_default().subscribe()
    }

    /// What is known of a subscription that somebody follows.
    pub(super) fn known(&self, id: &str) -> Known {
        let followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        followed.get(id).map(|known| *known.borrow()).unwrap_or_default()
    }

    /// Passes on what the store tells, for as long as it does.
    pub(super) async fn run(&self, mut changes: broadcast::Receiver<Change>) {
        loop {
            match changes.recv().await {
                Ok(change) => self.tell(&change),
                Err(RecvError::Lagged(_)) => {
                    let followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                    followed.values().for_each(|known| known.send_modify(|known| known.look_again += 1));
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn tell(&self, change: &Change) {
        let of = |prefix| change.key.strip_prefix(prefix);
        let (id, is_reading) = match (of(READINGS), of(SUBSCRIPTIONS)) {
            (Some(id), _) => (id, true),
            (None, Some(id)) => (id, false),
            (None, None) => return,
        };
        let followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = followed.get(id) else { return };
        known.send_modify(|known| match &change.value {
            Some(entry) if is_reading => known.reading = known.reading.max(entry.revision),
            Some(entry) => known.subscription = known.subscription.max(entry.revision),
            None => known.look_again += 1,
        });
    }
}
