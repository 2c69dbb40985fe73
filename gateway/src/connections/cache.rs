//! Opened connections, kept for the next call: bounded, and dropped as soon as the store says that they changed,
//! whoever changed them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::record::{CONNECTIONS, GRANTS};
use super::{Opened, Room};
use crate::store::Change;

/// How many opened connections are kept, each up to about 100 KiB.
const CAPACITY: usize = 1_000;

/// The opened connections.
#[derive(Default)]
pub(super) struct Cache {
    kept: RwLock<HashMap<String, Kept>>,
    /// Grows with each change that is heard of: what was read before must not be kept after.
    generation: AtomicU64,
    clock: AtomicU64,
}

struct Kept {
    opened: Arc<Opened>,
    used: AtomicU64,
}

impl Cache {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Opened>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(name)?;
        found.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(found.opened.clone())
    }

    /// To be read before the store is.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Keeps what was read since `generation`, unless something has changed since then.
    pub(super) fn keep(&self, generation: u64, opened: &Arc<Opened>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if self.generation() != generation {
            return;
        }
        if kept.len() >= CAPACITY && !kept.contains_key(opened.name()) {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.used.load(Ordering::Relaxed));
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                kept.remove(&name);
            }
        }
        let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed));
        kept.insert(opened.name().to_owned(), Kept { opened: opened.clone(), used });
    }

    /// Drops a connection that changed.
    pub(super) fn forget(&self, name: &str) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        self.generation.fetch_add(1, Ordering::Release);
        kept.remove(name);
    }

    fn forget_all(&self) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        self.generation.fetch_add(1, Ordering::Release);
        kept.clear();
    }
}

/// Follows the store's changes.
pub(super) async fn follow(mut changes: Receiver<Change>, room: Arc<Room>) {
    loop {
        match changes.recv().await {
            Ok(change) if change.key.starts_with(CONNECTIONS) => room.cache.forget(&change.key),
            Ok(change) => {
                if let Some(id) = change.key.strip_prefix(GRANTS) {
                    room.cache.forget(&format!("{CONNECTIONS}{id}"));
                }
            }
            Err(RecvError::Lagged(_)) => room.cache.forget_all(),
            Err(RecvError::Closed) => return,
        }
    }
}
