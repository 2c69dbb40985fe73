//! The state of a connection, and the event that says it changed: both become durable together.

use postern_proto::connection::v1::ConnectionState;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{ConnectionStateChanged, EventData};

use super::Room;
use super::record::Stored;
use crate::error::Error;
use crate::events::new_event;
use crate::store::{Expect, NewEvent, Revision, StoreError, Write};

/// The type of the event.
const STATE_CHANGED: &str = "connection.state_changed";
/// How often a change that meets another one at the same time is tried.
pub(super) const TRIES: usize = 5;

/// The event that a connection, as it was read, turned to another state: told once for each such turn.
pub(super) fn state_changed(name: &str, before: &Stored, state: ConnectionState, reason: &str) -> NewEvent {
    let changed = ConnectionStateChanged { state: state.into(), reason: reason.to_owned() };
    let data = EventData { kind: Some(Kind::ConnectionStateChanged(changed)) };
    // One that is new has no revision yet; its edition tells it from an older one of its name.
    let place = if before.revision == 0 { before.edition } else { before.revision };
    let key = format!("{STATE_CHANGED} {place} {}", state.as_str_name());
    new_event(name, STATE_CHANGED, None, &key, None, Some(data))
}

impl Room {
    /// Writes a connection over the revision that it was read at. With `from` another state than its own, the change
    /// of state is told. Gives the new revision.
    pub(super) async fn write(
        &self,
        stored: &Stored,
        from: ConnectionState,
        reason: &str,
    ) -> Result<Revision, Error> {
        self.write_with(stored, from, reason, None).await
    }

    /// The same, with another write that is made together with it or not at all.
    pub(super) async fn write_with(
        &self,
        stored: &Stored,
        from: ConnectionState,
        reason: &str,
        also: Option<Write>,
    ) -> Result<Revision, Error> {
        let name = &stored.connection.name;
        let expect = if stored.revision == 0 { Expect::Absent } else { Expect::Revision(stored.revision) };
        let value = stored.value();
        let write = Write { key: name.clone(), value: Some(value.clone()), expect };
        let state = stored.connection.state();
        let written = if state == from && also.is_none() {
            self.store.write(write).await
        } else {
            let event = (state != from).then(|| state_changed(name, stored, state, reason));
            let writes = std::iter::once(write).chain(also).collect();
            match self.log.append(event.into_iter().collect(), writes).await {
                // Where it is overwritten already, its own revision is not to be had: 0 matches none.
                Ok(_) => self.store.get(name).await.map(|entry| {
                    entry.filter(|entry| entry.value == value).map_or(0, |entry| entry.revision)
                }),
                Err(error) => Err(error),
            }
        };
        self.cache.forget(name);
        if written.is_ok() && state != from {
            tracing::warn!(
                connection.name = name,
                state = state.as_str_name(),
                reason,
                "a connection changed state"
            );
        }
        Ok(written?)
    }

    /// Turns a connection to a state. `edition`: only while it is still of this edition, so that news of old
    /// credentials do not touch new ones. Gives the connection as it then is.
    pub(super) async fn turn(
        &self,
        name: &str,
        edition: u64,
        state: ConnectionState,
        reason: &str,
    ) -> Result<Stored, Error> {
        for _ in 0..TRIES {
            let mut stored = self.stored(name).await?;
            let from = stored.connection.state();
            if stored.edition != edition || from == state {
                return Ok(stored);
            }
            stored.connection.set_state(state);
            match self.write(&stored, from, reason).await {
                Ok(revision) => return Ok(Stored { revision, ..stored }),
                Err(Error::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { key: name.to_owned() }.into())
    }
}
