//! When each connection was last used at this gateway. Kept in memory alone: a write a call would cost more than it tells.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many connections are remembered; beyond it all are forgotten, and remembered anew as they are used.
const CAPACITY: usize = 100_000;

/// The last uses, in seconds since 1970.
#[derive(Default)]
pub(super) struct Uses(RwLock<HashMap<String, AtomicU64>>);

impl Uses {
    /// Notes that a connection is used now.
    pub(super) fn note(&self, name: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        if let Some(last) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return last.store(now, Ordering::Relaxed);
        }
        let mut uses = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if uses.len() >= CAPACITY {
            uses.clear();
        }
        uses.insert(name.to_owned(), AtomicU64::new(now));
    }

    /// When a connection was last used. `None`: not since the gateway started.
    pub(super) fn last(&self, name: &str) -> Option<SystemTime> {
        let uses = self.0.read().unwrap_or_else(PoisonError::into_inner);
        uses.get(name).map(|last| UNIX_EPOCH + Duration::from_secs(last.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_is_remembered_and_others_have_none() {
        let uses = Uses::default();
        let before = SystemTime::now() - Duration::from_secs(1);
        uses.note("connections/shop");
        uses.note("connections/shop");
        assert!(uses.last("connections/shop").unwrap() >= before);
        assert_eq!(uses.last("connections/office"), None);
    }
}
