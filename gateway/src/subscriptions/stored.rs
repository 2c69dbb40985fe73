//! Subscriptions as they lie in the store.
//!
//! - `subscriptions/{subscription}`: what callers set.
//! - `readings/{subscription}`: how far it is read. Each change of the subscription writes it too, so that who holds its
//!   revision knows of every change at the latest with the next write.
//! - `set-aside/{subscription}/{generation}-{sequence}`: an event that was delivered in vain.

use std::time::Duration;

use bytes::Bytes;
use postern_proto::event::v1::{Event, Gap, SetAsideEvent, Subscription, SubscriptionMode};
use prost::Message;
use prost_types::Timestamp;

use crate::error::Error;
use crate::events::cursor::Cursor;
use crate::events::filter::Filter;
use crate::store::{Entry, Expect, Revision, Sequence, Store, Write};

/// Where subscriptions lie; their names begin so too.
pub(super) const SUBSCRIPTIONS: &str = "subscriptions/";
/// Where their readings lie.
pub(super) const READINGS: &str = "readings/";
/// Where set-aside events lie.
const SET_ASIDE: &str = "set-aside/";
/// The most events of a subscription that are handed out and not settled, whoever has them.
pub(super) const MOST_UNSETTLED: usize = 4_096;
/// Within what time a delivery is to be acknowledged where nothing is said.
pub(super) const DEFAULT_ACK_DEADLINE: Duration = Duration::from_secs(60);
/// How often an event is delivered where nothing is said.
pub(super) const DEFAULT_MAX_ATTEMPTS: u32 = 10;

/// How far a subscription is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Reading {
    /// ORDERED: up to where it is committed. SHARED: up to where it was handed out.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) cursor: Bytes,
    /// Raised when the place is set by anything but reading on: what was outstanding before is void.
    #[prost(uint64, tag = "2")]
    pub(super) generation: u64,
    /// ORDERED: raised by each subscriber that opens it. A commit under an older one is refused.
    #[prost(uint64, tag = "3")]
    pub(super) fence: u64,
    /// ORDERED: who reads. Empty: nobody since it was made or moved.
    #[prost(string, tag = "4")]
    pub(super) client_id: String,
    /// When something was last committed or acknowledged.
    #[prost(message, optional, tag = "5")]
    pub(super) last_ack_time: Option<Timestamp>,
    /// SHARED: what was handed out and is not settled.
    #[prost(message, repeated, tag = "6")]
    pub(super) unsettled: Vec<Unsettled>,
    /// SHARED: how many events are set aside, those being replayed not counted.
    #[prost(uint64, tag = "7")]
    pub(super) set_aside: u64,
    /// SHARED: gaps before `cursor` that nobody has acknowledged yet.
    #[prost(message, repeated, tag = "8")]
    pub(super) gaps: Vec<Owed>,
}

/// A gap of a SHARED subscription that nobody has acknowledged yet.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Owed {
    /// Without its `ack_id`.
    #[prost(message, required, tag = "1")]
    pub(super) gap: Gap,
    /// What it is acknowledged by, however often it is told. 0: it was told to nobody yet.
    #[prost(fixed64, tag = "2")]
    pub(super) id: u64,
    /// When it is to be told, or told again. Milliseconds since 1970.
    #[prost(sint64, tag = "3")]
    pub(super) due: i64,
}

/// An event of a SHARED subscription that was handed out and is not settled.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Unsettled {
    /// Its place in the log.
    #[prost(uint64, tag = "1")]
    pub(super) sequence: Sequence,
    /// How often it was delivered.
    #[prost(uint32, tag = "2")]
    pub(super) attempt: u32,
    /// Of a delivery: its deadline; else when it is to be delivered. Milliseconds since 1970.
    #[prost(sint64, tag = "3")]
    pub(super) due: i64,
    /// What tells its last delivery from others.
    #[prost(fixed64, tag = "4")]
    pub(super) nonce: u64,
    /// Whether it waits to be delivered again.
    #[prost(bool, tag = "5")]
    pub(super) waits: bool,
    /// Whether its last delivery was given back with a nack.
    #[prost(bool, tag = "6")]
    pub(super) nacked: bool,
    /// Of one that is replayed: the generation in which it was set aside, which names its copy. 0: the log has it.
    #[prost(uint64, tag = "7")]
    pub(super) copy: u64,
    /// The gap that its subscriber was told of before it: who acknowledges it has that too. 0: none.
    #[prost(fixed64, tag = "8")]
    pub(super) gap: u64,
}

/// An event that was set aside.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SetAside {
    /// The encoded `postern.event.v1.Event`.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) event: Bytes,
    #[prost(uint32, tag = "2")]
    pub(super) attempts: u32,
    #[prost(message, optional, tag = "3")]
    pub(super) time: Option<Timestamp>,
    #[prost(string, tag = "4")]
    pub(super) reason: String,
}

impl SetAside {
    /// As callers see it.
    pub(super) fn shown(self) -> SetAsideEvent {
        SetAsideEvent {
            event: Event::decode(self.event).ok(),
            attempts: i32::try_from(self.attempts).unwrap_or(i32::MAX),
            set_aside_time: self.time,
            reason: self.reason,
        }
    }
}

impl Reading {
    /// The place that `cursor` names.
    pub(super) fn place(&self) -> Cursor {
        Cursor::decode(&self.cursor).unwrap_or(Cursor { epoch: 0, sequence: 0, fingerprint: 0 })
    }

