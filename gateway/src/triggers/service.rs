//! TriggerService over gRPC: decode, call, encode, and the rules of what a trigger may be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_proto::connector::v1::CheckTriggerRequest;
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::event::v1::trigger_service_server::TriggerService;
use postern_proto::event::v1::{
    CreateTriggerRequest, CreateTriggerResponse, DeleteTriggerRequest, DeleteTriggerResponse, Event,
    GetTriggerRequest, GetTriggerResponse, ListTriggersRequest, ListTriggersResponse, NudgeTriggerRequest,
    NudgeTriggerResponse, PauseTriggerRequest, PauseTriggerResponse, ResumeTriggerRequest,
    ResumeTriggerResponse, Trigger, TriggerState, TriggerStatus, TryTriggerRequest, TryTriggerResponse,
    UpdateTriggerRequest, UpdateTriggerResponse,
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::poll::Poller;
use super::schedule::{DEFAULT_INTERVAL, Schedule};
use super::stored;
use crate::connections::Connections;
use crate::error::Error;
use crate::page::Page;
use crate::store::{EventLog, Expect, Revision, Store, StoreError, Write};
use crate::{contract, mask, names};

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
        Self { poller: Poller { connections, store, log }, schedule }
    }

    fn store(&self) -> &dyn Store {
        self.poller.store.as_ref()
    }

    /// The trigger as callers see it: with how it fares.
    async fn shown(&self, mut trigger: Trigger) -> Result<Option<Trigger>, Error> {
        let place = stored::read_place(self.store(), &trigger).await?.place;
        let status = self.schedule.status(&trigger.name);
        // The schedule hears of a pause a moment after it is made.
        let is_paused = trigger.state() == TriggerState::Paused;
        trigger.status = Some(TriggerStatus {
            last_poll_time: status.last_poll_time.or(place.last_poll_time),
            last_event_time: status.last_event_time.or(place.last_event_time),
            next_poll_time: status.next_poll_time.filter(|_| !is_paused),
            ..status
        });
        Ok(Some(trigger))
    }

    /// Refuses a trigger that its connector does not serve or finds wrong.
    async fn check(&self, connection: &str, trigger: &Trigger) -> Result<(), Error> {
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
            return Err(postern_chassis::fault::Fault::new(
                tonic::Code::InvalidArgument,
                "TRIGGER_KIND_UNSUPPORTED",
                message,
            )
            .with("kind", kind)
            .into());
        }
        let request = CheckTriggerRequest { trigger: Some(trigger.clone()) };
        let call = |mut connector: ConnectorServiceClient<_>, request| async move {
            connector.check_trigger(request).await
        };
        self.poller.connections.call(connection, CHECK_TIMEOUT, request, call).await?;
        Ok(())
    }

    async fn create(&self, request: CreateTriggerRequest) -> Result<Option<Trigger>, Error> {
        names::connection("connection", &request.connection)?;
        let id = names::chosen_or_new("trigger_id", &request.trigger_id, "trigger")?;
        let asked = request.trigger.ok_or_else(|| Error::field("trigger", "is absent"))?;
        // Taken before anything else: what happens from this call on is told.
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
        self.check(&request.connection, &trigger).await?;
        let made = match self.put(trigger, Expect::Absent).await {
            Err(Error::Store(StoreError::Conflict { .. })) => return Err(Error::Exists("Trigger", name)),
            other => other?,
        };
        // A connection that was deleted meanwhile may have missed this one among those that go with it.
        if self.store().get(&request.connection).await?.is_none() {
            self.remove(&name, Expect::Any).await?;
            return Err(Error::NotFound("Connection", request.connection));
        }
        Ok(made)
    }

    async fn list(&self, request: ListTriggersRequest) -> Result<ListTriggersResponse, Error> {
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
            if let Some(trigger) = stored::decode(entry) {
                triggers.extend(self.shown(trigger).await?);
            }
        }
        Ok(ListTriggersResponse { triggers, next_page_token })
    }

    async fn update(&self, request: UpdateTriggerRequest) -> Result<Option<Trigger>, Error> {
        let wanted = request.trigger.ok_or_else(|| Error::field("trigger", "is absent"))?;
        let connection = names::trigger("trigger.name", &wanted.name)?;
        let kinds = contract::members(TRIGGER, "kind");
        let settable: Vec<_> = kinds.iter().map(String::as_str).chain([INTERVAL]).collect();
        let next = |current: &Trigger| {
            mask::apply(TRIGGER, current, &wanted, request.update_mask.as_ref(), &settable).map(Some)
        };
        self.change(connection, &wanted.name, &wanted.etag, next).await
    }

    async fn turn(&self, name: &str, state: TriggerState) -> Result<Option<Trigger>, Error> {
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
            let (current, revision) = stored::read(self.store(), name).await?;
            same_etag(name, etag, revision)?;
            let Some(mut changed) = next(&current)? else { return self.shown(current).await };
            changed.update_time = Some(SystemTime::now().into());
            if changed.kind != current.kind {
                changed.watch_time = changed.update_time;
            }
            if changed.kind != current.kind || changed.interval != current.interval {
                self.check(connection, &changed).await?;
            }
            match self.put(changed, Expect::Revision(revision)).await {
                Err(Error::Store(StoreError::Conflict { .. })) => {}
                other => return other,
            }
        }
        Err(StoreError::Conflict { key: name.to_owned() }.into())
    }

    async fn delete(&self, request: DeleteTriggerRequest) -> Result<(), Error> {
        names::trigger("name", &request.name)?;
        for _ in 0..TRIES {
            let (_, revision) = stored::read(self.store(), &request.name).await?;
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
        self.poller.log.append(Vec::new(), vec![trigger, place]).await.map(|_| ())
    }

    async fn try_now(&self, request: TryTriggerRequest) -> Result<TryTriggerResponse, Error> {
        names::trigger("name", &request.name)?;
        let (trigger, _) = stored::read(self.store(), &request.name).await?;
        let (since, mut cursor) = match request.since {
            Some(since) => (Some(since), bytes::Bytes::new()),
            None => (stored::since(&trigger), stored::read_place(self.store(), &trigger).await?.place.cursor),
        };
        let mut shown = TryTriggerResponse::default();
        for _ in 0..MAX_TRIES {
            let looked = self.poller.ask(&trigger, since, cursor).await?;
            for event in self.poller.events(&trigger, &looked.occurrences) {
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

    async fn nudge(&self, name: &str) -> Result<(), Error> {
        names::trigger("name", name)?;
        stored::read(self.store(), name).await?;
        self.schedule.nudge(name);
        Ok(())
    }

    async fn put(&self, mut trigger: Trigger, expect: Expect) -> Result<Option<Trigger>, Error> {
        let write =
            Write { key: stored::trigger_key(&trigger.name), value: Some(stored::encode(&trigger)), expect };
        trigger.etag = stored::etag(self.store().write(write).await?);
        self.shown(trigger).await
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

#[tonic::async_trait]
impl TriggerService for Triggers {
    async fn create_trigger(
        &self,
        request: Request<CreateTriggerRequest>,
    ) -> Result<Response<CreateTriggerResponse>, Status> {
        let trigger = self.create(request.into_inner()).await?;
        Ok(Response::new(CreateTriggerResponse { trigger }))
    }

    async fn get_trigger(
        &self,
        request: Request<GetTriggerRequest>,
    ) -> Result<Response<GetTriggerResponse>, Status> {
        let name = request.into_inner().name;
        names::trigger("name", &name)?;
        let (trigger, _) = stored::read(self.store(), &name).await?;
        Ok(Response::new(GetTriggerResponse { trigger: self.shown(trigger).await? }))
    }

    async fn list_triggers(
        &self,
        request: Request<ListTriggersRequest>,
    ) -> Result<Response<ListTriggersResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn update_trigger(
        &self,
        request: Request<UpdateTriggerRequest>,
    ) -> Result<Response<UpdateTriggerResponse>, Status> {
        let trigger = self.update(request.into_inner()).await?;
        Ok(Response::new(UpdateTriggerResponse { trigger }))
    }

    async fn delete_trigger(
        &self,
        request: Request<DeleteTriggerRequest>,
    ) -> Result<Response<DeleteTriggerResponse>, Status> {
        self.delete(request.into_inner()).await?;
        Ok(Response::new(DeleteTriggerResponse {}))
    }

    async fn pause_trigger(
        &self,
        request: Request<PauseTriggerRequest>,
    ) -> Result<Response<PauseTriggerResponse>, Status> {
        let trigger = self.turn(&request.into_inner().name, TriggerState::Paused).await?;
        Ok(Response::new(PauseTriggerResponse { trigger }))
    }

    async fn resume_trigger(
        &self,
        request: Request<ResumeTriggerRequest>,
    ) -> Result<Response<ResumeTriggerResponse>, Status> {
        let trigger = self.turn(&request.into_inner().name, TriggerState::Active).await?;
        Ok(Response::new(ResumeTriggerResponse { trigger }))
    }

    async fn try_trigger(
        &self,
        request: Request<TryTriggerRequest>,
    ) -> Result<Response<TryTriggerResponse>, Status> {
        Ok(Response::new(self.try_now(request.into_inner()).await?))
    }

    async fn nudge_trigger(
        &self,
        request: Request<NudgeTriggerRequest>,
    ) -> Result<Response<NudgeTriggerResponse>, Status> {
        self.nudge(&request.into_inner().name).await?;
        Ok(Response::new(NudgeTriggerResponse {}))
    }
}
