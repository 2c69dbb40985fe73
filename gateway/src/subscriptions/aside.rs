//! Set-aside events: listed, delivered again, dropped. One that is being delivered again keeps its copy, and is set aside no
//! longer for as long as the reading says so.

use std::collections::HashSet;

use postern_chassis::fault::Fault;
use postern_proto::event::v1::{
    DropSetAsideEventsRequest, DropSetAsideEventsResponse, Event, ListSetAsideEventsRequest,
    ListSetAsideEventsResponse, ReplaySetAsideEventsRequest, ReplaySetAsideEventsResponse,
};
use prost::Message as _;
use tonic::Code;

use super::stored::{self, Kept, MOST_UNSETTLED, Reading, SetAside, Unsettled, id_of};
use super::{Subscriptions, TRIES, pause};
use crate::error::Error;
use crate::names;
use crate::page::Page;
use crate::store::{Entry, Expect, MAX_WRITES, Sequence, StoreError, Write};

/// The most events of a page, and the most bytes where there is more than one.
const PAGE_EVENTS: usize = 100;
const PAGE_BYTES: usize = 3 * 1024 * 1024;
/// The most ids in a request.
const MAX_IDS: usize = 100;
/// The most events that are delivered again where none is named.
const REPLAYED_AT_ONCE: usize = 1_000;
/// The most events that are dropped where none is named: each is a write of one commit.
const DROPPED_AT_ONCE: usize = 500;
const _: () = assert!(DROPPED_AT_ONCE < MAX_WRITES);
/// How many copies are read at once.
const READ_AT_ONCE: usize = 64;

/// A set-aside event by its key: the generation in which it was set aside, and its place in the log.
type Place = (u64, Sequence);

/// What was chosen.
struct Chosen {
    places: Vec<Place>,
    more: bool,
}

impl Subscriptions {
    pub(super) async fn list_set_aside(
        &self,
        request: ListSetAsideEventsRequest,
    ) -> Result<ListSetAsideEventsResponse, Error> {
        names::subscription("name", &request.name)?;
        let id = id_of(&request.name);
        let page =
            Page::read(request.page_size, &request.page_token, &["ListSetAsideEvents", &request.name])?;
        let size = page.size.min(PAGE_EVENTS);
        let kept = stored::read_reading(&*self.store, id).await?;
        let (mut after, mut bytes) = (page.after.clone(), 0);
        let mut listed = ListSetAsideEventsResponse::default();
        loop {
            let entries = self.store.list(&stored::set_aside_prefix(id), &after, READ_AT_ONCE).await?;
            let is_last = entries.len() < READ_AT_ONCE;
            for Entry { key, value, .. } in entries {
                if is_replayed(&kept.value, &key) {
                    after = key;
                    continue;
                }
                let is_full = listed.events.len() >= size || bytes + value.len() > PAGE_BYTES;
                if is_full && !listed.events.is_empty() {
                    listed.next_page_token = page.token(&after);
                    return Ok(listed);
                }
                bytes += value.len();
                after = key;
                listed.events.extend(SetAside::decode(value).ok().map(SetAside::shown));
            }
            if is_last {
                return Ok(listed);
            }
        }
    }

    pub(super) async fn replay(
        &self,
        request: ReplaySetAsideEventsRequest,
    ) -> Result<ReplaySetAsideEventsResponse, Error> {
        let (id, ids) = checked(&request.name, &request.event_ids)?;
        for tried in 0..TRIES {
            stored::read(&*self.store, id).await?;
            let kept = stored::read_reading(&*self.store, id).await?;
            let room = MOST_UNSETTLED.saturating_sub(kept.value.unsettled.len());
            let most = if ids.is_empty() { REPLAYED_AT_ONCE.min(room) } else { REPLAYED_AT_ONCE };
            let Chosen { places, more } = self.choose(id, &kept, &ids, most).await?;
            if places.len() > room || (room == 0 && more) {
                let message = "4,096 events of this subscription are not settled already";
                return Err(Fault::new(Code::ResourceExhausted, "TOO_MANY_OUTSTANDING", message)
                    .retry_after(std::time::Duration::from_secs(10))
                    .into());
            }
            let now = self.clock.now();
            let waiting = |(copy, sequence)| Unsettled {
                sequence,
                copy,
                due: now,
                waits: true,
                ..Unsettled::default()
            };
            let mut reading = kept.value.clone();
            reading.set_aside = reading.set_aside.saturating_sub(places.len() as u64);
            let replayed = i32::try_from(places.len()).unwrap_or(i32::MAX);
            reading.unsettled.extend(places.into_iter().map(waiting));
            match self.store.write(kept.replaced(id, &reading)).await {
                Ok(_) => return Ok(ReplaySetAsideEventsResponse { replayed, more }),
                Err(StoreError::Conflict { .. }) => pause(tried).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: request.name }.into())
    }

