//! What the tests of calendars and contacts stand on: the connector's services on a stage, and what they are asked.

use std::future::Future;

use http::Method;
use postern_chassis::fault::reason_of;
use postern_proto::outlook::v1::calendar_service_client::CalendarServiceClient;
use postern_proto::outlook::v1::contact_service_client::ContactServiceClient;
use postern_proto::outlook::v1::{
    CalendarEvent, Contact, CreateContactRequest, CreateEventRequest, GetEventRequest, GetEventsRequest,
    GetEventsResponse, UpdateContactRequest, UpdateEventRequest,
};
use prost_types::{FieldMask, Timestamp};
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, Stage};

impl Stage {
    pub(super) fn calendars(&self) -> CalendarServiceClient<Channel> {
        CalendarServiceClient::new(self.channel.clone())
    }

    pub(super) fn contacts(&self) -> ContactServiceClient<Channel> {
        ContactServiceClient::new(self.channel.clone())
    }

    pub(super) async fn create_event(&self, item: CalendarEvent) -> Result<CalendarEvent, Status> {
        let asked = CreateEventRequest { item: Some(item), ..CreateEventRequest::default() };
        self.create_event_as(asked).await
    }

    pub(super) async fn create_event_as(&self, asked: CreateEventRequest) -> Result<CalendarEvent, Status> {
        let answer = self.calendars().create_event(self.with_connection(asked)).await?;
        Ok(answer.into_inner().event.unwrap())
    }

    pub(super) async fn get_event(&self, id: &str) -> Result<CalendarEvent, Status> {
        let asked = GetEventRequest { id: id.into(), ..GetEventRequest::default() };
        Ok(self.calendars().get_event(self.with_connection(asked)).await?.into_inner().event.unwrap())
    }

    pub(super) async fn get_events(&self, asked: GetEventsRequest) -> Result<GetEventsResponse, Status> {
        Ok(self.calendars().get_events(self.with_connection(asked)).await?.into_inner())
    }

    pub(super) async fn event_subjects(&self, asked: GetEventsRequest) -> Vec<String> {
        let events = self.get_events(asked).await.unwrap().events;
        events.into_iter().map(|event| event.subject).collect()
    }

    /// Changes the fields of an entry that are named; none: those that are set.
    pub(super) async fn update_event(
        &self,
        id: &str,
        item: CalendarEvent,
        names: &[&str],
    ) -> Result<CalendarEvent, Status> {
        let asked = UpdateEventRequest {
            id: id.into(),
            item: Some(item),
            update_mask: mask(names),
            ..UpdateEventRequest::default()
        };
        Ok(self.calendars().update_event(self.with_connection(asked)).await?.into_inner().event.unwrap())
    }

    pub(super) async fn create_contact(&self, request_id: &str, item: Contact) -> Result<Contact, Status> {
        let asked = CreateContactRequest {
            request_id: request_id.into(),
            item: Some(item),
            ..CreateContactRequest::default()
        };
        let answer = self.contacts().create_contact(self.with_connection(asked)).await?;
        Ok(answer.into_inner().contact.unwrap())
    }

    pub(super) async fn update_contact(
        &self,
        id: &str,
        item: Contact,
        names: &[&str],
    ) -> Result<Contact, Status> {
        let asked = UpdateContactRequest {
            id: id.into(),
            item: Some(item),
            update_mask: mask(names),
            ..UpdateContactRequest::default()
        };
        let answer = self.contacts().update_contact(self.with_connection(asked)).await?;
        Ok(answer.into_inner().contact.unwrap())
    }

    /// What a client of Ann's own sees or does at Graph itself.
    pub(super) fn as_ann(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        self.graph.perform(method, ANN, path, &body)
    }

    /// The bodies of the requests of a method that the connector made.
    pub(super) fn bodies(&self, method: &str) -> Vec<Value> {
        let exchanges = self.graph.recorder().exchanges();
        exchanges.into_iter().filter(|one| one.method == method).map(|one| one.request_body).collect()
    }
}

fn mask(names: &[&str]) -> Option<FieldMask> {
    let paths = names.iter().map(|name| (*name).to_owned()).collect();
    (!names.is_empty()).then_some(FieldMask { paths })
}

/// A time, from its text.
pub(super) fn at(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().unwrap();
    Some(Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// An entry of half an hour.
pub(super) fn entry(subject: &str, start: &str) -> CalendarEvent {
    let start = at(start);
    let end = start.map(|start| Timestamp { seconds: start.seconds + 1_800, ..start });
    CalendarEvent { subject: subject.into(), start, end, ..CalendarEvent::default() }
}

/// Code and reason of a refusal.
pub(super) async fn refusal<T>(call: impl Future<Output = Result<T, Status>>) -> (Code, String) {
    match call.await {
        Ok(_) => panic!("it was not refused"),
        Err(status) => (status.code(), reason_of(&status)),
    }
}

/// The fields that a refusal names.
pub(super) fn fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request();
    let violations = details.map(|details| details.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

/// The fields that the refusal of a call names.
pub(super) async fn wrong_fields<T>(call: impl Future<Output = Result<T, Status>>) -> Vec<String> {
    match call.await {
        Ok(_) => panic!("it was not refused"),
        Err(status) => {
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            fields(&status)
        }
    }
}

/// What an answer holds.
pub(super) fn inner<T>(answer: Result<Response<T>, Status>) -> T {
    answer.unwrap().into_inner()
}
