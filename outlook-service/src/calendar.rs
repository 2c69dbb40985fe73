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
use reqwest::Url;
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::graph::{Failure, Mailbox, with_options};
use crate::ids;
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

/// An entry by its id, and the calendar that the caller says it is in.
struct Named<'a> {
    mailbox: &'a Mailbox,
    table: &'a str,
    id: &'a str,
}

impl Named<'_> {
    /// What is wrong with it before anybody is asked.
    fn check(table: &str, id: &str, problems: &mut Vec<(String, String)>) {
        ids::check("table", table, problems);
        ids::check_needed("id", id, problems);
    }

    fn url(&self) -> Url {
        match self.table {
            "" => self.mailbox.url(&["events", self.id]),
            table => self.mailbox.url(&["calendars", table, "events", self.id]),
        }
    }

    /// What a failure to reach the entry means. That the calendar is not there is told from the entry not being there by
    /// asking for the calendar.
    async fn refused(&self, failure: Failure) -> Error {
        if (failure.is_gone() || ids::is_malformed(&failure))
            && !self.table.is_empty()
            && let Err(error) = find_calendar(self.mailbox, self.table).await
        {
            return error;
        }
        ids::of_item("id", failure, Error::from)
    }
}

/// Makes sure that there is a calendar.
async fn find_calendar(mailbox: &Mailbox, table: &str) -> Result<(), Error> {
    let url = with_options(mailbox.url(&["calendars", table]), &[("$select", "id")]);
    let found: Result<serde_json::Value, _> = mailbox.read(url).await;
    found.map(drop).map_err(no_calendar)
}

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