    pub(super) async fn drop_set_aside(
        &self,
        request: DropSetAsideEventsRequest,
    ) -> Result<DropSetAsideEventsResponse, Error> {
        let (id, ids) = checked(&request.name, &request.event_ids)?;
        for tried in 0..TRIES {
            stored::read(&*self.store, id).await?;
            let kept = stored::read_reading(&*self.store, id).await?;
            let Chosen { places, more } = self.choose(id, &kept, &ids, DROPPED_AT_ONCE).await?;
            let mut reading = kept.value.clone();
            reading.set_aside = reading.set_aside.saturating_sub(places.len() as u64);
            let dropped = i32::try_from(places.len()).unwrap_or(i32::MAX);
            let removed = |(generation, sequence)| Write {
                key: stored::set_aside_key(id, generation, sequence),
                value: None,
                expect: Expect::Any,
            };
            let mut writes: Vec<_> = places.into_iter().map(removed).collect();
            writes.push(kept.replaced(id, &reading));
            match self.log.append(Vec::new(), writes).await {
                Ok(_) => return Ok(DropSetAsideEventsResponse { dropped, more }),
                Err(StoreError::Conflict { .. }) => pause(tried).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: request.name }.into())
    }

    /// The set-aside events with these ids, every one of which must be there; without ids the oldest ones.
    async fn choose(&self, id: &str, kept: &Kept, ids: &HashSet<&str>, most: usize) -> Result<Chosen, Error> {
        let (mut places, mut after, mut found) = (Vec::new(), String::new(), HashSet::new());
        let mut more = false;
        'all: loop {
            let entries = self.store.list(&stored::set_aside_prefix(id), &after, READ_AT_ONCE).await?;
            let is_last = entries.len() < READ_AT_ONCE;
            for Entry { key, value, .. } in entries {
                let place = stored::set_aside_place(&key).filter(|_| !is_replayed(&kept.value, &key));
                after = key;
                let Some(place) = place else { continue };
                let event = SetAside::decode(value).ok().and_then(|kept| Event::decode(kept.event).ok());
                let event_id = event.map(|event| event.id).unwrap_or_default();
                if ids.is_empty() && places.len() >= most {
                    more = true;
                    break 'all;
                }
                match ids.get(event_id.as_str()) {
                    Some(wanted) => {
                        found.insert(*wanted);
                        places.push(place);
                    }
                    None if ids.is_empty() => places.push(place),
                    None => more = true,
                }
            }
            if is_last {
                break;
            }
        }
        match ids.iter().find(|wanted| !found.contains(**wanted)) {
            Some(missing) => {
                let message = format!("no event {missing:?} is set aside: nothing was done");
                Err(Fault::new(Code::NotFound, "EVENT_NOT_SET_ASIDE", message)
                    .with("event.id", *missing)
                    .into())
            }
            None => Ok(Chosen { places, more }),
        }
    }
}

/// Whether the event with this key is being delivered again.
fn is_replayed(reading: &Reading, key: &str) -> bool {
    let Some((generation, sequence)) = stored::set_aside_place(key) else { return false };
    reading.unsettled.iter().any(|one| one.copy == generation && one.sequence == sequence)
}

/// The subscription's id, and the ids of events.
fn checked<'a>(name: &'a str, event_ids: &'a [String]) -> Result<(&'a str, HashSet<&'a str>), Error> {
    names::subscription("name", name)?;
    if event_ids.len() > MAX_IDS {
        let problem = format!("has {} ids: expected at most {MAX_IDS}", event_ids.len());
        return Err(Error::field("event_ids", problem));
    }
    if let Some(place) = event_ids.iter().position(|id| id.is_empty() || id.len() > 128) {
        return Err(Error::field(format!("event_ids[{place}]"), "is no event's id"));
    }
    Ok((id_of(name), event_ids.iter().map(String::as_str).collect()))
}
