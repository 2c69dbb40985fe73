//! The trigger for changed calendar entries: what people see is told, with its fields, and what Exchange does is not.

use http::Method;
use jiff::SignedDuration;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::outlook::v1::EventModifiedTrigger;
use serde_json::{Value, json};

use super::conformance::judge;
use super::diary::{Diary, at, created, daily, entry_of, line, modified, moment, sometime, time_of};
use super::stage::{BO, Stage};

const NONE: [&str; 0] = [];
const DAY: SignedDuration = SignedDuration::from_hours(25);

#[tokio::test]
async fn each_change_is_told_with_its_fields_and_a_touch_is_not() {
    let stage = Stage::set().await;
    let mut diary = Diary::of_modified(&stage).await;
    let id = diary.make(sometime("x"));
    assert_eq!(diary.told().await, NONE, "what is made is not changed");
    let later = "2027-03-02T10:00:00Z".parse().unwrap();
    let place = json!({"displayName": "Room 1", "address": {"city": "Bonn"}});
    for (change, fields) in [
        (json!({"subject": "x "}), "subject"),
        (json!({"end": moment(later)}), "end"),
        (json!({"start": moment("2027-03-01T11:00:00Z".parse().unwrap())}), "start"),
        (json!({"location": place}), "location"),
        (json!({"body": {"contentType": "text", "content": "hello"}}), "body"),
        (json!({"categories": ["Blue"], "importance": "high"}), "categories importance"),
        (json!({"showAs": "free"}), "show_as"),
        (json!({"sensitivity": "private"}), "sensitivity"),
        (json!({"isReminderOn": true, "reminderMinutesBeforeStart": 30}), "reminder"),
        (json!({"isReminderOn": false}), "is_reminder_on reminder"),
        (json!({"isOnlineMeeting": true}), "is_online_meeting online_meeting_url"),
        (json!({"hideAttendees": true}), "hide_attendees"),
        (json!({"attendees": [{"emailAddress": {"address": BO}, "type": "optional"}]}), "attendees"),
    ] {
        diary.change(&id, change);
        let told = diary.look().await;
        assert_eq!(told.len(), 1, "{fields}");
        assert!(line(&told[0]).ends_with(&format!(": {fields}")), "{fields}: {}", line(&told[0]));
        assert_eq!(told[0].time, entry_of(&told[0]).date_time_last_modified);
        diary.touch(&id);
        assert_eq!(diary.told().await, NONE, "{fields}");
    }
    diary.change(&id, json!({"subject": "y"}));
    diary.change(&id, json!({"subject": "z", "showAs": "busy"}));
    assert_eq!(diary.told().await, ["modified z: subject show_as"]);
    diary.change(&id, json!({"subject": "z"}));
    assert_eq!(diary.told().await, NONE, "written again, nothing of it is another");
    diary.pass(DAY);
    assert_eq!(diary.told().await, NONE);
    diary.delete(&id);
    assert_eq!(diary.told().await, NONE);
    judge(&stage.graph, 20);
}

#[tokio::test]
async fn a_change_while_nobody_looked_for_days_is_told() {
    let stage = Stage::set().await;
    let mut diary = Diary::of_modified(&stage).await;
    let id = diary.make(sometime("x"));
    diary.told().await;
    diary.change(&id, json!({"subject": "y"}));
    diary.pass(SignedDuration::from_hours(24 * 5));
    assert_eq!(diary.told().await, ["modified y: subject"]);
    diary.pass(DAY);
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn one_time_of_a_series_that_is_changed_or_cancelled_is_told_by_itself() {
    let stage = Stage::set().await;
    let mut diary = Diary::new(&stage, [modified(), created()]);
    diary.told().await;
    let series = diary.make(daily(at("daily", "2027-03-01T10:00:00Z".parse().unwrap()), Some(10)));
    assert_eq!(diary.told().await, ["created daily"]);
    let third = time_of(&series, "2027-03-03");
    diary.change(&third, json!({"subject": "other"}));
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["modified other: subject"]);
    let entry = entry_of(&told[0]);
    assert_eq!((&entry.id, &entry.series_master_id), (&third, &series));
    diary.change(&third, json!({"location": {"displayName": "Room 1"}}));
    assert_eq!(diary.told().await, ["modified other: location"]);
    diary.touch(&series);
    assert_eq!(diary.told().await, NONE);

    for (day, second) in [("2027-03-05", 1_804_240_800), ("2027-03-06", 1_804_327_200)] {
        diary.delete(&time_of(&series, day));
        let told = diary.look().await;
        assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["modified daily: is_cancelled"]);
        let entry = entry_of(&told[0]);
        assert!(entry.is_cancelled && entry.series_master_id == series);
        assert_eq!(entry.start.unwrap().seconds, second);
        diary.touch(&series);
        assert_eq!(diary.told().await, NONE);
    }
    // What is remembered of a series outlasts the daily listing.
    for _ in 0..3 {
        diary.pass(DAY);
        assert_eq!(diary.told().await, NONE);
        diary.touch(&series);
        assert_eq!(diary.told().await, NONE);
    }
    diary.change(&third, json!({"subject": "third"}));
    assert_eq!(diary.told().await, ["modified third: subject"]);
    diary.change(&series, json!({"subject": "all"}));
    assert_eq!(diary.told().await, ["modified all: subject"]);
    judge(&stage.graph, 20);
}

