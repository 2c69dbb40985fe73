//! An event as a client writes it in JSON, read strictly: properties that Graph does not know, or sets by itself, and
//! values of another type are refused.

use http::HeaderMap;
use jiff::civil::DateTime;
use serde_json::{Map, Value, json};

use crate::graph::refusal::{self, Refusal};
use crate::graph::zones;
use crate::world::{Event, Moment};

/// What is written of an event.
#[derive(Debug, Default)]
pub(in crate::graph) struct Draft {
    pub(super) fields: Map<String, Value>,
    pub(super) start: Option<Moment>,
    pub(super) end: Option<Moment>,
    pub(super) is_all_day: Option<bool>,
    /// How it recurs; `null`: no more.
    pub(super) recurrence: Option<Value>,
    pub(super) transaction_id: Option<String>,
}

/// What a property holds.
enum Kind {
    Text,
    Flag,
    Number,
    Word(&'static [&'static str]),
    Texts,
    Object(&'static [&'static str]),
}

const PLACE: &[&str] = &[
    "displayName",
    "address",
    "locationEmailAddress",
    "locationUri",
    "locationType",
    "uniqueId",
    "uniqueIdType",
    "coordinates",
];

fn kind(field: &str) -> Option<Kind> {
    Some(match field {
        "subject" => Kind::Text,
        "body" => Kind::Object(&["contentType", "content"]),
        "location" => Kind::Object(PLACE),
        "categories" => Kind::Texts,
        "importance" => Kind::Word(&["low", "normal", "high"]),
        "sensitivity" => Kind::Word(&["normal", "personal", "private", "confidential"]),
        "showAs" => Kind::Word(&["free", "tentative", "busy", "oof", "workingElsewhere", "unknown"]),
        "isReminderOn"
        | "responseRequested"
        | "hideAttendees"
        | "allowNewTimeProposals"
        | "isOnlineMeeting" => Kind::Flag,
        "reminderMinutesBeforeStart" => Kind::Number,
        _ => return None,
    })
}

/// Reads an event.
pub(in crate::graph) fn read(body: &Value) -> Result<Draft, Refusal> {
    let mut draft = Draft::default();
    for (field, value) in object(body, "event")? {
        match field.as_str() {
            "@odata.type" => {}
            "start" => draft.start = Some(moment(value)?),
            "end" => draft.end = Some(moment(value)?),
            "isAllDay" => draft.is_all_day = Some(value.as_bool().ok_or_else(|| wrong(field))?),
            "recurrence" => {
                if !value.is_null() {
                    only(value, &["pattern", "range"], "patternedRecurrence")?;
                }
                draft.recurrence = Some(value.clone());
            }
            "transactionId" => draft.transaction_id = value.as_str().map(str::to_owned),
            "attendees" => {
                let list = value.as_array().ok_or_else(|| wrong(field))?;
                if list.len() > 500 {
                    return Err(refusal::property("An event has at most 500 attendees."));
                }
                let read = list.iter().map(attendee).collect::<Result<Vec<_>, _>>()?;
                draft.fields.insert(field.clone(), read.into());
            }
            _ => {
                let value = property(field, value)?;
                draft.fields.insert(field.clone(), value);
            }
        }
    }
    Ok(draft)
}

fn property(field: &str, value: &Value) -> Result<Value, Refusal> {
    let kind = kind(field).ok_or_else(|| unknown(field, "event"))?;
    let good = match kind {
        Kind::Text => value.is_string(),
        Kind::Flag => value.is_boolean(),
        Kind::Number => value.as_i64().is_some_and(|number| number >= 0),
        Kind::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        Kind::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        Kind::Object(fields) => {
            only(value, fields, field)?;
            true
        }
    };
    if field == "body" && !["text", "html"].contains(&value["contentType"].as_str().unwrap_or("text")) {
        return Err(wrong(field));
    }
    if good { Ok(value.clone()) } else { Err(wrong(field)) }
}

