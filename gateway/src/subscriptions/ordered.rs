//! ORDERED subscriptions: one reader at a time, in the order of the log, who commits how far it is. Who reads holds a
//! fence: a newer reader raises it, and what is committed under an older one is refused.

pub(super) mod stream;
pub(super) mod unary;

use bytes::Bytes;
use postern_chassis::fault::Fault;
use postern_proto::event::v1::{Gap, GapReason};
use tonic::Code;

use super::clock::timestamp;
use super::stored::{Kept, Reading};
use super::wire::{BATCH_BYTES, BATCH_EVENTS, Delivery};
use super::{Subscriptions, moved, taken_over};
use crate::error::Error;
use crate::events::begin::{Begin, begin};
use crate::events::cursor::Cursor;
use crate::events::filter::Filter;
use crate::events::wish::Start;
use crate::store::{EventLog, Sequence};

/// The right to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    generation: u64,
    fence: u64,
}

impl Hold {
    fn of(reading: &Reading) -> Self {
        Self { generation: reading.generation, fence: reading.fence }
    }

    /// Whether it still holds.
    ///
    /// # Errors
    /// SUBSCRIPTION_MOVED; SUBSCRIPTION_TAKEN_OVER.
    fn check(self, reading: &Reading) -> Result<(), Error> {
        if reading.generation != self.generation {
            return Err(moved().into());
        }
        if reading.fence != self.fence {
            return Err(taken_over().into());
        }
        Ok(())
    }
}

impl Subscriptions {
    /// Takes the right to read. A stream takes it from everybody, a Pull from other clients.
    async fn take_over(&self, id: &str, client_id: &str, is_stream: bool) -> Result<Kept, Error> {
        self.change_reading(id, |reading| {
            let is_mine = !is_stream && reading.client_id == client_id;
            let client_id = client_id.to_owned();
            Ok((!is_mine).then(|| Reading { fence: reading.fence + 1, client_id, ..reading.clone() }))
        })
        .await
    }

    /// Commits a cursor, if `check` allows it of the reading as it then is. One that is committed as far already stays: the
    /// same client may have two commits on their way.
    async fn commit(
        &self,
        id: &str,
        way: &Way,
        to: Cursor,
        is_ack: bool,
        check: impl Fn(&Reading) -> Result<(), Error> + Send + Sync,
    ) -> Result<Kept, Error> {
        let now = is_ack.then(|| timestamp(self.clock.now()));
        self.change_reading(id, |reading| {
            check(reading)?;
            if way.committed_by(reading).is_some_and(|place| place.sequence >= to.sequence) {
                return Ok(None);
            }
            let last_ack_time = now.or(reading.last_ack_time);
            Ok(Some(Reading { cursor: to.encode(), last_ack_time, ..reading.clone() }))
        })
        .await
    }
}

/// A way through the log from what is committed.
struct Way {
    filter: Filter,
    /// Everything up to here is committed, or passed over by a gap.
    committed: Cursor,
    /// Everything up to here was read.
    after: Cursor,
    /// A place that is of another log, though its epoch may be that of this one: the log went back to a backup.
    elsewhere: Option<Cursor>,
}

/// What is next on the way.
#[derive(Default)]
struct Next {
    /// Passed over before the deliveries.
    gap: Option<Gap>,
    deliveries: Vec<Delivery>,
    /// Of each delivery, its place and size.
    places: Vec<(Sequence, usize)>,
    /// Whether the log has no more.
    is_end: bool,
    /// Whether the next event is larger than what is left.
    is_full: bool,
}

impl Way {
    /// The way on from a reading, the cursor that `opened` tells, and the gap that comes first.
    async fn begin(
        log: &dyn EventLog,
        filter: Filter,
        reading: &Reading,
    ) -> Result<(Self, Option<Gap>, Bytes), Error> {
        let start = Start::After(reading.place(), reading.cursor.clone());
        let Begin { opened, after, gap } = begin(log, start).await?;
        let is_reset = gap.as_ref().is_some_and(|gap| gap.reason() == GapReason::LogReset);
        // Where the log is another one, places of the old one are neither before nor after those of the new one.
        let elsewhere = is_reset.then(|| reading.place());
        let committed = if is_reset { after } else { reading.place() };
        Ok((Self { filter, committed, after, elsewhere }, gap, opened))
    }

    /// Up to where a reading says that this log is committed. `None`: it is of another log still.
    fn committed_by(&self, reading: &Reading) -> Option<Cursor> {
        let place = reading.place();
        (place.epoch == self.after.epoch && self.elsewhere != Some(place)).then_some(place)
    }

    /// Takes over what is committed, be it by others: who has committed further than was read reads on from there.
    fn commit_up_to(&mut self, to: Cursor) {
        self.committed = to;
        if to.sequence > self.after.sequence {
            self.after = to;
        }
    }

    /// Reads on: at most so many events and bytes; where nothing is outstanding, one event whatever its size.
    async fn next(
        &mut self,
        log: &dyn EventLog,
        events: usize,
        bytes: usize,
        is_first: bool,
    ) -> Result<Next, Error> {
        let mut next = Next::default();
        let events = log.read(self.after.sequence, events.min(BATCH_EVENTS), bytes.min(BATCH_BYTES)).await?;
        let kept_after = match events.first() {
            Some(first) => first.sequence - 1,
            None => log.bounds().await?.first - 1,
        };
        if kept_after > self.after.sequence {
            // The event at that place is gone, and what told it from others with it.
            let to = Cursor { sequence: kept_after, fingerprint: 0, ..self.after };
            next.gap = Some(Gap {
                from_cursor: self.after.encode(),
                to_cursor: to.encode(),
                missed: (kept_after - self.after.sequence).cast_signed(),
                reason: GapReason::Retention.into(),
                ..Gap::default()
            });
            self.after = to;
        }
        next.is_end = events.is_empty();
        let mut left = bytes;
        for event in events {
            if self.filter.matches(&event) {
                let size = event.encoded.len();
                if size > left && !(is_first && next.deliveries.is_empty()) {
                    next.is_full = true;
                    break;
                }
                left = left.saturating_sub(size);
                next.places.push((event.sequence, event.encoded.len()));
                let event = event.encoded.clone();
                next.deliveries.push(Delivery { event, ..Delivery::default() });
            }
            let (sequence, fingerprint) = (event.sequence, event.fingerprint);
            self.after = Cursor { sequence, fingerprint, ..self.after };
        }
        Ok(next)
    }

    /// Reads a cursor to commit. `None`: it is committed already. Of a log that is another one nothing is until a reading
    /// says so, its beginning, which a gap leads to, not either.
    ///
    /// # Errors
    /// INVALID_ARGUMENT (CURSOR_INVALID): it is none, or lies beyond what was read.
    fn committing(&self, given: &[u8]) -> Result<Option<Cursor>, Error> {
        let to = Cursor::decode(given)?;
        let is_known = self.elsewhere.is_none() && to.epoch == self.committed.epoch;
        if is_known && to.sequence <= self.committed.sequence {
            return Ok(None);
        }
        if to.epoch != self.after.epoch || to.sequence > self.after.sequence {
            let message = "the cursor lies beyond what was delivered: expected one of this subscription's";
            return Err(Fault::new(Code::InvalidArgument, "CURSOR_INVALID", message).into());
        }
        Ok(Some(to))
    }
}
