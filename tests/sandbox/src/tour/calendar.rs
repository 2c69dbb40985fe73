//! The calendar entry that the tour makes, and what must be found of it in its event.

use std::time::{Duration, SystemTime};

use postern_chassis::serve::BoxError;
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::outlook::v1::calendar_service_client::CalendarServiceClient;
use postern_proto::outlook::v1::{CalendarEvent, CreateEventRequest, Location};

use super::{Authorized, OUTLOOK};

/// Puts a meeting of an hour into the account's calendar, two days from now.
pub(super) async fn make(channel: Authorized, subject: &str) -> Result<CalendarEvent, BoxError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs()) + Duration::from_hours(48);
    let item = CalendarEvent {
        subject: subject.to_owned(),
        start: Some(start.into()),
        end: Some((start + Duration::from_hours(1)).into()),
        start_time_zone: "Europe/Berlin".to_owned(),
        location: Some(Location { display_name: "Room 7".to_owned(), ..Location::default() }),
        ..CalendarEvent::default()
    };
    let request = CreateEventRequest {
        connection: OUTLOOK.to_owned(),
        request_id: subject.replace(' ', "-"),
        item: Some(item),
        ..CreateEventRequest::default()
    };
    let made = CalendarServiceClient::new(channel).create_event(request).await?.into_inner();
    made.event.ok_or_else(|| "the answer holds no entry".into())
}

/// The entry in an event, if it is the one that was made.
pub(super) fn check<'a>(event: &'a Event, made: &CalendarEvent) -> Result<&'a CalendarEvent, BoxError> {
    let kind = event.data.as_ref().and_then(|data| data.kind.as_ref());
    let Some(Kind::EventCreated(entry)) = kind else { return Err("the event holds no entry".into()) };
    let held = [
        ("the id", entry.id == made.id),
        ("the times", entry.start == made.start && entry.end == made.end),
        ("the time zone", entry.start_time_zone == "Europe/Berlin"),
        ("the place", entry.location.as_ref().is_some_and(|place| place.display_name == "Room 7")),
    ];
    match held.iter().find(|(_, held)| !held) {
        Some((what, _)) => Err(format!("the event does not hold {what} as made").into()),
        None => Ok(entry),
    }
}
