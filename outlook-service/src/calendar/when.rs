//! When an entry takes place: from the contract's instants, days and zones to Graph's wall times. No instant shifts by
//! it at the edges of summer, and no day by any zone.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use postern_proto::outlook::v1::CalendarEvent;
use serde_json::{Value, json};

use super::recurrence::date;
use crate::error::Problems;
use crate::times;
use crate::zones::{UTC, Zone};

/// What is wrong with a name that no zone has.
pub(super) const NO_ZONE: &str = "is no time zone: expected an IANA or a Windows name, such as Europe/Berlin";
/// The fields that say when an entry takes place.
pub(super) const FIELDS: [&str; 7] =
    ["start", "end", "is_all_day", "start_date", "end_date", "start_time_zone", "end_time_zone"];

/// When an entry takes place, as Graph wants it.
#[derive(Debug)]
pub(super) struct When {
    pub(super) is_all_day: bool,
    pub(super) start: Value,
    pub(super) end: Value,
    /// The day that it starts on, in its zone.
    pub(super) first: Option<Date>,
    /// The zone that it starts in.
    pub(super) zone: String,
}

/// The entry with those of its fields that are named taken from another: what a change of some of them comes to.
pub(super) fn merged(there: &CalendarEvent, asked: &CalendarEvent, named: &[&str]) -> CalendarEvent {
    let mut merged = there.clone();
    if there.recurrence.is_none() {
        // A zone that only the entry knows, as imported ones do, cannot be written again. Its instants can.
        for zone in [&mut merged.start_time_zone, &mut merged.end_time_zone] {
            if Zone::find(zone).is_none() {
                zone.clear();
            }
        }
    }
    for name in named {
        match *name {
            "start" => merged.start = asked.start,
            "end" => merged.end = asked.end,
            "is_all_day" => merged.is_all_day = asked.is_all_day,
            "start_date" => merged.start_date.clone_from(&asked.start_date),
            "end_date" => merged.end_date.clone_from(&asked.end_date),
            "start_time_zone" => merged.start_time_zone.clone_from(&asked.start_time_zone),
            "end_time_zone" => merged.end_time_zone.clone_from(&asked.end_time_zone),
            _ => {}
        }
    }
    let rezoned = named.contains(&"start_time_zone") && !named.contains(&"end_time_zone");
    if merged.is_all_day {
        // Days have no instants, and one zone.
        (merged.start, merged.end) = (None, None);
        if rezoned {
            merged.end_time_zone.clear();
        }
    } else {
        (merged.start_date, merged.end_date) = (String::new(), String::new());
        if there.is_all_day {
            // Its instants were made of days: they say nothing of when it is to be.
            merged.start = asked.start.filter(|_| named.contains(&"start"));
            merged.end = asked.end.filter(|_| named.contains(&"end"));
        }
    }
    merged
}

/// When an entry takes place. `path` leads to it; `is_series`: whether it recurs.
pub(super) fn read(
    item: &CalendarEvent,
    path: &str,
    is_series: bool,
    problems: &mut Problems,
) -> Option<When> {
    let before = problems.len();
    let mut zone = |field: &str, name: &str| {
        let found = Zone::find(name);
        if found.is_none() {
            problems.push((format!("{path}.{field}"), NO_ZONE.to_owned()));
        }
        found
    };
    let name = if item.start_time_zone.is_empty() { UTC } else { &item.start_time_zone };
    let start_zone = zone("start_time_zone", name)?;
    let name = if item.end_time_zone.is_empty() { name } else { &item.end_time_zone };
    let end_zone = zone("end_time_zone", name)?;
    let when = if item.is_all_day {
        days(item, path, &start_zone, &end_zone, problems)
    } else {
        instants(item, path, (&start_zone, &end_zone), is_series, problems)
    };
    when.filter(|_| problems.len() == before)
}

