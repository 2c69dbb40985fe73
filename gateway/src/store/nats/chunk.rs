//! Chunks: events that were appended together are one message, so that a group costs one write, and reading them back
//! is as quick as the network.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use ring::digest::{SHA256, digest};

use super::message::Id;
use crate::events::cursor::{self, Cursor};
use crate::events::record;
use crate::store::tail::time_of;
use crate::store::{NewEvent, Sequence, StoredEvent};

/// The most events of a chunk: their ids stand in a header, of which a message has 64 KiB.
pub(super) const CHUNK_EVENTS: usize = 1_000;
/// The most bytes of a chunk's events: with its headers it is under the 1 MiB of a message.
pub(super) const CHUNK_BYTES: usize = 900 * 1024;
/// What stands before each event: fingerprint, and three lengths.
pub(super) const FRAME_BYTES: usize = 4 + 4 + 2 + 2;

/// Events in a row, recorded at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The place of the first.
    pub(super) first: Sequence,
    /// When they were recorded, in milliseconds since 1970.
    pub(super) recorded: i64,
    /// The size of all events ever appended before them, encoded.
    pub(super) before: u64,
    /// Their size, encoded.
    pub(super) bytes: u64,
    /// What is remembered of their ids.
    pub(super) ids: Vec<Id>,
    /// The events. Empty where only headers were read.
    pub(super) payload: Bytes,
}

/// What is remembered of an id.
pub(super) fn remembered(id: &str) -> Id {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if let Ok(hex) = <&[u8; 32]>::try_from(id.as_bytes()) {
        let mut bytes = [0; 16];
        let (pairs, _) = hex.as_chunks::<2>();
        let whole =
            bytes.iter_mut().zip(pairs).all(|(byte, [high, low])| match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => {
                    *byte = high << 4 | low;
                    true
                }
                _ => false,
            });
        if whole {
            return bytes;
        }
    }
    let sum = digest(&SHA256, id.as_bytes());
    sum.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Gathers new events into chunks.
pub(super) struct Gathering {
    epoch: u64,
    recorded: i64,
    /// The place of the last event, and the size of all.
    pub(super) last: Sequence,
    pub(super) total: u64,
    payload: BytesMut,
    ids: Vec<Id>,
    bytes: u64,
    chunks: Vec<Chunk>,
}

impl Gathering {
    /// After these, all recorded at one time.
    pub(super) fn new(epoch: u64, recorded: i64, last: Sequence, total: u64) -> Self {
        let payload = BytesMut::new();
        Self { epoch, recorded, last, total, payload, ids: Vec::new(), bytes: 0, chunks: Vec::new() }
    }

    pub(super) fn push(&mut self, event: &NewEvent, id: Id) {
        let (source, event_type) = (event.source.as_bytes(), event.event_type.as_bytes());
        let sequence = self.last + 1;
        let fingerprint = cursor::fingerprint(&event.id, self.recorded);
        let cursor = Cursor { epoch: self.epoch, sequence, fingerprint };
        let encoded = record::complete(&event.encoded, cursor, time_of(self.recorded));
        let size = FRAME_BYTES + source.len() + event_type.len() + encoded.len();
        if self.ids.len() >= CHUNK_EVENTS || self.payload.len() + size > CHUNK_BYTES {
            self.cut();
        }
        self.payload.put_u32(fingerprint);
        // An event has 64 KiB at most, and these are of it: see `admit`.
        self.payload.put_u32(encoded.len() as u32);
        self.payload.put_u16(source.len() as u16);
        self.payload.put_u16(event_type.len() as u16);
        for part in [source, event_type, &encoded] {
            self.payload.put_slice(part);
        }
        self.ids.push(id);
        self.bytes += encoded.len() as u64;
        self.last = sequence;
    }

    /// Takes what comes from here on as recorded at another time, not before what was.
    pub(super) fn record_at(&mut self, recorded: i64) {
        let recorded = recorded.max(self.recorded);
        if recorded != self.recorded {
            self.cut();
            self.recorded = recorded;
        }
    }

