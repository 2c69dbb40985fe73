//! The note of a watch that is not well, for other gateways: `fares/{connection}/{watch}`. Where there is none, it is.

use bytes::Bytes;
use postern_chassis::fault::reason_of;
use postern_proto::event::v1::{PollFailure, TriggerStatus};
use prost::Message;
use tonic::Status;

use crate::error::Error;
use crate::store::Store;
use crate::triggers::watch::WatchName;

/// Where notes lie.
pub(in crate::triggers) const FARES: &str = "fares/";

/// The key of a watch's note.
pub(in crate::triggers) fn fare_key(watch: &WatchName) -> String {
    format!("{FARES}{watch}")
}

/// The note.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Note {
    /// Of the looks of those who go with the watch.
    #[prost(message, optional, tag = "1")]
    pub(super) together: Option<Failed>,
    /// Of triggers that are to catch up.
    #[prost(message, repeated, tag = "2")]
    pub(super) alone: Vec<Alone>,
}

/// A trigger that cannot catch up.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Alone {
    #[prost(string, tag = "1")]
    pub(super) trigger: String,
    #[prost(message, optional, tag = "2")]
    pub(super) failed: Option<Failed>,
}

/// Looks that failed in a row.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Failed {
    #[prost(uint32, tag = "1")]
    pub(super) count: u32,
    #[prost(message, optional, tag = "2")]
    pub(super) last: Option<PollFailure>,
}

impl Failed {
    /// Counts one more. Gives how many there are.
    pub(super) fn add(&mut self, status: &Status) -> u32 {
        self.count = self.count.saturating_add(1);
        let (code, reason) = (status.code() as i32, reason_of(status));
        self.last = Some(PollFailure { code, reason, message: status.message().to_owned() });
        self.count
    }

    /// What callers see of it.
    pub(super) fn show(self, status: &mut TriggerStatus) {
        status.consecutive_failures = i32::try_from(self.count).unwrap_or(i32::MAX);
        status.last_failure = self.last;
    }
}

impl Note {
    pub(super) fn read(value: Bytes) -> Self {
        Self::decode(value).unwrap_or_default()
    }
}

/// How a trigger fares that another gateway looks after, as far as that one has left a note.
pub(in crate::triggers) async fn noted(
    store: &dyn Store,
    trigger: &str,
    watch: &WatchName,
) -> Result<TriggerStatus, Error> {
    let mut status = TriggerStatus::default();
    if let Some(entry) = store.get(&fare_key(watch)).await? {
        let Note { together, alone } = Note::read(entry.value);
        let own = alone.into_iter().find(|alone| alone.trigger == trigger).and_then(|alone| alone.failed);
        let most = [together, own].into_iter().flatten().max_by_key(|failed| failed.count);
        most.unwrap_or_default().show(&mut status);
    }
    Ok(status)
}
