//! Notes that gateways leave each other in the store: who nudges a watch that another looks after, and how a watch fares
//! that others may be asked about. The last note on a matter counts, and none is written too often.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::task::JoinSet;

use super::Nudge;
use super::waits::GAP;
use crate::store::{Expect, Store, Write};
use crate::triggers::watch::WatchName;

/// Where nudges lie.
pub(super) const NUDGES: &str = "nudges/";
/// Notes on their way at once: one beyond is dropped, for none is needed for an event to be told.
const MOST: usize = 1_024;

/// A nudge on its way to another gateway.
#[derive(Clone, PartialEq, Message)]
struct Note {
    /// Whether a caller asks for it.
    #[prost(bool, tag = "1")]
    asked: bool,
}

/// The key of a watch's nudge.
pub(super) fn nudge_key(watch: &WatchName) -> String {
    format!("{NUDGES}{watch}")
}

/// Reads the nudge of a watch.
pub(super) fn nudge(key: &str, value: &Bytes) -> Option<Nudge> {
    let watch = WatchName::parse(key.strip_prefix(NUDGES)?)?;
    let note = Note::decode(value.clone()).ok()?;
    Some(if note.asked { Nudge::Asked(watch) } else { Nudge::Pushed(watch) })
}

/// The notes on their way.
pub(super) struct Notes {
    store: Arc<dyn Store>,
    writing: JoinSet<String>,
    /// By key: what is to be written once what is being written is.
    waiting: HashMap<String, Option<Option<Bytes>>>,
}

impl Notes {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, writing: JoinSet::new(), waiting: HashMap::new() }
    }

    /// Passes a nudge on.
    pub(super) fn pass_on(&mut self, nudge: &Nudge) {
        let (watch, asked) = match nudge {
            Nudge::Asked(watch) => (watch, true),
            Nudge::Pushed(watch) => (watch, false),
        };
        // Not for a store that no other gateway reads.
        if self.store.is_shared() {
            self.put(nudge_key(watch), Some(Note { asked }.encode_to_vec().into()));
        }
    }

    /// Writes a note, or removes it: soon, and after what was written there before.
    pub(super) fn put(&mut self, key: String, value: Option<Bytes>) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting = Some(value);
        } else if self.waiting.len() < MOST {
            self.waiting.insert(key.clone(), None);
            self.write(key, value);
        }
    }

    fn write(&mut self, key: String, value: Option<Bytes>) {
        let store = self.store.clone();
        self.writing.spawn(async move {
            let write = Write { key: key.clone(), value, expect: Expect::Any };
            if let Err(error) = store.write(write).await {
                tracing::warn!(key, %error, "a note for other gateways was not written");
            }
            tokio::time::sleep(GAP).await;
            key
        });
    }

    /// Waits until a note is written, and goes on with the next on its matter. `None`: none is on its way.
    pub(super) async fn next(&mut self) -> Option<()> {
        let key = self.writing.join_next().await?.ok()?;
        match self.waiting.get_mut(&key).and_then(Option::take) {
            Some(value) => self.write(key, value),
            None => drop(self.waiting.remove(&key)),
        }
        Some(())
    }
}
