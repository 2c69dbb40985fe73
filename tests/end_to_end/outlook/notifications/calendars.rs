//! What happens in calendars, from the provider to the subscriber: pushed, over restarts, and polled where that is lost.

use std::time::Duration;

use http::Method;
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind as Told;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::outlook::v1::{EventCreatedTrigger, EventModifiedTrigger, EventStartingSoonTrigger};
use postern_sandbox::place::ANNA;
use serde_json::{Value, json};

use super::super::conformance::judge;
use super::{HOUR, asked, pushing, settled};
use crate::world::{World, events, subscribe, triggers};

async fn make(world: &World, id: &str, interval: Duration, kind: Kind) {
    triggers::make(&world.channel, id, interval, kind).await;
}

async fn make_all(world: &World, interval: Duration) {
    make(world, "made", interval, Kind::EventCreated(EventCreatedTrigger::default())).await;
    make(world, "changed", interval, Kind::EventModified(EventModifiedTrigger::default())).await;
    make(world, "soon", interval, Kind::EventStartingSoon(EventStartingSoonTrigger::default())).await;
}

fn perform(world: &World, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = world.place.graph.perform(method, ANNA, path, &body);
    assert!((200..300).contains(&status), "{answer}");
    answer
}

/// Makes an entry so many minutes ahead, and gives its id.
fn enter(world: &World, subject: &str, minutes: i64) -> String {
    let time = world.place.world.now() + jiff::SignedDuration::from_mins(minutes);
    let moment = json!({"dateTime": time.strftime("%FT%T").to_string(), "timeZone": "UTC"});
    let body = json!({"subject": subject, "start": moment, "end": moment});
    perform(world, Method::POST, "events", body)["id"].as_str().unwrap().to_owned()
}

/// What the events tell, in an order of its own: watches tell apart from each other.
fn lines(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| {
        let trigger = event.trigger.rsplit('/').next().unwrap_or_default();
        let subject = match event.data.as_ref().and_then(|data| data.kind.as_ref()) {
            Some(Told::EventCreated(entry) | Told::EventStartingSoon(entry)) => entry.subject.clone(),
            Some(Told::EventModified(modified)) => modified.event.as_ref().unwrap().subject.clone(),
            other => panic!("a calendar entry was expected, not {other:?}"),
        };
        format!("{trigger}: {subject}")
    };
    let mut lines: Vec<_> = events.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_told_when_they_are_pushed_and_over_a_restart() {
    let mut world = World::pushed().await;
    make_all(&world, HOUR).await;
    for id in ["made", "changed", "soon"] {
        settled(&world, id).await;
    }
    let wishes = asked(&world, "POST");
    assert_eq!((wishes.len(), world.place.graph.subscriptions().count()), (2, 2));
    assert!(wishes.iter().all(|wish| wish.request_body["resource"] == format!("users/{ANNA}/events")));
    let mut stream = subscribe(&world.channel, None).await;
    let id = enter(&world, "new", 10);
    assert_eq!(lines(&events(&mut stream, 2).await), ["made: new", "soon: new"]);
    perform(&world, Method::PATCH, &format!("events/{id}"), json!({"subject": "other"}));
    assert_eq!(lines(&events(&mut stream, 1).await), ["changed: other"]);
    enter(&world, "far", 60 * 24 * 900);
    assert_eq!(lines(&events(&mut stream, 1).await), ["made: far"]);
    drop(stream);

    world.restart().await;
    pushing(&world, "made").await;
    let mut stream = subscribe(&world.channel, None).await;
    enter(&world, "after", 60 * 24);
    assert_eq!(lines(&events(&mut stream, 1).await), ["made: after"]);
    assert_eq!(asked(&world, "POST").len(), 2);
    judge(&world.place.graph, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_calendar_of_a_mailbox_is_polled_where_the_provider_pushes_one_wish_alone() {
    let world = World::pushed().await;
    let team = world.place.world.add_calendar(ANNA, "Team").unwrap();
    let created = |table: &str| {
        Kind::EventCreated(EventCreatedTrigger { table: table.into(), ..EventCreatedTrigger::default() })
    };
    make(&world, "made", HOUR, created("")).await;
    settled(&world, "made").await;
    make(&world, "teams", Duration::from_secs(1), created(&team)).await;
    let mut stream = subscribe(&world.channel, None).await;
    let body = json!({
        "subject": "the team's",
        "start": {"dateTime": "2027-03-01T10:00:00", "timeZone": "UTC"},
        "end": {"dateTime": "2027-03-01T11:00:00", "timeZone": "UTC"},
    });
    perform(&world, Method::POST, &format!("calendars/{team}/events"), body);
    assert_eq!(lines(&events(&mut stream, 1).await), ["teams: the team's"]);
    assert_eq!(world.place.graph.subscriptions().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notification_of_a_calendar_costs_the_interval_and_a_doubled_one_nothing() {
    let world = World::pushed().await;
    make(&world, "made", Duration::from_secs(1), Kind::EventCreated(EventCreatedTrigger::default())).await;
    settled(&world, "made").await;
    let mut stream = subscribe(&world.channel, None).await;
    world.place.graph.subscriptions().lose(1);
    enter(&world, "lost", 600);
    assert_eq!(lines(&events(&mut stream, 1).await), ["made: lost"]);
    world.place.graph.subscriptions().double();
    enter(&world, "doubled", 600);
    assert_eq!(lines(&events(&mut stream, 1).await), ["made: doubled"]);
    enter(&world, "again", 600);
    assert_eq!(lines(&events(&mut stream, 1).await), ["made: again"]);
}
