//! What Graph shows of an event, a series, and each time of a series.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::body::change_key;
use crate::graph::odata::Kind;
use crate::graph::{recurrence, shape, zones};
use crate::world::{Calendars, Event, Moment};

/// The properties of an event that are shown, selected and filtered by.
pub(in crate::graph) const KIND: Kind = Kind {
    name: "microsoft.graph.event",
    properties: &[
        "id",
        "createdDateTime",
        "lastModifiedDateTime",
        "changeKey",
        "categories",
        "transactionId",
        "originalStartTimeZone",
        "originalEndTimeZone",
        "iCalUId",
        "reminderMinutesBeforeStart",
        "isReminderOn",
        "hasAttachments",
        "subject",
        "bodyPreview",
        "importance",
        "sensitivity",
        "isAllDay",
        "isCancelled",
        "isOrganizer",
        "responseRequested",
        "seriesMasterId",
        "showAs",
        "type",
        "webLink",
        "onlineMeetingUrl",
        "isOnlineMeeting",
        "onlineMeetingProvider",
        "allowNewTimeProposals",
        "hideAttendees",
        "isDraft",
        "responseStatus",
        "body",
        "start",
        "end",
        "location",
        "locations",
        "recurrence",
        "attendees",
        "organizer",
        "onlineMeeting",
        "originalStart",
    ],
};

/// A single event, a series, or one time of a series.
#[derive(Debug, Clone, Copy)]
pub(in crate::graph) struct Entry<'a> {
    pub(in crate::graph) event: &'a Event,
    /// The day that a time of the series would have been on.
    pub(in crate::graph) day: Option<Date>,
}

impl<'a> Entry<'a> {
    /// The entry with this id.
    pub(in crate::graph) fn find(calendars: &'a Calendars, id: &str) -> Option<Self> {
        if let Some(event) = calendars.events.get(id) {
            return Some(Self { event, day: None });
        }
        let (master, day) = id.rsplit_once('O')?;
        let event = calendars.events.get(master)?;
        let day = Date::strptime("%Y%m%d", day).ok()?;
        let entry = Self { event, day: Some(day) };
        let days = recurrence::days(event.recurrence.as_ref()?, day).ok()?;
        (days.contains(&day) && !event.cancelled.contains(&day)).then_some(entry)
    }

    /// Its id.
    pub(in crate::graph) fn id(&self) -> String {
        match self.day {
            Some(day) => format!("{}O{}", self.event.id, day.strftime("%Y%m%d")),
            None => self.event.id.clone(),
        }
    }

    /// The id that it has in all calendars: each time of a series has another.
    fn ical_uid(&self) -> String {
        match self.day {
            Some(day) => format!("{}{}", self.event.ical_uid, day.strftime("%Y%m%d")),
            None => self.event.ical_uid.clone(),
        }
    }

    /// Shown with what Graph shows of a series alone, and only where it is selected: the times that do not take place,
    /// and, where they are expanded too, those that were changed by themselves.
    pub(super) fn shown_whole(&self, zone: &str, select: Option<&[String]>, expands: bool) -> Value {
        let mut shown = self.shown(zone);
        let selects = |name: &str| select.is_some_and(|select| select.iter().any(|field| field == name));
        if self.kind() != "seriesMaster" {
            return shown;
        }
        if selects("cancelledOccurrences") {
            let id = |day: &Date| Value::from(format!("OID.{}.{day}", self.event.id));
            shown["cancelledOccurrences"] = self.event.cancelled.iter().map(id).collect();
        }
        if expands && selects("exceptionOccurrences") {
            let days = self.event.exceptions.keys();
            let one = |day: &Date| Entry { event: self.event, day: Some(*day) }.shown(zone);
            shown["exceptionOccurrences"] = days.map(one).collect();
        }
        shown
    }

    /// When it would start by its series, or does.
    pub(super) fn original(&self) -> Moment {
        self.on_day(&self.event.start)
    }

    fn on_day(&self, moment: &Moment) -> Moment {
        let first = self.event.start.wall_time.date();
        let shift = self.day.and_then(|day| first.until(day).ok());
        let wall_time = shift.and_then(|shift| moment.wall_time.checked_add(shift).ok());
        Moment { wall_time: wall_time.unwrap_or(moment.wall_time), zone: moment.zone.clone() }
    }

