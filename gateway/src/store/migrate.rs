//! Moving a store from one engine to another, with no gateway at work: all values, and all events with their ids, order
//! and recorded times. The log gets a new epoch, so that a cursor of before is told of the change (LOG_RESET) and never
//! means another event.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postern_proto::event::v1::Event;
use prost::Message as _;
use tokio::time::Instant;

use super::engine::{Engine, Place};
use super::nats::NatsSettings;
use super::{Appended, Entry, EventLog, Expect, NewEvent, Store, StoreError, StoredEvent, Write};

/// Marks a target from before the first value until after the last event.
const UNFINISHED: &str = "migration/unfinished";
/// Values read and written at once, and about how many bytes of them are written at once.
const VALUES: usize = 200;
const VALUES_BYTES: usize = 4 * 1024 * 1024;
/// Events read and written at once.
const EVENTS: usize = 500;
const EVENTS_BYTES: usize = 4 * 1024 * 1024;
/// How long a source that gateways share is watched at least: one at work says every two seconds that it lives.
const WATCHED: Duration = Duration::from_secs(5);
/// After so many values or events it is said how far it has come.
const TOLD_EACH: u64 = 50_000;

/// A store that can be filled from another.
#[tonic::async_trait]
pub trait Movable: Store + EventLog {
    /// Appends events that another log recorded, at those times, all or nothing. A time before that of the last event is
    /// taken as that.
    async fn restore(&self, events: Vec<(NewEvent, SystemTime)>) -> Result<Appended, StoreError>;

    /// What another process's last change of anything shows in. The same for ever where no other can make one.
    async fn last_change(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Values of keys.
    pub values: u64,
    /// Events.
    pub events: u64,
}

/// Why nothing was moved, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A store cannot be used, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source, the target, or both are not as they must be.
    #[error("{place}: {problem}")]
    Unfit {
        /// Which.
        place: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

/// Fails where a store holds a copy that was not finished.
pub(super) async fn check_finished(store: &dyn Store) -> Result<(), String> {
    match store.get(UNFINISHED).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            Err("it holds a copy that was not finished: remove it and run gateway migrate again".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Moves all of a store to a place that holds none. `told` is called with how far it has come, from time to time.
///
/// # Errors
/// A store cannot be opened, such as a folder that a gateway uses; the source is not there; the target is not empty, or
/// half full; the source changed meanwhile; a store failed. The target is then marked as not finished, or untouched.
pub async fn migrate(
    from: &Place,
    to: &Place,
    nats: &NatsSettings,
    told: impl Fn(Moved) + Send + Sync,
) -> Result<Moved, MigrateError> {
    let unfit = |place: &Place, problem: &str| MigrateError::Unfit {
        place: place.to_string(),
        problem: problem.to_owned(),
    };
    if from.to_string() == to.to_string() {
        return Err(unfit(to, "it is the place to move from: expected another"));
    }
    let source = Engine::open_there(from, nats).await?;
    let moved = fill_place(&source, from, to, nats, &told).await;
    let closed = source.close().await;
    let moved = moved?;
    closed?;
    Ok(moved)
}

async fn fill_place(
    source: &Engine,
    from: &Place,
    to: &Place,
    nats: &NatsSettings,
    told: &(impl Fn(Moved) + Send + Sync),
) -> Result<Moved, MigrateError> {
    let target = Engine::open_any(to, nats, true).await?;
    let moved = fill(source, from, &*target.movable(), to, told).await;
    let closed = target.close().await;
    let moved = moved?;
    closed?;
    Ok(moved)
}

async fn fill(
    source: &Engine,
    from: &Place,
    target: &dyn Movable,
    to: &Place,
    told: &(impl Fn(Moved) + Send + Sync),
) -> Result<Moved, MigrateError> {
    let unfit = |place: &Place, problem: String| MigrateError::Unfit { place: place.to_string(), problem };
    check_finished(target).await.map_err(|problem| unfit(to, problem))?;
    let is_empty = target.bounds().await?.last == 0
        && target.list("", "", 1).await?.is_empty()
        && target.records(None, 1).await?.is_empty();
    if !is_empty {
        return Err(unfit(to, "it is not empty: expected a store without values and events".to_owned()));
    }
    let mark = |value| Write { key: UNFINISHED.to_owned(), value, expect: Expect::Any };
    target.write(mark(Some(Bytes::from_static(b"1")))).await?;
    let (store, log) = (source.store(), source.log());
    let (began, changed) = (Instant::now(), source.movable().last_change().await?);
    let begun = log.bounds().await?;
    let mut moved = Moved::default();
    let mut tell = {
        let mut next = TOLD_EACH;
        move |moved: Moved| {
            if moved.values + moved.events >= next {
                next += TOLD_EACH;
                told(moved);
            }
        }
    };
    for are_records in [false, true] {
        let mut after: Option<Entry> = None;
        loop {
            let values = if are_records {
                store.records(after.as_ref(), VALUES).await?
            } else {
                store.list("", after.as_ref().map_or("", |after| &after.key), VALUES).await?
            };
            let Some(last) = values.last() else { break };
            after = Some(last.clone());
            moved.values += values.len() as u64;
            write_values(target, values).await?;
            tell(moved);
        }
    }
    let mut place = begun.first - 1;
    loop {
        let events = log.read(place, EVENTS, EVENTS_BYTES).await?;
        let Some(last) = events.last() else { break };
        place = last.sequence;
        let events: Vec<_> = events.iter().map(apart).collect::<Result<_, _>>()?;
        let count = events.len();
        let appended = target.restore(events).await?;
        if appended.stored != count {
            return Err(unfit(from, format!("an id is there twice before the place {place}")));
        }
        moved.events += count as u64;
        tell(moved);
    }
    if store.is_shared() {
        tokio::time::sleep_until(began + WATCHED).await;
    }
    let is_unchanged = log.bounds().await? == begun && source.movable().last_change().await? == changed;
    if !is_unchanged || moved.events != begun.last + 1 - begun.first {
        let problem = "it changed meanwhile: expected all gateways on it to be stopped".to_owned();
        return Err(unfit(from, problem));
    }
    target.write(mark(None)).await?;
    Ok(moved)
}

async fn write_values(target: &dyn Movable, values: Vec<Entry>) -> Result<(), StoreError> {
    let mut writes = Vec::new();
    let mut bytes = 0;
    for Entry { key, value, .. } in values {
        bytes += value.len();
        writes.push(Write { key, value: Some(value), expect: Expect::Absent });
        if bytes >= VALUES_BYTES {
            bytes = 0;
            target.append(Vec::new(), std::mem::take(&mut writes)).await?;
        }
    }
    if !writes.is_empty() {
        target.append(Vec::new(), writes).await?;
    }
    Ok(())
}

/// An event as it was before the log completed it, and when it was recorded.
fn apart(stored: &StoredEvent) -> Result<(NewEvent, SystemTime), StoreError> {
    let damaged = || StoreError::Failed(format!("the event at {} is damaged", stored.sequence));
    let mut event = Event::decode(stored.encoded.clone()).map_err(|_| damaged())?;
    let recorded = event.record_time.take().and_then(|time| SystemTime::try_from(time).ok());
    event.cursor = Bytes::new();
    let encoded = event.encode_to_vec().into();
    let new = NewEvent { id: event.id, source: event.source, event_type: event.r#type, encoded };
    Ok((new, recorded.ok_or_else(damaged)?))
}
