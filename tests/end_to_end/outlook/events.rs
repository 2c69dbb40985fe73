//! Making and changing entries: once, only what is named, and with the provider's refusals told apart.

use http::Method;
use postern_proto::mail::v1::{Importance, Mailbox};
use postern_proto::outlook::v1::{
    Attendee, AttendeeType, CalendarEvent, CreateEventRequest, DayOfWeek, Location, PhysicalAddress,
    Recurrence, RecurrencePattern, RecurrencePatternType, RecurrenceRange, RecurrenceRangeType, ResponseType,
    Sensitivity, ShowAs,
};
use postern_sandbox::graph::Fault;
use serde_json::json;
use tonic::Code;

use super::agenda::{at, entry, refusal, wrong_fields};
use super::stage::{ANN, BO, Stage};

fn guest(address: &str, kind: AttendeeType) -> Attendee {
    let mailbox = Some(Mailbox { address: address.into(), name: String::new() });
    Attendee { mailbox, r#type: kind.into(), status: None }
}

/// An entry with all that a caller may set, save a recurrence. Bo is invited.
pub(super) fn full() -> CalendarEvent {
    CalendarEvent {
        start_time_zone: "Europe/Berlin".into(),
        end_time_zone: "America/New_York".into(),
        attendees: vec![guest(BO, AttendeeType::Optional), guest("room@x.example", AttendeeType::Resource)],
        body: "<p>Agenda</p>".into(),
        is_html: true,
        categories: vec!["Blue".into()],
        importance: Importance::High.into(),
        location: Some(Location {
            display_name: "Room 1".into(),
            address: Some(PhysicalAddress { city: "Bonn".into(), ..PhysicalAddress::default() }),
            email_address: "room@x.example".into(),
            uri: "https://x.example/room".into(),
        }),
        is_reminder_on: Some(true),
        reminder: Some(0),
        response_requested: Some(false),
        sensitivity: Sensitivity::Private.into(),
        show_as: ShowAs::Oof.into(),
        is_online_meeting: true,
        hide_attendees: true,
        allow_new_time_proposals: Some(false),
        ..entry("Planning", "2026-05-01T10:00:00Z")
    }
}

fn daily(times: i32) -> Option<Recurrence> {
    Some(Recurrence {
        pattern: Some(RecurrencePattern {
            r#type: RecurrencePatternType::Weekly.into(),
            interval: 1,
            days_of_week: vec![DayOfWeek::Friday.into()],
            first_day_of_week: DayOfWeek::Monday.into(),
            ..RecurrencePattern::default()
        }),
        range: Some(RecurrenceRange {
            r#type: RecurrenceRangeType::Numbered.into(),
            start_date: "2026-05-01".into(),
            number_of_occurrences: times,
            recurrence_time_zone: "Europe/Berlin".into(),
            ..RecurrenceRange::default()
        }),
    })
}

#[tokio::test]
async fn an_entry_comes_back_as_it_was_made_with_what_the_provider_adds() {
    let stage = Stage::set().await;
    let asked = CalendarEvent { recurrence: daily(3), ..full() };
    let made = stage.create_event(asked.clone()).await.unwrap();
    assert_eq!(stage.get_event(&made.id).await.unwrap(), made);
    let came = CalendarEvent {
        // What the caller set, in the provider's answer.
        attendees: asked.attendees.clone(),
        ..made.clone()
    };
    for (name, one, other) in [
        ("subject", &came.subject, &asked.subject),
        ("start_time_zone", &came.start_time_zone, &asked.start_time_zone),
        ("end_time_zone", &came.end_time_zone, &asked.end_time_zone),
        ("body", &came.body, &asked.body),
    ] {
        assert_eq!(one, other, "{name}");
    }
    assert_eq!((came.start, came.end), (asked.start, asked.end));
    assert_eq!(
        (came.recurrence, came.location, came.categories),
        (asked.recurrence, asked.location, asked.categories)
    );
    assert_eq!(
        (came.importance, came.sensitivity, came.show_as, came.is_html),
        (asked.importance, asked.sensitivity, asked.show_as, true)
    );
    assert_eq!(
        (came.is_reminder_on, came.reminder, came.response_requested, came.allow_new_time_proposals),
        (asked.is_reminder_on, asked.reminder, asked.response_requested, asked.allow_new_time_proposals)
    );
    assert!(came.is_online_meeting && came.hide_attendees && came.online_meeting_url.starts_with("https://"));
    assert_eq!(made.start_time_zone_windows, "W. Europe Standard Time");
    assert_eq!(made.end_time_zone_windows, "Eastern Standard Time");
    assert!(made.is_organizer && made.organizer.as_ref().unwrap().address == ANN);
    assert!(!made.ical_uid.is_empty() && !made.change_key.is_empty() && !made.transaction_id.is_empty());
    assert!(made.date_time_created.is_some() && made.date_time_last_modified.is_some());
    let kinds: Vec<_> = made.attendees.iter().map(Attendee::r#type).collect();
    assert_eq!(kinds, [AttendeeType::Optional, AttendeeType::Resource]);
    assert_eq!(made.attendees[0].status.as_ref().unwrap().response(), ResponseType::None);
    let theirs = stage.world.calendar_events(BO);
    assert_eq!((theirs.len(), theirs[0].ical_uid.as_str()), (1, made.ical_uid.as_str()), "Bo is invited");
}

#[tokio::test]
async fn what_is_not_said_of_a_new_entry_is_left_to_the_provider() {
    let stage = Stage::set().await;
    let made = stage.create_event(entry("plain", "2026-05-01T10:00:00Z")).await.unwrap();
    assert_eq!((made.is_reminder_on, made.reminder), (Some(true), Some(15)));
    assert_eq!((made.response_requested, made.allow_new_time_proposals), (Some(true), Some(true)));
    let mut sent = stage.bodies("POST").pop().unwrap();
    let fields: Vec<_> = sent.as_object_mut().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["end", "isAllDay", "start", "subject", "transactionId"]);
}

#[tokio::test]
async fn an_entry_is_made_once_however_often_it_is_asked_for() {
    for refuses in [false, true] {
        let stage = Stage::set().await;
        if refuses {
            stage.graph.faults().refuse_seen_transactions();
        }
        let asked = CreateEventRequest {
            request_id: "r1".into(),
            item: Some(full()),
            ..CreateEventRequest::default()
        };
        stage.graph.faults().plan(Some(Method::POST), "/events", 1, Fault::CutAfter);
        let first = stage.create_event_as(asked.clone()).await.unwrap();
        let again = stage.create_event_as(asked.clone()).await.unwrap();
        assert_eq!(first, again, "refuses: {refuses}");
        assert_eq!(stage.world.calendar_events(ANN).len(), 1);
        let other =
            CreateEventRequest { item: Some(entry("other", "2026-05-01T10:00:00Z")), ..asked.clone() };
        assert_ne!(stage.create_event_as(other).await.unwrap().id, first.id, "another wish is another entry");
        let nameless = CreateEventRequest { request_id: String::new(), ..asked };
        stage.graph.faults().plan(Some(Method::POST), "/events", 1, Fault::CutAfter);
        stage.create_event_as(nameless.clone()).await.unwrap();
        stage.create_event_as(nameless).await.unwrap();
        assert_eq!(stage.world.calendar_events(ANN).len(), 4, "without a request id each call makes one");
        let days = CalendarEvent {
            subject: "days off".into(),
            is_all_day: true,
            start_date: "2026-05-01".into(),
            end_date: "2026-05-03".into(),
            start_time_zone: "Pacific/Auckland".into(),
            ..CalendarEvent::default()
        };
        let asked =
            CreateEventRequest { request_id: "r2".into(), item: Some(days), ..CreateEventRequest::default() };
        let first = stage.create_event_as(asked.clone()).await.unwrap();
        assert_eq!(first, stage.create_event_as(asked).await.unwrap(), "refuses: {refuses}");
    }
}

#[tokio::test]
async fn an_entry_whose_making_breaks_off_for_good_is_told_as_doubtful_or_as_safe_to_ask_for_again() {
    let stage = Stage::set().await;
    for (request_id, code, reason) in
        [("", Code::Unknown, "OUTCOME_UNKNOWN"), ("r1", Code::Unavailable, "PROVIDER_UNAVAILABLE")]
    {
        let asked = CreateEventRequest {
            request_id: request_id.into(),
            item: Some(entry("x", "2026-05-01T10:00:00Z")),
            ..CreateEventRequest::default()
        };
        stage.graph.faults().plan(Some(Method::POST), "/events", 4, Fault::CutAfter);
        assert_eq!(refusal(stage.create_event_as(asked.clone())).await, (code, reason.to_owned()));
        assert!(stage.graph.faults().all_shown());
        let before = stage.world.calendar_events(ANN).len();
        stage.create_event_as(asked).await.unwrap();
        let after = stage.world.calendar_events(ANN).len();
        assert_eq!(after - before, usize::from(request_id.is_empty()));
        assert_eq!(before, 1 + 2 * usize::from(!request_id.is_empty()));
    }
}

#[tokio::test]
async fn a_new_entry_that_cannot_be_is_refused_by_the_fields_names() {
    let stage = Stage::set().await;
    let crowd = vec![guest(BO, AttendeeType::Required); 501];
    for (item, names) in [
        (CalendarEvent::default(), vec!["item.start", "item.end"]),
        (CalendarEvent { end: at("2026-05-01T09:00:00Z"), ..full() }, vec!["item.end"]),
        (CalendarEvent { attendees: crowd, ..full() }, vec!["item.attendees"]),
        (CalendarEvent { start_time_zone: "Mars/Base".into(), ..full() }, vec!["item.start_time_zone"]),
        (
            CalendarEvent { recurrence: daily(0), ..full() },
            vec!["item.recurrence.range.number_of_occurrences"],
        ),
        (
            CalendarEvent { recurrence: Some(Recurrence::default()), ..full() },
            vec!["item.recurrence.pattern", "item.recurrence.range"],
        ),
    ] {
        assert_eq!(wrong_fields(stage.create_event(item)).await, names);
    }
    let nothing = CreateEventRequest::default();
    assert_eq!(wrong_fields(stage.create_event_as(nothing)).await, ["item"]);
    let nowhere = CreateEventRequest { table: "AAMkX".into(), item: Some(full()), ..Default::default() };
    let expected = (Code::NotFound, "CALENDAR_NOT_FOUND".to_owned());
    assert_eq!(refusal(stage.create_event_as(nowhere)).await, expected);
    assert!(stage.world.calendar_events(ANN).is_empty());
}

#[tokio::test]
async fn a_change_touches_what_is_named_and_nothing_else() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    let item = CalendarEvent { subject: "New".into(), body: "not named".into(), ..CalendarEvent::default() };
    let changed = stage.update_event(&made.id, item, &["subject", "location"]).await.unwrap();
    let expected = CalendarEvent {
        subject: "New".into(),
        location: None,
        change_key: changed.change_key.clone(),
        date_time_last_modified: changed.date_time_last_modified,
        ..made.clone()
    };
    assert_eq!(changed, expected);
    assert_ne!(changed.change_key, made.change_key);
    assert_eq!(stage.bodies("PATCH"), [json!({"subject": "New", "location": {"displayName": ""}})]);
    // Without a mask: what is set.
    let item = CalendarEvent { show_as: ShowAs::Free.into(), reminder: Some(0), ..CalendarEvent::default() };
    let changed = stage.update_event(&made.id, item, &[]).await.unwrap();
    assert_eq!(
        (changed.show_as(), changed.reminder, changed.subject.as_str()),
        (ShowAs::Free, Some(0), "New")
    );
    // Of its times, one: the zones and the end stay.
    let item = CalendarEvent { start: at("2026-05-01T09:45:00Z"), ..CalendarEvent::default() };
    let changed = stage.update_event(&made.id, item, &["start"]).await.unwrap();
    assert_eq!((changed.start, changed.end), (at("2026-05-01T09:45:00Z"), made.end));
    assert_eq!(
        (&changed.start_time_zone, &changed.end_time_zone),
        (&made.start_time_zone, &made.end_time_zone)
    );
    // A zone alone shifts no instant.
    let item = CalendarEvent { start_time_zone: "Asia/Tokyo".into(), ..CalendarEvent::default() };
    let rezoned = stage.update_event(&made.id, item, &[]).await.unwrap();
    assert_eq!((rezoned.start, rezoned.start_time_zone.as_str()), (changed.start, "Asia/Tokyo"));
}

