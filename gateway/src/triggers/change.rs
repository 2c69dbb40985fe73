//! What a trigger may be, and how triggers are made, changed, paused, resumed, deleted and tried. Each change is one
//! write of a trigger and its place.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_chassis::fault::Fault;
use postern_proto::connector::v1::CheckTriggerRequest;
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::event::v1::{
    CreateTriggerRequest, DeleteTriggerRequest, Event, ListTriggersRequest, ListTriggersResponse, Trigger,
    TriggerState, TriggerStatus, TryTriggerRequest, TryTriggerResponse, UpdateTriggerRequest,
};
use prost::Message as _;
use tonic::Code;

use super::fares;
use super::poll::{self, Poller};
use super::schedule::{DEFAULT_INTERVAL, MAX_WATCH_BYTES, Schedule};
use super::stored::{self, Snapshot, Stored};
use super::watch::WatchName;
use crate::connections::Connections;
use crate::error::Error;
use crate::page::Page;
use crate::store::{EventLog, Expect, Revision, Store, StoreError, Write};
use crate::{contract, mask, names, notifications};

/// The shortest interval.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3_600);
/// How long a connector may take to check a trigger.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How many events a try shows.
const MAX_TRIED: usize = 100;
/// How many looks a try makes at most.
const MAX_TRIES: usize = 20;
/// How often a change that meets another one at the same time is tried.
const TRIES: usize = 5;
/// The largest trigger, encoded as its connector is asked for it.
const MAX_TRIGGER_BYTES: usize = 64 * 1024;
/// The longest key of a watch.
const MAX_WATCH_KEY: usize = 1_024;
/// The full name of a trigger's message.
const TRIGGER: &str = "postern.event.v1.Trigger";
/// What a caller may set, beside the kinds.
const INTERVAL: &str = "interval";

/// TriggerService.
pub struct Triggers {
    poller: Poller,
    schedule: Schedule,
}

impl Triggers {
    /// The service over a store, a log and a running schedule.
    pub fn new(
        connections: Arc<Connections>,
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        schedule: Schedule,
    ) -> Self {
        let leases = schedule.leases().clone();
        Self { poller: Poller { connections, leases, store, log }, schedule }
    }

    fn store(&self) -> &dyn Store {
        self.poller.store.as_ref()
    }

    /// The trigger as callers see it: with how it fares.
    async fn shown(&self, found: Stored) -> Result<Option<Trigger>, Error> {
        let watch = found.watch();
        let mut trigger = found.trigger;
        let mut status = if self.schedule.looks_after(&watch) {
            self.schedule.status(&trigger.name)
        } else {
            self.told_elsewhere(&trigger.name, &watch).await?
        };
        // What this process does not know since it started is read.
        if status.last_event_time.is_none() {
            status.last_event_time =
                stored::read_place(self.store(), &trigger.name).await?.value.last_event_time;
        }
        if status.last_poll_time.is_none() {
            status.last_poll_time = stored::read_reached(self.store(), &watch).await?.value.last_poll_time;
        }
        // The schedule hears of a pause a moment after it is made.
        if trigger.state() == TriggerState::Paused {
            status = TriggerStatus { next_poll_time: None, push_expire_time: None, ..status };
        }
        trigger.status = Some(status);
        Ok(Some(trigger))
    }

