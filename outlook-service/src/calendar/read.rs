//! Graph's events in the shape of the contract's calendar entries.

use jiff::Timestamp;
use jiff::civil::DateTime;
use postern_proto::outlook::v1::{self as contract, CalendarEvent};
use prost::Message as _;
use serde::Deserialize;
use serde_json::Value;

use super::recurrence::{self, Patterned};
use super::words;
use crate::graph::model::{Body, Recipient};
use crate::listing::MAX_ANSWER;
use crate::places::{self, Address};
use crate::times;
use crate::zones::{self, Zone};

/// How many characters of a body its preview shows.
const PREVIEW: usize = 255;

/// An event of Graph's, as far as it is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Entry {
    pub(crate) id: String,
    #[serde(rename = "@removed")]
    pub(crate) removed: Option<Value>,
    subject: Option<String>,
    start: Option<Moment>,
    end: Option<Moment>,
    original_start_time_zone: Option<String>,
    original_end_time_zone: Option<String>,
    is_all_day: Option<bool>,
    is_cancelled: Option<bool>,
    series_master_id: Option<String>,
    #[serde(rename = "iCalUId")]
    ical_uid: Option<String>,
    change_key: Option<String>,
    created_date_time: Option<String>,
    last_modified_date_time: Option<String>,
    attendees: Option<Vec<Attendee>>,
    body: Option<Body>,
    body_preview: Option<String>,
    categories: Option<Vec<String>>,
    has_attachments: Option<bool>,
    importance: Option<String>,
    is_organizer: Option<bool>,
    location: Option<Location>,
    organizer: Option<Recipient>,
    recurrence: Option<Patterned>,
    is_reminder_on: Option<bool>,
    reminder_minutes_before_start: Option<i32>,
    response_requested: Option<bool>,
    response_status: Option<Response>,
    sensitivity: Option<String>,
    show_as: Option<String>,
    r#type: Option<String>,
    web_link: Option<String>,
    is_online_meeting: Option<bool>,
    online_meeting_url: Option<String>,
    online_meeting: Option<OnlineMeeting>,
    hide_attendees: Option<bool>,
    allow_new_time_proposals: Option<bool>,
    original_start: Option<String>,
    pub(crate) transaction_id: Option<String>,
}

