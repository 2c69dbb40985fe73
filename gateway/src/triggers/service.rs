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
        trigger.status = Some(TriggerStatus {
            last_poll_time: status.last_poll_time.or(place.last_poll_time),
            last_event_time: status.last_event_time.or(place.last_event_time),
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
        match self.put(trigger, Expect::Absent).await {
            Err(Error::Store(StoreError::Conflict { .. })) => Err(Error::Exists("Trigger", name)),
            other => other,
        }
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
        let (current, revision) = stored::read(self.store(), &wanted.name).await?;
        same_etag(&wanted.name, &wanted.etag, revision)?;
        let kinds = contract::members(TRIGGER, "kind");
        let settable: Vec<_> = kinds.iter().map(String::as_str).chain([INTERVAL]).collect();
        let mut next = mask::apply(TRIGGER, &current, &wanted, request.update_mask.as_ref(), &settable)?;
        next.update_time = Some(SystemTime::now().into());
        if next.kind != current.kind {
            next.watch_time = next.update_time;
        }
        self.check(connection, &next).await?;
        self.replace(next, revision).await
    }

    async fn delete(&self, request: DeleteTriggerRequest) -> Result<(), Error> {
        names::trigger("name", &request.name)?;
        let (_, revision) = stored::read(self.store(), &request.name).await?;
        same_etag(&request.name, &request.etag, revision)?;
        let expect = Expect::Revision(revision);
        let write = Write { key: stored::trigger_key(&request.name), value: None, expect };
        self.store().write(write).await.map_err(|error| mismatch(error, &request.name))?;
        // Its place goes after it: one that stays behind is not taken for another trigger's.
        let write = Write { key: stored::place_key(&request.name), value: None, expect: Expect::Any };
        self.store().write(write).await?;
        Ok(())
    }

    async fn turn(&self, name: &str, state: TriggerState) -> Result<Option<Trigger>, Error> {
        names::trigger("name", name)?;
        let (mut trigger, revision) = stored::read(self.store(), name).await?;
        if trigger.state() == state {
            return self.shown(trigger).await;
        }
        trigger.set_state(state);
        trigger.update_time = Some(SystemTime::now().into());
        self.replace(trigger, revision).await
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

    /// Writes a trigger over the revision that was read.
    async fn replace(&self, trigger: Trigger, revision: Revision) -> Result<Option<Trigger>, Error> {
        let name = trigger.name.clone();
        match self.put(trigger, Expect::Revision(revision)).await {
            Err(Error::Store(error)) => Err(mismatch(error, &name)),
            other => other,
        }
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

/// A conflict on a trigger's own record is the caller's to resolve.
fn mismatch(error: StoreError, name: &str) -> Error {
    match error {
        StoreError::Conflict { .. } => Error::EtagMismatch(name.to_owned()),
        error => error.into(),
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
