//! What the tests of calendar triggers stand on: a watch of Ann's calendars, what she does there, and time that passes.

use http::Method;
use jiff::{SignedDuration, Timestamp};
use postern_proto::connector::v1::{Occurrence, WatchedTrigger};
use postern_proto::event::v1::event_data::Kind as Told;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::{Trigger, TriggerGap};
use postern_proto::outlook::v1::{
    CalendarEvent, EventCreatedTrigger, EventModifiedTrigger, EventStartingSoonTrigger, NewEmailTrigger,
};
use serde_json::{Value, json};

use super::stage::{ANN, Stage, Watch};

/// A watch of calendars, and the time that passes in them.
pub(super) struct Diary<'a> {
    pub(super) stage: &'a Stage,
    pub(super) watch: Watch<'a>,
    ahead: SignedDuration,
}

impl<'a> Diary<'a> {
    /// A watch that begins now, for triggers named `0`, `1` and so on.
    pub(super) fn new(stage: &'a Stage, kinds: impl IntoIterator<Item = Kind>) -> Self {
        let mut watch = stage.watch(NewEmailTrigger::default());
        watch.triggers.clear();
        // By the gateway's clock, which is the machine's, whatever the provider's says.
        let since = Some(prost_types::Timestamp { seconds: Timestamp::now().as_second(), nanos: 0 });
        for (number, kind) in kinds.into_iter().enumerate() {
            let trigger = Some(Trigger { name: number.to_string(), kind: Some(kind), ..Trigger::default() });
            watch.triggers.push(WatchedTrigger { trigger, since });
        }
        Self { stage, watch, ahead: SignedDuration::ZERO }
    }

    /// A watch of new entries of the default calendar that has looked once.
    pub(super) async fn of_created(stage: &'a Stage) -> Self {
        let mut diary = Self::new(stage, [created()]);
        assert_eq!(diary.told().await, [""; 0]);
        diary
    }

    /// A watch of changed entries of the default calendar that has looked once.
    pub(super) async fn of_modified(stage: &'a Stage) -> Self {
        let mut diary = Self::new(stage, [modified()]);
        assert_eq!(diary.told().await, [""; 0]);
        diary
    }

    /// Lets time pass, for the provider and the gateway.
    pub(super) fn pass(&mut self, time: SignedDuration) {
        self.ahead += time;
        self.stage.world.set_clock_ahead(self.ahead);
        for watched in &mut self.watch.triggers {
            // The connector's own clock stands still: what was made is made so much earlier to it.
            watched.since.as_mut().unwrap().seconds -= time.as_secs();
        }
    }

    /// Does something as Ann, a second later than what was before: times of changes are whole seconds.
    pub(super) fn act(&mut self, method: Method, path: &str, body: Value) -> Value {
        self.pass(SignedDuration::from_secs(1));
        let (status, answer) = self.stage.as_ann(method, path, body);
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    pub(super) fn make(&mut self, body: Value) -> String {
        self.act(Method::POST, "events", body)["id"].as_str().unwrap().to_owned()
    }

    pub(super) fn change(&mut self, id: &str, body: Value) {
        self.act(Method::PATCH, &format!("events/{id}"), body);
    }

    pub(super) fn delete(&mut self, id: &str) {
        self.act(Method::DELETE, &format!("events/{id}"), Value::Null);
    }

    /// Exchange touches an entry.
    pub(super) fn touch(&mut self, id: &str) {
        self.pass(SignedDuration::from_secs(1));
        assert!(self.stage.world.touch_event(ANN, id));
    }

    /// Looks until there is no more, and gives what was told, a line each.
    pub(super) async fn told(&mut self) -> Vec<String> {
        self.look().await.iter().map(line).collect()
    }

    pub(super) async fn look(&mut self) -> Vec<Occurrence> {
        self.watch.look_all().await.unwrap()
    }

    /// How many requests a round of looks made.
    pub(super) async fn requests(&mut self) -> Vec<String> {
        self.stage.graph.recorder().clear();
        self.look().await;
        self.stage.graph.recorder().exchanges().into_iter().map(|exchange| exchange.url).collect()
    }
}

pub(super) fn created() -> Kind {
    Kind::EventCreated(EventCreatedTrigger::default())
}

pub(super) fn modified() -> Kind {
    Kind::EventModified(EventModifiedTrigger::default())
}

pub(super) fn soon(minutes: i32) -> Kind {
    Kind::EventStartingSoon(EventStartingSoonTrigger {
        look_ahead_time_in_minutes: minutes,
        ..EventStartingSoonTrigger::default()
    })
}

/// What an occurrence tells.
pub(super) fn line(occurrence: &Occurrence) -> String {
    let kind = occurrence.data.as_ref().and_then(|data| data.kind.as_ref());
    match (kind, occurrence.r#type.as_str()) {
        (Some(Told::EventCreated(entry)), "calendar_event.created") => format!("created {}", entry.subject),
        (Some(Told::EventModified(modified)), "calendar_event.modified") => {
            let subject = &modified.event.as_ref().unwrap().subject;
            format!("modified {subject}: {}", modified.changed_fields.join(" "))
        }
        (Some(Told::EventStartingSoon(entry)), "calendar_event.starting_soon") => {
            format!("soon {}", entry.subject)
        }
        (Some(Told::TriggerGap(TriggerGap { reason, .. })), "trigger.gap") => format!("gap {reason}"),
        other => panic!("a calendar entry was expected, not {other:?}"),
    }
}

/// The entry that an occurrence tells of.
pub(super) fn entry_of(occurrence: &Occurrence) -> CalendarEvent {
    match occurrence.data.clone().and_then(|data| data.kind) {
        Some(Told::EventCreated(entry) | Told::EventStartingSoon(entry)) => entry,
        Some(Told::EventModified(modified)) => modified.event.unwrap(),
        other => panic!("a calendar entry was expected, not {other:?}"),
    }
}

/// An entry of half an hour, for Graph.
pub(super) fn at(subject: &str, start: Timestamp) -> Value {
    let end = start + SignedDuration::from_mins(30);
    json!({"subject": subject, "start": moment(start), "end": moment(end)})
}

/// An entry at a time that is in nobody's way.
pub(super) fn sometime(subject: &str) -> Value {
    at(subject, "2027-03-01T10:00:00Z".parse().unwrap())
}

pub(super) fn moment(time: Timestamp) -> Value {
    json!({"dateTime": time.strftime("%FT%T").to_string(), "timeZone": "UTC"})
}

/// The same each day from then on; no number: without end.
pub(super) fn daily(mut body: Value, times: Option<u32>) -> Value {
    let day = body["start"]["dateTime"].as_str().unwrap()[..10].to_owned();
    let range = match times {
        Some(times) => json!({"type": "numbered", "startDate": day, "numberOfOccurrences": times}),
        None => json!({"type": "noEnd", "startDate": day}),
    };
    body["recurrence"] = json!({"pattern": {"type": "daily", "interval": 1}, "range": range});
    body
}

/// The id of a time of a series, in the sandbox.
pub(super) fn time_of(series: &str, day: &str) -> String {
    format!("{series}O{}", day.replace('-', ""))
}
