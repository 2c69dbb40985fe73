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
        if id.is_empty() {
            problems.push(("id".to_owned(), "is needed".to_owned()));
        }
        for (field, text) in [("table", table), ("id", id)] {
            if let Some(problem) = wrong_id(text) {
                problems.push((field.to_owned(), problem));
            }
        }
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
        let malformed = is_malformed(&failure);
        if (failure.is_gone() || malformed)
            && !self.table.is_empty()
            && let Err(error) = find_calendar(self.mailbox, self.table).await
        {
            return error;
        }
        if malformed { Error::field("id", NO_ID) } else { failure.into() }
    }
}

/// What is wrong with an id that Graph cannot read.
const NO_ID: &str = "is no id of Graph's";
/// The longest id that is passed on.
const MAX_ID: usize = 1_024;

/// What is wrong with an id before Graph is asked. A name that a path takes for a way up would lead elsewhere.
pub(crate) fn wrong_id(id: &str) -> Option<String> {
    if id.len() > MAX_ID || !id.chars().all(|c| c.is_ascii_graphic()) || id == "." || id == ".." {
        return Some(format!("{NO_ID}: expected at most {MAX_ID} visible ASCII characters"));
    }
    None
}

/// Whether Graph could not read an id.
pub(crate) fn is_malformed(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.has_code(&["ErrorInvalidIdMalformed"]))
}

/// Makes sure that there is a calendar.
async fn find_calendar(mailbox: &Mailbox, table: &str) -> Result<(), Error> {
    let url = with_options(mailbox.url(&["calendars", table]), &[("$select", "id")]);
    let found: Result<serde_json::Value, _> = mailbox.read(url, None).await;
    found.map(drop).map_err(no_calendar)
}

/// A 404 where a calendar was asked for speaks of the calendar, unless it speaks of the mailbox.
pub(crate) fn no_calendar(failure: Failure) -> Error {
    if !failure.is_gone() && !is_malformed(&failure) {
        return failure.into();
    }
    match failure {
        Failure::Refused(refusal) => Error::NoCalendar(refusal),
        failure => failure.into(),
    }
}
