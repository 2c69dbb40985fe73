//! The trigger for new calendar entries: what is told, once, and what is not.

use std::collections::BTreeSet;

use http::Method;
use jiff::SignedDuration;
use postern_chassis::fault::reason_of;
use postern_proto::connector::v1::CheckTriggerRequest;
use postern_proto::event::v1::Trigger;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::outlook::v1::EventCreatedTrigger;
use postern_sandbox::graph::Fault;
use serde_json::{Value, json};

use super::conformance::judge;
use super::diary::{Diary, at, created, daily, entry_of, line, modified, sometime};
use super::stage::{ANN, BO, Stage};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const NONE: [&str; 0] = [];

fn with(asked: EventCreatedTrigger) -> Kind {
    Kind::EventCreated(asked)
}

fn any() -> EventCreatedTrigger {
    EventCreatedTrigger::default()
}

/// Makes entries an hour before anybody watches.
fn make_old(stage: &Stage, count: usize) -> Vec<String> {
    stage.world.set_clock_ahead(-HOUR);
    let made = (0..count).map(|number| {
        let (status, made) = stage.as_ann(Method::POST, "events", sometime(&format!("old {number}")));
        assert_eq!(status, 201);
        made["id"].as_str().unwrap().to_owned()
    });
    let made = made.collect();
    stage.world.set_clock_ahead(SignedDuration::ZERO);
    made
}

#[tokio::test]
async fn a_new_entry_is_told_once_whatever_happens_to_it_and_an_old_one_is_not() {
    let stage = Stage::set().await;
    let old = make_old(&stage, 3);
    let mut diary = Diary::of_created(&stage).await;
    let id = diary.make(sometime("new"));
    diary.change(&id, json!({"importance": "high"}));
    let before = diary.watch.cursor.clone();
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["created new"]);
    let entry = entry_of(&told[0]);
    assert_eq!((&entry.id, told[0].time), (&id, entry.date_time_created));
    assert!(!entry.ical_uid.is_empty() && entry.start.is_some() && entry.web_link.contains(&id));
    diary.change(&id, json!({"subject": "newer"}));
    diary.change(&old[0], json!({"subject": "changed"}));
    diary.touch(&id);
    assert_eq!(diary.told().await, NONE);
    // The same look made again tells the same, by the same key.
    let after = std::mem::replace(&mut diary.watch.cursor, before);
    assert_eq!(diary.look().await[0].key, told[0].key);
    diary.watch.cursor = after;
    // A day later all is listed again.
    for _ in 0..3 {
        diary.pass(SignedDuration::from_hours(25));
        assert!(diary.requests().await.len() > 1);
        assert_eq!(diary.told().await, NONE);
    }
    diary.make(sometime("another"));
    assert_eq!(diary.told().await, ["created another"]);
    judge(&stage.graph, 1);
}

#[tokio::test]
async fn an_entry_between_the_triggers_making_and_the_first_look_is_told_and_one_years_ahead_too() {
    let stage = Stage::set().await;
    make_old(&stage, 1);
    let mut diary = Diary::new(&stage, [created()]);
    diary.make(sometime("between"));
    assert_eq!(diary.told().await, ["created between"]);
    let in_three_years = stage.world.now() + SignedDuration::from_hours(3 * 366 * 24);
    diary.make(at("far", in_three_years));
    diary.make(at("past", stage.world.now() - SignedDuration::from_hours(900 * 24)));
    assert_eq!(diary.told().await, ["created far", "created past"]);
}