/// `dateTimeTimeZone`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Moment {
    date_time: Option<String>,
    time_zone: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Attendee {
    email_address: Option<crate::graph::model::EmailAddress>,
    r#type: Option<String>,
    status: Option<Response>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Response {
    response: Option<String>,
    time: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Location {
    display_name: Option<String>,
    address: Option<Address>,
    location_email_address: Option<String>,
    location_uri: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OnlineMeeting {
    join_url: Option<String>,
}

/// An event as the contract has it. `calendar`: the id of the calendar it is in, where that is known.
pub(crate) fn entry(entry: Entry, calendar: &str) -> CalendarEvent {
    let body = entry.body.unwrap_or_default();
    let is_all_day = entry.is_all_day.unwrap_or_default();
    let start = When::read(entry.start, entry.original_start_time_zone, is_all_day);
    let end = When::read(entry.end, entry.original_end_time_zone, is_all_day);
    let url = entry.online_meeting.and_then(|meeting| meeting.join_url).or(entry.online_meeting_url);
    CalendarEvent {
        id: entry.id,
        subject: entry.subject.unwrap_or_default(),
        start: start.instant.map(times::to_proto),
        end: end.instant.map(times::to_proto),
        start_time_zone: zones::iana(&start.zone),
        end_time_zone: zones::iana(&end.zone),
        start_time_zone_windows: zones::windows(&start.zone),
        end_time_zone_windows: zones::windows(&end.zone),
        start_date: start.date,
        end_date: end.date,
        is_all_day,
        is_cancelled: entry.is_cancelled.unwrap_or_default(),
        series_master_id: entry.series_master_id.unwrap_or_default(),
        ical_uid: entry.ical_uid.unwrap_or_default(),
        change_key: entry.change_key.unwrap_or_default(),
        date_time_created: time(entry.created_date_time),
        date_time_last_modified: time(entry.last_modified_date_time),
        attendees: entry.attendees.unwrap_or_default().into_iter().filter_map(attendee).collect(),
        is_html: body.content_type.is_some_and(|kind| kind.eq_ignore_ascii_case("html")),
        body: body.content.unwrap_or_default(),
        body_truncated: false,
        body_preview: entry.body_preview.unwrap_or_default().chars().take(PREVIEW).collect(),
        categories: entry.categories.unwrap_or_default(),
        has_attachments: entry.has_attachments.unwrap_or_default(),
        importance: words::read(words::IMPORTANCE, Some(entry.importance.as_deref().unwrap_or("normal"))),
        is_organizer: entry.is_organizer.unwrap_or_default(),
        location: entry.location.and_then(location),
        organizer: entry.organizer.and_then(|organizer| places::mailbox(organizer.email_address?)),
        recurrence: entry.recurrence.map(recurrence::read),
        is_reminder_on: entry.is_reminder_on,
        reminder: entry.reminder_minutes_before_start,
        response_requested: entry.response_requested,
        response_status: entry.response_status.map(response),
        sensitivity: words::read(words::SENSITIVITY, entry.sensitivity.as_deref()),
        show_as: words::read(words::SHOW_AS, entry.show_as.as_deref()),
        r#type: words::read(words::EVENT_TYPE, entry.r#type.as_deref()),
        web_link: entry.web_link.unwrap_or_default(),
        is_online_meeting: entry.is_online_meeting.unwrap_or_default(),
        online_meeting_url: url.unwrap_or_default(),
        hide_attendees: entry.hide_attendees.unwrap_or_default(),
        allow_new_time_proposals: entry.allow_new_time_proposals,
        original_start: time(entry.original_start),
        transaction_id: entry.transaction_id.unwrap_or_default(),
        calendar_id: calendar.to_owned(),
    }
}

/// An event that is alone in its answer, as large as that may be.
pub(super) fn alone(entry: Entry, calendar: &str) -> CalendarEvent {
    let mut event = self::entry(entry, calendar);
    let excess = event.encoded_len().saturating_sub(MAX_ANSWER);
    cut(&mut event, excess);
    event
}

/// Makes an entry smaller by at least `excess` bytes, as far as possible: its body is cut at a boundary of characters.
pub(crate) fn cut(entry: &mut CalendarEvent, excess: usize) {
    let mut end = entry.body.len().saturating_sub(excess);
    while !entry.body.is_char_boundary(end) {
        end -= 1;
    }
    if end < entry.body.len() {
        entry.body.truncate(end);
        entry.body_truncated = true;
    }
}

/// One end of an entry.
#[derive(Default)]
struct When {
    instant: Option<Timestamp>,
    /// The day, where it lasts whole days.
    date: String,
    /// The zone, as Graph names it.
    zone: String,
}

impl When {
    /// `original`: the zone that it was made in; what the answer's times are in was our wish.
    fn read(moment: Option<Moment>, original: Option<String>, is_all_day: bool) -> Self {
        let moment = moment.unwrap_or_default();
        let (text, within) = (moment.date_time.unwrap_or_default(), moment.time_zone.unwrap_or_default());
        let zone = original.filter(|zone| !zone.is_empty()).unwrap_or_else(|| within.clone());
        let instant = zones::instant(&text, &within);
        if !is_all_day {
            return Self { instant, date: String::new(), zone };
        }
        let home = Zone::find(&zone);
        // Graph gives midnight whatever zone is asked for. Where it gives the instant instead, the day is that of the
        // zone that the entry was made in.
        let day = match text.parse::<DateTime>() {
            Ok(told) if told.hour() == 0 && told.minute() == 0 => Some(told.date()),
            told => {
                let at_home =
                    instant.zip(home.as_ref()).map(|(instant, home)| home.wall_time(instant).date());
                at_home.or(told.ok().map(|told| told.date()))
            }
        };
        let midnight =
            day.and_then(|day| home.as_ref()?.instant(day.to_datetime(jiff::civil::Time::midnight())));
        Self { instant: midnight.or(instant), date: day.map(|day| day.to_string()).unwrap_or_default(), zone }
    }
}

fn time(text: Option<String>) -> Option<prost_types::Timestamp> {
    // Where there is no time Graph gives the first of all times.
    let text = text.filter(|text| !text.starts_with("0001-"))?;
    times::from_graph(&text).map(times::to_proto)
}

fn attendee(attendee: Attendee) -> Option<contract::Attendee> {
    Some(contract::Attendee {
        mailbox: Some(places::mailbox(attendee.email_address?)?),
        r#type: words::read(words::ATTENDEE, attendee.r#type.as_deref()),
        status: attendee.status.map(response),
    })
}

fn response(response: Response) -> contract::ResponseStatus {
    contract::ResponseStatus {
        response: words::read(words::RESPONSE, response.response.as_deref()),
        time: time(response.time),
    }
}

fn location(location: Location) -> Option<contract::Location> {
    let read = contract::Location {
        display_name: location.display_name.unwrap_or_default(),
        address: location.address.and_then(places::read),
        email_address: location.location_email_address.unwrap_or_default(),
        uri: location.location_uri.unwrap_or_default(),
    };
    // A place without anything is what Graph gives where there is none.
    (read != contract::Location::default()).then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: Value) -> CalendarEvent {
        entry(serde_json::from_value(json).unwrap(), "")
    }

    #[test]
    fn whole_days_stay_on_their_days_whether_graph_gives_midnight_or_the_instant() {
        for (zone, start, end) in [
            ("W. Europe Standard Time", "2026-03-29T00:00:00.0000000", "2026-03-30T00:00:00.0000000"),
            ("W. Europe Standard Time", "2026-03-28T23:00:00.0000000", "2026-03-29T22:00:00.0000000"),
            ("Line Islands Standard Time", "2026-03-28T10:00:00.0000000", "2026-03-29T10:00:00.0000000"),
            ("UTC-11", "2026-03-29T11:00:00.0000000", "2026-03-30T11:00:00.0000000"),
        ] {
            let entry = read(json!({
                "isAllDay": true,
                "start": {"dateTime": start, "timeZone": "UTC"},
                "end": {"dateTime": end, "timeZone": "UTC"},
                "originalStartTimeZone": zone,
                "originalEndTimeZone": zone,
            }));
            assert_eq!((entry.start_date.as_str(), entry.end_date.as_str()), ("2026-03-29", "2026-03-30"));
            assert_eq!(entry.start_time_zone_windows, zone);
        }
    }

    #[test]
    fn an_event_that_lacks_everything_is_no_reason_to_fail() {
        let entry = read(json!({"id": "1", "subject": null, "start": null, "surprise": {}, "showAs": "odd"}));
        assert_eq!((entry.id.as_str(), entry.show_as), ("1", 0));
        assert!(entry.start.is_none() && entry.location.is_none() && entry.recurrence.is_none());
    }

    #[test]
    fn a_zone_that_has_no_other_name_is_given_as_graph_gave_it() {
        let entry = read(json!({
            "start": {"dateTime": "2026-03-29T10:00:00.0000000", "timeZone": "UTC"},
            "originalStartTimeZone": "tzone://Microsoft/Custom",
        }));
        assert_eq!(entry.start_time_zone, "tzone://Microsoft/Custom");
        assert_eq!(entry.start_time_zone_windows, "");
        assert!(entry.start.is_some());
    }
}
