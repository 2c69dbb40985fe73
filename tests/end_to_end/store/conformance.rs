//! What every engine of the store and the event log promises, written once and run against each.

mod log;
mod records;
mod values;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use postern_gateway::events::new_event;
use postern_gateway::store::{EventLog, Expect, NewEvent, Store, StoreError, StoredEvent, Write};
use postern_proto::event::v1::{ConnectionStateChanged, Event, EventData, event_data};
use prost::Message as _;

pub(crate) use self::log::*;
pub(crate) use self::records::*;
pub(crate) use self::values::*;

/// An engine under test: a place of its own where what is stored lasts, opened as often as wanted.
pub(crate) trait Engine: Send + Sync {
    /// `None`: it was said that this engine is not to be tried.
    fn start() -> impl Future<Output = Option<Self>> + Send
    where
        Self: Sized;
    fn open(&self) -> impl Future<Output = Opened> + Send;
}

/// An engine at work.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) close: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Runs the whole suite against an engine.
macro_rules! conform {
    ($name:ident: $engine:ident) => {
        mod $name {
            use super::$engine;
            use super::conformance::{self, Engine as _};
            super::conform!(@each $engine:
                what_is_written_is_read,
                a_key_that_is_there_is_not_made_again,
                of_two_writers_at_one_revision_one_wins,
                a_refused_write_leaves_its_neighbours_alone,
                revisions_grow_over_deletions,
                a_list_pages_through_a_prefix_in_order,
                watchers_see_each_change_once_and_in_order,
                records_are_kept_apart_and_told_to_no_watcher,
                records_outlast_a_reopening,
                records_that_are_over_are_forgotten,
                what_no_store_takes_is_refused,
                a_commit_of_the_most_writes_is_made_with_its_events,
                events_are_read_in_the_order_of_their_append,
                an_event_holds_its_own_place_and_the_time_it_was_recorded,
                an_id_that_is_kept_is_not_stored_again,
                a_conflict_of_a_write_appends_nothing,
                events_and_writes_are_made_together,
                a_guard_that_does_not_hold_refuses_everything,
                reads_keep_to_their_bounds,
                the_tail_tells_of_what_is_readable,
                a_time_has_its_place,
                retention_by_size_removes_the_oldest,
                retention_by_age_removes_all_that_is_older,
                a_long_trim_ends_with_all_of_it_removed,
                an_id_that_retention_removed_can_come_again,
                reopening_keeps_everything,
                two_logs_have_two_epochs,
                appends_at_once_lose_nothing_and_double_nothing,
            );
        }
    };
    (@each $engine:ident: $($test:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let Some(engine) = <$engine>::start().await else { return };
            conformance::$test(&engine).await;
        }
    )*};
}
pub(crate) use conform;

/// An event of a connection, told from others by its key.
pub(crate) fn event(key: &str) -> NewEvent {
    sized_event(key, 10)
}

/// An event with so many bytes of data.
pub(crate) fn sized_event(key: &str, bytes: usize) -> NewEvent {
    let changed = ConnectionStateChanged { state: 1, reason: "x".repeat(bytes) };
    let data = EventData { kind: Some(event_data::Kind::ConnectionStateChanged(changed)) };
    new_event("connections/office", "connection.state_changed", None, key, None, Some(data))
}

/// Events with the keys `{prefix}0`, `{prefix}1` …
pub(crate) fn events(prefix: &str, count: usize) -> Vec<NewEvent> {
    (0..count).map(|number| event(&format!("{prefix}{number}"))).collect()
}

/// The whole log, by reads of a few.
pub(crate) async fn whole_log(log: &dyn EventLog) -> Vec<StoredEvent> {
    let mut all: Vec<StoredEvent> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event.sequence);
        let more = log.read(after, 500, 1 << 20).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

pub(crate) fn id_of(event: &StoredEvent) -> String {
    Event::decode(event.encoded.clone()).unwrap().id
}

fn ids(events: &[StoredEvent]) -> Vec<String> {
    events.iter().map(id_of).collect()
}

pub(crate) fn put(key: &str, value: &str, expect: Expect) -> Write {
    Write { key: key.to_owned(), value: Some(Bytes::copy_from_slice(value.as_bytes())), expect }
}

fn delete(key: &str, expect: Expect) -> Write {
    Write { key: key.to_owned(), value: None, expect }
}

fn is_conflict<T>(answer: &Result<T, StoreError>, key: &str) -> bool {
    matches!(answer, Err(StoreError::Conflict { key: conflicting }) if conflicting == key)
}

async fn value(store: &dyn Store, key: &str) -> Option<String> {
    let entry = store.get(key).await.unwrap()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}