#[tokio::test]
async fn a_mask_that_names_what_cannot_be_changed_is_refused() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    let none = CalendarEvent::default;
    let paths = ["update_mask.paths[0]", "update_mask.paths[1]", "update_mask.paths[2]"];
    let wrong = stage.update_event(&made.id, none(), &["ical_uid", "location.display_name", "Subject"]);
    assert_eq!(wrong_fields(wrong).await, paths);
    assert_eq!(wrong_fields(stage.update_event(&made.id, none(), &[])).await, ["item"]);
    assert_eq!(wrong_fields(stage.update_event(&made.id, none(), &["is_html"])).await, ["update_mask"]);
    let late = CalendarEvent { start: at("2027-01-01T00:00:00Z"), ..none() };
    assert_eq!(wrong_fields(stage.update_event(&made.id, late, &[])).await, ["item.end"]);
    assert_eq!(wrong_fields(stage.update_event(&made.id, none(), &["end"])).await, ["item.end"]);
    assert!(stage.bodies("PATCH").is_empty());
}

#[tokio::test]
async fn a_change_of_what_has_changed_since_is_refused_where_the_caller_says_what_it_was() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    let item = |subject: &str, key: &str| CalendarEvent {
        subject: subject.into(),
        change_key: key.into(),
        ..CalendarEvent::default()
    };
    let first = stage.update_event(&made.id, item("1", &made.change_key), &["subject"]).await.unwrap();
    let expected = (Code::Aborted, "ITEM_CHANGED".to_owned());
    assert_eq!(
        refusal(stage.update_event(&made.id, item("2", &made.change_key), &["subject"])).await,
        expected
    );
    // It changes between our looking and our changing: Graph itself is asked to see to it.
    let refused = Fault::refuse(412, "ErrorIrresolvableConflict", None);
    stage.graph.faults().plan(Some(Method::PATCH), "/events/", 1, refused.clone());
    assert_eq!(
        refusal(stage.update_event(&made.id, item("3", &first.change_key), &["subject"])).await,
        expected
    );
    let sent = stage.graph.recorder().exchanges();
    let matched = |one: &postern_sandbox::graph::Exchanged| {
        one.request_headers
            .iter()
            .any(|(name, value)| name == "if-match" && *value == format!("W/\"{}\"", first.change_key))
    };
    assert!(sent.iter().any(|one| one.method == "PATCH" && matched(one)));
    // Where the caller says nothing of it, the times are reckoned anew from what is there.
    stage.graph.faults().plan(Some(Method::PATCH), "/events/", 1, refused);
    let moved = CalendarEvent { start: at("2026-05-01T09:00:00Z"), ..CalendarEvent::default() };
    assert_eq!(stage.update_event(&made.id, moved, &[]).await.unwrap().start, at("2026-05-01T09:00:00Z"));
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_told_as_made() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    for (key, start) in [("", None), (made.change_key.as_str(), at("2026-05-01T09:00:00Z"))] {
        let key =
            if key.is_empty() { String::new() } else { stage.get_event(&made.id).await.unwrap().change_key };
        let item = CalendarEvent { subject: format!("S{key}"), change_key: key, start, ..Default::default() };
        stage.graph.faults().plan(Some(Method::PATCH), "/events/", 1, Fault::CutAfter);
        let changed = stage.update_event(&made.id, item.clone(), &[]).await.unwrap();
        assert_eq!(changed.subject, item.subject);
    }
    // Somebody else changed it in the meantime: what came of ours cannot be known.
    let key = stage.get_event(&made.id).await.unwrap().change_key;
    let item = CalendarEvent { subject: "mine".into(), change_key: key, ..Default::default() };
    stage.graph.faults().plan(Some(Method::PATCH), "/events/", 1, Fault::refuse(504, "Timeout", Some("1")));
    let change = stage.update_event(&made.id, item, &[]);
    let other = async {
        loop {
            tokio::task::yield_now().await;
            let asked = stage.bodies("PATCH").iter().filter(|body| body["subject"] == "mine").count();
            if asked == 1 {
                stage.as_ann(Method::PATCH, &format!("events/{}", made.id), json!({"subject": "theirs"}));
                break;
            }
        }
    };
    let (changed, ()) = tokio::join!(refusal(change), other);
    assert_eq!(changed, (Code::Unknown, "OUTCOME_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn a_series_recurs_as_asked_and_one_time_of_it_changes_alone() {
    let stage = Stage::set().await;
    let made = stage.create_event(CalendarEvent { recurrence: daily(3), ..full() }).await.unwrap();
    let second = format!("{}O20260508", made.id);
    let changed = stage
        .update_event(&second, CalendarEvent { subject: "Once".into(), ..Default::default() }, &[])
        .await
        .unwrap();
    assert_eq!((changed.subject.as_str(), changed.series_master_id.as_str()), ("Once", made.id.as_str()));
    assert_eq!(stage.get_event(&made.id).await.unwrap().subject, "Planning");
    let far = CalendarEvent {
        start: at("2026-05-20T10:00:00Z"),
        end: at("2026-05-20T11:00:00Z"),
        ..Default::default()
    };
    assert_eq!(wrong_fields(stage.update_event(&second, far, &[])).await, ["item.start"]);
    let single = stage.update_event(&made.id, CalendarEvent::default(), &["recurrence"]).await.unwrap();
    assert!(single.recurrence.is_none());
    let wrong = CalendarEvent { recurrence: daily(0), ..Default::default() };
    let fields = wrong_fields(stage.update_event(&made.id, wrong, &[])).await;
    assert_eq!(fields, ["item.recurrence.range.number_of_occurrences"]);
}

#[tokio::test]
async fn what_graph_refuses_of_an_entry_is_told_by_what_a_caller_can_do() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    for (status, code, expected) in [
        (403, "ErrorAccessDenied", (Code::FailedPrecondition, "PROVIDER_REFUSED")),
        (400, "ErrorPropertyValidationFailure", (Code::FailedPrecondition, "PROVIDER_REFUSED")),
        (400, "ErrorInvalidRecipients", (Code::InvalidArgument, "FIELD_INVALID")),
        (429, "ApplicationThrottled", (Code::ResourceExhausted, "PROVIDER_THROTTLED")),
    ] {
        stage.graph.faults().plan(
            Some(Method::PATCH),
            "/events/",
            1,
            Fault::refuse(status, code, Some("86400")),
        );
        let item = CalendarEvent { subject: "x".into(), ..Default::default() };
        let (told, reason) = refusal(stage.update_event(&made.id, item, &[])).await;
        assert_eq!((told, reason.as_str()), expected, "{status} {code}");
    }
}