fn days(
    item: &CalendarEvent,
    path: &str,
    start_zone: &Zone,
    end_zone: &Zone,
    problems: &mut Problems,
) -> Option<When> {
    let mut problem = |field: &str, text: &str| problems.push((format!("{path}.{field}"), text.to_owned()));
    if start_zone.name() != end_zone.name() {
        problem("end_time_zone", "expected that of the start: the entry lasts whole days");
    }
    let Some(start) = date(&item.start_date) else {
        problem("start_date", "expected a day such as 2026-03-29: the entry lasts whole days");
        return None;
    };
    let end = match item.end_date.as_str() {
        "" => start.checked_add(1.day()).ok(),
        text => date(text),
    };
    let Some(end) = end else {
        problem("end_date", "expected a day such as 2026-03-30");
        return None;
    };
    if end <= start {
        problem("end_date", "expected a day after start_date");
    }
    let midnight =
        |date: Date| json!({"dateTime": format!("{date}T00:00:00"), "timeZone": start_zone.name()});
    Some(When {
        is_all_day: true,
        start: midnight(start),
        end: midnight(end),
        first: Some(start),
        zone: start_zone.name().to_owned(),
    })
}

fn instants(
    item: &CalendarEvent,
    path: &str,
    (start_zone, end_zone): (&Zone, &Zone),
    is_series: bool,
    problems: &mut Problems,
) -> Option<When> {
    let mut problem = |field: &str, text: &str| problems.push((format!("{path}.{field}"), text.to_owned()));
    for (field, text) in [("start_date", &item.start_date), ("end_date", &item.end_date)] {
        if !text.is_empty() {
            problem(field, "is given without is_all_day");
        }
    }
    let mut instant = |field: &str, time: Option<&prost_types::Timestamp>| {
        let Some(time) = time else {
            problem(field, "is needed in an entry that does not last whole days");
            return None;
        };
        let read = times::from_proto(time).filter(|time| (0..=253_402_300_799).contains(&time.as_second()));
        if read.is_none() {
            problem(field, "expected a time between the years 1970 and 9999");
        }
        read
    };
    let (start, end) = (instant("start", item.start.as_ref()), instant("end", item.end.as_ref()));
    let (start, end) = (start?, end?);
    if end < start {
        problem("end", "expected no time before start");
    }
    Some(When {
        is_all_day: false,
        first: Some(start_zone.wall_time(start).date()),
        start: moment(start, start_zone, is_series),
        end: moment(end, end_zone, is_series),
        zone: start_zone.name().to_owned(),
    })
}

/// An instant as Graph wants it: wall time and zone. Where clocks are put back they show the same time twice, and Graph
/// would take one of the two: such an instant is told in UTC. Not so that of a series, which recurs by the clocks of its
/// zone.
fn moment(instant: Timestamp, zone: &Zone, is_series: bool) -> Value {
    let wall_time = zone.wall_time(instant);
    if is_series || zone.is_plain(wall_time) {
        return json!({"dateTime": wall_time.strftime(SHAPE).to_string(), "timeZone": zone.name()});
    }
    utc(instant)
}

/// How Graph writes a wall time.
const SHAPE: &str = "%Y-%m-%dT%H:%M:%S.%6f";