#[tokio::test]
async fn an_invitation_is_a_new_entry_and_its_acceptance_is_a_change_of_it() {
    let stage = Stage::set().await;
    let mut diary = Diary::new(&stage, [created(), modified()]);
    diary.told().await;
    let mut meeting = sometime("meeting");
    meeting["attendees"] = json!([{"emailAddress": {"address": ANN}, "type": "required"}]);
    let (status, _) = stage.graph.perform(Method::POST, BO, "events", &meeting);
    assert_eq!(status, 201);
    assert_eq!(diary.told().await, ["created meeting"]);
    let invited = stage.world.calendar_events(ANN).remove(0);
    diary.act(Method::POST, &format!("events/{}/accept", invited.id), json!({"sendResponse": true}));
    let accepted = stage.world.calendar_events(ANN).remove(0);
    assert_ne!(accepted.id, invited.id);
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["modified meeting: response_status"]);
    assert_eq!((entry_of(&told[0]).id, &told[0].triggers[..]), (accepted.id, &["1".to_owned()][..]));
    diary.pass(SignedDuration::from_hours(25));
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn a_calendar_is_watched_by_its_id_and_one_that_is_not_there_is_told() {
    let stage = Stage::set().await;
    let team = stage.world.add_calendar(ANN, "Team").unwrap();
    let of = |table: &str| with(EventCreatedTrigger { table: table.into(), ..any() });
    let mut diary = Diary::new(&stage, [of(&team)]);
    diary.told().await;
    diary.make(sometime("mine"));
    diary.act(Method::POST, &format!("calendars/{team}/events"), sometime("the team's"));
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["created the team's"]);
    assert_eq!(entry_of(&told[0]).calendar_id, team);
    let bo = with(EventCreatedTrigger { mailbox: BO.into(), ..any() });
    let mut of_bo = Diary::new(&stage, [bo]);
    of_bo.told().await;
    stage.graph.perform(Method::POST, BO, "events", &sometime("Bo's"));
    assert_eq!(of_bo.told().await, ["created Bo's"]);

    let check = async |kind: Kind| {
        let trigger = Some(Trigger { kind: Some(kind), ..Trigger::default() });
        let request = stage.with_connection(CheckTriggerRequest { trigger });
        stage.connector.clone().check_trigger(request).await.map(|answer| answer.into_inner().watch_key)
    };
    let default = check(created()).await.unwrap();
    let id = stage.as_ann(Method::GET, "calendar", Value::Null).1["id"].as_str().unwrap().to_owned();
    assert_eq!(check(of(&id)).await.unwrap(), default);
    assert_eq!(check(modified()).await.unwrap(), default);
    assert_ne!(check(of(&team)).await.unwrap(), default);
    let nowhere = check(of("AAMkADcalendar0AAA=")).await.unwrap_err();
    assert_eq!(reason_of(&nowhere), "CALENDAR_NOT_FOUND");
    let wrong =
        check(with(EventCreatedTrigger { filter: "subject is 1".into(), ..any() })).await.unwrap_err();
    assert_eq!(reason_of(&wrong), "FIELD_INVALID");
    stage.as_ann(Method::DELETE, &format!("calendars/{team}"), Value::Null);
    assert_eq!(reason_of(&diary.watch.look().await.unwrap_err()), "CALENDAR_NOT_FOUND");
    judge(&stage.graph, 8);
}

#[tokio::test]
async fn conditions_orders_and_bounds_hold_for_each_trigger_and_all_share_one_request() {
    let stage = Stage::set().await;
    let kinds = [
        with(EventCreatedTrigger {
            filter: "startswith(subject, 'b') or importance eq 'high'".into(),
            ..any()
        }),
        with(EventCreatedTrigger { order_by: "subject desc".into(), ..any() }),
        with(EventCreatedTrigger { order_by: "subject desc".into(), skip: 1, ..any() }),
        modified(),
        created(),
    ];
    let mut diary = Diary::new(&stage, kinds);
    diary.told().await;
    for subject in ["b", "a", "d", "c"] {
        diary.make(sometime(subject));
    }
    let mut high = sometime("e");
    high["importance"] = "high".into();
    diary.make(high);
    stage.graph.recorder().clear();
    let told = diary.look().await;
    let of = |name: &str| -> String {
        let of = told.iter().filter(|one| one.triggers.iter().any(|trigger| trigger == name));
        of.map(|one| entry_of(one).subject).collect()
    };
    assert_eq!([of("0"), of("1"), of("2"), of("3"), of("4")], ["be", "edcba", "dcba", "", "badce"]);
    assert_eq!(stage.graph.recorder().exchanges().len(), 1);
    assert_eq!(diary.requests().await.len(), 1);
}

