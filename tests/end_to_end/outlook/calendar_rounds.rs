//! The sandbox's calendars as Graph has them: rounds of changes, meetings and their answers, and what is refused.

use http::Method;
use postern_sandbox::graph::{GraphServer, GraphSettings};
use postern_sandbox::world::World;
use serde_json::{Value, json};

use super::stage::{ANN, BO};

const VIEW: &str = "calendarView/delta?startDateTime=2026-05-01T00:00:00Z&endDateTime=2026-05-10T00:00:00Z";

async fn graph() -> (World, GraphServer) {
    let world = World::new();
    world.add_account(ANN, "Ann");
    world.add_account(BO, "Bo");
    let graph = GraphServer::start(GraphSettings::default(), world.clone()).await.unwrap();
    (world, graph)
}

fn event(subject: &str, start: &str) -> Value {
    let at = |time: &str| json!({"dateTime": time, "timeZone": "UTC"});
    json!({"subject": subject, "start": at(start), "end": at(start)})
}

fn series(times: u64) -> Value {
    let mut series = event("daily", "2026-05-02T10:00:00");
    series["recurrence"] = json!({
        "pattern": {"type": "daily", "interval": 1},
        "range": {"type": "numbered", "startDate": "2026-05-02", "numberOfOccurrences": times},
    });
    series
}

fn make(graph: &GraphServer, address: &str, body: &Value) -> String {
    let (status, made) = graph.perform(Method::POST, address, "events", body);
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().unwrap().to_owned()
}

/// Goes through a round from a path and gives what it tells and where the next begins.
fn round(graph: &GraphServer, address: &str, path: &str) -> (Vec<Value>, String) {
    let (mut told, mut path) = (Vec::new(), path.to_owned());
    loop {
        let (status, page) = graph.perform(Method::GET, address, &path, &Value::Null);
        assert_eq!(status, 200, "{page}");
        told.extend(page["value"].as_array().unwrap().clone());
        let below =
            |link: &Value| link.as_str().map(|link| link.split_once(address).unwrap().1[1..].to_owned());
        match (below(&page["@odata.nextLink"]), below(&page["@odata.deltaLink"])) {
            (Some(next), None) => path = next,
            (None, Some(next)) => return (told, next),
            both => panic!("a page has one link: {both:?}"),
        }
    }
}

fn ids(told: &[Value]) -> Vec<&str> {
    told.iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn rounds_tell_what_changed_within_the_window_in_pages() {
    let (world, graph) = graph().await;
    let master = make(&graph, ANN, &series(20));
    let single = make(&graph, ANN, &event("single", "2026-05-03T09:00:00"));
    let outside = make(&graph, ANN, &event("outside", "2026-06-03T09:00:00"));
    let (told, next) = round(&graph, ANN, VIEW);
    assert_eq!(told.len(), 10, "the series, eight times of it, and the single one");
    let thin = told.iter().find(|one| one["type"] == "occurrence").unwrap();
    let mut fields: Vec<_> = thin.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["@odata.type", "end", "id", "seriesMasterId", "start", "type"]);
    assert!(round(&graph, ANN, &next).0.is_empty());

    assert!(world.touch_event(ANN, &single));
    let third = format!("{master}O20260504");
    graph.perform(Method::PATCH, ANN, &format!("events/{third}"), &json!({"subject": "other"}));
    let fourth = format!("{master}O20260505");
    assert_eq!(graph.perform(Method::DELETE, ANN, &format!("events/{fourth}"), &Value::Null).0, 204);
    assert!(world.touch_event(ANN, &outside));
    let (told, later) = round(&graph, ANN, &next);
    let mut changed = ids(&told);
    changed.sort_unstable();
    let mut expected = [single.as_str(), &third, &fourth, &outside];
    expected.sort_unstable();
    assert_eq!(changed, expected);
    for one in &told {
        let gone = [&fourth, &outside].iter().any(|id| one["id"] == ***id);
        assert_eq!(one["@removed"]["reason"] == "deleted", gone, "{one}");
    }
    assert!(told.iter().any(|one| one["type"] == "exception" && one["subject"] == "other"));
    // An old token tells the same again; a replay tells all.
    assert_eq!(ids(&round(&graph, ANN, &next).0), ids(&told));
    graph.calendar_deltas().replay();
    assert_eq!(round(&graph, ANN, &later).0.len(), 9);
}

#[tokio::test]
async fn forgotten_tokens_are_told_in_both_of_graphs_ways() {
    let (_, graph) = graph().await;
    let (_, next) = round(&graph, ANN, VIEW);
    graph.calendar_deltas().require_resync();
    let (status, told) = graph.perform(Method::GET, ANN, &next, &Value::Null);
    assert_eq!((status, &told["error"]["code"]), (410, &json!("resyncRequired")));
    let (_, next) = round(&graph, ANN, VIEW);
    graph.forget_delta_tokens();
    let (status, told) = graph.perform(Method::GET, ANN, &next, &Value::Null);
    assert_eq!((status, &told["error"]["code"]), (410, &json!("SyncStateNotFound")));
}

