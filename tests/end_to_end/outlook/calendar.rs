//! Reading calendars: GetCalendars and GetEvents, page by page, with conditions, orders and windows.

use http::Method;
use postern_proto::outlook::v1::{CalendarEventType, GetCalendarsRequest, GetEventRequest, GetEventsRequest};
use postern_sandbox::graph::Fault;
use serde_json::json;
use tonic::Code;

use super::agenda::{at, entry, inner, refusal, wrong_fields};
use super::stage::{ANN, BO, Stage};

fn any() -> GetEventsRequest {
    GetEventsRequest::default()
}

async fn stage_with(subjects: &[&str]) -> Stage {
    let stage = Stage::set().await;
    for (index, subject) in subjects.iter().enumerate() {
        let start = format!("2026-05-{:02}T10:00:00Z", index + 1);
        stage.create_event(entry(subject, &start)).await.unwrap();
    }
    stage
}

#[tokio::test]
async fn calendars_are_listed_page_by_page_with_all_that_graph_says_of_them() {
    let stage = Stage::set().await;
    for number in 0..4 {
        stage.world.add_calendar(ANN, &format!("Team {number}")).unwrap();
    }
    let mut asked = GetCalendarsRequest { page_size: 2, ..GetCalendarsRequest::default() };
    let mut calendars = Vec::new();
    loop {
        let page = inner(stage.calendars().get_calendars(stage.with_connection(asked.clone())).await);
        assert!(page.calendars.len() <= 2);
        calendars.extend(page.calendars);
        if page.next_page_token.is_empty() {
            break;
        }
        asked.page_token = page.next_page_token;
    }
    let names: Vec<_> = calendars.iter().map(|calendar| calendar.name.as_str()).collect();
    assert_eq!(names, ["Calendar", "Team 0", "Team 1", "Team 2", "Team 3"]);
    let (default, other) = (&calendars[0], &calendars[1]);
    assert!(default.is_default_calendar && !other.is_default_calendar);
    assert_eq!(
        (default.color.as_str(), other.color.as_str(), other.hex_color.as_str()),
        ("", "lightBlue", "#a6d1f5")
    );
    assert!(
        other.can_edit && other.can_share && other.can_view_private_items && !other.change_key.is_empty()
    );
    assert_eq!(other.owner.as_ref().unwrap().address, ANN);
    let foreign = GetCalendarsRequest { mailbox: BO.into(), ..asked };
    let call = stage.calendars();
    assert_eq!(
        wrong_fields(call.clone().get_calendars(stage.with_connection(foreign))).await,
        ["page_token"]
    );
    let wrong = GetCalendarsRequest { page_size: -1, ..GetCalendarsRequest::default() };
    assert_eq!(wrong_fields(call.clone().get_calendars(stage.with_connection(wrong))).await, ["page_size"]);
}

#[tokio::test]
async fn conditions_orders_and_skips_are_graphs_own() {
    let stage = stage_with(&["b", "a", "c"]).await;
    let filtered = GetEventsRequest { filter: "start/dateTime ge '2026-05-02'".into(), ..any() };
    assert_eq!(stage.event_subjects(filtered).await, ["a", "c"]);
    let ordered = GetEventsRequest { order_by: "subject desc".into(), ..any() };
    assert_eq!(stage.event_subjects(ordered.clone()).await, ["c", "b", "a"]);
    assert_eq!(stage.event_subjects(GetEventsRequest { skip: 1, top: 1, ..ordered }).await, ["b"]);
    let none = GetEventsRequest { filter: "startswith(subject,'x')".into(), ..any() };
    assert!(stage.event_subjects(none).await.is_empty());
}

