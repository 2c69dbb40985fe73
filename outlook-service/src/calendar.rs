//! `postern.outlook.v1.CalendarService`: decode, call, encode.

mod change;
mod list;
pub(crate) mod read;
mod recurrence;
mod when;
mod words;
mod write;

use std::sync::Arc;

use postern_proto::outlook::v1::calendar_service_server::CalendarService;
use postern_proto::outlook::v1::{
    CreateEventRequest, CreateEventResponse, DeleteEventRequest, DeleteEventResponse, GetCalendarsRequest,
    GetCalendarsResponse, GetEventRequest, GetEventResponse, GetEventsRequest, GetEventsResponse,
    UpdateEventRequest, UpdateEventResponse,
};
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::graph::Failure;
use crate::ids;
use crate::named::Kind;
use crate::outlook::{Outlook, answer};

pub(crate) use change::{changed_since, is_conflict};
pub(crate) use list::{by_condition, check_conditions, lost};

/// The calendar service.
pub(crate) struct Calendars {
    outlook: Arc<Outlook>,
}

impl Calendars {
    pub(crate) fn new(outlook: Arc<Outlook>) -> Self {
        Self { outlook }
    }
}

#[tonic::async_trait]
impl CalendarService for Calendars {
    async fn get_calendars(
        &self,
        request: Request<GetCalendarsRequest>,
    ) -> Result<Response<GetCalendarsResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("GetCalendars", list::get_calendars(&self.outlook, &call, request.get_ref()).await)
    }

    async fn get_events(
        &self,
        request: Request<GetEventsRequest>,
    ) -> Result<Response<GetEventsResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("GetEvents", list::get_events(&self.outlook, &call, request.get_ref()).await)
    }

    async fn create_event(
        &self,
        request: Request<CreateEventRequest>,
    ) -> Result<Response<CreateEventResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("CreateEvent", change::create(&self.outlook, &call, request.get_ref()).await)
    }

    async fn get_event(
        &self,
        request: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("GetEvent", list::get_event(&self.outlook, &call, request.get_ref()).await)
    }

    async fn delete_event(
        &self,
        request: Request<DeleteEventRequest>,
    ) -> Result<Response<DeleteEventResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("DeleteEvent", change::delete(&self.outlook, &call, request.get_ref()).await)
    }

    async fn update_event(
        &self,
        request: Request<UpdateEventRequest>,
    ) -> Result<Response<UpdateEventResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("UpdateEvent", change::update(&self.outlook, &call, request.get_ref()).await)
    }
}

/// Entries of calendars.
const ENTRY: Kind = Kind { items: "events", tables: "calendars", no_table: no_calendar };

/// A 404 where a calendar was asked for speaks of the calendar, unless it speaks of the mailbox.
pub(crate) fn no_calendar(failure: Failure) -> Error {
    if !failure.is_gone() && !ids::is_malformed(&failure) {
        return failure.into();
    }
    match failure {
        Failure::Refused(refusal) => Error::NoCalendar(refusal),
        failure => failure.into(),
    }
}
