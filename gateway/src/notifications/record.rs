//! Notifications as they lie in the store: `notifications/{connection}/{watch}`.

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;

use crate::connections::Connections;
use crate::error::Error;
use crate::store::{Expect, Revision, Store, StoreError, Write};
use crate::triggers::WatchName;

/// Where they lie.
pub(crate) const NOTIFICATIONS: &str = "notifications/";

/// A notification: stored with its secret before its provider hears of it, for the provider may call at once.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    /// What the provider sends along, sealed.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) secret: Bytes,
    /// What its connector gave. Empty: nothing is agreed.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) notification: Bytes,
    /// Until when the provider pushes.
    #[prost(message, optional, tag = "3")]
    pub(crate) expire_time: Option<Timestamp>,
    /// When that was agreed.
    #[prost(message, optional, tag = "4")]
    pub(crate) renew_time: Option<Timestamp>,
    /// What the provider wants.
    #[prost(enumeration = "Wanted", tag = "5")]
    pub(crate) wanted: i32,
    /// The provider does not push this, and is not asked again before.
    #[prost(message, optional, tag = "6")]
    pub(crate) unsupported_until: Option<Timestamp>,
    /// Where the provider pushes to.
    #[prost(string, tag = "7")]
    pub(crate) url: String,
}

/// What a provider wants done with a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Wanted {
    /// Nothing.
    Nothing = 0,
    /// Leave is to be given anew.
    Reauthorize = 1,
    /// It is gone: another is to be made.
    Recreate = 2,
}

/// A record with its revision; 0: it is not stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) revision: Revision,
}

/// The key of a watch's notification.
pub(crate) fn key(watch: &WatchName) -> String {
    format!("{NOTIFICATIONS}{watch}")
}

/// Reads the record of a watch.
pub(crate) async fn read(store: &dyn Store, watch: &WatchName) -> Result<Stored, StoreError> {
    let Some(entry) = store.get(&key(watch)).await? else { return Ok(Stored::default()) };
    // One that cannot be read is made anew in its place.
    let record = Record::decode(entry.value).unwrap_or_default();
    Ok(Stored { record, revision: entry.revision })
}

/// Writes a record in the place of the one that was read.
pub(crate) async fn write(
    store: &dyn Store,
    watch: &WatchName,
    before: Revision,
    record: Record,
) -> Result<Stored, StoreError> {
    Ok(Stored { revision: store.write(replacing(watch, before, &record)).await?, record })
}

/// The write of a record in the place of the one that was read.
pub(crate) fn replacing(watch: &WatchName, before: Revision, record: &Record) -> Write {
    let expect = if before == 0 { Expect::Absent } else { Expect::Revision(before) };
    Write { key: key(watch), value: Some(record.encode_to_vec().into()), expect }
}

/// Removes the record that was read.
pub(crate) async fn remove(store: &dyn Store, watch: &WatchName, before: Revision) -> Result<(), StoreError> {
    let write = Write { key: key(watch), value: None, expect: Expect::Revision(before) };
    store.write(write).await.map(drop)
}

/// Seals a secret for a watch.
pub(crate) fn seal(connections: &Connections, watch: &WatchName, secret: &str) -> Result<Bytes, Error> {
    connections.seal(&key(watch), secret.as_bytes())
}

/// Opens the secret of a watch. `None`: there is none, or its key is gone.
pub(crate) fn open(connections: &Connections, watch: &WatchName, sealed: &[u8]) -> Option<String> {
    if sealed.is_empty() {
        return None;
    }
    connections.unseal(&key(watch), sealed).and_then(|plain| String::from_utf8(plain.to_vec()).ok())
}
