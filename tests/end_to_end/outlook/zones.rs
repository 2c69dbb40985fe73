//! Time zones of entries: no instant shifts at the edges of summer, and whole days stay on their days.

use postern_proto::outlook::v1::{CalendarEvent, GetEventsRequest};

use super::agenda::{at, entry, wrong_fields};
use super::stage::Stage;

#[tokio::test]
async fn an_instant_survives_every_edge_of_summer_in_every_kind_of_zone() {
    let stage = Stage::set().await;
    for zone in [
        "Europe/Berlin",
        "Romance Standard Time",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "Antarctica/McMurdo",
        "Pacific/Chatham",
        "",
    ] {
        for start in [
            "2026-03-29T00:59:59Z",
            "2026-03-29T01:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:30:00Z",
            "2026-11-01T05:30:00Z",
            "2026-11-01T06:30:00Z",
            "2026-04-04T14:45:00Z",
            "2026-04-04T15:15:00Z",
            "2026-11-01T03:45:00Z",
            "2026-11-01T04:45:00Z",
        ] {
            let item = CalendarEvent { start_time_zone: zone.into(), ..entry(start, start) };
            let made = stage.create_event(item.clone()).await.unwrap();
            assert_eq!((made.start, made.end), (item.start, item.end), "{zone} {start}");
        }
    }
}

#[tokio::test]
async fn whole_days_keep_their_days_in_every_zone() {
    let stage = Stage::set().await;
    for (zone, windows) in [
        ("Pacific/Kiritimati", "Line Islands Standard Time"),
        ("Pacific/Honolulu", "Hawaiian Standard Time"),
        ("Europe/Berlin", "W. Europe Standard Time"),
        // Its summer begins at midnight: there is no 00:00 on that day.
        ("America/Havana", "Cuba Standard Time"),
        ("UTC", "UTC"),
    ] {
        let item = CalendarEvent {
            is_all_day: true,
            start_date: "2026-03-08".into(),
            end_date: "2026-03-10".into(),
            start_time_zone: zone.into(),
            ..CalendarEvent::default()
        };
        let made = stage.create_event(item).await.unwrap();
        assert_eq!(
            (made.start_date.as_str(), made.end_date.as_str()),
            ("2026-03-08", "2026-03-10"),
            "{zone}"
        );
        assert_eq!((made.start_time_zone.as_str(), made.start_time_zone_windows.as_str()), (zone, windows));
        let later = CalendarEvent { end_date: "2026-03-11".into(), ..CalendarEvent::default() };
        let changed = stage.update_event(&made.id, later, &[]).await.unwrap();
        assert_eq!((changed.start_date.as_str(), changed.end_date.as_str()), ("2026-03-08", "2026-03-11"));
        assert_eq!(changed.start_time_zone, zone);
    }
}

#[tokio::test]
async fn days_become_times_and_times_days_when_that_is_asked_for() {
    let stage = Stage::set().await;
    let made = stage.create_event(entry("x", "2026-05-01T10:00:00Z")).await.unwrap();
    let days =
        CalendarEvent { is_all_day: true, start_date: "2026-05-02".into(), ..CalendarEvent::default() };
    let turned = stage.update_event(&made.id, days, &[]).await.unwrap();
    assert!(turned.is_all_day);
    assert_eq!((turned.start_date.as_str(), turned.end_date.as_str()), ("2026-05-02", "2026-05-03"));
    let back = stage.update_event(&made.id, CalendarEvent::default(), &["is_all_day"]);
    assert_eq!(wrong_fields(back).await, ["item.start", "item.end"]);
    let times = entry("x", "2026-05-01T10:00:00Z");
    let turned = stage.update_event(&made.id, times.clone(), &["is_all_day", "start", "end"]).await.unwrap();
    assert_eq!((turned.is_all_day, turned.start, turned.end), (false, times.start, times.end));
    assert_eq!(turned.start_date, "");
}

#[tokio::test]
async fn times_are_asked_for_in_utc_and_sent_by_windows_names() {
    let stage = Stage::set().await;
    let item =
        CalendarEvent { start_time_zone: "Asia/Calcutta".into(), ..entry("x", "2026-05-01T10:00:00Z") };
    let made = stage.create_event(item).await.unwrap();
    assert_eq!(made.start_time_zone, "Asia/Kolkata");
    let sent = stage.bodies("POST").pop().unwrap();
    assert_eq!(sent["start"]["timeZone"], "India Standard Time");
    assert_eq!(sent["start"]["dateTime"], "2026-05-01T15:30:00.000000");
    let window = GetEventsRequest {
        window_start: at("2026-05-01T10:00:00Z"),
        window_end: at("2026-05-01T10:00:01Z"),
        ..GetEventsRequest::default()
    };
    assert_eq!(stage.event_subjects(window).await, ["x"]);
    for exchanged in stage.graph.recorder().exchanges() {
        let prefers = |(name, value): &(String, String)| {
            name == "prefer" && value.contains("outlook.timezone=\"UTC\"") && value.contains("ImmutableId")
        };
        assert!(exchanged.request_headers.iter().any(prefers), "{}", exchanged.url);
    }
}
