//! The trigger for entries that start soon: each time of each entry once, again when its start moves, in every zone.

use http::Method;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use postern_chassis::fault::reason_of;
use postern_proto::connector::v1::CheckTriggerRequest;
use postern_proto::event::v1::Trigger;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::outlook::v1::EventStartingSoonTrigger;
use serde_json::{Value, json};

use super::conformance::judge;
use super::diary::{Diary, at, daily, entry_of, line, moment, soon, time_of};
use super::stage::{ANN, Stage};

const NONE: [&str; 0] = [];

fn within(minutes: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + minutes * 60).unwrap()
}

async fn quarter(stage: &Stage) -> Diary<'_> {
    let mut diary = Diary::new(stage, [soon(0)]);
    assert_eq!(diary.told().await, NONE);
    diary
}

#[tokio::test]
async fn an_entry_is_told_once_and_again_when_its_start_moves() {
    let stage = Stage::set().await;
    let mut diary = Diary::new(&stage, [soon(0)]);
    diary.make(at("there before", within(10)));
    diary.make(at("too far", within(20)));
    diary.make(at("running", within(-10)));
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["soon there before"]);
    let start = entry_of(&told[0]).start.unwrap().seconds;
    assert_eq!(told[0].time.unwrap().seconds, start - 900);
    let quiet = diary.watch.cursor.clone();
    assert_eq!(diary.told().await, NONE);
    assert_eq!(diary.watch.cursor, quiet, "nothing need be stored");

    let id = diary.make(at("made close", within(5)));
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["soon made close"]);
    diary.touch(&id);
    diary.change(&id, json!({"subject": "renamed"}));
    assert_eq!(diary.told().await, NONE);
    let later = within(8);
    diary.change(&id, json!({"start": moment(later), "end": moment(later)}));
    let again = diary.look().await;
    assert_eq!(again.iter().map(line).collect::<Vec<_>>(), ["soon renamed"]);
    assert_ne!(again[0].key, told[0].key);
    assert_eq!(diary.told().await, NONE);
    let far = within(40);
    diary.change(&id, json!({"end": moment(far), "start": moment(far)}));
    assert_eq!(diary.told().await, NONE);
    let gone = diary.make(at("deleted", within(5)));
    diary.delete(&gone);
    assert_eq!(diary.told().await, NONE);
    judge(&stage.graph, 6);
}

#[tokio::test]
async fn a_start_that_passed_while_nobody_could_look_is_told_late() {
    let stage = Stage::set().await;
    let mut diary = Diary::new(&stage, [soon(1)]);
    // The trigger was made an hour ago and never looked for.
    diary.watch.triggers[0].since.as_mut().unwrap().seconds -= 3_600;
    diary.make(at("missed", within(-20)));
    diary.make(at("before the trigger", within(-90)));
    assert_eq!(diary.told().await, ["soon missed"]);
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn what_is_cancelled_is_not_told() {
    let stage = Stage::set().await;
    let mut diary = quarter(&stage).await;
    let id = diary.make(at("cancelled", within(5)));
    assert!(stage.world.edit_event(ANN, &id, |event| event.is_cancelled = true));
    let start = within(6);
    let series = diary.make(daily(at("series", start), Some(3)));
    let today = start.strftime("%Y-%m-%d").to_string();
    diary.delete(&time_of(&series, &today));
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn each_time_of_a_series_is_told_and_one_that_was_moved_at_its_own_start() {
    let stage = Stage::set().await;
    let mut diary = Diary::new(&stage, [soon(1_440)]);
    assert_eq!(diary.told().await, NONE);
    // Two times within the day ahead: one now, one in a day less a minute.
    let first = within(-1);
    let series = diary.make(daily(at("series", first), None));
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["soon series"]);
    let entry = entry_of(&told[0]);
    assert_eq!(entry.start.unwrap().seconds, first.as_second() + 86_400);
    assert_eq!(entry.series_master_id, series);
    let moved = within(600);
    diary.change(&entry.id, json!({"start": moment(moved), "end": moment(moved), "subject": "moved"}));
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["soon moved"]);
    assert_eq!(entry_of(&told[0]).start.unwrap().seconds, moved.as_second());
    assert_eq!(diary.told().await, NONE);
    judge(&stage.graph, 3);
}

