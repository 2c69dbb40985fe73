//! Calendar entries as Graph wants them: new ones whole, changes field by field.

use postern_proto::outlook::v1::{CalendarEvent, Location};
use serde_json::{Map, Value, json};

use super::when::{self, When};
use super::{recurrence, words};
use crate::error::Problems;
use crate::masks::Fields;
use crate::places;

/// The most that may be invited.
const MAX_ATTENDEES: usize = 500;
/// The longest subject that Exchange keeps.
const MAX_SUBJECT: usize = 255;
/// The largest body: Graph takes requests of about 4 MB.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// The most categories.
const MAX_CATEGORIES: usize = 100;
/// The earliest that people are reminded, in minutes.
const MAX_REMINDER: i32 = 1_000_000;

/// The fields of an entry.
pub(super) const FIELDS: Fields = Fields {
    message: "CalendarEvent",
    settable: &[
        "subject",
        "start",
        "end",
        "start_time_zone",
        "end_time_zone",
        "is_all_day",
        "start_date",
        "end_date",
        "attendees",
        "body",
        "is_html",
        "categories",
        "importance",
        "location",
        "recurrence",
        "is_reminder_on",
        "reminder",
        "response_requested",
        "sensitivity",
        "show_as",
        "is_online_meeting",
        "hide_attendees",
        "allow_new_time_proposals",
    ],
    given: &[
        "id",
        "is_cancelled",
        "series_master_id",
        "ical_uid",
        "change_key",
        "date_time_created",
        "date_time_last_modified",
        "start_time_zone_windows",
        "end_time_zone_windows",
        "body_truncated",
        "body_preview",
        "has_attachments",
        "is_organizer",
        "organizer",
        "response_status",
        "type",
        "web_link",
        "online_meeting_url",
        "original_start",
        "transaction_id",
        "calendar_id",
    ],
};

/// Whether a field is set.
pub(super) fn is_set(item: &CalendarEvent, name: &str) -> bool {
    match name {
        "subject" => !item.subject.is_empty(),
        "start" => item.start.is_some(),
        "end" => item.end.is_some(),
        "start_time_zone" => !item.start_time_zone.is_empty(),
        "end_time_zone" => !item.end_time_zone.is_empty(),
        "is_all_day" => item.is_all_day,
        "start_date" => !item.start_date.is_empty(),
        "end_date" => !item.end_date.is_empty(),
        "attendees" => !item.attendees.is_empty(),
        "body" => !item.body.is_empty(),
        "is_html" => item.is_html && !item.body.is_empty(),
        "categories" => !item.categories.is_empty(),
        "importance" => item.importance != 0,
        "location" => item.location.is_some(),
        "recurrence" => item.recurrence.is_some(),
        "is_reminder_on" => item.is_reminder_on.is_some(),
        "reminder" => item.reminder.is_some(),
        "response_requested" => item.response_requested.is_some(),
        "sensitivity" => item.sensitivity != 0,
        "show_as" => item.show_as != 0,
        "is_online_meeting" => item.is_online_meeting,
        "hide_attendees" => item.hide_attendees,
        "allow_new_time_proposals" => item.allow_new_time_proposals.is_some(),
        _ => false,
    }
}

/// A new entry.
pub(super) fn new(item: &CalendarEvent, transaction_id: &str, problems: &mut Problems) -> Value {
    let set = FIELDS.set(|name| is_set(item, name));
    let mut written = plain(item, &set, problems);
    let when = when::read(item, "item", item.recurrence.is_some(), problems);
    put_series(item, &set, when.as_ref(), &mut written, problems);
    if let Some(when) = when {
        put_when(when, &mut written);
    }
    written.insert("transactionId".to_owned(), transaction_id.into());
    written.into()
}

/// When an entry takes place, among its other properties.
pub(super) fn put_when(when: When, written: &mut Map<String, Value>) {
    written.insert("isAllDay".to_owned(), when.is_all_day.into());
    written.insert("start".to_owned(), when.start);
    written.insert("end".to_owned(), when.end);
}

/// How an entry recurs, if that is named: it depends on when it takes place.
pub(super) fn put_series(
    item: &CalendarEvent,
    named: &[&str],
    when: Option<&When>,
    written: &mut Map<String, Value>,
    problems: &mut Problems,
) {
    if !named.contains(&"recurrence") {
        return;
    }
    let (first, zone) = when.map_or((None, ""), |when| (when.first, &when.zone));
    let series = item
        .recurrence
        .as_ref()
        .map(|series| recurrence::write(series, "item.recurrence", first, zone, problems));
    written.insert("recurrence".to_owned(), series.unwrap_or(Value::Null));
}

