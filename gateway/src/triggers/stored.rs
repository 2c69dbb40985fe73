//! Triggers as they lie in the store, and how far each has been looked after.
//!
//! - `triggers/{connection}/{trigger}`: the trigger, with the key of what it watches.
//! - `polls/{connection}/{watch}`: where the looks of a watch have come to. Triggers with the same key are one watch.
//! - `places/{connection}/{trigger}`: where one trigger is: with its watch, or alone at a cursor of its own. Alone are
//!   new and changed triggers, paused ones, and those that have yet to catch up. Only a look lets one go with its watch.

use bytes::Bytes;
use postern_proto::event::v1::{Trigger, TriggerState};
use prost::Message;
use prost_types::Timestamp;

use super::poll::asked_bytes;
use super::watch::WatchName;
use crate::error::Error;
use crate::store::{Entry, Expect, Revision, Store, StoreError, Write};

/// Where triggers lie in the store.
pub(super) const TRIGGERS: &str = "triggers/";
/// Where their places lie.
pub(super) const PLACES: &str = "places/";
/// Where the places of watches lie.
pub(super) const POLLS: &str = "polls/";

/// How many records are read at a time.
const PAGE: usize = 500;

/// A trigger's record.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(message, optional, tag = "1")]
    trigger: Option<Trigger>,
    /// What its connector said that it watches.
    #[prost(string, tag = "2")]
    watch_key: String,
}

/// A trigger as stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// With its etag.
    pub(super) trigger: Trigger,
    pub(super) watch_key: String,
    pub(super) revision: Revision,
}

impl Stored {
    /// The watch that it belongs to.
    pub(super) fn watch(&self) -> WatchName {
        WatchName::new(&self.trigger.name, &self.watch_key)
    }
}

/// Where a trigger is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Place {
    /// Where it is alone; an empty cursor is the beginning. Absent: it goes with its watch.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) alone: Option<Bytes>,
    /// When it last told of something.
    #[prost(message, optional, tag = "2")]
    pub(super) last_event_time: Option<Timestamp>,
}

/// How far a watch has been looked after.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Reached {
    /// Where its connector's last look ended.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) cursor: Bytes,
    /// When its provider was last asked with success.
    #[prost(message, optional, tag = "2")]
    pub(super) last_poll_time: Option<Timestamp>,
    /// Whether that look had more to be had at once. The look that has no more then may know of nothing that happened
    /// since the first one: what takes several looks to tell is as old as that.
    #[prost(bool, tag = "3")]
    pub(super) midway: bool,
}

/// A value with its revision; 0 where it is not stored yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) revision: Revision,
}

impl<T: Message + Default> At<T> {
    fn of(entry: Option<Entry>) -> Self {
        let Some(entry) = entry else { return Self::default() };
        let value = T::decode(entry.value).unwrap_or_else(|error| {
            tracing::error!(key = entry.key, %error, "a stored value cannot be read: begun anew");
            T::default()
        });
        Self { value, revision: entry.revision }
    }

