//! The encoded `postern.event.v1.Event`: made once here, completed once by the log, and shared by all who receive it.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use postern_chassis::digest;
use postern_proto::event::v1::{Event, EventData};
use prost::Message as _;
use prost_types::Timestamp;

use crate::events::cursor::{CURSOR_BYTES, Cursor};
use crate::store::NewEvent;

/// The most bytes that an encoded event has.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// What the log appends: `cursor` and `record_time`, with their tags and lengths.
const COMPLETION_BYTES: usize = 2 + CURSOR_BYTES + 2 + 2 * 11;
/// Bytes of the digest that make an id: 128 bits, which no number of events will bring to a clash.
const ID_BYTES: usize = 16;
/// `Event.cursor`.
const CURSOR_FIELD: u32 = 6;
/// `Event.record_time`.
const RECORD_TIME_FIELD: u32 = 7;

/// An event to append. Its id follows from `source` and `key` alone: what names the occurrence at its source, such as
/// the item's id and its change. Without a time it is given the present one. Data that would take the event past
/// 64 KiB is omitted.
#[must_use]
pub fn new_event(
    source: &str,
    event_type: &str,
    trigger: Option<&str>,
    key: &str,
    time: Option<Timestamp>,
    data: Option<EventData>,
) -> NewEvent {
    let mut event = Event {
        id: id_of(source, key),
        source: source.to_owned(),
        r#type: event_type.to_owned(),
        time: Some(time.unwrap_or_else(|| SystemTime::now().into())),
        trigger: trigger.unwrap_or_default().to_owned(),
        data,
        ..Event::default()
    };
    if event.data.is_some() && event.encoded_len() > MAX_EVENT_BYTES - COMPLETION_BYTES {
        event.data = None;
        event.data_omitted = true;
    }
    NewEvent {
        encoded: event.encode_to_vec().into(),
        id: event.id,
        source: event.source,
        event_type: event.r#type,
    }
}

/// The id of what happened at a source: hex of a digest over both texts, of which no two pairs read the same.
fn id_of(source: &str, key: &str) -> String {
    digest::hex(&digest::of_parts([source, key])[..ID_BYTES])
}

/// The event with its place and the time it became durable. Appending fields to an encoded message merges them into
/// it, so nothing is decoded.
#[must_use]
pub fn complete(encoded: &[u8], cursor: Cursor, recorded: SystemTime) -> Bytes {
    let mut whole = BytesMut::with_capacity(encoded.len() + COMPLETION_BYTES);
    whole.extend_from_slice(encoded);
    prost::encoding::bytes::encode(CURSOR_FIELD, &cursor.encode(), &mut whole);
    prost::encoding::message::encode(RECORD_TIME_FIELD, &Timestamp::from(recorded), &mut whole);
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::{ConnectionStateChanged, event_data::Kind};
    use std::time::{Duration, UNIX_EPOCH};

    fn with_reason(reason: String) -> EventData {
        EventData { kind: Some(Kind::ConnectionStateChanged(ConnectionStateChanged { state: 1, reason })) }
    }

    #[test]
    fn the_same_occurrence_has_the_same_id_and_others_have_others() {
        let id = |source, key| new_event(source, "email.received", None, key, None, None).id;
        assert_eq!(id("connections/office", "m1"), id("connections/office", "m1"));
        assert_ne!(id("connections/office", "m1"), id("connections/office", "m2"));
        assert_ne!(id("connections/a", "bc"), id("connections/ab", "c"));
        assert_eq!(id("connections/office", "m1").len(), 32);
    }

    #[test]
    fn data_that_would_take_an_event_past_its_bound_is_omitted() {
        let event = |bytes| {
            let data = Some(with_reason("x".repeat(bytes)));
            new_event("connections/office", "connection.state_changed", None, "k", None, data)
        };
        let cursor = Cursor { epoch: u64::MAX, sequence: u64::MAX, fingerprint: u32::MAX };
        let (fits, omitted) = (event(MAX_EVENT_BYTES - 300), event(MAX_EVENT_BYTES));
        let whole = complete(&fits.encoded, cursor, SystemTime::now());
        assert!(whole.len() <= MAX_EVENT_BYTES);
        assert!(!Event::decode(whole).unwrap().data_omitted);
        let omitted = Event::decode(omitted.encoded).unwrap();
        assert!(omitted.data_omitted && omitted.data.is_none());
    }

    #[test]
    fn completing_keeps_the_event_and_adds_its_place_and_time() {
        let trigger = "connections/office/triggers/new-mail";
        let data = Some(with_reason("CREDENTIALS_REFUSED".into()));
        let new = new_event(trigger, "connection.state_changed", Some(trigger), "k", None, data.clone());
        let cursor = Cursor { epoch: 3, sequence: 9, fingerprint: 5 };
        let recorded = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let event = Event::decode(complete(&new.encoded, cursor, recorded)).unwrap();
        assert_eq!((event.id, event.trigger, event.data), (new.id, trigger.to_owned(), data));
        assert_eq!(Cursor::decode(&event.cursor).unwrap(), cursor);
        assert_eq!(event.record_time, Some(recorded.into()));
        assert!(event.time.is_some());
    }
}
