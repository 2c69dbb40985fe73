//! Stretches of the log as they go over the wire: each is read, filtered and framed once, and its bytes are shared by all
//! streams that are at the same place with the same filter. Who is elsewhere is given a stretch of its own, up to where the
//! others' begins.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::ahead::Bound;
use super::cursor::Cursor;
use super::filter::Filter;
use super::wire::{Answer, Batch, Kind};
use crate::store::tail::Budget;
use crate::store::{EventLog, Sequence, StoreError, StoredEvent};

/// The most events of one stretch: the contract's bound for a batch.
const STRETCH_EVENTS: usize = 256;
/// The most bytes of one stretch that has more than one event. Well under what the contract allows: this much is held for
/// each subscriber that has stopped reading, and larger batches are not faster.
const STRETCH_BYTES: usize = 64 * 1024;
/// How much is shelved, all shelves together: what streams that follow are apart from each other at a high rate.
const SHELVED_BYTES: usize = 16 * 1024 * 1024;
/// The most shelves: filters beyond them share nothing.
const SHELVES: usize = 128;

/// Some of the log, from one place to another.
#[derive(Debug)]
pub(super) struct Stretch {
    /// The place that it comes after.
    from: Sequence,
    /// After its last event, wanted or not.
    pub(super) to: Cursor,
    /// The batch as it goes over the wire. Absent: the filter dropped all.
    pub(super) framed: Option<Bytes>,
    /// How many events that is.
    pub(super) count: usize,
}

impl Stretch {
    /// Whether it is what comes after a place.
    pub(super) fn follows(&self, place: Cursor) -> bool {
        self.from == place.sequence
    }

    /// What a stretch costs while it is kept: those without bytes cost too.
    fn cost(&self) -> usize {
        size_of::<Self>() + self.framed.as_ref().map_or(0, Bytes::len)
    }
}

/// What comes after a place.
#[derive(Debug)]
pub(super) enum Next {
    /// Events.
    Stretch(Arc<Stretch>),
    /// Retention has passed everything up to this place.
    Gap(Sequence),
    /// Nothing is there.
    Nothing,
}

/// The log in stretches.
pub(super) struct Stretches {
    log: Arc<dyn EventLog>,
    pub(super) ahead: Bound,
    shelves: Mutex<HashMap<Filter, Weak<Shelf>>>,
}

/// What one filter lets through, for all who have it.
pub(super) struct Shelf {
    filter: Filter,
    /// The bytes that it may keep. 0: it is one stream's own.
    bound: usize,
    kept: Mutex<Kept>,
}

/// Stretches one after the other, the newest last.
#[derive(Default)]
struct Kept {
    stretches: VecDeque<Arc<Stretch>>,
    bytes: usize,
}