/// An instant in UTC, as Graph wants it.
pub(super) fn utc(instant: Timestamp) -> Value {
    json!({"dateTime": instant.strftime(SHAPE).to_string(), "timeZone": UTC})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<prost_types::Timestamp> {
        Some(times::to_proto(text.parse().unwrap()))
    }

    fn written(item: &CalendarEvent, is_series: bool) -> Result<When, Vec<String>> {
        let mut problems = Vec::new();
        let when = read(item, "item", is_series, &mut problems);
        when.ok_or_else(|| problems.into_iter().map(|(path, _)| path).collect())
    }

    fn berlin(start: &str, end: &str) -> CalendarEvent {
        CalendarEvent {
            start: at(start),
            end: at(end),
            start_time_zone: "Europe/Berlin".into(),
            ..CalendarEvent::default()
        }
    }

    #[test]
    fn an_entry_of_a_zone_of_its_own_can_be_given_another_end() {
        let own = "tzone://Microsoft/Custom".to_owned();
        let mut there = berlin("2026-12-01T09:00:00Z", "2026-12-01T10:00:00Z");
        (there.start_time_zone, there.end_time_zone) = (own.clone(), own.clone());
        let asked = CalendarEvent { end: at("2026-12-01T11:00:00Z"), ..CalendarEvent::default() };
        let when = written(&merged(&there, &asked, &["end"]), false).unwrap();
        assert_eq!(when.end, json!({"dateTime": "2026-12-01T11:00:00.000000", "timeZone": "UTC"}));
        // Of what is asked for, a zone that nobody knows is refused.
        let asked = CalendarEvent { end_time_zone: own, ..CalendarEvent::default() };
        let refused = written(&merged(&there, &asked, &["end_time_zone"]), false).unwrap_err();
        assert_eq!(refused, ["item.end_time_zone"]);
    }

    #[test]
    fn an_instant_in_the_hour_that_comes_twice_is_told_in_utc_so_that_it_does_not_shift() {
        for (start, date_time, zone) in [
            ("2026-10-24T23:30:00Z", "2026-10-25T01:30:00.000000", "W. Europe Standard Time"),
            ("2026-10-25T00:30:00Z", "2026-10-25T00:30:00.000000", "UTC"),
            ("2026-10-25T01:30:00Z", "2026-10-25T01:30:00.000000", "UTC"),
            ("2026-10-25T02:00:00Z", "2026-10-25T03:00:00.000000", "W. Europe Standard Time"),
            ("2026-03-29T01:00:00Z", "2026-03-29T03:00:00.000000", "W. Europe Standard Time"),
        ] {
            let when = written(&berlin(start, "2026-12-01T00:00:00Z"), false).unwrap();
            assert_eq!(when.start, json!({"dateTime": date_time, "timeZone": zone}), "{start}");
            let back = crate::zones::instant(date_time, zone).unwrap();
            assert_eq!(back.to_string(), start);
        }
        let series = berlin("2026-10-25T00:30:00Z", "2026-10-25T00:40:00Z");
        assert_eq!(written(&series, true).unwrap().start["timeZone"], "W. Europe Standard Time");
    }

    #[test]
    fn whole_days_are_midnights_of_their_own_zone() {
        for zone in ["Pacific/Kiritimati", "Pacific/Pago_Pago", "America/Sao_Paulo", ""] {
            let item = CalendarEvent {
                is_all_day: true,
                start_date: "2026-03-29".into(),
                start_time_zone: zone.into(),
                ..CalendarEvent::default()
            };
            let when = written(&item, false).unwrap();
            assert_eq!(when.start["dateTime"], "2026-03-29T00:00:00");
            assert_eq!(when.end["dateTime"], "2026-03-30T00:00:00");
            assert_eq!(when.start["timeZone"], when.end["timeZone"]);
        }
    }

    #[test]
    fn every_wrong_field_of_time_is_named() {
        assert_eq!(written(&CalendarEvent::default(), false).unwrap_err(), ["item.start", "item.end"]);
        let backwards = berlin("2026-10-25T00:30:00Z", "2026-10-25T00:29:00Z");
        assert_eq!(written(&backwards, false).unwrap_err(), ["item.end"]);
        let zone = CalendarEvent { end_time_zone: "Mars".into(), ..CalendarEvent::default() };
        assert_eq!(written(&zone, false).unwrap_err(), ["item.end_time_zone"]);
        let days = CalendarEvent {
            is_all_day: true,
            start_date: "2026-03-29".into(),
            end_date: "2026-03-29".into(),
            end_time_zone: "Asia/Tokyo".into(),
            ..CalendarEvent::default()
        };
        assert_eq!(written(&days, false).unwrap_err(), ["item.end_time_zone", "item.end_date"]);
        let early = berlin("1969-01-01T00:00:00Z", "2026-10-25T00:29:00Z");
        assert_eq!(written(&early, false).unwrap_err(), ["item.start"]);
    }

    #[test]
    fn a_change_of_some_fields_keeps_the_others() {
        let there = berlin("2026-05-01T10:00:00Z", "2026-05-01T11:00:00Z");
        let asked = berlin("2026-05-01T09:00:00Z", "2026-05-01T09:30:00Z");
        let start = merged(&there, &asked, &["start", "subject"]);
        assert_eq!((start.start, start.end), (asked.start, there.end));
        let days = CalendarEvent { is_all_day: true, start_date: "2026-05-01".into(), ..asked };
        let turned = merged(&there, &days, &["is_all_day", "start_date"]);
        assert_eq!((turned.start, turned.start_date.as_str()), (None, "2026-05-01"));
        let back = merged(&turned, &CalendarEvent::default(), &["is_all_day"]);
        assert_eq!(written(&back, false).unwrap_err(), ["item.start", "item.end"]);
    }
}