    pub(super) fn exception(&self) -> Option<&'a crate::world::Exception> {
        self.event.exceptions.get(&self.day?)
    }

    /// When it starts.
    pub(in crate::graph) fn start(&self) -> Moment {
        self.exception().map_or_else(|| self.original(), |exception| exception.start.clone())
    }

    /// When it ends.
    pub(in crate::graph) fn end(&self) -> Moment {
        self.exception().map_or_else(|| self.on_day(&self.event.end), |exception| exception.end.clone())
    }

    /// The place of its last change.
    pub(in crate::graph) fn changed(&self) -> u64 {
        self.exception().map_or(self.event.changed, |exception| exception.changed)
    }

    pub(in crate::graph) fn kind(&self) -> &'static str {
        match (self.day, self.exception()) {
            (None, _) if self.event.recurrence.is_none() => "singleInstance",
            (None, _) => "seriesMaster",
            (Some(_), None) => "occurrence",
            (Some(_), Some(_)) => "exception",
        }
    }

    /// The little that a round of changes shows of an occurrence.
    pub(in crate::graph) fn thin(&self, zone: &str) -> Value {
        json!({
            "@odata.type": "#microsoft.graph.event",
            "id": self.id(),
            "type": "occurrence",
            "seriesMasterId": self.event.id,
            "start": self.moment(&self.start(), zone),
            "end": self.moment(&self.end(), zone),
        })
    }

    fn moment(&self, moment: &Moment, zone: &str) -> Value {
        // Whole days are midnights whatever zone is asked for.
        let wall_time = match self.event.is_all_day {
            true => moment.wall_time,
            false => zones::wall_time(zones::instant(moment), zone),
        };
        json!({"dateTime": wall_time.strftime("%Y-%m-%dT%H:%M:%S.%6f0").to_string(), "timeZone": zone})
    }

    /// All that Graph shows of it, with times in a zone.
    pub(in crate::graph) fn shown(&self, zone: &str) -> Value {
        let event = self.event;
        let mut fields = event.fields.clone();
        if let Some(exception) = self.exception() {
            fields.extend(exception.fields.clone());
        }
        let field = |name: &str, default: Value| fields.get(name).cloned().unwrap_or(default);
        let (start, end) = (self.start(), self.end());
        let key = change_key(self.changed());
        let body = field("body", json!({"contentType": "text", "content": ""}));
        let place = location(&fields);
        let online = field("isOnlineMeeting", false.into());
        let join = format!("https://meet.sandbox.invalid/{}", event.ical_uid);
        let mut shown = json!({
            "@odata.etag": format!("W/\"{key}\""),
            "id": self.id(),
            "createdDateTime": shape::time(event.created),
            "lastModifiedDateTime": shape::time(self.exception().map_or(event.modified, |exception| exception.modified)),
            "changeKey": key,
            "categories": field("categories", json!([])),
            "transactionId": event.transaction_id,
            "originalStartTimeZone": start.zone,
            "originalEndTimeZone": end.zone,
            "iCalUId": self.ical_uid(),
            "reminderMinutesBeforeStart": field("reminderMinutesBeforeStart", 15.into()),
            "isReminderOn": field("isReminderOn", true.into()),
            "hasAttachments": false,
            "subject": field("subject", "".into()),
            "bodyPreview": body["content"].as_str().unwrap_or_default().chars().take(255).collect::<String>(),
            "importance": field("importance", "normal".into()),
            "sensitivity": field("sensitivity", "normal".into()),
            "isAllDay": event.is_all_day,
            "isCancelled": event.is_cancelled,
            "isOrganizer": event.is_organizer,
            "responseRequested": field("responseRequested", true.into()),
            "seriesMasterId": self.day.map(|_| event.id.clone()),
            "showAs": field("showAs", if event.is_all_day { "free" } else { "busy" }.into()),
            "type": self.kind(),
            "webLink": format!("https://outlook.office365.com/owa/?itemid={}&path=/calendar/item", self.id()),
            "onlineMeetingUrl": null,
            "isOnlineMeeting": online,
            "onlineMeetingProvider": if online == true { "teamsForBusiness" } else { "unknown" },
            "allowNewTimeProposals": field("allowNewTimeProposals", true.into()),
            "hideAttendees": field("hideAttendees", false.into()),
            "isDraft": false,
            "body": body,
            "start": self.moment(&start, zone),
            "end": self.moment(&end, zone),
            "locations": if place["displayName"] == "" { json!([]) } else { json!([place]) },
            "location": place,
            "recurrence": if self.day.is_some() { None } else { event.recurrence.as_ref().map(whole) },
            "attendees": field("attendees", json!([])),
        });
        let name =
            if event.organizer.name.is_empty() { &event.organizer.address } else { &event.organizer.name };
        shown["organizer"] = json!({"emailAddress": {"name": name, "address": event.organizer.address}});
        shown["responseStatus"] = json!({
            "response": event.response,
            "time": event.responded.map_or("0001-01-01T00:00:00Z".to_owned(), shape::time),
        });
        shown["onlineMeeting"] = if online == true { json!({"joinUrl": join}) } else { Value::Null };
        if self.day.is_some() {
            shown["originalStart"] = shape::time(zones::instant(&self.original())).into();
        }
        shown
    }

    /// Whether it takes place, at least in part, between two instants.
    pub(super) fn is_within(&self, from: Timestamp, until: Timestamp) -> bool {
        let (start, end) = (zones::instant(&self.start()), zones::instant(&self.end()));
        start < until && (end > from || (start == end && start >= from))
    }
}

/// A location with what Graph adds to it.
fn location(fields: &Map<String, Value>) -> Value {
    let given = fields.get("location").cloned().unwrap_or(json!({"displayName": ""}));
    let mut place = json!({"displayName": "", "locationType": "default", "uniqueIdType": "unknown", "address": {}, "coordinates": {}});
    for (field, value) in given.as_object().into_iter().flatten() {
        place[field.as_str()] = value.clone();
    }
    place
}

/// A recurrence with what Graph fills in.
fn whole(recurrence: &Value) -> Value {
    let mut whole = json!({
        "pattern": {"month": 0, "dayOfMonth": 0, "firstDayOfWeek": "sunday", "index": "first"},
        "range": {"endDate": "0001-01-01", "recurrenceTimeZone": "UTC", "numberOfOccurrences": 0},
    });
    for part in ["pattern", "range"] {
        for (field, value) in recurrence[part].as_object().into_iter().flatten() {
            whole[part][field.as_str()] = value.clone();
        }
    }
    whole
}