    /// The write of another value in its place, unless somebody else has written there meanwhile.
    pub(super) fn replaced(&self, key: String, value: &T) -> Write {
        let expect = if self.revision == 0 { Expect::Absent } else { Expect::Revision(self.revision) };
        Write { key, value: Some(value.encode_to_vec().into()), expect }
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

/// The key of a watch's place.
pub(super) fn reached_key(watch: &WatchName) -> String {
    format!("{POLLS}{watch}")
}

/// `connections/{connection}/triggers/{trigger}` as `{prefix}{connection}/{trigger}`.
fn key(prefix: &str, name: &str) -> String {
    let ids = name.strip_prefix("connections/").unwrap_or(name);
    format!("{prefix}{}", ids.replacen("/triggers/", "/", 1))
}

/// The name of the trigger whose record or place has this key.
pub(super) fn name_of(key: &str) -> String {
    let ids = key.split_once('/').map_or(key, |(_, ids)| ids);
    format!("connections/{}", ids.replacen('/', "/triggers/", 1))
}

/// The trigger in a record. `None` where the record is no trigger.
pub(super) fn decode(entry: &Entry) -> Option<Stored> {
    decode_record(entry.value.clone(), entry.revision)
}

/// The same of a record and its revision.
pub(super) fn decode_record(record: Bytes, revision: Revision) -> Option<Stored> {
    let record = Record::decode(record).ok()?;
    let mut trigger = record.trigger?;
    trigger.etag = etag(revision);
    Some(Stored { trigger, watch_key: record.watch_key, revision })
}

/// The write of a trigger's record: without what is not kept in it.
pub(super) fn write(trigger: &Trigger, watch_key: &str, expect: Expect) -> Write {
    let kept = Trigger { etag: String::new(), status: None, ..trigger.clone() };
    let record = Record { trigger: Some(kept), watch_key: watch_key.to_owned() };
    Write { key: trigger_key(&trigger.name), value: Some(record.encode_to_vec().into()), expect }
}

/// Whether a trigger's place says that it is alone.
pub(super) fn is_alone(entry: &Entry) -> bool {
    Place::decode(entry.value.clone()).map_or(true, |place| place.alone.is_some())
}

/// The write that puts a trigger alone at a cursor, wherever it was.
pub(super) fn alone_at(name: &str, cursor: Bytes) -> Write {
    let place = Place { alone: Some(cursor), last_event_time: None };
    Write { key: place_key(name), value: Some(place.encode_to_vec().into()), expect: Expect::Any }
}

/// The etag of a record.
pub(super) fn etag(revision: Revision) -> String {
    format!("{revision:x}")
}

/// Reads a trigger.
pub(super) async fn read(store: &dyn Store, name: &str) -> Result<Stored, Error> {
    let entry = store.get(&trigger_key(name)).await?;
    entry.as_ref().and_then(decode).ok_or_else(|| Error::NotFound("Trigger", name.to_owned()))
}

/// Reads the place of a trigger: where it has none, it is alone at the beginning.
pub(super) async fn read_place(store: &dyn Store, name: &str) -> Result<At<Place>, StoreError> {
    let mut place = At::<Place>::of(store.get(&place_key(name)).await?);
    if place.revision == 0 {
        place.value.alone = Some(Bytes::new());
    }
    Ok(place)
}

/// Reads the place of a watch.
pub(super) async fn read_reached(store: &dyn Store, watch: &WatchName) -> Result<At<Reached>, StoreError> {
    Ok(At::of(store.get(&reached_key(watch)).await?))
}

/// How many bytes the triggers of a watch take in what its connector is asked. Reads all of its connection's.
pub(super) async fn bytes(store: &dyn Store, watch: &WatchName) -> Result<usize, StoreError> {
    let connection = watch.connection();
    let prefix = key(TRIGGERS, &format!("{connection}/"));
    let (mut after, mut bytes) = (String::new(), 0);
    loop {
        let page = store.list(&prefix, &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(bytes) };
        after.clone_from(&last.key);
        let found = page.iter().filter_map(decode);
        let found =
            found.filter(|found| found.trigger.state() == TriggerState::Active && found.watch() == *watch);
        bytes += found.map(|found| asked_bytes(&found.trigger)).sum::<usize>();
    }
}

/// The places of a connection's watches at a moment: each lies before all that happens later.
pub(super) struct Snapshot(Vec<(String, Bytes)>);

impl Snapshot {
    /// How many places are read. A trigger on a watch beyond them begins by listing.
    const MOST: usize = 1_000;

    /// Reads them.
    pub(super) async fn read(store: &dyn Store, connection: &str) -> Result<Self, StoreError> {
        let id = connection.strip_prefix("connections/").unwrap_or(connection);
        let entries = store.list(&format!("{POLLS}{id}/"), "", Self::MOST).await?;
        let cursor = |entry: Entry| {
            let key = entry.key.clone();
            (key, At::<Reached>::of(Some(entry)).value.cursor)
        };
        Ok(Self(entries.into_iter().map(cursor).collect()))
    }

    /// Where a watch was; the beginning where it was not yet.
    pub(super) fn cursor(&self, watch: &WatchName) -> Bytes {
        let key = reached_key(watch);
        let found = self.0.iter().find(|(other, _)| *other == key);
        found.map(|(_, cursor)| cursor.clone()).unwrap_or_default()
    }
}

/// From when on a trigger tells: when it was made, or when what it watches was last changed.
pub(super) fn since(trigger: &Trigger) -> Option<Timestamp> {
    trigger.watch_time.or(trigger.create_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_lead_to_each_other() {
        let name = "connections/office/triggers/new-mail";
        assert_eq!(trigger_key(name), "triggers/office/new-mail");
        assert_eq!(place_key(name), "places/office/new-mail");
        assert_eq!(name_of(&trigger_key(name)), name);
        assert_eq!(name_of(&place_key(name)), name);
    }
}