#[tokio::test]
async fn an_accepted_meeting_is_made_anew_and_a_declined_one_goes() {
    let (world, graph) = graph().await;
    let mut meeting = event("meeting", "2026-05-03T09:00:00");
    meeting["attendees"] = json!([{"emailAddress": {"address": BO}, "type": "required"}]);
    make(&graph, ANN, &meeting);
    let invited = world.calendar_events(BO).remove(0);
    assert_eq!(invited.response, "notResponded");
    let accept = format!("events/{}/accept", invited.id);
    assert_eq!(graph.perform(Method::POST, BO, &accept, &json!({"sendResponse": true})).0, 202);
    let accepted = world.calendar_events(BO).remove(0);
    assert_eq!((&accepted.ical_uid, accepted.response.as_str()), (&invited.ical_uid, "accepted"));
    assert_ne!(accepted.id, invited.id);
    let organized = world.calendar_events(ANN).remove(0);
    assert_eq!(organized.fields["attendees"][0]["status"]["response"], "accepted");
    assert_eq!(
        graph.perform(Method::POST, ANN, &format!("events/{}/accept", organized.id), &Value::Null).0,
        400
    );
    let patch = json!({"subject": "moved"});
    graph.perform(Method::PATCH, ANN, &format!("events/{}", organized.id), &patch);
    assert_eq!(world.calendar_events(BO)[0].fields["subject"], "moved");
    let decline = format!("events/{}/decline", accepted.id);
    assert_eq!(graph.perform(Method::POST, BO, &decline, &Value::Null).0, 202);
    assert!(world.calendar_events(BO).is_empty());
}

#[tokio::test]
async fn what_graph_refuses_of_calendars_the_sandbox_refuses() {
    let (_, graph) = graph().await;
    let id = make(&graph, ANN, &series(3));
    let post = |body: Value| (Method::POST, "events".to_owned(), body);
    let get = |path: &str| (Method::GET, path.to_owned(), Value::Null);
    let with = |field: &str, value: Value| {
        let mut body = event("x", "2026-05-03T09:00:00");
        body[field] = value;
        post(body)
    };
    for ((method, path, body), status, code) in [
        (get("calendar"), 200, ""),
        (get("events?$filter=subject eq 'x'&$orderby=start/dateTime desc&$top=5&$skip=1"), 200, ""),
        (get("events?$filter=nothing eq 'x'"), 400, "BadRequest"),
        (get("events?$filter=isAllDay eq 'x'"), 400, "BadRequest"),
        (get("events?$select=nothing"), 400, "BadRequest"),
        (get("events?$search=x"), 400, "BadRequest"),
        (get("events/nothing"), 404, "ErrorItemNotFound"),
        (get("calendars/nothing/events"), 404, "ErrorItemNotFound"),
        (get("calendarView"), 400, "BadRequest"),
        (get("calendarView?startDateTime=2026-05-02&endDateTime=2026-05-01"), 400, "BadRequest"),
        (
            get("calendarView/delta?startDateTime=2026-05-01&endDateTime=2026-05-02&$select=id"),
            400,
            "BadRequest",
        ),
        (get("calendarView/delta?$deltatoken=x"), 400, "SyncStateInvalid"),
        (get("events/delta"), 404, "ErrorItemNotFound"),
        (post(json!({"subject": "x"})), 400, "ErrorPropertyValidationFailure"),
        (with("wish", json!(1)), 400, "RequestBodyRead"),
        (with("subject", json!(1)), 400, "RequestBodyRead"),
        (with("createdDateTime", json!("2026-05-01T00:00:00Z")), 400, "RequestBodyRead"),
        (with("start", json!({"dateTime": "x", "timeZone": "UTC"})), 400, "RequestBodyRead"),
        (
            with("start", json!({"dateTime": "2026-05-03T09:00:00", "timeZone": "Europe/Amsterdam"})),
            400,
            "TimeZoneNotSupportedException",
        ),
        (
            with("start", json!({"dateTime": "2026-05-04T09:00:00", "timeZone": "UTC"})),
            400,
            "ErrorPropertyValidationFailure",
        ),
        (with("isAllDay", json!(true)), 400, "ErrorPropertyValidationFailure"),
        (with("attendees", json!([{"emailAddress": {"address": "x"}}])), 400, "ErrorInvalidRecipients"),
        (
            with("recurrence", json!({"pattern": {"type": "daily"}, "range": {}})),
            400,
            "ErrorCalendarInvalidRecurrence",
        ),
        ((Method::PUT, "events".to_owned(), Value::Null), 405, "Request_BadRequest"),
        ((Method::POST, format!("events/{id}/cancel"), Value::Null), 400, "ErrorAccessDenied"),
        (
            (Method::PATCH, format!("events/{id}"), json!({"transactionId": "x"})),
            400,
            "ErrorPropertyValidationFailure",
        ),
        ((Method::POST, "contacts".to_owned(), json!({"shoe": 3})), 400, "RequestBodyRead"),
        ((Method::POST, "contacts".to_owned(), json!({"homePhones": "1"})), 400, "RequestBodyRead"),
        (get("contacts?$filter=shoe eq 3"), 400, "BadRequest"),
        (get("contactFolders/nothing/contacts"), 404, "ErrorItemNotFound"),
    ] {
        let (answered, told) = graph.perform(method, ANN, &path, &body);
        let told = told["error"]["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answered, told.as_str()), (status, code), "{path} {body}");
    }
}
