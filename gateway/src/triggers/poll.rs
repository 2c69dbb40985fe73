//! One look of a watch: asks its connector what happened since the place the watch is at, and stores what happened
//! together with the next place. It decides nothing about when.
//!
//! Triggers that are alone at another place are looked after by themselves until they have caught up; then they go with
//! their watch. Looks of a watch follow one another: two at once would undo each other (`StoreError::Conflict`).

mod groups;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::connector::v1::{Occurrence, PollRequest, PollResponse, WatchedTrigger};
use postern_proto::event::v1::Trigger;
use prost::Message as _;
use tokio::time::Instant;

use super::folded::Folded;
use super::stored::{self, At, Place, Reached};
use super::watch::WatchName;
use crate::connections::Connections;
use crate::error::Error;
use crate::events::new_event;
use crate::leases::Leases;
use crate::metrics::POLLS;
use crate::store::{Commit, EventLog, Guard, MAX_WRITES, NewEvent, Store, StoreError, Write};
use groups::{Groups, Member};

/// How long a look may take, waiting for a throttling provider included.
const POLL_TIMEOUT: Duration = Duration::from_secs(60);
/// How many occurrences a look gives at most: what one transaction stores and one answer holds.
const MAX_OCCURRENCES: i32 = 50;
/// How many places are read from the store at once.
const READS_AT_ONCE: usize = 16;
/// How many times of last events are written at once where they are too many for the look's own commit.
const TIMES_AT_ONCE: usize = 64;

/// What a look needs.
pub(super) struct Poller {
    pub(super) connections: Arc<Connections>,
    pub(super) leases: Arc<Leases>,
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Arc<dyn EventLog>,
}

/// A trigger that is to be looked after, and whether it may be alone, as far as is known.
pub(super) type Sought = (Folded, bool);

/// How a look went.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// The names of the triggers that told of something.
    pub(super) told: Vec<String>,
    /// Whether there is more to be had at once.
    pub(super) more: bool,
    /// How long the provider asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// The triggers that were to catch up and could not, and why.
    pub(super) behind: Option<(Vec<String>, Error)>,
}

/// What a look does to the places of its triggers.
struct Places {
    /// Written with what it tells.
    writes: Vec<Write>,
    /// Of those whose writes had no room there: their places must be as they were read all the same.
    guards: Vec<Guard>,
    /// Those writes, which only say when a trigger last told of something.
    times: Vec<Write>,
}

impl Poller {
    /// Looks once for all who go with the watch, and once for some who have to catch up. `failed`: how many looks in a
    /// row have failed. What it stores is stored only while this gateway still looks after the watch.
    pub(super) async fn look(
        &self,
        watch: &WatchName,
        sought: &[Sought],
        failed: u32,
    ) -> Result<Looked, Error> {
        // Before anything is read: what another gateway has written meanwhile is not to be overwritten.
        let Some(hold) = self.leases.hold(watch.as_str()) else {
            return Err(StoreError::Conflict { key: watch.to_string() }.into());
        };
        let reached = stored::read_reached(self.store.as_ref(), watch).await?;
        let members = self.members(sought).await?;
        let groups = Groups::divide(members, reached.value.cursor.clone());
        let mut looked = self.together(watch, reached, &groups, failed, hold.guard()).await?;
        // Another one after each failure: those who cannot catch up hold up nobody else who has to.
        let turn =
            usize::try_from(failed).unwrap_or_default().checked_rem(groups.behind.len()).unwrap_or_default();
        let Some((cursor, behind)) = groups.behind.get(turn) else { return Ok(looked) };
        match self.catch_up(watch, cursor, behind, failed, hold.guard()).await {
            Ok((mut caught_up, done)) => {
                looked.told.append(&mut caught_up.told);
                looked.more |= !done || groups.behind.len() > 1;
                looked.retry_after = looked.retry_after.max(caught_up.retry_after);
            }
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => {
                let names = behind.iter().map(|member| member.trigger.name.clone()).collect();
                looked.behind = Some((names, error));
            }
        }
        Ok(looked)
    }

    /// The triggers with the places of those that may be alone, which must be as they are sought still: a look may have
    /// waited for its turn. Whoever has paused, changed or deleted one before its place was read has changed its record,
    /// which is read after the place; whoever does so later writes the place too, which undoes the look. Else a look could
    /// have a trigger that was paused meanwhile go with its watch, which goes on without it, or one that was changed
    /// pass over what it was not asked for yet.
    async fn members(&self, sought: &[Sought]) -> Result<Vec<Member>, StoreError> {
        let read = |(folded, alone): Sought| async move {
            let trigger = Arc::new(folded.unfold());
            if !alone {
                // Whatever it tells finds its place changed where it has left the watch meanwhile.
                return Ok(Member { trigger, place: None });
            }
            let place = stored::read_place(self.store.as_ref(), &trigger.name).await?;
            let key = stored::trigger_key(&trigger.name);
            let now = self.store.get(&key).await?.map(|entry| stored::etag(entry.revision));
            if now.is_some_and(|etag| etag == trigger.etag) {
                Ok(Member { trigger, place: Some(place) })
            } else {
                Err(StoreError::Conflict { key })
            }
        };
        stream::iter(sought.iter().cloned().map(read)).buffered(READS_AT_ONCE).try_collect().await
    }