impl Stretches {
    pub(super) fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log, ahead: Bound::default(), shelves: Mutex::default() }
    }

    /// The shelf of a filter. It lasts for as long as somebody has it.
    pub(super) fn shelf(&self, filter: Filter) -> Arc<Shelf> {
        let mut shelves = locked(&self.shelves);
        if let Some(shelf) = shelves.get(&filter).and_then(Weak::upgrade) {
            return shelf;
        }
        shelves.retain(|_, shelf| shelf.strong_count() > 0);
        let bound = if shelves.len() < SHELVES { SHELVED_BYTES / (shelves.len() + 1) } else { 0 };
        let shelf = Arc::new(Shelf { filter: filter.clone(), bound, kept: Mutex::default() });
        if bound > 0 {
            shelves.insert(filter, Arc::downgrade(&shelf));
        }
        shelf
    }

    /// What comes after a place, up to another one.
    ///
    /// # Errors
    /// Storage fails.
    pub(super) async fn after(
        &self,
        shelf: &Shelf,
        place: Cursor,
        last: Sequence,
    ) -> Result<Next, StoreError> {
        let room = match shelf.room(place, last) {
            Ok(stretch) => return Ok(Next::Stretch(stretch)),
            Err(room) => room,
        };
        let events = self.log.read(place.sequence, STRETCH_EVENTS.min(room), STRETCH_BYTES).await?;
        let kept_after = match events.first() {
            Some(first) => first.sequence - 1,
            None => self.log.seen().first - 1,
        };
        if kept_after > place.sequence {
            return Ok(Next::Gap(kept_after));
        }
        Ok(shelf.put(place, events).map_or(Next::Nothing, Next::Stretch))
    }

    /// Some stretches after a place, up to another one, which are read at once. None: there is a gap, or nothing.
    ///
    /// # Errors
    /// Storage fails.
    pub(super) async fn some_after(
        &self,
        shelf: &Shelf,
        mut place: Cursor,
        last: Sequence,
        count: usize,
    ) -> Result<Vec<Arc<Stretch>>, StoreError> {
        let room = match shelf.room(place, last) {
            Ok(stretch) => return Ok(vec![stretch]),
            Err(room) => room,
        };
        let events =
            self.log.read(place.sequence, room.min(count * STRETCH_EVENTS), count * STRETCH_BYTES).await?;
        if events.first().is_some_and(|first| first.sequence - 1 > place.sequence) {
            return Ok(Vec::new());
        }
        let (mut events, mut stretches) = (events.into_iter().peekable(), Vec::new());
        while events.peek().is_some() {
            let (mut budget, mut count) = (Budget::new(STRETCH_BYTES), 0);
            let own = std::iter::from_fn(|| {
                count += 1;
                events.next_if(|event| count <= STRETCH_EVENTS && budget.takes(event.encoded.len()))
            });
            let Some(stretch) = shelf.put(place, own) else { break };
            place = stretch.to;
            stretches.push(stretch);
            // Another stream's may have been there already, and have ended elsewhere than the events taken for it here.
            if events.peek().is_some_and(|next| next.sequence != place.sequence + 1) {
                break;
            }
        }
        Ok(stretches)
    }
}

impl Shelf {
    /// Whether it keeps what comes after a place.
    pub(super) fn has(&self, place: Sequence) -> bool {
        self.find(place).is_ok()
    }

    /// What it keeps of what comes after a place, or how many events there are at most up to where it keeps some, or the
    /// last.
    fn room(&self, place: Cursor, last: Sequence) -> Result<Arc<Stretch>, usize> {
        self.find(place.sequence).map_err(|next| {
            let end = next.unwrap_or(last).min(last);
            usize::try_from(end.saturating_sub(place.sequence)).unwrap_or(usize::MAX)
        })
    }

    /// Frames what the filter lets through of the events that come after a place. `None`: there are none.
    fn put(&self, place: Cursor, events: impl IntoIterator<Item = StoredEvent>) -> Option<Arc<Stretch>> {
        let (mut to, mut wanted) = (place, Vec::new());
        for event in events {
            to = Cursor { sequence: event.sequence, fingerprint: event.fingerprint, ..place };
            if self.filter.matches(&event) {
                wanted.push(event.encoded);
            }
        }
        let count = wanted.len();
        let framed = (count > 0).then(|| Answer::from(Kind::Batch(Batch { events: wanted })).framed());
        (to != place).then(|| self.keep(Stretch { from: place.sequence, to, framed, count }))
    }

    /// The stretch after a place, or where the next one begins that is kept.
    fn find(&self, place: Sequence) -> Result<Arc<Stretch>, Option<Sequence>> {
        let kept = locked(&self.kept);
        let next = kept.stretches.partition_point(|stretch| stretch.from < place);
        match kept.stretches.get(next) {
            Some(stretch) if stretch.from == place => Ok(stretch.clone()),
            other => Err(other.map(|stretch| stretch.from)),
        }
    }

    /// Keeps a stretch that is newer than all there are. Gives the one to go on with: another stream may have been faster.
    fn keep(&self, stretch: Stretch) -> Arc<Stretch> {
        let mut kept = locked(&self.kept);
        let newest = kept.stretches.back();
        if let Some(newest) = newest.filter(|newest| newest.from == stretch.from) {
            return newest.clone();
        }
        let follows = newest.is_none_or(|newest| newest.to.sequence <= stretch.from);
        let stretch = Arc::new(stretch);
        if follows && self.bound > 0 {
            kept.bytes += stretch.cost();
            kept.stretches.push_back(stretch.clone());
            while kept.bytes > self.bound
                && let Some(oldest) = kept.stretches.pop_front()
            {
                kept.bytes -= oldest.cost();
            }
        }
        stretch
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
