//! What is written together: how much of what waits is one group, and what it comes to where what is expected holds.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use super::Made;
use crate::store::nats::chunk::{CHUNK_BYTES, CHUNK_EVENTS, FRAME_BYTES, Gathering, remembered};
use crate::store::nats::link::Link;
use crate::store::nats::message::{Draft, Id};
use crate::store::nats::mirror::State;
use crate::store::nats::publish::MAX_MESSAGES;
use crate::store::tail::milliseconds;
use crate::store::{Appended, Commit, Expect, NewEvent, Revision, StoreError};

/// Keys written and events appended in one group: beyond this it gains nothing, and its first would wait for its last.
const GROUP_WRITES: usize = 500;
const GROUP_EVENTS: usize = 4_096;
/// Bytes in one group, of values and events.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// What an event takes in a chunk beside what it is appended with, at most: its frame, its cursor and its recorded time.
const EVENT_BYTES: usize = FRAME_BYTES + 64;

/// What a group has taken, and what it still has room for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    writes: usize,
    value_bytes: usize,
    events: usize,
    event_bytes: usize,
}

impl Room {
    pub(super) fn take(&mut self, commit: &Commit) {
        let values = commit.writes.iter().filter_map(|write| write.value.as_ref());
        let bytes = |event: &NewEvent| {
            EVENT_BYTES + event.source.len() + event.event_type.len() + event.encoded.len()
        };
        self.writes += commit.writes.len();
        self.value_bytes += values.map(|value| value.len()).sum::<usize>();
        self.events += commit.events.len();
        self.event_bytes += commit.events.iter().map(bytes).sum::<usize>();
    }

    /// Whether more is to be gathered.
    pub(super) fn is_left(&self) -> bool {
        self.writes < GROUP_WRITES
            && self.events < GROUP_EVENTS
            && self.value_bytes + self.event_bytes < GROUP_BYTES
    }

    /// Whether a server takes the group with one more commit as one, whatever is in it.
    pub(super) fn fits(&self, commit: &Commit) -> bool {
        let mut with = *self;
        with.take(commit);
        with.messages() <= MAX_MESSAGES
    }

    /// How many messages it is at most: a chunk that is full and the first event of the next one are more together than a
    /// chunk holds.
    fn messages(&self) -> usize {
        self.writes + self.events / CHUNK_EVENTS + 2 * self.event_bytes / CHUNK_BYTES + 1
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::new_event;
    use crate::store::{MAX_WRITES, Write};

    fn commit(writes: usize, events: usize, bytes: usize) -> Commit {
        let write = |number| Write { key: format!("a/{number}"), value: None, expect: Expect::Any };
        let event = |number: usize| NewEvent {
            encoded: vec![0; bytes].into(),
            ..new_event("connections/office", "email.received", None, &number.to_string(), None, None)
        };
        Commit {
            writes: (0..writes).map(write).collect(),
            events: (0..events).map(event).collect(),
            ..Commit::default()
        }
    }

    #[test]
    fn a_group_takes_no_more_than_a_server_takes_as_one() {
        let mut room = Room::default();
        room.take(&commit(499, 0, 0));
        assert!(room.is_left() && room.fits(&commit(500, 0, 0)) && !room.fits(&commit(501, 0, 0)));
        assert!(!room.fits(&commit(MAX_WRITES, 0, 0)));
        room.take(&commit(0, 4_000, 50));
        assert!(room.is_left() && room.fits(&commit(495, 0, 0)) && !room.fits(&commit(497, 0, 0)));
    }

    #[test]
    fn events_are_never_more_messages_than_was_counted() {
        for (events, bytes) in [(0, 0), (1, 10), (2_500, 0), (999, 1_500), (31, 30_000), (40, 65_000)] {
            let commit = commit(3, events, bytes);
            let mut room = Room::default();
            room.take(&commit);
            let mut gathering = Gathering::new(7, 1_000, 0, 0);
            commit.events.iter().for_each(|event| gathering.push(event, remembered(&event.id)));
            let messages = commit.writes.len() + gathering.finish().len();
            assert!(messages <= room.messages(), "{events} of {bytes}: {messages}, {room:?}");
        }
    }
}
