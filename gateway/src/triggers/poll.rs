//! One look after a trigger: asks its connector what happened since the place it is at, and stores what happened
//! together with the next place. It decides nothing about when.

use std::sync::Arc;
use std::time::Duration;

use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::connector::v1::{Occurrence, PollRequest, PollResponse, WatchedTrigger};
use postern_proto::event::v1::Trigger;
use prost::Message as _;

use super::stored::{self, StoredPlace};
use crate::connections::Connections;
use crate::error::Error;
use crate::events::new_event;
use crate::store::{EventLog, NewEvent, Store, Write};

/// How long a look may take, waiting for a throttling provider included.
const POLL_TIMEOUT: Duration = Duration::from_secs(60);
/// How many occurrences a look gives at most: what one transaction stores and one answer holds.
const MAX_OCCURRENCES: i32 = 50;

/// What a look needs.
pub(super) struct Poller {
    pub(super) connections: Arc<Connections>,
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Arc<dyn EventLog>,
}

/// How a look went.
#[derive(Debug)]
pub(super) struct Looked {
    /// Whether anything was told.
    pub(super) told: bool,
    /// Whether there is more to be had at once.
    pub(super) more: bool,
    /// How long the provider asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Poller {
    /// Looks once, and stores what it saw. Nothing is stored where the trigger was looked after, changed or deleted by
    /// somebody else meanwhile (`StoreError::Conflict`).
    pub(super) async fn look(&self, trigger: &Trigger) -> Result<Looked, Error> {
        let at = stored::read_place(self.store.as_ref(), trigger).await?;
        let response = self.ask(trigger, stored::since(trigger), at.place.cursor.clone()).await?;
        let events = self.events(trigger, &response.occurrences);
        let told = !events.is_empty();
        let retry_after = response.retry_after.and_then(|d| d.try_into().ok());
        // A look from the same place sees the same: to follow it at once would be to ask without end.
        let more = response.more && response.next_cursor != at.place.cursor;
        if response.more && !more {
            tracing::error!(
                trigger.name,
                "the connector says that there is more, and gives no place to go on"
            );
        }
        if let Some(write) = moved_on(trigger, at, response.next_cursor, told) {
            self.log.append(events, vec![write]).await?;
        }
        Ok(Looked { told, more, retry_after })
    }

    /// What one look would tell, and where it ends. Stores nothing.
    pub(super) async fn ask(
        &self,
        trigger: &Trigger,
        since: Option<prost_types::Timestamp>,
        cursor: bytes::Bytes,
    ) -> Result<PollResponse, Error> {
        let connection = crate::names::trigger("name", &trigger.name)?;
        let request = PollRequest {
            triggers: vec![WatchedTrigger { trigger: Some(trigger.clone()), since }],
            cursor,
            max_occurrences: MAX_OCCURRENCES,
        };
        let call =
            |mut connector: ConnectorServiceClient<_>, request| async move { connector.poll(request).await };
        self.connections.call(connection, POLL_TIMEOUT, request, call).await
    }

    /// The events of a look. What a connector tells of another trigger is left out, and logged: it is its fault.
    pub(super) fn events(&self, trigger: &Trigger, occurrences: &[Occurrence]) -> Vec<NewEvent> {
        let (own, foreign): (Vec<_>, Vec<_>) =
            occurrences.iter().partition(|occurrence| occurrence.trigger == trigger.name);
        if !foreign.is_empty() {
            tracing::error!(
                trigger.name,
                count = foreign.len(),
                "the connector told of a trigger not asked for"
            );
        }
        let event = |occurrence: &Occurrence| {
            new_event(
                &trigger.name,
                &occurrence.r#type,
                Some(&trigger.name),
                &occurrence.key,
                occurrence.time,
                occurrence.data.clone(),
            )
        };
        own.into_iter().map(event).collect()
    }
}

/// The write of the next place; `None` where nothing was told and the place is the same, so that a quiet trigger costs
/// no disk.
fn moved_on(trigger: &Trigger, at: StoredPlace, cursor: bytes::Bytes, told: bool) -> Option<Write> {
    if !told && at.revision != 0 && at.place.cursor == cursor {
        return None;
    }
    let now = Some(std::time::SystemTime::now().into());
    let expect = at.expect();
    let last_event_time = if told { now } else { at.place.last_event_time };
    let place = stored::Place { cursor, last_poll_time: now, last_event_time, ..at.place };
    let value = Some(place.encode_to_vec().into());
    Some(Write { key: stored::place_key(&trigger.name), value, expect })
}