    /// The look of those who go with the watch.
    async fn together(
        &self,
        watch: &WatchName,
        reached: At<Reached>,
        groups: &Groups,
        failed: u32,
        guard: Guard,
    ) -> Result<Looked, Error> {
        let from = &groups.cursor;
        let response = self.ask(watch, &groups.together, from.clone(), failed).await?;
        let (events, told) = self.events(&groups.together, &response.occurrences);
        let mut looked = outcome(watch, &response, from);
        let Places { mut writes, mut guards, times } = self.places(&groups.together, &told, |_| None).await?;
        looked.told = told.into_iter().collect();
        let (before, midway) = (&reached.value, looked.more);
        // A nudge that came midway was not answered by what followed, nor is one of a time before this process.
        looked.more |= before.midway || before.cursor != *from;
        // So that a quiet watch costs no disk where its provider gives the same place again.
        let is_same = before.cursor == response.next_cursor && before.midway == midway;
        if !writes.is_empty() || reached.revision == 0 || !is_same {
            let now = Some(SystemTime::now().into());
            let next = Reached { cursor: response.next_cursor, last_poll_time: now, midway };
            writes.push(reached.replaced(stored::reached_key(watch), &next));
            guards.push(guard);
            self.log.commit(Commit { events, writes, guards }).await?;
            self.write_times(times).await;
        }
        Ok(looked)
    }

    /// A look of triggers that are alone at the same place. Gives whether they have caught up: they then go with the
    /// watch, whose place is older than all of the last question, so that none misses anything. What ends by an answer
    /// may have begun long before, in the look of which this is the rest: so it is asked once more from its end.
    async fn catch_up(
        &self,
        watch: &WatchName,
        from: &Bytes,
        behind: &[Member],
        failed: u32,
        guard: Guard,
    ) -> Result<(Looked, bool), Error> {
        let reached = stored::read_reached(self.store.as_ref(), watch).await?;
        let key = stored::reached_key(watch);
        if reached.revision == 0 {
            return Err(StoreError::Conflict { key }.into());
        }
        let response = self.ask(watch, behind, from.clone(), failed).await?;
        let (mut events, mut told) = self.events(behind, &response.occurrences);
        let mut looked = outcome(watch, &response, from);
        let mut next = response.next_cursor;
        if !response.more {
            let last = self.ask(watch, behind, next.clone(), failed).await?;
            let (more_events, more_told) = self.events(behind, &last.occurrences);
            events.extend(more_events);
            told.extend(more_told);
            looked = outcome(watch, &last, &next);
            next = last.next_cursor;
        }
        // All of them are alone: each place is written, and they are no more than have room.
        let Places { mut writes, mut guards, .. } =
            self.places(behind, &told, |_| looked.more.then(|| next.clone())).await?;
        // Written as it is: whoever has moved it on meanwhile has not asked for these.
        writes.push(reached.replaced(key, &reached.value));
        guards.push(guard);
        self.log.commit(Commit { events, writes, guards }).await?;
        looked.told = told.into_iter().collect();
        let done = !looked.more;
        Ok((looked, done))
    }

    /// The writes of the places of those who told of something or were alone. Afterwards they are alone where `alone`
    /// says. There is room for the place of the watch beside them.
    async fn places(
        &self,
        members: &[Member],
        told: &HashSet<String>,
        alone: impl Fn(&Member) -> Option<Bytes>,
    ) -> Result<Places, StoreError> {
        let tells = |member: &Member| told.contains(&member.trigger.name);
        let concerned = members.iter().filter(|member| member.place.is_some() || tells(member));
        let concerned: Vec<_> = concerned.cloned().collect();
        let read = |member: Member| async move {
            let place = match &member.place {
                Some(place) => place.clone(),
                None => stored::read_place(self.store.as_ref(), &member.trigger.name).await?,
            };
            Ok((member, place))
        };
        let placed = stream::iter(concerned.into_iter().map(read)).buffered(READS_AT_ONCE);
        let placed: Vec<_> = placed.try_collect().await?;
        let now = Some(SystemTime::now().into());
        let (mut writes, mut telling) = (Vec::new(), Vec::new());
        for (member, place) in placed {
            let key = stored::place_key(&member.trigger.name);
            let (is_alone, tells) = (place.value.alone.is_some(), tells(&member));
            // It was paused or changed during the look: what was asked for it holds no longer.
            if member.place.is_none() && is_alone {
                return Err(StoreError::Conflict { key });
            }
            let last_event_time = if tells { now } else { place.value.last_event_time };
            let write = place.replaced(key, &Place { alone: alone(&member), last_event_time });
            if is_alone {
                writes.push(write);
            } else if tells {
                telling.push((place.revision, write));
            }
        }
        let room = (MAX_WRITES - 1).saturating_sub(writes.len()).min(telling.len());
        let late = telling.split_off(room);
        writes.extend(telling.into_iter().map(|(_, write)| write));
        let guard = |(revision, write): &(_, Write)| Guard { key: write.key.clone(), revision: *revision };
        let guards = late.iter().map(guard).collect();
        Ok(Places { writes, guards, times: late.into_iter().map(|(_, write)| write).collect() })
    }

