//! Who gets what: what waits to be delivered again first, then what is new, one to each subscriber in turn, as far as
//! they have room. Nothing is sent here: it is written first.

use std::collections::HashMap;

use bytes::Bytes;
use postern_proto::event::v1::{Gap, GapReason};
use prost::Message as _;

use super::draft::Draft;
use crate::error::Error;
use crate::events::cursor::Cursor;
use crate::events::filter::Filter;
use crate::store::{EventLog, Store};
use crate::subscriptions::ack_id::AckId;
use crate::subscriptions::stored::{self, MOST_UNSETTLED, SetAside, Unsettled};
use crate::subscriptions::wire::{BATCH_BYTES, Delivery};

/// How many events are read at once, and of how many bytes.
const READ_EVENTS: usize = 256;
const READ_BYTES: usize = 1024 * 1024;
/// How many new events are looked at, and how many are delivered again, before others have their turn.
const MOST_LOOKED_AT: usize = 1_024;
const MOST_AGAIN: usize = 256;

/// What one subscriber can take now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// How many more events, of this answer and by what is outstanding.
    pub(super) events: usize,
    /// How many more bytes may be outstanding.
    pub(super) bytes: usize,
    /// Whether nothing is outstanding: then one event is taken whatever its size.
    pub(super) is_empty: bool,
}

/// What one subscriber is given.
#[derive(Debug, Default)]
pub(in crate::subscriptions) struct Given {
    pub(in crate::subscriptions) gap: Option<Gap>,
    /// What the gap is known by.
    pub(super) gap_id: u64,
    pub(in crate::subscriptions) deliveries: Vec<Delivery>,
    /// Of each delivery, what it is known by and its size.
    pub(super) nonces: Vec<(u64, usize)>,
    pub(super) bytes: usize,
}

/// The assignment of one round.
pub(super) struct Plan {
    pub(super) given: Vec<Given>,
    /// Up to here the log is read.
    pub(super) scan: Cursor,
    /// Whether there may be more to give at once.
    pub(super) more: bool,
    /// Whether there is something new that nobody has room for.
    pub(super) is_stuck: bool,
    next: usize,
}

/// What assigning is done with.
pub(super) struct Assigning<'a> {
    pub(super) id: &'a str,
    pub(super) store: &'a dyn Store,
    pub(super) log: &'a dyn EventLog,
    pub(super) filter: &'a Filter,
    pub(super) ack_deadline: i64,
    pub(super) max_attempts: u32,
    pub(super) now: i64,
}

impl Plan {
    pub(super) fn new(takers: usize, scan: Cursor) -> Self {
        let given = (0..takers).map(|_| Given::default()).collect();
        Self { given, scan, more: false, is_stuck: false, next: 0 }
    }

    /// Who takes an event of this size: the next in turn who has room.
    fn taker(&mut self, rooms: &[Room], size: usize) -> Option<usize> {
        let count = rooms.len();
        let turn = (0..count).map(|step| (self.next + step) % count);
        let found = turn.into_iter().find(|taker| {
            let (room, given) = (&rooms[*taker], &self.given[*taker]);
            let first = given.deliveries.is_empty();
            given.deliveries.len() < room.events
                && (given.bytes + size <= room.bytes || (first && room.is_empty))
                && (first || given.bytes + size <= BATCH_BYTES)
        })?;
        self.next = found + 1;
        Some(found)
    }

    /// Whether somebody has room for more.
    fn has_room(&self, rooms: &[Room]) -> bool {
        rooms.iter().zip(&self.given).any(|(room, given)| {
            given.deliveries.len() < room.events && (given.bytes < room.bytes || given.deliveries.is_empty())
        })
    }

    fn give(&mut self, taker: usize, delivery: Delivery, nonce: u64) {
        let given = &mut self.given[taker];
        given.bytes += delivery.event.len();
        given.nonces.push((nonce, delivery.event.len()));
        given.deliveries.push(delivery);
    }
}

/// The gap that a place leaves which retention has passed.
pub(super) fn lost(scan: Cursor, one: &Unsettled) -> Gap {
    let at = |sequence| Cursor { sequence, fingerprint: 0, ..scan }.encode();
    Gap {
        from_cursor: at(one.sequence.saturating_sub(1)),
        to_cursor: at(one.sequence),
        missed: 1,
        reason: GapReason::Retention.into(),
        ..Gap::default()
    }
}