#[tokio::test]
async fn a_look_takes_no_more_than_its_bound_and_what_is_left_is_told_by_the_next() {
    let stage = Stage::set().await;
    for (top, most) in [(4, 0), (0, 4)] {
        let mut diary = Diary::new(&stage, [with(EventCreatedTrigger { top, ..any() }), created()]);
        diary.watch.max_occurrences = most;
        diary.told().await;
        for number in 0..11 {
            diary.make(sometime(&format!("{number:02}")));
        }
        let first = diary.watch.look().await.unwrap();
        assert!(first.more && first.occurrences.len() == 4, "{}", first.occurrences.len());
        let told = diary.look().await;
        assert!(told.iter().all(|one| one.triggers == ["0", "1"]));
        let subjects: Vec<_> = told.iter().map(|one| entry_of(one).subject).collect();
        assert_eq!(subjects, (0..11).map(|number| format!("{number:02}")).collect::<Vec<_>>());
        assert_eq!(diary.told().await, NONE);
    }
}

#[tokio::test]
async fn a_series_is_told_once_or_time_by_time_where_that_is_asked_for() {
    let stage = Stage::set().await;
    let each = with(EventCreatedTrigger { every_occurrence: true, ..any() });
    let mut diary = Diary::new(&stage, [created(), each]);
    diary.told().await;
    let tomorrow = stage.world.now() + SignedDuration::from_hours(24);
    diary.make(daily(at("series", tomorrow), Some(5)));
    let told = diary.look().await;
    let of = |name: &str| told.iter().filter(|one| one.triggers == [name]).collect::<Vec<_>>();
    assert_eq!((of("0").len(), of("1").len(), told.len()), (1, 5, 6));
    assert!(entry_of(of("0")[0]).recurrence.is_some());
    let keys: BTreeSet<_> = told.iter().map(|one| &one.key).collect();
    let starts: BTreeSet<_> = of("1").iter().map(|one| entry_of(one).start.unwrap().seconds).collect();
    assert_eq!((keys.len(), starts.len()), (6, 5));
    assert_eq!(starts.first(), Some(&tomorrow.as_second()));
    assert_eq!(diary.told().await, NONE);
    diary.pass(SignedDuration::from_hours(25));
    assert_eq!(diary.told().await, NONE);
    judge(&stage.graph, 3);
}

#[tokio::test]
async fn the_horizon_rolls_on_without_telling_a_time_twice_or_passing_one_over() {
    let stage = Stage::set().await;
    let each = with(EventCreatedTrigger { every_occurrence: true, ..any() });
    let mut diary = Diary::new(&stage, [each]);
    diary.told().await;
    let first = stage.world.now() + SignedDuration::from_hours(24);
    diary.make(daily(at("endless", first), None));
    let mut starts: Vec<i64> = Vec::new();
    for days in [0, 1, 8, 3, 40, 0, 0, 0, 15] {
        diary.pass(SignedDuration::from_hours(days * 24));
        starts.extend(diary.look().await.iter().map(|one| entry_of(one).start.unwrap().seconds));
    }
    let expected = (0..starts.len() as i64).map(|day| first.as_second() + day * 86_400);
    assert_eq!(starts, expected.collect::<Vec<_>>());
    assert!(starts.len() > 366 + 50, "{}", starts.len());
    judge(&stage.graph, 5);
}