#[tokio::test]
async fn a_long_list_goes_on_by_token_and_tells_each_entry_once() {
    let stage = Stage::set().await;
    for number in 0..12 {
        let item = json!({
            "subject": number.to_string(),
            "start": {"dateTime": format!("2026-05-{:02}T10:00:00", number + 1), "timeZone": "UTC"},
            "end": {"dateTime": format!("2026-05-{:02}T11:00:00", number + 1), "timeZone": "UTC"},
            // Twelve of these pass what an answer may hold.
            "body": {"contentType": "text", "content": "x".repeat(700_000)},
        });
        assert_eq!(stage.as_ann(Method::POST, "events", item).0, 201);
    }
    let mut asked = GetEventsRequest { order_by: "start/dateTime".into(), top: 7, ..any() };
    let (mut told, mut answers) = (Vec::new(), 0);
    loop {
        let answer = stage.get_events(asked.clone()).await.unwrap();
        assert!(prost::Message::encoded_len(&answer) <= 3 * 1024 * 1024 + 64 * 1024);
        answers += 1;
        told.extend(answer.events.into_iter().map(|event| event.subject));
        if answer.skip_token.is_empty() {
            break;
        }
        asked.skip_token = answer.skip_token;
    }
    assert_eq!(told, (0..12).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(answers >= 3, "{answers} answers cannot hold it");
    let other = GetEventsRequest { filter: "subject eq '1'".into(), ..asked.clone() };
    assert_eq!(wrong_fields(stage.get_events(other)).await, ["skip_token"]);
    let forged = GetEventsRequest { skip_token: "e30".into(), ..asked };
    assert_eq!(wrong_fields(stage.get_events(forged)).await, ["skip_token"]);
}

#[tokio::test]
async fn an_entry_too_large_for_an_answer_is_cut_and_says_so() {
    let stage = Stage::set().await;
    let item = json!({
        "start": {"dateTime": "2026-05-01T10:00:00", "timeZone": "UTC"},
        "end": {"dateTime": "2026-05-01T10:00:00", "timeZone": "UTC"},
        "body": {"contentType": "html", "content": "ä".repeat(1_800_000)},
    });
    let (status, made) = stage.as_ann(Method::POST, "events", item);
    assert_eq!(status, 201);
    let listed = stage.get_events(any()).await.unwrap().events.remove(0);
    assert!(listed.body_truncated && listed.is_html && listed.body.len() > 3_000_000);
    let got = stage.get_event(made["id"].as_str().unwrap()).await.unwrap();
    assert!(got.body_truncated && prost::Message::encoded_len(&got) <= 3 * 1024 * 1024 + 64);
}

#[tokio::test]
async fn a_window_gives_each_time_of_a_series_and_no_window_the_series_itself() {
    let stage = Stage::set().await;
    let item = json!({
        "subject": "daily",
        "start": {"dateTime": "2026-05-01T10:00:00", "timeZone": "UTC"},
        "end": {"dateTime": "2026-05-01T10:30:00", "timeZone": "UTC"},
        "recurrence": {
            "pattern": {"type": "daily", "interval": 1},
            "range": {"type": "numbered", "startDate": "2026-05-01", "numberOfOccurrences": 5},
        },
    });
    let id = stage.as_ann(Method::POST, "events", item).1["id"].as_str().unwrap().to_owned();
    stage.as_ann(Method::DELETE, &format!("events/{id}O20260502"), json!(null));
    let moved = json!({"subject": "moved", "start": {"dateTime": "2026-05-03T11:00:00", "timeZone": "UTC"},
        "end": {"dateTime": "2026-05-03T12:00:00", "timeZone": "UTC"}});
    assert_eq!(stage.as_ann(Method::PATCH, &format!("events/{id}O20260503"), moved).0, 200);
    let all = stage.get_events(any()).await.unwrap().events;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].r#type(), CalendarEventType::SeriesMaster);
    assert!(all[0].recurrence.is_some());
    let window = GetEventsRequest {
        window_start: at("2026-05-01T10:10:00Z"),
        window_end: at("2026-05-05T10:00:00Z"),
        ..any()
    };
    let within = stage.get_events(window.clone()).await.unwrap().events;
    let told: Vec<_> = within.iter().map(|one| (one.subject.as_str(), one.r#type(), one.start)).collect();
    let usual = CalendarEventType::Occurrence;
    assert_eq!(
        told,
        [
            ("daily", usual, at("2026-05-01T10:00:00Z")),
            ("moved", CalendarEventType::Exception, at("2026-05-03T11:00:00Z")),
            ("daily", usual, at("2026-05-04T10:00:00Z")),
        ]
    );
    assert_eq!(within[1].series_master_id, id);
    assert_eq!(within[1].original_start, at("2026-05-03T10:00:00Z"));
    let first = GetEventsRequest { top: 2, ..window };
    let page = stage.get_events(first.clone()).await.unwrap();
    assert_eq!(page.events.len(), 2);
    let rest = stage.get_events(GetEventsRequest { skip_token: page.skip_token, ..first }).await.unwrap();
    assert_eq!((rest.events.len(), rest.skip_token.as_str()), (1, ""));
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_the_fields_name() {
    let stage = stage_with(&["a"]).await;
    for (asked, names) in [
        (GetEventsRequest { top: 1_001, skip: -1, ..any() }, vec!["top", "skip"]),
        (GetEventsRequest { window_start: at("2026-05-01T00:00:00Z"), ..any() }, vec!["window_end"]),
        (
            GetEventsRequest {
                window_start: at("2026-05-01T00:00:00Z"),
                window_end: at("2032-05-01T00:00:00Z"),
                ..any()
            },
            vec!["window_end"],
        ),
        (GetEventsRequest { filter: "subject like 'x'".into(), ..any() }, vec!["filter"]),
        (GetEventsRequest { filter: "nothing eq 'x'".into(), ..any() }, vec!["filter"]),
        (GetEventsRequest { order_by: "subject; drop".into(), ..any() }, vec!["order_by"]),
        (GetEventsRequest { order_by: "nothing".into(), ..any() }, vec!["order_by"]),
        (
            GetEventsRequest { filter: "x".into(), order_by: "subject".into(), ..any() },
            vec!["filter", "order_by"],
        ),
        (GetEventsRequest { table: "a b".into(), ..any() }, vec!["table"]),
        (GetEventsRequest { mailbox: "nobody".into(), ..any() }, vec!["mailbox"]),
    ] {
        assert_eq!(wrong_fields(stage.get_events(asked.clone())).await, names, "{asked:?}");
    }
}

#[tokio::test]
async fn a_calendar_that_is_not_there_is_told_from_an_entry_that_is_not() {
    let stage = stage_with(&["a"]).await;
    let id = stage.get_events(any()).await.unwrap().events.remove(0).id;
    let other = stage.world.add_calendar(ANN, "Other").unwrap();
    let calendar = (Code::NotFound, "CALENDAR_NOT_FOUND".to_owned());
    let item = (Code::NotFound, "ITEM_NOT_FOUND".to_owned());
    assert_eq!(
        refusal(stage.get_events(GetEventsRequest { table: "AAMkX".into(), ..any() })).await,
        calendar
    );
    let mut calendars = stage.calendars();
    for (table, id, expected) in
        [("AAMkX", id.as_str(), calendar), (other.as_str(), id.as_str(), item.clone()), ("", "AAMkX", item)]
    {
        let asked = GetEventRequest { table: table.into(), id: id.into(), ..GetEventRequest::default() };
        assert_eq!(refusal(calendars.get_event(stage.with_connection(asked))).await, expected);
    }
    assert_eq!(wrong_fields(stage.get_event("")).await, ["id"]);
    assert_eq!(wrong_fields(stage.get_event("..")).await, ["id"]);
    let malformed = Fault::refuse(400, "ErrorInvalidIdMalformed", None);
    stage.graph.faults().plan(Some(Method::GET), "/events/", 1, malformed);
    assert_eq!(wrong_fields(stage.get_event("x")).await, ["id"]);
}

#[tokio::test]
async fn another_mailbox_has_its_own_calendars() {
    let stage = stage_with(&["a"]).await;
    assert!(stage.event_subjects(GetEventsRequest { mailbox: BO.into(), ..any() }).await.is_empty());
    let nobody = GetEventsRequest { mailbox: "nobody@contoso.example".into(), ..any() };
    let expected = (Code::NotFound, "MAILBOX_NOT_FOUND".to_owned());
    assert_eq!(refusal(stage.get_events(nobody)).await, expected);
}