#[tokio::test]
async fn a_series_keeps_its_hour_when_the_clocks_were_changed_since_it_began() {
    let stage = Stage::set().await;
    let mut diary = quarter(&stage).await;
    for (windows, iana) in
        [("W. Europe Standard Time", "Europe/Berlin"), ("Eastern Standard Time", "America/New_York")]
    {
        let zone = TimeZone::get(iana).unwrap();
        let start = within(10).to_zoned(zone);
        // A day when the clocks there showed the other half of the year's time.
        let began = (1..40).map(|weeks| start.checked_sub(Span::new().weeks(weeks)).unwrap());
        let began = began.into_iter().find(|began| began.offset() != start.offset()).unwrap();
        let text = began.datetime().strftime("%FT%T").to_string();
        let there = json!({"dateTime": text, "timeZone": windows});
        diary.make(daily(json!({"subject": windows, "start": there, "end": there}), None));
        let told = diary.look().await;
        assert_eq!(told.iter().map(line).collect::<Vec<_>>(), [format!("soon {windows}")]);
        assert_eq!(entry_of(&told[0]).start.unwrap().seconds, start.timestamp().as_second());
        assert_eq!(entry_of(&told[0]).start_time_zone, iana);
    }
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn whole_days_start_at_midnight_where_they_were_made() {
    let stage = Stage::set().await;
    let mut diary = Diary::new(&stage, [soon(1_440)]);
    diary.told().await;
    let zone = TimeZone::get("Asia/Tokyo").unwrap();
    let tomorrow = Timestamp::now().to_zoned(zone.clone()).date().tomorrow().unwrap();
    let midnight = |day: jiff::civil::Date| json!({"dateTime": format!("{day}T00:00:00"), "timeZone": "Tokyo Standard Time"});
    let last = tomorrow.tomorrow().unwrap();
    diary.make(
        json!({"subject": "holiday", "isAllDay": true, "start": midnight(tomorrow), "end": midnight(last)}),
    );
    let told = diary.look().await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["soon holiday"]);
    let entry = entry_of(&told[0]);
    assert_eq!(
        (entry.start_date.as_str(), entry.end_date.as_str()),
        (&*tomorrow.to_string(), &*last.to_string())
    );
    let expected = tomorrow.to_zoned(zone).unwrap().timestamp().as_second();
    assert_eq!(entry.start.unwrap().seconds, expected);
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn triggers_that_look_differently_far_ahead_share_a_look_and_each_is_told_in_its_time() {
    let stage = Stage::set().await;
    let mut diary = Diary::new(&stage, [soon(5), soon(60), soon(60)]);
    diary.told().await;
    diary.make(at("in half an hour", within(30)));
    stage.graph.recorder().clear();
    let told = diary.look().await;
    assert_eq!(told.iter().map(|one| one.triggers.clone()).collect::<Vec<_>>(), [["1", "2"]]);
    assert_eq!(stage.graph.recorder().exchanges().len(), 1);
    diary.make(at("in three minutes", within(3)));
    let told = diary.look().await;
    let mut tellers: Vec<_> = told.iter().map(|one| one.triggers.join("+")).collect();
    tellers.sort();
    assert_eq!(tellers, ["0", "1+2"]);
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn more_entries_than_a_page_holds_are_all_told() {
    let stage = Stage::set().await;
    let mut diary = quarter(&stage).await;
    for number in 0..230 {
        stage.as_ann(Method::POST, "events", at(&number.to_string(), within(5)));
    }
    assert_eq!(diary.told().await.len(), 230);
    assert_eq!(diary.told().await, NONE);
}

#[tokio::test]
async fn a_calendar_is_watched_by_its_id_and_what_cannot_be_asked_for_is_refused() {
    let stage = Stage::set().await;
    let team = stage.world.add_calendar(ANN, "Team").unwrap();
    let of = |table: &str, minutes: i32| {
        Kind::EventStartingSoon(EventStartingSoonTrigger {
            table: table.into(),
            look_ahead_time_in_minutes: minutes,
            ..Default::default()
        })
    };
    let mut diary = Diary::new(&stage, [of(&team, 0)]);
    diary.told().await;
    diary.make(at("mine", within(5)));
    diary.act(Method::POST, &format!("calendars/{team}/events"), at("the team's", within(5)));
    assert_eq!(diary.told().await, ["soon the team's"]);
    let check = async |kind: Kind| {
        let trigger = Some(Trigger { kind: Some(kind), ..Trigger::default() });
        let request = stage.with_connection(CheckTriggerRequest { trigger });
        stage.connector.clone().check_trigger(request).await.map(|answer| answer.into_inner().watch_key)
    };
    assert_eq!(check(of("", 5)).await.unwrap(), check(of("", 50)).await.unwrap());
    for minutes in [-1, 1_441] {
        assert_eq!(reason_of(&check(of("", minutes)).await.unwrap_err()), "FIELD_INVALID");
    }
    assert_eq!(reason_of(&check(of("AAMkX", 0)).await.unwrap_err()), "CALENDAR_NOT_FOUND");
    stage.as_ann(Method::DELETE, &format!("calendars/{team}"), Value::Null);
    assert_eq!(reason_of(&diary.watch.look().await.unwrap_err()), "CALENDAR_NOT_FOUND");
}