    /// Everything up to here is settled.
    pub(super) fn floor(&self) -> Cursor {
        let place = self.place();
        let open = self.unsettled.iter().filter(|one| one.copy == 0).map(|one| one.sequence).min();
        match open {
            Some(open) => Cursor { sequence: open.saturating_sub(1), fingerprint: 0, ..place },
            None => place,
        }
    }
}

/// A reading with its revision.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) value: Reading,
    pub(super) revision: Revision,
}

impl Kept {
    /// The write of another reading in its place, unless somebody else has written there meanwhile.
    pub(super) fn replaced(&self, id: &str, value: &Reading) -> Write {
        let value = Some(value.encode_to_vec().into());
        Write { key: reading_key(id), value, expect: Expect::Revision(self.revision) }
    }
}

/// A subscription as it is set.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// With its etag, without its status.
    pub(super) subscription: Subscription,
    pub(super) revision: Revision,
}

impl Stored {
    pub(super) fn mode(&self) -> SubscriptionMode {
        match self.subscription.mode() {
            SubscriptionMode::Unspecified => SubscriptionMode::Ordered,
            mode => mode,
        }
    }

    pub(super) fn filter(&self) -> Filter {
        // It was checked when it was stored.
        Filter::parse(self.subscription.filter.clone().unwrap_or_default(), &mut Vec::new())
    }

    pub(super) fn ack_deadline(&self) -> Duration {
        let given = self.subscription.ack_deadline.and_then(|deadline| deadline.try_into().ok());
        given.unwrap_or(DEFAULT_ACK_DEADLINE)
    }

    pub(super) fn max_attempts(&self) -> u32 {
        u32::try_from(self.subscription.max_attempts)
            .ok()
            .filter(|most| *most > 0)
            .unwrap_or(DEFAULT_MAX_ATTEMPTS)
    }
}

/// The id in a subscription's name.
pub(super) fn id_of(name: &str) -> &str {
    name.strip_prefix(SUBSCRIPTIONS).unwrap_or(name)
}

pub(super) fn key(id: &str) -> String {
    format!("{SUBSCRIPTIONS}{id}")
}

pub(super) fn reading_key(id: &str) -> String {
    format!("{READINGS}{id}")
}

/// Where the set-aside events of a subscription lie.
pub(super) fn set_aside_prefix(id: &str) -> String {
    format!("{SET_ASIDE}{id}/")
}

/// The key of a set-aside event: sorts by when the place was set, and then by the place in the log.
pub(super) fn set_aside_key(id: &str, generation: u64, sequence: Sequence) -> String {
    format!("{SET_ASIDE}{id}/{generation:020}-{sequence:020}")
}

/// The generation and the place in the key of a set-aside event.
pub(super) fn set_aside_place(key: &str) -> Option<(u64, Sequence)> {
    let (generation, sequence) = key.rsplit('/').next()?.split_once('-')?;
    Some((generation.parse().ok()?, sequence.parse().ok()?))
}

/// The subscription in an entry. `None` where it is none.
pub(super) fn decode(entry: &Entry) -> Option<Stored> {
    let mut subscription = Subscription::decode(entry.value.clone()).ok()?;
    subscription.etag = etag(entry.revision);
    Some(Stored { subscription, revision: entry.revision })
}

/// The write of a subscription: without what is not kept in it.
pub(super) fn write(subscription: &Subscription, expect: Expect) -> Write {
    let kept = Subscription { etag: String::new(), status: None, ..subscription.clone() };
    Write { key: key(id_of(&subscription.name)), value: Some(kept.encode_to_vec().into()), expect }
}

/// The etag of a subscription.
pub(super) fn etag(revision: Revision) -> String {
    format!("{revision:x}")
}

/// Reads a subscription.
pub(super) async fn read(store: &dyn Store, id: &str) -> Result<Stored, Error> {
    let entry = store.get(&key(id)).await?;
    entry.as_ref().and_then(decode).ok_or_else(|| missing(id))
}

/// Reads how far a subscription is read.
pub(super) async fn read_reading(store: &dyn Store, id: &str) -> Result<Kept, Error> {
    let entry = store.get(&reading_key(id)).await?.ok_or_else(|| missing(id))?;
    let value = Reading::decode(entry.value).unwrap_or_else(|error| {
        tracing::error!(key = entry.key, %error, "a stored value cannot be read: begun anew");
        Reading::default()
    });
    Ok(Kept { value, revision: entry.revision })
}

/// There is no such subscription.
pub(super) fn missing(id: &str) -> Error {
    Error::NotFound("Subscription", key(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_set_aside_events_sort_by_generation_and_place() {
        let keys = [(1, 2), (1, 10), (2, 1), (10, 0)].map(|(generation, sequence)| {
            let key = set_aside_key("billing", generation, sequence);
            assert_eq!(set_aside_place(&key), Some((generation, sequence)));
            key
        });
        assert!(keys.is_sorted());
    }

    #[test]
    fn everything_before_the_first_unsettled_event_is_settled() {
        let place = Cursor { epoch: 3, sequence: 9, fingerprint: 5 };
        let mut reading = Reading { cursor: place.encode(), ..Reading::default() };
        assert_eq!(reading.floor(), place);
        let open = |sequence, copy| Unsettled { sequence, copy, ..Unsettled::default() };
        reading.unsettled = vec![open(2, 1), open(7, 0), open(5, 0)];
        assert_eq!(reading.floor(), Cursor { sequence: 4, fingerprint: 0, ..place });
    }
}