#[tokio::test]
async fn what_a_series_was_before_the_watch_began_is_not_told_when_it_is_touched() {
    let stage = Stage::set().await;
    let mut before = Diary::new(&stage, [modified()]);
    before.pass(SignedDuration::from_hours(-2));
    let series = before.make(daily(at("daily", "2027-03-01T10:00:00Z".parse().unwrap()), Some(10)));
    before.change(&time_of(&series, "2027-03-03"), json!({"subject": "other"}));
    before.delete(&time_of(&series, "2027-03-05"));
    stage.world.set_clock_ahead(SignedDuration::ZERO);
    let mut diary = Diary::of_modified(&stage).await;
    diary.touch(&series);
    assert_eq!(diary.told().await, NONE);
    diary.delete(&time_of(&series, "2027-03-06"));
    assert_eq!(diary.told().await, ["modified daily: is_cancelled"]);
}

#[tokio::test]
async fn answers_and_cancellations_of_meetings_are_told_to_those_they_matter_to() {
    let stage = Stage::set().await;
    let kind = Kind::EventModified(EventModifiedTrigger { mailbox: BO.into(), ..Default::default() });
    let mut of_bo = Diary::new(&stage, [kind]);
    of_bo.told().await;
    let mut diary = Diary::of_modified(&stage).await;
    let mut meeting = sometime("meeting");
    meeting["attendees"] = json!([{"emailAddress": {"address": BO}, "type": "required"}]);
    let id = diary.make(meeting);
    assert_eq!((diary.told().await, of_bo.told().await), (Vec::new(), Vec::new()));
    diary.pass(SignedDuration::from_secs(1));
    let invited = stage.world.calendar_events(BO).remove(0);
    stage.graph.perform(Method::POST, BO, &format!("events/{}/accept", invited.id), &json!({}));
    assert_eq!(diary.told().await, ["modified meeting: attendees"]);
    assert_eq!(of_bo.told().await, ["modified meeting: response_status"]);
    diary.act(Method::POST, &format!("events/{id}/cancel"), Value::Null);
    assert_eq!(of_bo.told().await, ["modified Canceled: meeting: subject is_cancelled"]);
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn a_changed_series_is_told_time_by_time_where_that_is_asked_for_and_conditions_hold_for_each() {
    let stage = Stage::set().await;
    let each = |filter: &str| {
        let asked =
            EventModifiedTrigger { every_occurrence: true, filter: filter.into(), ..Default::default() };
        Kind::EventModified(asked)
    };
    let start = stage.world.now() + SignedDuration::from_hours(48);
    let second = (start + SignedDuration::from_hours(24)).strftime("%FT%T.0000000").to_string();
    let mut diary =
        Diary::new(&stage, [each(""), each(&format!("start/dateTime ge '{second}'")), modified()]);
    diary.told().await;
    let series = diary.make(daily(at("series", start), Some(3)));
    assert_eq!(diary.told().await, NONE);
    diary.change(&series, json!({"subject": "new"}));
    let told = diary.look().await;
    let of = |name: &str| told.iter().filter(|one| one.triggers.iter().any(|told| told == name)).count();
    assert_eq!((of("0"), of("1"), of("2")), (3, 2, 1));
    assert!(told.iter().all(|one| line(one) == "modified new: subject"));
}

#[tokio::test]
async fn what_is_only_created_for_does_not_ask_for_the_times_of_series() {
    let stage = Stage::set().await;
    let mut diary = Diary::of_created(&stage).await;
    let series = diary.make(daily(sometime("series"), Some(3)));
    assert_eq!(diary.told().await, ["created series"]);
    diary.touch(&series);
    assert_eq!(diary.requests().await.len(), 1);
}