/// The fields that are named, those of time and recurrence aside. One that is not set is emptied.
pub(super) fn plain(item: &CalendarEvent, named: &[&str], problems: &mut Problems) -> Map<String, Value> {
    let mut written = Map::new();
    for name in named {
        let (property, value) = match *name {
            "subject" => ("subject", subject(&item.subject, problems)),
            "body" | "is_html" => {
                if !named.contains(&"body") {
                    problems
                        .push(("update_mask".into(), "is_html is changed together with body only".into()));
                }
                ("body", body(item, problems))
            }
            "attendees" => ("attendees", attendees(item, problems)),
            "categories" => ("categories", categories(item, problems)),
            "importance" => {
                ("importance", word(words::IMPORTANCE, item.importance, "normal", "importance", problems))
            }
            "sensitivity" => {
                ("sensitivity", word(words::SENSITIVITY, item.sensitivity, "normal", "sensitivity", problems))
            }
            "show_as" => ("showAs", word(words::SHOW_AS, item.show_as, "busy", "show_as", problems)),
            "location" => ("location", location(item.location.as_ref())),
            "is_reminder_on" => ("isReminderOn", item.is_reminder_on.unwrap_or_default().into()),
            "reminder" => {
                let minutes = item.reminder.unwrap_or_default();
                if !(0..=MAX_REMINDER).contains(&minutes) {
                    problems.push(("item.reminder".into(), format!("expected 0 to {MAX_REMINDER} minutes")));
                }
                ("reminderMinutesBeforeStart", minutes.into())
            }
            "response_requested" => ("responseRequested", item.response_requested.unwrap_or_default().into()),
            "is_online_meeting" => ("isOnlineMeeting", item.is_online_meeting.into()),
            "hide_attendees" => ("hideAttendees", item.hide_attendees.into()),
            "allow_new_time_proposals" => {
                ("allowNewTimeProposals", item.allow_new_time_proposals.unwrap_or_default().into())
            }
            _ => continue,
        };
        written.insert(property.to_owned(), value);
    }
    written
}

fn subject(text: &str, problems: &mut Problems) -> Value {
    if text.chars().any(char::is_control) {
        problems.push(("item.subject".into(), "holds a control character".into()));
    }
    if text.chars().count() > MAX_SUBJECT {
        problems.push(("item.subject".into(), format!("expected at most {MAX_SUBJECT} characters")));
    }
    text.into()
}

fn body(item: &CalendarEvent, problems: &mut Problems) -> Value {
    if item.body.len() > MAX_BODY {
        problems.push(("item.body".into(), "expected at most 3 MiB".into()));
    }
    json!({"contentType": if item.is_html { "html" } else { "text" }, "content": item.body})
}

fn attendees(item: &CalendarEvent, problems: &mut Problems) -> Value {
    if item.attendees.len() > MAX_ATTENDEES {
        problems.push(("item.attendees".into(), format!("expected at most {MAX_ATTENDEES}")));
        return Value::Null;
    }
    let mut written = Vec::new();
    for (index, attendee) in item.attendees.iter().enumerate() {
        let path = format!("item.attendees[{index}]");
        let address = places::write_mailbox(attendee.mailbox.as_ref(), &format!("{path}.mailbox"), problems);
        let kind = words::write(words::ATTENDEE, attendee.r#type).unwrap_or_else(|problem| {
            problems.push((format!("{path}.type"), problem));
            None
        });
        written.push(json!({"emailAddress": address, "type": kind.unwrap_or("required")}));
    }
    written.into()
}

fn categories(item: &CalendarEvent, problems: &mut Problems) -> Value {
    if item.categories.len() > MAX_CATEGORIES {
        problems.push(("item.categories".into(), format!("expected at most {MAX_CATEGORIES}")));
    }
    for (index, category) in item.categories.iter().enumerate() {
        if category.is_empty() || category.chars().any(|c| c.is_control() || c == ',' || c == ';') {
            let problem = "expected a name without commas and semicolons";
            problems.push((format!("item.categories[{index}]"), problem.into()));
        }
    }
    item.categories.clone().into()
}

fn word<T: Copy + Into<i32>>(
    words: words::Words<T>,
    value: i32,
    emptied: &str,
    field: &str,
    problems: &mut Problems,
) -> Value {
    match words::write(words, value) {
        Ok(word) => word.unwrap_or(emptied).into(),
        Err(problem) => {
            problems.push((format!("item.{field}"), problem));
            Value::Null
        }
    }
}

fn location(location: Option<&Location>) -> Value {
    let Some(location) = location else { return json!({"displayName": ""}) };
    let mut written = json!({"displayName": location.display_name});
    if let Some(address) = &location.address {
        written["address"] = places::write(Some(address));
    }
    for (property, text) in
        [("locationEmailAddress", &location.email_address), ("locationUri", &location.uri)]
    {
        if !text.is_empty() {
            written[property] = text.clone().into();
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::mail::v1::Mailbox;
    use postern_proto::outlook::v1::Attendee;

    #[test]
    fn every_field_of_the_contract_is_one_or_the_other() {
        let count = FIELDS.settable.len() + FIELDS.given.len();
        assert_eq!(count, 44, "the contract's CalendarEvent has 44 fields");
        for name in FIELDS.settable {
            assert!(!FIELDS.given.contains(name), "{name}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let attendee = |address: &str, kind| Attendee {
            mailbox: Some(Mailbox { address: address.into(), name: String::new() }),
            r#type: kind,
            status: None,
        };
        let item = CalendarEvent {
            subject: "a\nb".into(),
            attendees: vec![attendee("bo@x.example", 1), attendee("nobody", 9), Attendee::default()],
            categories: vec!["a,b".into()],
            importance: 9,
            show_as: -1,
            reminder: Some(-1),
            ..CalendarEvent::default()
        };
        let mut problems = Vec::new();
        new(&item, "", &mut problems);
        let paths: Vec<_> = problems.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "item.subject",
                "item.attendees[1].mailbox.address",
                "item.attendees[1].type",
                "item.attendees[2].mailbox.address",
                "item.categories[0]",
                "item.importance",
                "item.reminder",
                "item.show_as",
                "item.start",
                "item.end",
            ]
        );
    }

    #[test]
    fn only_what_is_named_is_written_and_what_is_not_set_is_emptied() {
        let item = CalendarEvent { subject: "kept".into(), ..CalendarEvent::default() };
        let written = plain(&item, &["location", "is_reminder_on", "attendees"], &mut Vec::new());
        let expected = json!({"location": {"displayName": ""}, "isReminderOn": false, "attendees": []});
        assert_eq!(Value::from(written), expected);
    }
}