    /// How a trigger fares that another gateway looks after, as far as it is stored.
    async fn told_elsewhere(&self, name: &str, watch: &WatchName) -> Result<TriggerStatus, Error> {
        let mut status = fares::noted(self.store(), name, watch).await?;
        let pushed = notifications::record::read(self.store(), watch).await?.record;
        if !pushed.notification.is_empty() {
            let until = pushed.expire_time;
            let is_over = until.is_some_and(|until| {
                SystemTime::try_from(until).is_ok_and(|until| until <= SystemTime::now())
            });
            status.push_expire_time = until.filter(|_| !is_over);
        }
        Ok(status)
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Trigger>, Error> {
        names::trigger("name", name)?;
        self.shown(stored::read(self.store(), name).await?).await
    }

    /// Refuses a trigger that its connector does not serve or finds wrong. Gives the key of what it watches.
    async fn check(&self, connection: &str, trigger: &Trigger) -> Result<String, Error> {
        let interval = trigger.interval.map_or(Ok(DEFAULT_INTERVAL), Duration::try_from);
        if !interval.is_ok_and(|interval| (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval)) {
            return Err(Error::field("trigger.interval", "is out of range: expected 1 s to 24 h"));
        }
        let kind = contract::set_in_oneof(TRIGGER, trigger, "kind")
            .ok_or_else(|| Error::field("trigger.kind", "is absent: expected one of the kinds of trigger"))?;
        let opened = self.poller.connections.open(connection).await?;
        let connector = self.poller.connections.connectors().for_kind(opened.kind())?;
        if !connector.description().trigger_kinds.contains(&kind) {
            let message = format!("the connector of {connection} does not serve triggers of the kind {kind}");
            let fault = Fault::new(Code::InvalidArgument, "TRIGGER_KIND_UNSUPPORTED", message);
            return Err(fault.with("kind", kind).into());
        }
        let bytes = poll::asked_bytes(trigger);
        if bytes > MAX_TRIGGER_BYTES {
            let problem = format!("has {bytes} bytes: expected at most {MAX_TRIGGER_BYTES}");
            return Err(Error::field("trigger", problem));
        }
        let request = CheckTriggerRequest { trigger: Some(trigger.clone()) };
        let call = |mut connector: ConnectorServiceClient<_>, request| async move {
            connector.check_trigger(request).await
        };
        let checked = self.poller.connections.call(connection, CHECK_TIMEOUT, request, call).await?;
        if checked.watch_key.len() > MAX_WATCH_KEY {
            let message = "the connector gives a watch key of more than 1 KiB";
            return Err(Fault::new(Code::Internal, "WATCH_KEY_TOO_LONG", message).into());
        }
        Ok(checked.watch_key)
    }

    /// Refuses a trigger that its watch has no room for.
    async fn check_room(&self, trigger: &Trigger, watch: &WatchName) -> Result<(), Error> {
        let taken = match self.schedule.looks_after(watch) {
            true => self.schedule.bytes(watch),
            false => stored::bytes(self.store(), watch).await?,
        };
        if taken + poll::asked_bytes(trigger) <= MAX_WATCH_BYTES {
            return Ok(());
        }
        let message =
            "what this trigger watches is watched by as many triggers already as one look can be made for";
        Err(Fault::new(Code::ResourceExhausted, "WATCH_FULL", message).into())
    }

    pub(super) async fn create(&self, request: CreateTriggerRequest) -> Result<Option<Trigger>, Error> {
        names::connection("connection", &request.connection)?;
        let id = names::chosen_or_new("trigger_id", &request.trigger_id, "trigger")?;
        let asked = request.trigger.ok_or_else(|| Error::field("trigger", "is absent"))?;
        // Places before the time, and the time before anything else: what happens from this call on is told, and lies
        // after each of the places.
        let snapshot = Snapshot::read(self.store(), &request.connection).await?;
        let now = Some(SystemTime::now().into());
        let name = format!("{}/triggers/{id}", request.connection);
        let trigger = Trigger {
            name: name.clone(),
            create_time: now,
            update_time: now,
            watch_time: now,
            state: TriggerState::Active.into(),
            interval: asked.interval.or_else(|| DEFAULT_INTERVAL.try_into().ok()),
            kind: asked.kind,
            ..Trigger::default()
        };
        let watch_key = self.check(&request.connection, &trigger).await?;
        let watch = WatchName::new(&request.connection, &watch_key);
        self.check_room(&trigger, &watch).await?;
        let writes = vec![
            stored::alone_at(&name, snapshot.cursor(&watch)),
            stored::write(&trigger, &watch_key, Expect::Absent),
        ];
        match self.put(writes).await {
            Err(StoreError::Conflict { .. }) => return Err(Error::Exists("Trigger", name)),
            other => other?,
        }
        // A connection that was deleted meanwhile may have missed this one among those that go with it.
        if self.store().get(&request.connection).await?.is_none() {
            self.remove(&name, Expect::Any).await?;
            return Err(Error::NotFound("Connection", request.connection));
        }
        self.get(&name).await
    }

    pub(super) async fn list(&self, request: ListTriggersRequest) -> Result<ListTriggersResponse, Error> {
        let mut prefix = stored::TRIGGERS.to_owned();
        if !request.connection.is_empty() {
            names::connection("connection", &request.connection)?;
            prefix.push_str(request.connection.trim_start_matches("connections/"));
            prefix.push('/');
        }
        let arguments = ["ListTriggers", &request.connection];
        let page = Page::read(request.page_size, &request.page_token, &arguments)?;
        let (entries, next_page_token) = page.list(self.store(), &prefix).await?;
        let mut triggers = Vec::with_capacity(entries.len());
        for entry in &entries {
            if let Some(found) = stored::decode(entry) {
                triggers.extend(self.shown(found).await?);
            }
        }
        Ok(ListTriggersResponse { triggers, next_page_token })
    }

    pub(super) async fn update(&self, request: UpdateTriggerRequest) -> Result<Option<Trigger>, Error> {
        let wanted = request.trigger.ok_or_else(|| Error::field("trigger", "is absent"))?;
        let connection = names::trigger("trigger.name", &wanted.name)?;
        let kinds = contract::members(TRIGGER, "kind");
        let settable: Vec<_> = kinds.iter().map(String::as_str).chain([INTERVAL]).collect();
        let next = |current: &Trigger| {
            mask::apply(TRIGGER, current, &wanted, request.update_mask.as_ref(), &settable).map(Some)
        };
        self.change(connection, &wanted.name, &wanted.etag, next).await
    }

    pub(super) async fn turn(&self, name: &str, state: TriggerState) -> Result<Option<Trigger>, Error> {
        let connection = names::trigger("name", name)?;
        let next = |current: &Trigger| {
            let is_so = current.state() == state;
            Ok((!is_so).then(|| Trigger { state: state.into(), ..current.clone() }))
        };
        self.change(connection, name, "", next).await
    }

    /// Writes what `next` makes of a trigger; where that is nothing, it stays as it is. Where somebody else changed it
    /// meanwhile, it is made of what that one left, unless an etag was given.
    async fn change(
        &self,
        connection: &str,
        name: &str,
        etag: &str,
        next: impl Fn(&Trigger) -> Result<Option<Trigger>, Error> + Send + Sync,
    ) -> Result<Option<Trigger>, Error> {
        for _ in 0..TRIES {
            let snapshot = Snapshot::read(self.store(), connection).await?;
            let found = stored::read(self.store(), name).await?;
            same_etag(name, etag, found.revision)?;
            let Some(mut changed) = next(&found.trigger)? else { return self.shown(found).await };
            changed.update_time = Some(SystemTime::now().into());
            let (mut watch_key, mut writes) = (found.watch_key.clone(), Vec::new());
            if changed.kind != found.trigger.kind {
                changed.watch_time = changed.update_time;
                watch_key = self.check(connection, &changed).await?;
                let watch = WatchName::new(connection, &watch_key);
                self.check_room(&changed, &watch).await?;
                writes.push(stored::alone_at(name, snapshot.cursor(&watch)));
            } else if changed.interval != found.trigger.interval {
                self.check(connection, &changed).await?;
            }
            if changed.state() != found.trigger.state() {
                match changed.state() {
                    TriggerState::Paused => writes.extend(self.left_behind(&found).await?),
                    _ => self.check_room(&changed, &found.watch()).await?,
                }
            }
            writes.push(stored::write(&changed, &watch_key, Expect::Revision(found.revision)));
            match self.put(writes).await {
                Ok(()) => return self.get(name).await,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: name.to_owned() }.into())
    }

    /// The writes that leave a trigger at the place where its watch is, and have a look in flight made again without it.
    async fn left_behind(&self, found: &Stored) -> Result<Vec<Write>, StoreError> {
        let (name, watch) = (&found.trigger.name, found.watch());
        let place = stored::read_place(self.store(), name).await?;
        if place.value.alone.is_some() {
            // Written as it is: a look in flight would else have it go with the watch, which then goes on without it.
            return Ok(vec![place.replaced(stored::place_key(name), &place.value)]);
        }
        let reached = stored::read_reached(self.store(), &watch).await?;
        let alone = stored::Place { alone: Some(reached.value.cursor.clone()), ..place.value.clone() };
        let mut writes = vec![place.replaced(stored::place_key(name), &alone)];
        if reached.revision != 0 {
            writes.push(reached.replaced(stored::reached_key(&watch), &reached.value));
        }
        Ok(writes)
    }

    pub(super) async fn delete(&self, request: DeleteTriggerRequest) -> Result<(), Error> {
        names::trigger("name", &request.name)?;
        for _ in 0..TRIES {
            let revision = stored::read(self.store(), &request.name).await?.revision;
            same_etag(&request.name, &request.etag, revision)?;
            match self.remove(&request.name, Expect::Revision(revision)).await {
                Err(StoreError::Conflict { .. }) => {}
                other => return Ok(other?),
            }
        }
        Err(StoreError::Conflict { key: request.name }.into())
    }

    /// Removes a trigger and its place, both at once.
    async fn remove(&self, name: &str, expect: Expect) -> Result<(), StoreError> {
        let trigger = Write { key: stored::trigger_key(name), value: None, expect };
        let place = Write { key: stored::place_key(name), value: None, expect: Expect::Any };
        self.put(vec![place, trigger]).await
    }

    pub(super) async fn try_now(&self, request: TryTriggerRequest) -> Result<TryTriggerResponse, Error> {
        let connection = names::trigger("name", &request.name)?;
        let found = stored::read(self.store(), &request.name).await?;
        let trigger = &found.trigger;
        let (since, mut cursor) = match request.since {
            Some(since) => (Some(since), bytes::Bytes::new()),
            None => (stored::since(trigger), self.cursor(&found).await?),
        };
        let mut shown = TryTriggerResponse::default();
        for _ in 0..MAX_TRIES {
            let asked = vec![poll::watched(trigger, since)];
            let looked = self.poller.poll(connection, asked, cursor, 0).await?;
            for occurrence in looked.occurrences.iter().filter(|one| one.triggers.contains(&trigger.name)) {
                let event = poll::event(&trigger.name, occurrence);
                shown.events.push(Event::decode(event.encoded).unwrap_or_default());
            }
            (shown.more, cursor) = (looked.more, looked.next_cursor);
            if !shown.more || shown.events.len() >= MAX_TRIED {
                break;
            }
        }
        shown.more |= shown.events.len() > MAX_TRIED;
        shown.events.truncate(MAX_TRIED);
        Ok(shown)
    }

    pub(super) async fn nudge(&self, name: &str) -> Result<(), Error> {
        names::trigger("name", name)?;
        let found = stored::read(self.store(), name).await?;
        if found.trigger.state() != TriggerState::Paused {
            self.schedule.nudge(found.watch());
        }
        Ok(())
    }

    /// Where a trigger is.
    async fn cursor(&self, found: &Stored) -> Result<bytes::Bytes, StoreError> {
        match stored::read_place(self.store(), &found.trigger.name).await?.value.alone {
            Some(cursor) => Ok(cursor),
            None => Ok(stored::read_reached(self.store(), &found.watch()).await?.value.cursor),
        }
    }

    /// Makes writes, all or none.
    async fn put(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.poller.log.append(Vec::new(), writes).await.map(|_| ())
    }
}

/// Refuses a change of what has changed since the caller read it. An absent etag matches.
fn same_etag(name: &str, etag: &str, revision: Revision) -> Result<(), Error> {
    if etag.is_empty() || etag == stored::etag(revision) {
        Ok(())
    } else {
        Err(Error::EtagMismatch(name.to_owned()))
    }
}
