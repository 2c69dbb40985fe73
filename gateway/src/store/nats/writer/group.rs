//! What is written together: how much of what waits is one group, and what it comes to where what is expected holds.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use super::Made;
use crate::store::nats::chunk::{Gathering, remembered};
use crate::store::nats::link::Link;
use crate::store::nats::message::{Draft, Id};
use crate::store::nats::mirror::State;
use crate::store::tail::milliseconds;
use crate::store::{Appended, Commit, Expect, Revision, StoreError};

/// Keys written and events appended in one group: beyond this it gains nothing, and its first would wait for its last.
const GROUP_WRITES: usize = 500;
const GROUP_EVENTS: usize = 4_096;
/// Bytes in one group, of values and events.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// What a group still has room for.
#[derive(Default)]
pub(super) struct Room {
    writes: usize,
    events: usize,
    bytes: usize,
}

impl Room {
    pub(super) fn take(&mut self, commit: &Commit) {
        self.writes += commit.writes.len();
        self.events += commit.events.len();
        self.bytes += commit.events.iter().map(|event| event.encoded.len()).sum::<usize>();
        self.bytes += commit
            .writes
            .iter()
            .filter_map(|write| write.value.as_ref())
            .map(|value| value.len())
            .sum::<usize>();
    }

    pub(super) fn is_left(&self) -> bool {
        self.writes < GROUP_WRITES && self.events < GROUP_EVENTS && self.bytes < GROUP_BYTES
    }
}

/// A group as it is put together.
pub(super) struct Group<'a> {
    state: &'a State,
    pub(super) drafts: Vec<Draft>,
    pub(super) gathering: Gathering,
    /// Keys as they will be. `None`: not there.
    pub(super) keys: HashMap<String, Option<Revision>>,
    ids: HashSet<Id>,
}

impl<'a> Group<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        // Recorded times do not follow a clock that goes back.
        let now = milliseconds(SystemTime::now()).max(state.counters.recorded);
        let gathering = Gathering::new(state.counters.epoch, now, state.counters.last, state.total);
        Self { state, drafts: Vec::new(), gathering, keys: HashMap::new(), ids: HashSet::new() }
    }

    fn revision(&self, key: &str) -> Option<Revision> {
        self.keys.get(key).copied().unwrap_or_else(|| self.state.keys.get(key).copied())
    }

    /// Adds a commit, where what it expects holds. Keys come before events, so that their places are known here.
    pub(super) fn take(&mut self, commit: &Commit, link: &Link) -> Result<Made, StoreError> {
        let writes = commit.writes.iter().map(|write| (&write.key, write.expect));
        let guards = commit.guards.iter().map(|guard| (&guard.key, Expect::Revision(guard.revision)));
        for (key, expect) in writes.chain(guards) {
            let holds = match (expect, self.revision(key)) {
                (Expect::Any, _) | (Expect::Absent, None) => true,
                (Expect::Revision(expected), Some(revision)) => expected == revision,
                (Expect::Absent, Some(_)) | (Expect::Revision(_), None) => false,
            };
            if !holds {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        let mut stored = 0;
        for event in &commit.events {
            let id = remembered(&event.id);
            if !self.state.keeps(&id) && self.ids.insert(id) {
                self.gathering.push(event, id);
                stored += 1;
            }
        }
        for write in &commit.writes {
            let draft = match &write.value {
                Some(value) => Draft::put(&link.subjects, &write.key, value),
                None if self.revision(&write.key).is_none() => continue,
                None => Draft::delete(&link.subjects, &write.key),
            };
            self.drafts.push(draft);
            let revision = write.value.is_some().then(|| self.state.at + self.drafts.len() as u64);
            self.keys.insert(write.key.clone(), revision);
        }
        let revision = self.state.at + self.drafts.len() as u64;
        Ok(Made { appended: Appended { stored, last: self.gathering.last }, revision })
    }
}