#[tokio::test]
async fn a_large_calendar_is_listed_page_by_page_and_only_what_is_new_is_told() {
    let stage = Stage::set().await;
    let old = make_old(&stage, 640);
    let mut diary = Diary::new(&stage, [created(), modified()]);
    diary.make(sometime("new"));
    stage.graph.recorder().clear();
    assert_eq!(diary.told().await, ["created new"]);
    assert_eq!(stage.graph.recorder().exchanges().len(), 7);
    diary.change(&old[5], json!({"subject": "other"}));
    assert_eq!(diary.told().await, ["modified other: subject"]);
    assert_eq!(diary.requests().await.len(), 1);
    diary.pass(SignedDuration::from_hours(25));
    assert_eq!(diary.requests().await.len(), 8);
    assert_eq!(diary.told().await, NONE);
    // Very many that are made while nobody looks are told over pages too.
    for number in 0..250 {
        diary.make(sometime(&format!("late {number:03}")));
    }
    let told = diary.told().await;
    assert_eq!(told, (0..250).map(|number| format!("created late {number:03}")).collect::<Vec<_>>());
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn a_page_that_is_refused_is_begun_again_and_loses_and_doubles_nothing() {
    for (status, code) in
        [(410, ""), (400, "BadRequest"), (404, "ErrorItemNotFound"), (400, "SyncStateInvalid")]
    {
        let stage = Stage::set().await;
        make_old(&stage, 150);
        let mut diary = Diary::new(&stage, [created()]);
        diary.make(sometime("new"));
        stage.graph.faults().plan(Some(Method::GET), "$skip=", 1, Fault::refuse(status, code, None));
        let first = diary.watch.look().await.unwrap();
        assert!(!first.more && stage.graph.faults().all_shown(), "{status} {code}");
        diary.watch.cursor = first.next_cursor;
        let mut told: Vec<_> = first.occurrences.iter().map(line).collect();
        told.extend(diary.told().await);
        assert_eq!(told, ["created new"], "{status} {code}");
    }
}

#[tokio::test]
async fn what_is_moved_in_or_brought_back_is_told_within_a_day() {
    let stage = Stage::set().await;
    let team = stage.world.add_calendar(ANN, "Team").unwrap();
    stage.world.set_clock_ahead(-HOUR);
    let (_, made) = stage.as_ann(Method::POST, &format!("calendars/{team}/events"), sometime("moved"));
    let moved = made["id"].as_str().unwrap().to_owned();
    let old = make_old(&stage, 1).remove(0);
    let mut diary = Diary::of_created(&stage).await;
    let default =
        stage.world.calendar_events(ANN).into_iter().find(|event| event.id == old).unwrap().calendar;
    let mut event = stage.world.take_event(ANN, &moved).unwrap();
    event.calendar = default;
    stage.world.put_event(ANN, event);
    let gone = stage.world.take_event(ANN, &old).unwrap();
    assert_eq!(diary.told().await, NONE);
    diary.pass(SignedDuration::from_hours(25));
    assert_eq!(diary.told().await, ["created moved"]);
    diary.pass(SignedDuration::from_hours(25));
    assert_eq!(diary.told().await, NONE);
    diary.pass(SignedDuration::from_hours(25));
    assert_eq!(diary.told().await, NONE);
    stage.world.put_event(ANN, gone);
    diary.touch(&old);
    assert_eq!(diary.told().await, ["created old 0"]);
}

#[tokio::test]
async fn a_trigger_that_joins_later_is_told_of_what_is_new_since_and_a_clock_that_differs_changes_nothing() {
    for minutes in [-30, 0, 30] {
        let stage = Stage::set().await;
        let mut diary = Diary::new(&stage, [created(), created()]);
        let now = diary.watch.triggers[0].since.unwrap().seconds;
        diary.watch.triggers[1].since.as_mut().unwrap().seconds = now + 600;
        diary.pass(SignedDuration::from_mins(minutes));
        // It is the provider's clock alone that differs.
        for watched in &mut diary.watch.triggers {
            watched.since.as_mut().unwrap().seconds += minutes * 60;
        }
        let second = diary.watch.triggers.pop().unwrap();
        diary.told().await;
        diary.make(sometime("before"));
        assert_eq!(diary.told().await, ["created before"]);
        diary.pass(SignedDuration::from_mins(11));
        let mut second = second;
        second.since.as_mut().unwrap().seconds -= 661;
        diary.watch.triggers.push(second);
        diary.make(sometime("after"));
        let told = diary.look().await;
        assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["created after"], "{minutes}");
        assert_eq!(told[0].triggers, ["0", "1"], "{minutes}");
    }
}

#[tokio::test]
async fn a_cursor_that_is_none_or_anothers_is_refused() {
    let stage = Stage::set().await;
    let mut diary = Diary::of_created(&stage).await;
    let cursor = diary.watch.cursor.clone();
    for wrong in ["x".as_bytes(), &cursor[..cursor.len() - 1], b"\x01{}"] {
        diary.watch.cursor = prost::bytes::Bytes::copy_from_slice(wrong);
        assert_eq!(reason_of(&diary.watch.look().await.unwrap_err()), "FIELD_INVALID");
    }
}
