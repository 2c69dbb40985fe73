//! What a gateway remembers of the stream, kept by applying its messages in order: which keys there are and at which
//! revisions, which ids, where the chunks are, and the newest events. Values stay in the stream.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use super::chunk;
use super::message::{Id, Record};
use crate::store::tail::{Counters, Tail};
use crate::store::{Change, Entry, Revision, Sequence, WATCH_BACKLOG, is_watched};

/// Ids of events that are gone are forgotten in one sweep once there are this many more than events.
const SPARE_IDS: usize = 10_000;

/// The commits whose names are remembered: many more than are written while one waits for what came in its place.
const NAMES: usize = 1_024;

/// The bounds of the log, as a message of their own says them after a trim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    /// The size of all events before the first one kept, and of all that ever were.
    pub(super) before: u64,
    pub(super) total: u64,
    pub(super) recorded: i64,
    /// When the last event removed was recorded.
    pub(super) trimmed: i64,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkAt {
    pub(super) first: Sequence,
    /// The message's own place in the stream.
    pub(super) message: u64,
    pub(super) recorded: i64,
    pub(super) before: u64,
}

/// What is remembered. Everything up to and with the message `at` is applied.
pub(super) struct State {
    pub(super) at: u64,
    pub(super) keys: BTreeMap<String, Revision>,
    ids: HashMap<Id, Sequence>,
    pub(super) chunks: VecDeque<ChunkAt>,
    pub(super) counters: Counters,
    /// The size of all events that ever were, and of those that went.
    pub(super) total: u64,
    pub(super) before: u64,
    /// The first messages of the newest commits that came with the stream, and the names of those.
    names: VecDeque<(u64, String)>,
    /// Why nothing can be done any more.
    pub(super) broken: Option<String>,
}

impl State {
    pub(super) fn new(epoch: u64) -> Self {
        let counters =
            Counters { epoch, revision: 0, last: 0, recorded: 0, trimmed: None, bytes: 0, first: 1 };
        Self {
            at: 0,
            keys: BTreeMap::new(),
            ids: HashMap::new(),
            chunks: VecDeque::new(),
            counters,
            total: 0,
            before: 0,
            names: VecDeque::new(),
            broken: None,
        }
    }

    /// Whether an event with this id is kept.
    pub(super) fn keeps(&self, id: &Id) -> bool {
        self.ids.get(id).is_some_and(|place| *place >= self.counters.first)
    }

    /// Where a commit of this name begins, as far as the stream has come.
    pub(super) fn place_of(&self, commit: &str) -> Option<u64> {
        self.names.iter().rev().find(|(_, name)| name == commit).map(|(place, _)| *place)
    }

    /// The chunk that holds a place, where one does.
    pub(super) fn chunk_of(&self, place: Sequence) -> Option<ChunkAt> {
        let after = self.chunks.partition_point(|chunk| chunk.first <= place);
        self.chunks.get(after.checked_sub(1)?).copied()
    }

    /// Applies a message. Gives the change of a key that it is and the events that came, for those who follow.
    pub(super) fn apply(
        &mut self,
        message: u64,
        record: Record,
    ) -> (Option<Change>, Vec<crate::store::StoredEvent>) {
        let mut events = Vec::new();
        let mut change = None;
        self.at = message;
        self.counters.revision = message;
        match record {
            Record::Put(key, value) => {
                self.keys.insert(key.clone(), message);
                change = value.map(|value| {
                    let entry = Entry { key: key.clone(), value, revision: message };
                    Change { key, value: Some(entry) }
                });
            }
            Record::Delete(key) => {
                change = self.keys.remove(&key).map(|_| Change { key, value: None });
            }
            Record::Chunk(chunk) => {
                let count = chunk.ids.len() as u64;
                for (id, place) in chunk.ids.iter().zip(chunk.first..) {
                    self.ids.insert(*id, place);
                }
                let (first, recorded, before) = (chunk.first, chunk.recorded, chunk.before);
                self.chunks.push_back(ChunkAt { first, message, recorded, before });
                self.counters.last = first + count - 1;
                self.counters.recorded = recorded;
                self.total = before + chunk.bytes;
                self.counters.bytes = self.total - self.before.min(self.total);
                events = chunk::events(first, chunk.payload).unwrap_or_else(|| {
                    tracing::error!(message, "a chunk of events is damaged");
                    Vec::new()
                });
            }
            Record::Head(head) => self.begin_at(head),
        }
        (change, events)
    }

