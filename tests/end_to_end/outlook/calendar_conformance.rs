//! Whether what is asked and answered of calendars and contacts is Graph as its description has it.

use http::Method;
use postern_proto::mail::v1::Mailbox;
use postern_proto::outlook::v1::{
    Attendee, CalendarEvent, Contact, CreateEventRequest, DayOfWeek, DeleteContactRequest,
    DeleteEventRequest, GetCalendarsRequest, GetContactFoldersRequest, GetContactsRequest, GetEventRequest,
    GetEventsRequest, Location, Recurrence, RecurrencePattern, RecurrencePatternType, RecurrenceRange,
    RecurrenceRangeType,
};
use postern_sandbox::graph::Fault;

use super::agenda::{at, entry, inner};
use super::conformance::judge;
use super::stage::{ANN, BO, Stage};

#[tokio::test]
async fn traffic_of_calendars_and_contacts_keeps_to_the_official_description() {
    let stage = Stage::set().await;
    calendars(&stage).await;
    contacts(&stage).await;
    judge(&stage.graph, 40);
}

async fn calendars(stage: &Stage) {
    let team = stage.world.add_calendar(ANN, "Team").unwrap();
    for request in
        [GetCalendarsRequest::default(), GetCalendarsRequest { page_size: 1, ..Default::default() }]
    {
        inner(stage.calendars().get_calendars(stage.with_connection(request)).await);
    }
    let recurrence = Recurrence {
        pattern: Some(RecurrencePattern {
            r#type: RecurrencePatternType::Weekly.into(),
            days_of_week: vec![DayOfWeek::Friday.into()],
            ..RecurrencePattern::default()
        }),
        range: Some(RecurrenceRange {
            r#type: RecurrenceRangeType::NoEnd.into(),
            start_date: "2026-05-01".into(),
            ..RecurrenceRange::default()
        }),
    };
    let mailbox = Some(Mailbox { address: BO.into(), name: "Bo".into() });
    let item = CalendarEvent {
        start_time_zone: "Europe/Paris".into(),
        attendees: vec![Attendee { mailbox, ..Attendee::default() }],
        body: "<p>x</p>".into(),
        is_html: true,
        location: Some(Location { display_name: "Room".into(), ..Location::default() }),
        recurrence: Some(recurrence),
        reminder: Some(5),
        is_online_meeting: true,
        ..entry("series", "2026-05-01T10:00:00Z")
    };
    let days =
        CalendarEvent { is_all_day: true, start_date: "2026-05-04".into(), ..CalendarEvent::default() };
    let mut made = Vec::new();
    for (table, item) in [("", item), (team.as_str(), days)] {
        let asked = CreateEventRequest {
            request_id: "1".into(),
            table: table.into(),
            item: Some(item),
            ..CreateEventRequest::default()
        };
        stage.graph.faults().plan(Some(Method::POST), "/events", 1, Fault::CutAfter);
        let event = stage.create_event_as(asked).await.unwrap();
        let change = CalendarEvent {
            subject: "new".into(),
            change_key: event.change_key.clone(),
            ..Default::default()
        };
        stage.update_event(&event.id, change, &[]).await.unwrap();
        made.push(event);
    }
    let moved = CalendarEvent { start: at("2026-05-08T09:00:00Z"), ..CalendarEvent::default() };
    stage.update_event(&format!("{}O20260508", made[0].id), moved, &[]).await.unwrap();
    stage
        .update_event(&made[1].id, CalendarEvent::default(), &["body", "categories", "attendees"])
        .await
        .unwrap();
    let window = GetEventsRequest {
        window_start: at("2026-05-01T00:00:00Z"),
        window_end: at("2026-07-01T00:00:00Z"),
        ..GetEventsRequest::default()
    };
    for asked in [
        GetEventsRequest::default(),
        GetEventsRequest {
            table: team.clone(),
            order_by: "subject desc".into(),
            skip: 1,
            ..Default::default()
        },
        GetEventsRequest {
            filter: "start/dateTime ge '2026-05-01'".into(),
            mailbox: BO.into(),
            ..Default::default()
        },
        GetEventsRequest { filter: "nothing".into(), ..Default::default() },
        GetEventsRequest { top: 3, ..window.clone() },
        GetEventsRequest { table: team.clone(), ..window },
        GetEventsRequest { table: "AAMkX".into(), ..Default::default() },
    ] {
        if let Ok(first) = stage.get_events(asked.clone()).await
            && !first.skip_token.is_empty()
        {
            stage.get_events(GetEventsRequest { skip_token: first.skip_token, ..asked }).await.unwrap();
        }
    }
    let asked = GetEventRequest { table: team, id: made[0].id.clone(), ..GetEventRequest::default() };
    stage.calendars().get_event(stage.with_connection(asked)).await.unwrap_err();
    for (event, comment) in made.iter().zip(["ill", ""]) {
        let asked =
            DeleteEventRequest { id: event.id.clone(), comment: comment.into(), ..Default::default() };
        inner(stage.calendars().delete_event(stage.with_connection(asked)).await);
    }
}

async fn contacts(stage: &Stage) {
    let folder = stage.world.add_contact_folder(ANN, None, "Family").unwrap();
    stage.world.add_contact_folder(ANN, Some(&folder), "Close").unwrap();
    let asked = GetContactFoldersRequest::default();
    inner(stage.contacts().get_contact_folders(stage.with_connection(asked)).await);
    let item = Contact {
        given_name: "Cy".into(),
        birthday: "1604-12-24".into(),
        email_addresses: vec![Mailbox { address: "cy@x.example".into(), name: String::new() }],
        home_phones: vec!["1".into()],
        home_address: Some(Default::default()),
        ..Contact::default()
    };
    stage.graph.faults().plan(Some(Method::POST), "/contacts", 1, Fault::CutAfter);
    let made = stage.create_contact("1", item.clone()).await.unwrap();
    stage.create_contact("2", item).await.unwrap();
    let names = ["birthday", "home_phones", "home_address", "surname"];
    let key = Contact { change_key: made.change_key.clone(), ..Contact::default() };
    stage.update_contact(&made.id, key.clone(), &names).await.unwrap();
    stage.update_contact(&made.id, key, &names).await.unwrap_err();
    for asked in [
        GetContactsRequest { top: 1, order_by: "surname".into(), ..Default::default() },
        GetContactsRequest { filter: "surname eq 'x'".into(), ..Default::default() },
        GetContactsRequest { table: folder, skip: 1, ..Default::default() },
    ] {
        inner(stage.contacts().get_contacts(stage.with_connection(asked)).await);
    }
    let asked = DeleteContactRequest { id: made.id, ..DeleteContactRequest::default() };
    inner(stage.contacts().delete_contact(stage.with_connection(asked)).await);
}