impl Assigning<'_> {
    /// Gives out what there is.
    pub(super) async fn assign(
        &self,
        draft: &mut Draft,
        plan: &mut Plan,
        rooms: &[Room],
    ) -> Result<(), Error> {
        if rooms.is_empty() {
            return Ok(());
        }
        self.again(draft, plan, rooms).await?;
        self.new_ones(draft, plan, rooms).await
    }

    /// What is due to be delivered again.
    async fn again(&self, draft: &mut Draft, plan: &mut Plan, rooms: &[Room]) -> Result<(), Error> {
        let (_, due) = draft.due(self.now, self.max_attempts);
        for (count, one) in due.iter().enumerate() {
            if !plan.has_room(rooms) {
                return Ok(());
            }
            if count >= MOST_AGAIN {
                plan.more = true;
                return Ok(());
            }
            let Some(event) = self.event(one).await? else {
                draft.remove(one);
                draft.owe(lost(plan.scan, one));
                continue;
            };
            let Some(taker) = plan.taker(rooms, event.len()) else { continue };
            let generation = draft.reading.generation;
            let Some(entry) = draft.find(one) else { continue };
            *entry = self.delivered(one.sequence, one.attempt + 1, one.copy);
            let delivery = self.delivery(event, generation, entry);
            plan.give(taker, delivery, entry.nonce);
        }
        Ok(())
    }

    /// What nobody was given yet.
    async fn new_ones(&self, draft: &mut Draft, plan: &mut Plan, rooms: &[Room]) -> Result<(), Error> {
        let mut looked_at = 0;
        while plan.has_room(rooms) && draft.reading.unsettled.len() < MOST_UNSETTLED {
            if looked_at >= MOST_LOOKED_AT {
                plan.more = true;
                return Ok(());
            }
            let events = self.log.read(plan.scan.sequence, READ_EVENTS, READ_BYTES).await?;
            let kept_after = match events.first() {
                Some(first) => first.sequence - 1,
                None => self.log.bounds().await?.first - 1,
            };
            if kept_after > plan.scan.sequence {
                let to = Cursor { sequence: kept_after, fingerprint: 0, ..plan.scan };
                let missed = (kept_after - plan.scan.sequence).cast_signed();
                draft.owe(Gap {
                    from_cursor: plan.scan.encode(),
                    to_cursor: to.encode(),
                    missed,
                    reason: GapReason::Retention.into(),
                    ..Gap::default()
                });
                plan.scan = to;
            }
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                if self.filter.matches(&event) {
                    if draft.reading.unsettled.len() >= MOST_UNSETTLED {
                        return Ok(());
                    }
                    let Some(taker) = plan.taker(rooms, event.encoded.len()) else {
                        plan.is_stuck = true;
                        return Ok(());
                    };
                    let entry = self.delivered(event.sequence, 1, 0);
                    draft.reading.unsettled.push(entry);
                    let delivery = self.delivery(event.encoded, draft.reading.generation, &entry);
                    plan.give(taker, delivery, entry.nonce);
                }
                let (sequence, fingerprint) = (event.sequence, event.fingerprint);
                plan.scan = Cursor { sequence, fingerprint, ..plan.scan };
                looked_at += 1;
            }
        }
        Ok(())
    }

    fn delivered(&self, sequence: u64, attempt: u32, copy: u64) -> Unsettled {
        let (due, nonce) = (self.now.saturating_add(self.ack_deadline), fastrand::u64(1..));
        Unsettled { sequence, attempt, due, nonce, copy, ..Unsettled::default() }
    }

    fn delivery(&self, event: Bytes, generation: u64, entry: &Unsettled) -> Delivery {
        let id = AckId { generation, sequence: entry.sequence, nonce: entry.nonce };
        let attempt = i32::try_from(entry.attempt).unwrap_or(i32::MAX);
        Delivery { event, ack_id: id.encode(self.id), attempt }
    }

    /// An event that was handed out. `None`: retention has passed it.
    pub(super) async fn event(&self, one: &Unsettled) -> Result<Option<Bytes>, Error> {
        if one.copy > 0 {
            let entry = self.store.get(&stored::set_aside_key(self.id, one.copy, one.sequence)).await?;
            return Ok(entry.and_then(|entry| SetAside::decode(entry.value).ok()).map(|kept| kept.event));
        }
        let found = self.log.read(one.sequence.saturating_sub(1), 1, 1).await?;
        let found = found.into_iter().find(|event| event.sequence == one.sequence);
        Ok(found.map(|event| event.encoded))
    }
}

/// What of each stream is outstanding: how many events and bytes.
pub(super) fn outstanding(held: &HashMap<u64, super::desk::Held>) -> HashMap<u64, (usize, usize)> {
    let mut used: HashMap<u64, (usize, usize)> = HashMap::new();
    for one in held.values() {
        let Some(stream) = one.stream else { continue };
        let (events, bytes) = used.entry(stream).or_default();
        *events += 1;
        *bytes += one.bytes;
    }
    used
}