    fn cut(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        self.chunks.push(Chunk {
            first: self.last + 1 - self.ids.len() as u64,
            recorded: self.recorded,
            before: self.total,
            bytes: self.bytes,
            ids: std::mem::take(&mut self.ids),
            payload: self.payload.split().freeze(),
        });
        self.total += std::mem::take(&mut self.bytes);
    }

    pub(super) fn finish(mut self) -> Vec<Chunk> {
        self.cut();
        self.chunks
    }
}

/// The events of a chunk's payload, of which the first has this place. `None`: it is damaged.
pub(super) fn events(first: Sequence, mut payload: Bytes) -> Option<Vec<StoredEvent>> {
    let mut found: Vec<StoredEvent> = Vec::new();
    while payload.has_remaining() {
        if payload.remaining() < FRAME_BYTES {
            return None;
        }
        let fingerprint = payload.get_u32();
        let encoded = payload.get_u32() as usize;
        let (source, event_type) = (usize::from(payload.get_u16()), usize::from(payload.get_u16()));
        if payload.remaining() < source + event_type + encoded {
            return None;
        }
        let (source, event_type) = (payload.split_to(source), payload.split_to(event_type));
        let before = found.last();
        found.push(StoredEvent {
            sequence: first + found.len() as u64,
            fingerprint,
            source: shared(&source, before.map(|event| &event.source))?,
            event_type: shared(&event_type, before.map(|event| &event.event_type))?,
            encoded: payload.split_to(encoded),
        });
    }
    Some(found)
}

/// A text, shared with the event before where it is the same: neighbours mostly are of one source and type.
fn shared(text: &[u8], before: Option<&Arc<str>>) -> Option<Arc<str>> {
    match before {
        Some(same) if same.as_bytes() == text => Some(same.clone()),
        _ => std::str::from_utf8(text).ok().map(Arc::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::new_event;

    fn event(key: usize, padding: usize) -> NewEvent {
        let mut event = new_event("connections/office", "email.received", None, &key.to_string(), None, None);
        // An unknown field: whoever reads the event passes over it.
        let mut encoded = event.encoded.to_vec();
        prost::encoding::string::encode(99, &"x".repeat(padding), &mut encoded);
        event.encoded = encoded.into();
        event
    }

    #[test]
    fn events_come_back_in_their_places_over_several_chunks() {
        let mut gathering = Gathering::new(7, 1_000, 41, 500);
        let new: Vec<_> = (0..2_500).map(|key| event(key, key % 2_000)).collect();
        for event in &new {
            gathering.push(event, remembered(&event.id));
        }
        assert_eq!(gathering.last, 41 + 2_500);
        let chunks = gathering.finish();
        assert!(chunks.len() >= 3 && chunks.iter().all(|chunk| chunk.payload.len() <= CHUNK_BYTES));
        let (mut place, mut total) = (42, 500);
        for chunk in chunks {
            assert_eq!((chunk.first, chunk.before, chunk.recorded), (place, total, 1_000));
            let found = events(chunk.first, chunk.payload.clone()).unwrap();
            assert_eq!(found.len(), chunk.ids.len());
            assert_eq!(chunk.bytes, found.iter().map(|event| event.encoded.len() as u64).sum::<u64>());
            for (found, id) in found.iter().zip(&chunk.ids) {
                let given = &new[usize::try_from(place - 42).unwrap()];
                assert_eq!((found.sequence, *id), (place, remembered(&given.id)));
                assert!(found.encoded.starts_with(&given.encoded));
                assert_eq!(found.fingerprint, cursor::fingerprint(&given.id, 1_000));
                place += 1;
            }
            total += chunk.bytes;
            assert!(events(1, chunk.payload.slice(..chunk.payload.len() - 1)).is_none());
        }
        assert_eq!(place, 42 + 2_500);
    }

    #[test]
    fn ids_are_remembered_apart() {
        let digest = "00112233445566778899aabbccddeeff";
        assert_eq!(remembered(digest)[15], 0xff);
        assert_ne!(remembered(digest), remembered(&digest.to_uppercase()));
        assert_ne!(remembered("a"), remembered("b"));
    }
}
