//! Triggers as they lie in the store, and how far each has been looked after.
//!
//! A trigger is one record and its place another. The place says which trigger it belongs to by a digest, so that no
//! write of the one needs the other: a trigger that was changed or made anew under the same name finds a place that is
//! not its own, and starts from its own beginning.

use bytes::Bytes;
use postern_proto::event::v1::Trigger;
use prost::Message;
use prost_types::Timestamp;

use crate::error::Error;
use crate::store::{Entry, Expect, Revision, Store, StoreError};

/// Where triggers lie in the store: `triggers/{connection}/{trigger}`.
pub(super) const TRIGGERS: &str = "triggers/";
/// Where their places lie: `polls/{connection}/{trigger}`.
const PLACES: &str = "polls/";

/// How far a trigger has been looked after.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Place {
    /// Where its connector's last look ended.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) cursor: Bytes,
    /// Which trigger it is the place of.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) digest: Bytes,
    /// When its provider was last asked with success.
    #[prost(message, optional, tag = "3")]
    pub(super) last_poll_time: Option<Timestamp>,
    /// When it last told of something.
    #[prost(message, optional, tag = "4")]
    pub(super) last_event_time: Option<Timestamp>,
}

/// A place with its revision; 0 where it is not stored yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct StoredPlace {
    pub(super) place: Place,
    pub(super) revision: Revision,
}

impl StoredPlace {
    /// What must hold for it to be written again: that nobody else has.
    pub(super) fn expect(&self) -> Expect {
        if self.revision == 0 { Expect::Absent } else { Expect::Revision(self.revision) }
    }
}

/// The key of a trigger's record, from its name.
pub(super) fn trigger_key(name: &str) -> String {
    key(TRIGGERS, name)
}

/// The key of a trigger's place, from its name.
pub(super) fn place_key(name: &str) -> String {
    key(PLACES, name)
}

/// `connections/{connection}/triggers/{trigger}` as `{prefix}{connection}/{trigger}`.
fn key(prefix: &str, name: &str) -> String {
    let ids = name.strip_prefix("connections/").unwrap_or(name);
    format!("{prefix}{}", ids.replacen("/triggers/", "/", 1))
}

/// The name of the trigger whose record has this key.
pub(super) fn name_of(key: &str) -> String {
    let ids = key.strip_prefix(TRIGGERS).unwrap_or(key);
    format!("connections/{}", ids.replacen('/', "/triggers/", 1))
}

/// The trigger in a record, with its etag. `None` where the record is no trigger.
pub(super) fn decode(entry: &Entry) -> Option<Trigger> {
    let mut trigger = Trigger::decode(entry.value.clone()).ok()?;
    trigger.etag = etag(entry.revision);
    Some(trigger)
}

/// The record of a trigger: without what is not kept in it.
pub(super) fn encode(trigger: &Trigger) -> Bytes {
    let kept = Trigger { etag: String::new(), status: None, ..trigger.clone() };
    kept.encode_to_vec().into()
}

/// The etag of a record.
pub(super) fn etag(revision: Revision) -> String {
    format!("{revision:x}")
}

/// Reads a trigger.
pub(super) async fn read(store: &dyn Store, name: &str) -> Result<(Trigger, Revision), Error> {
    let entry = store.get(&trigger_key(name)).await?;
    let found = entry.and_then(|entry| Some((decode(&entry)?, entry.revision)));
    found.ok_or_else(|| Error::NotFound("Trigger", name.to_owned()))
}

/// Reads the place of a trigger: an empty one where it has none of its own yet.
pub(super) async fn read_place(store: &dyn Store, trigger: &Trigger) -> Result<StoredPlace, StoreError> {
    let Some(entry) = store.get(&place_key(&trigger.name)).await? else {
        return Ok(StoredPlace { place: Place { digest: digest(trigger), ..Place::default() }, revision: 0 });
    };
    let own = Place::decode(entry.value).ok().filter(|place| place.digest == digest(trigger));
    let place = own.unwrap_or_else(|| Place { digest: digest(trigger), ..Place::default() });
    Ok(StoredPlace { place, revision: entry.revision })
}

/// From when on a trigger tells: when it was made, or when what it watches was last changed.
pub(super) fn since(trigger: &Trigger) -> Option<Timestamp> {
    trigger.watch_time.or(trigger.create_time)
}

/// What tells a trigger and what it watches from all others that had or will have its name.
fn digest(trigger: &Trigger) -> Bytes {
    let watched = Trigger { kind: trigger.kind.clone(), watch_time: since(trigger), ..Trigger::default() };
    let digest = ring::digest::digest(&ring::digest::SHA256, &watched.encode_to_vec());
    Bytes::copy_from_slice(&digest.as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_lead_to_each_other() {
        let name = "connections/office/triggers/new-mail";
        assert_eq!(trigger_key(name), "triggers/office/new-mail");
        assert_eq!(place_key(name), "polls/office/new-mail");
        assert_eq!(name_of(&trigger_key(name)), name);
    }
}