fn attendee(value: &Value) -> Result<Value, Refusal> {
    only(value, &["emailAddress", "type", "status"], "attendee")?;
    only(&value["emailAddress"], &["address", "name"], "emailAddress")?;
    let address = value["emailAddress"]["address"].as_str().unwrap_or_default();
    if !address.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty()) {
        return Err(refusal::recipients());
    }
    let kind = value["type"].as_str().unwrap_or("required");
    if !["required", "optional", "resource"].contains(&kind) {
        return Err(wrong("type"));
    }
    let name = value["emailAddress"]["name"].as_str().unwrap_or(address);
    Ok(json!({
        "type": kind,
        "status": {"response": "none", "time": "0001-01-01T00:00:00Z"},
        "emailAddress": {"name": name, "address": address},
    }))
}

fn moment(value: &Value) -> Result<Moment, Refusal> {
    only(value, &["dateTime", "timeZone"], "dateTimeTimeZone")?;
    let text = value["dateTime"].as_str().ok_or_else(|| wrong("dateTime"))?;
    let wall_time: DateTime = text.parse().map_err(|_| wrong("dateTime"))?;
    let zone = value["timeZone"].as_str().unwrap_or("UTC");
    zones::rules(zone)?;
    Ok(Moment { wall_time, zone: zone.to_owned() })
}

impl Draft {
    /// Whether times make sense with each other.
    pub(super) fn check_times(start: &Moment, end: &Moment, is_all_day: bool) -> Result<(), Refusal> {
        if zones::instant(end) < zones::instant(start) {
            return Err(refusal::property("The end time must be later than or equal to the start time."));
        }
        let midnight = |moment: &Moment| {
            moment.wall_time == moment.wall_time.date().to_datetime(jiff::civil::Time::midnight())
        };
        if is_all_day && !(midnight(start) && midnight(end) && start.zone == end.zone && start != end) {
            return Err(refusal::property(
                "An all-day event must start and end at midnight in one time zone.",
            ));
        }
        Ok(())
    }
}

/// Makes sure that an object has these fields only.
pub(in crate::graph) fn only(value: &Value, fields: &[&str], kind: &str) -> Result<(), Refusal> {
    let wrong = object(value, kind)?.keys().find(|field| !fields.contains(&field.as_str()));
    wrong.map_or(Ok(()), |field| Err(unknown(field, kind)))
}

pub(in crate::graph) fn object<'a>(value: &'a Value, kind: &str) -> Result<&'a Map<String, Value>, Refusal> {
    let message = format!("An object of type 'microsoft.graph.{kind}' was expected.");
    value.as_object().ok_or_else(|| refusal::bad_body(message))
}

pub(in crate::graph) fn wrong(field: &str) -> Refusal {
    refusal::bad_body(format!("Cannot convert the literal of '{field}' to the expected type."))
}

pub(in crate::graph) fn unknown(field: &str, kind: &str) -> Refusal {
    refusal::bad_body(format!("The property '{field}' does not exist on type 'microsoft.graph.{kind}'."))
}

/// Makes sure that an item still is what `If-Match` says.
pub(in crate::graph) fn check_match(headers: &HeaderMap, key: &str) -> Result<(), Refusal> {
    match headers.get("if-match").and_then(|value| value.to_str().ok()) {
        None | Some("*") => Ok(()),
        Some(tag) if tag == format!("W/\"{key}\"") => Ok(()),
        Some(_) => Err(refusal::changed()),
    }
}

/// The change key of an event.
pub(in crate::graph) fn change_key(changed: u64) -> String {
    format!("DwAAABYAAAB{changed:08X}")
}

impl Event {
    /// Takes over what is written, where it is.
    pub(super) fn take(&mut self, draft: Draft) {
        self.fields.extend(draft.fields);
        self.start = draft.start.unwrap_or(std::mem::take(&mut self.start));
        self.end = draft.end.unwrap_or(std::mem::take(&mut self.end));
        self.is_all_day = draft.is_all_day.unwrap_or(self.is_all_day);
        if let Some(recurrence) = draft.recurrence {
            self.recurrence = Some(recurrence).filter(|recurrence| !recurrence.is_null());
            self.exceptions.clear();
            self.cancelled.clear();
        }
    }
}
