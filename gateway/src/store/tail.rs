//! The newest events in memory, so that subscribers who follow the log live ask no disk and no server, and the bounds of
//! the log as they became durable.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::{Bounds, Revision, Sequence, StoredEvent};

/// How much is kept in memory: seconds of events at the highest rate, hours at a usual one.
const TAIL_BYTES: usize = 8 * 1024 * 1024;
/// What an event costs beyond its bytes.
const OVERHEAD_BYTES: usize = 160;

/// What is known of the whole store without looking at what it holds. Times are milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// Made at random with the store.
    pub(super) epoch: u64,
    /// The last revision given.
    pub(super) revision: Revision,
    /// The place of the last event.
    pub(super) last: Sequence,
    /// When the last event was recorded: times never go back, whatever the clock does.
    pub(super) recorded: i64,
    /// When the last event that retention removed was recorded.
    pub(super) trimmed: Option<i64>,
    /// The size of all events, encoded.
    pub(super) bytes: u64,
    /// The place of the first event kept, or the one after `last`.
    pub(super) first: Sequence,
}

/// What is durable, and the newest of it.
pub(super) struct Tail {
    kept: RwLock<Kept>,
    last: watch::Sender<Sequence>,
}

struct Kept {
    counters: Counters,
    /// Without holes, up to `counters.last`.
    newest: VecDeque<StoredEvent>,
    bytes: usize,
}

impl Tail {
    pub(super) fn new(counters: Counters) -> Self {
        let kept = RwLock::new(Kept { counters, newest: VecDeque::new(), bytes: 0 });
        Self { kept, last: watch::Sender::new(counters.last) }
    }

    /// The last durable place, as it grows.
    pub(super) fn watch(&self) -> watch::Receiver<Sequence> {
        self.last.subscribe()
    }

    /// Takes in what a commit made durable, then wakes those who wait.
    pub(super) fn publish(&self, counters: Counters, events: Vec<StoredEvent>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.counters = counters;
        let follows =
            |newest: &StoredEvent| events.first().is_none_or(|event| event.sequence == newest.sequence + 1);
        if !kept.newest.back().is_none_or(follows) {
            // Others appended what was gone before it was seen here.
            (kept.newest, kept.bytes) = (VecDeque::new(), 0);
        }
        for event in events {
            kept.bytes += cost(&event);
            kept.newest.push_back(event);
        }
        while let Some(oldest) = kept.newest.front() {
            if kept.bytes <= TAIL_BYTES && oldest.sequence >= counters.first {
                break;
            }
            kept.bytes -= cost(oldest);
            kept.newest.pop_front();
        }
        drop(kept);
        self.last.send_if_modified(|last| std::mem::replace(last, counters.last) != counters.last);
    }

    /// Takes counters that were read anew, and forgets the events.
    pub(super) fn forget(&self, counters: Counters) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Kept { counters, newest: VecDeque::new(), bytes: 0 };
        drop(kept);
        self.last.send_if_modified(|last| std::mem::replace(last, counters.last) != counters.last);
    }

    /// The events after a place, or `None` where the engine must be asked.
    pub(super) fn read(&self, after: Sequence, events: usize, bytes: usize) -> Option<Vec<StoredEvent>> {
        let kept = self.kept();
        if after >= kept.counters.last {
            return Some(Vec::new());
        }
        let begin = after.max(kept.counters.first - 1) + 1;
        let skipped = begin.checked_sub(kept.newest.front()?.sequence)?;
        let mut budget = Budget::new(bytes);
        let newest = kept.newest.iter().skip(usize::try_from(skipped).ok()?).take(events.max(1));
        Some(newest.take_while(|event| budget.takes(event.encoded.len())).cloned().collect())
    }

    /// What the log holds.
    pub(super) fn bounds(&self) -> Bounds {
        let Counters { epoch, first, last, trimmed, .. } = self.kept().counters;
        Bounds { epoch, first, last, trimmed: trimmed.map(time_of) }
    }

    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(event: &StoredEvent) -> usize {
    event.encoded.len() + OVERHEAD_BYTES
}

/// A time as milliseconds since 1970, rounded down.
pub(super) fn milliseconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// Milliseconds since 1970 as a time.
pub(super) fn time_of(milliseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

/// Counts off the bytes of one read: the first event always fits.
pub(crate) struct Budget {
    left: usize,
    fresh: bool,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: bytes, fresh: true }
    }

    /// Whether one of this size is still taken.
    pub(crate) fn takes(&mut self, bytes: usize) -> bool {
        let fits = self.fresh || bytes <= self.left;
        self.fresh = false;
        self.left = self.left.saturating_sub(bytes);
        fits
    }
}