    fn begin_at(&mut self, head: Head) {
        let Head { first, last, before, total, recorded, trimmed } = head;
        self.counters.first = first;
        self.counters.last = self.counters.last.max(last);
        self.counters.recorded = self.counters.recorded.max(recorded);
        self.counters.trimmed = Some(trimmed);
        (self.before, self.total) = (before, self.total.max(total));
        self.counters.bytes = self.total - before.min(self.total);
        // A chunk goes once the next one begins where the log does, or before it.
        while self.chunks.get(1).map_or(last, |next| next.first - 1) < first && !self.chunks.is_empty() {
            self.chunks.pop_front();
        }
        let kept = usize::try_from(self.counters.last + 1 - first).unwrap_or(usize::MAX);
        if self.ids.len() > kept.saturating_add(SPARE_IDS).max(kept.saturating_mul(2)) || kept == 0 {
            self.ids.retain(|_, place| *place >= first);
            self.ids.shrink_to_fit();
        }
    }
}

/// The state, and those who are told of what changes it.
pub(super) struct Mirror {
    state: Mutex<State>,
    pub(super) tail: Tail,
    changes: broadcast::Sender<Change>,
    at: watch::Sender<u64>,
}

impl Mirror {
    pub(super) fn new(state: State) -> Arc<Self> {
        let (changes, _) = broadcast::channel(WATCH_BACKLOG);
        let (tail, at) = (Tail::new(state.counters), watch::Sender::new(state.at));
        Arc::new(Self { state: Mutex::new(state), tail, changes, at })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// How far the stream is applied, as it grows.
    pub(super) fn at(&self) -> watch::Receiver<u64> {
        self.at.subscribe()
    }

    /// Applies messages in their order. What was applied before is passed over: a commit comes twice, once from whoever
    /// made it and once with the stream.
    pub(super) fn apply(&self, messages: impl IntoIterator<Item = (u64, Option<Record>)>) {
        let mut state = self.state();
        let mut appended = Vec::new();
        for (message, record) in messages {
            if message <= state.at {
                continue;
            }
            let Some(record) = record else {
                state.at = message;
                continue;
            };
            let (change, events) = state.apply(message, record);
            appended.extend(events);
            if let Some(change) = change {
                self.tell(change);
            }
        }
        self.tail.publish(state.counters, appended);
        self.at.send_replace(state.at);
    }

    /// Remembers which commit wrote a message, before that is applied.
    pub(super) fn name(&self, message: u64, commit: String) {
        let names = &mut self.state().names;
        if names.back().is_none_or(|(_, last)| *last != commit) {
            names.push_back((message, commit));
            if names.len() > NAMES {
                names.pop_front();
            }
        }
    }

    /// Takes a state that was read anew. Gives the keys whose values changed meanwhile, to be told with [`Mirror::tell`].
    pub(super) fn replace(&self, new: State) -> Vec<String> {
        let mut state = self.state();
        let changed = |(key, revision): (&String, &Revision)| {
            (state.keys.get(key) != Some(revision)).then(|| key.clone())
        };
        let told = new.keys.iter().filter_map(changed).collect();
        for key in state.keys.keys().filter(|key| !new.keys.contains_key(*key)) {
            self.tell(Change { key: key.clone(), value: None });
        }
        *state = new;
        self.tail.forget(state.counters);
        self.at.send_replace(state.at);
        told
    }

    /// Tells of a change, unless nobody is to be told of its key.
    pub(super) fn tell(&self, change: Change) {
        if is_watched(&change.key) {
            // Nobody may be watching.
            let _ = self.changes.send(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::nats::chunk::Chunk;

    fn put(key: &str) -> Option<Record> {
        Some(Record::Put(key.to_owned(), Some(Bytes::from_static(b"value"))))
    }

    fn chunk(first: Sequence, ids: &[u8]) -> Option<Record> {
        let ids: Vec<_> = ids.iter().map(|id| [*id; 16]).collect();
        let (bytes, before) = (10 * ids.len() as u64, 10 * (first - 1));
        let recorded = first.cast_signed();
        Some(Record::Chunk(Chunk { first, recorded, before, bytes, ids, payload: Bytes::new() }))
    }

    #[test]
    fn what_comes_twice_is_applied_once() {
        let mirror = Mirror::new(State::new(7));
        let mut watching = mirror.watch();
        mirror.apply([(1, put("a")), (2, None), (3, put("b"))]);
        mirror.apply([(1, put("a")), (3, put("b")), (4, Some(Record::Delete("a".to_owned())))]);
        let told: Vec<_> = std::iter::from_fn(|| watching.try_recv().ok()).map(|change| change.key).collect();
        assert_eq!(told, ["a", "b", "a"]);
        let state = mirror.state();
        assert_eq!((state.at, state.keys.len()), (4, 1));
    }

    #[test]
    fn a_commit_is_found_by_its_name_where_it_begins() {
        let mirror = Mirror::new(State::new(7));
        for (message, commit) in [(4, "a"), (5, "a"), (6, "b"), (7, "b")] {
            mirror.name(message, commit.to_owned());
        }
        let place_of = |commit: &str| mirror.state().place_of(commit);
        assert_eq!((place_of("a"), place_of("b"), place_of("c")), (Some(4), Some(6), None));
        (8..2_000).for_each(|message| mirror.name(message, message.to_string()));
        assert_eq!((place_of("a"), place_of("1999"), mirror.state().names.len()), (None, Some(1_999), NAMES));
    }

    #[test]
    fn a_trim_leaves_what_is_kept_and_forgets_the_ids_before() {
        let mirror = Mirror::new(State::new(7));
        mirror.apply([(1, chunk(1, &[1, 2, 3])), (2, chunk(4, &[4])), (3, chunk(5, &[5, 6]))]);
        let head = Head { first: 5, last: 6, before: 40, total: 60, recorded: 5, trimmed: 4 };
        mirror.apply([(4, Some(Record::Head(Head { first: 3, before: 20, trimmed: 1, ..head })))]);
        assert!(!mirror.state().keeps(&[2; 16]) && mirror.state().keeps(&[3; 16]));
        assert_eq!(mirror.state().chunk_of(3).unwrap().message, 1);
        mirror.apply([(5, Some(Record::Head(head)))]);
        let state = mirror.state();
        assert!(!state.keeps(&[4; 16]) && state.keeps(&[5; 16]));
        assert_eq!((state.chunks.len(), state.chunk_of(4), state.counters.bytes), (1, None, 20));
    }

    #[test]
    fn a_state_that_is_read_anew_tells_of_what_changed_meanwhile() {
        let mirror = Mirror::new(State::new(7));
        mirror.apply([(1, put("kept")), (2, put("gone")), (3, put("changed")), (4, chunk(1, &[1, 2]))]);
        let mut watching = mirror.watch();
        let mut new = State::new(7);
        for (message, record) in [(1, put("kept")), (6, put("changed")), (7, put("new")), (8, chunk(3, &[3]))]
        {
            new.apply(message, record.unwrap());
        }
        let mut changed = mirror.replace(new);
        changed.sort();
        assert_eq!(changed, ["changed", "new"]);
        let gone = watching.try_recv().unwrap();
        assert_eq!((gone.key.as_str(), gone.value), ("gone", None));
        assert!(watching.is_empty());
        let at = mirror.state().at;
        assert_eq!((at, mirror.tail.bounds().last), (8, 3));
    }
}