    /// Writes when triggers last told of something, each by itself: who has written there since keeps what it wrote, and
    /// a time that is lost is made good by the next event.
    async fn write_times(&self, times: Vec<Write>) {
        let write = |write| async move { self.store.write(write).await };
        let written = stream::iter(times.into_iter().map(write)).buffer_unordered(TIMES_AT_ONCE);
        let written: Vec<_> = written.collect().await;
        let is_failure =
            |written: &&Result<_, _>| !matches!(written, Ok(_) | Err(StoreError::Conflict { .. }));
        let failed = written.iter().filter(is_failure).count();
        if failed > 0 {
            tracing::warn!(count = failed, "when triggers last told of something could not be stored");
        }
    }

    async fn ask(
        &self,
        watch: &WatchName,
        members: &[Member],
        cursor: Bytes,
        failed: u32,
    ) -> Result<PollResponse, Error> {
        let triggers =
            members.iter().map(|member| watched(&member.trigger, stored::since(&member.trigger))).collect();
        let begun = Instant::now();
        let answered = self.poll(&watch.connection(), triggers, cursor, failed).await;
        POLLS.seconds.record(begun.elapsed());
        if answered.is_ok() { &POLLS.answered } else { &POLLS.failed }.inc();
        answered
    }

    /// What one look would tell, and where it ends. Stores nothing.
    pub(super) async fn poll(
        &self,
        connection: &str,
        triggers: Vec<WatchedTrigger>,
        cursor: Bytes,
        failed: u32,
    ) -> Result<PollResponse, Error> {
        let failed_looks = i32::try_from(failed).unwrap_or(i32::MAX);
        let request = PollRequest { triggers, cursor, max_occurrences: MAX_OCCURRENCES, failed_looks };
        let call =
            |mut connector: ConnectorServiceClient<_>, request| async move { connector.poll(request).await };
        self.connections.call(connection, POLL_TIMEOUT, request, call).await
    }

    /// The events of a look, and who tells them. What a connector tells of another trigger is left out, and logged: it
    /// is its fault.
    fn events(&self, members: &[Member], occurrences: &[Occurrence]) -> (Vec<NewEvent>, HashSet<String>) {
        let asked: HashMap<&str, &Trigger> =
            members.iter().map(|member| (member.trigger.name.as_str(), member.trigger.as_ref())).collect();
        let (mut events, mut told, mut foreign) = (Vec::new(), HashSet::new(), 0);
        for occurrence in occurrences {
            for name in &occurrence.triggers {
                match asked.get(name.as_str()) {
                    Some(_) => {
                        events.push(event(name, occurrence));
                        told.insert(name.clone());
                    }
                    None => foreign += 1,
                }
            }
        }
        if foreign > 0 {
            tracing::error!(count = foreign, "the connector told of triggers that were not asked for");
        }
        (events, told)
    }
}

/// The event of an occurrence, for one trigger.
pub(super) fn event(trigger: &str, occurrence: &Occurrence) -> NewEvent {
    let Occurrence { r#type, key, time, data, .. } = occurrence;
    new_event(trigger, r#type, Some(trigger), key, *time, data.clone())
}

/// A trigger as a connector is asked for it.
pub(super) fn watched(trigger: &Trigger, since: Option<prost_types::Timestamp>) -> WatchedTrigger {
    let asked = Trigger { name: trigger.name.clone(), kind: trigger.kind.clone(), ..Trigger::default() };
    WatchedTrigger { trigger: Some(asked), since }
}

/// How many bytes a trigger takes in what a connector is asked, at most.
pub(super) fn asked_bytes(trigger: &Trigger) -> usize {
    /// The field's own tag and length.
    const AROUND: usize = 8;
    watched(trigger, stored::since(trigger)).encoded_len() + AROUND
}

fn outcome(watch: &WatchName, response: &PollResponse, from: &Bytes) -> Looked {
    // A look from the same place sees the same: to follow it at once would be to ask without end.
    let more = response.more && response.next_cursor != *from;
    if response.more && !more {
        tracing::error!(watch.name = %watch, "the connector says that there is more, and gives no place to go on");
    }
    let retry_after = response.retry_after.and_then(|d| d.try_into().ok());
    Looked { more, retry_after, ..Looked::default() }
}
