//! How a series recurs: checked and written as Graph wants it, and read from what it gives.

use jiff::civil::Date;
use postern_proto::outlook::v1::{
    Recurrence, RecurrencePattern, RecurrencePatternType as Kind, RecurrenceRange, RecurrenceRangeType as End,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::words::{self, DAY, PATTERN, RANGE, WEEK};
use crate::zones::{self, Zone};

/// The most days, weeks, months or years between two times.
const MAX_INTERVAL: i32 = 999;
/// The most times that Exchange counts.
const MAX_TIMES: i32 = 999;

/// `patternedRecurrence` of Graph.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Patterned {
    pattern: Option<Pattern>,
    range: Option<Range>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pattern {
    r#type: Option<String>,
    interval: Option<i32>,
    month: Option<i32>,
    day_of_month: Option<i32>,
    days_of_week: Option<Vec<String>>,
    first_day_of_week: Option<String>,
    index: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Range {
    r#type: Option<String>,
    start_date: Option<String>,
    end_date: Option<String>,
    recurrence_time_zone: Option<String>,
    number_of_occurrences: Option<i32>,
}

/// Graph's recurrence as the contract has it.
pub(super) fn read(recurrence: Patterned) -> Recurrence {
    let pattern = recurrence.pattern.unwrap_or_default();
    let range = recurrence.range.unwrap_or_default();
    let kind = words::read(PATTERN, pattern.r#type.as_deref());
    // Graph fills what a pattern does not have with values that mean nothing: they are left out.
    let has = |kinds: &[Kind]| kinds.iter().any(|known| *known as i32 == kind);
    let by_day = has(&[Kind::Weekly, Kind::RelativeMonthly, Kind::RelativeYearly]);
    let relative = has(&[Kind::RelativeMonthly, Kind::RelativeYearly]);
    let days = pattern.days_of_week.unwrap_or_default();
    let number = |wanted: bool, number: Option<i32>| number.filter(|_| wanted).unwrap_or_default();
    let word = |wanted: bool, value: i32| if wanted { value } else { 0 };
    let end = words::read(RANGE, range.r#type.as_deref());
    // A date that means nothing is the first of all dates.
    let date = |text: Option<String>| text.filter(|text| !text.starts_with("0001-")).unwrap_or_default();
    Recurrence {
        pattern: Some(RecurrencePattern {
            r#type: kind,
            interval: pattern.interval.unwrap_or_default(),
            days_of_week: days
                .iter()
                .filter(|_| by_day)
                .map(|day| words::read(DAY, Some(day)))
                .filter(|day| *day != 0)
                .collect(),
            first_day_of_week: word(
                has(&[Kind::Weekly]),
                words::read(DAY, pattern.first_day_of_week.as_deref()),
            ),
            day_of_month: number(has(&[Kind::AbsoluteMonthly, Kind::AbsoluteYearly]), pattern.day_of_month),
            month: number(has(&[Kind::AbsoluteYearly, Kind::RelativeYearly]), pattern.month),
            index: word(relative, words::read(WEEK, pattern.index.as_deref())),
        }),
        range: Some(RecurrenceRange {
            r#type: end,
            start_date: date(range.start_date),
            end_date: date(range.end_date.filter(|_| end == End::EndDate as i32)),
            number_of_occurrences: number(end == End::Numbered as i32, range.number_of_occurrences),
            recurrence_time_zone: range
                .recurrence_time_zone
                .map(|zone| zones::iana(&zone))
                .unwrap_or_default(),
        }),
    }
}

/// Wrong fields, from the recurrence on.
struct Problems<'a> {
    path: &'a str,
    all: &'a mut Vec<(String, String)>,
}

impl Problems<'_> {
    fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.all.push((format!("{}.{field}", self.path), problem.into()));
    }
}

/// A recurrence as Graph wants it. `first`: the day that the series starts on, where that is known; `zone`: the zone of
/// the entry.
pub(super) fn write(
    recurrence: &Recurrence,
    path: &str,
    first: Option<Date>,
    zone: &str,
    all: &mut Vec<(String, String)>,
) -> Value {
    let mut problems = Problems { path, all };
    let pattern = match &recurrence.pattern {
        Some(pattern) => write_pattern(pattern, &mut problems),
        None => {
            problems.add("pattern", "is needed");
            Value::Null
        }
    };
    let range = match &recurrence.range {
        Some(range) => write_range(range, first, zone, &mut problems),
        None => {
            problems.add("range", "is needed");
            Value::Null
        }
    };
    json!({"pattern": pattern, "range": range})
}

fn write_pattern(pattern: &RecurrencePattern, problems: &mut Problems<'_>) -> Value {
    let kind = match words::write(PATTERN, pattern.r#type) {
        Ok(Some(kind)) => kind,
        Ok(None) => {
            problems.add("pattern.type", "is needed");
            return Value::Null;
        }
        Err(problem) => {
            problems.add("pattern.type", problem);
            return Value::Null;
        }
    };
    let interval = if pattern.interval == 0 { 1 } else { pattern.interval };
    if !(1..=MAX_INTERVAL).contains(&interval) {
        problems.add("pattern.interval", format!("expected 1 to {MAX_INTERVAL}"));
    }
    let mut written = json!({"type": kind, "interval": interval});
    let mut days = Vec::new();
    for (index, day) in pattern.days_of_week.iter().enumerate() {
        match words::write(DAY, *day) {
            Ok(Some(day)) if days.contains(&day) => {
                problems.add(&format!("pattern.days_of_week[{index}]"), "is there twice");
            }
            Ok(Some(day)) => days.push(day),
            Ok(None) | Err(_) => {
                problems.add(&format!("pattern.days_of_week[{index}]"), "expected a day of the week");
            }
        }
    }
    let kind = pattern.r#type();
    let by_day = matches!(kind, Kind::Weekly | Kind::RelativeMonthly | Kind::RelativeYearly);
    let by_date = matches!(kind, Kind::AbsoluteMonthly | Kind::AbsoluteYearly);
    let relative = matches!(kind, Kind::RelativeMonthly | Kind::RelativeYearly);
    let yearly = matches!(kind, Kind::AbsoluteYearly | Kind::RelativeYearly);
    let foreign = "does not belong to this type of pattern";
    match (by_day, pattern.days_of_week.is_empty()) {
        (true, true) => problems.add("pattern.days_of_week", "is needed in this type of pattern"),
        (false, false) => problems.add("pattern.days_of_week", foreign),
        (true, false) => written["daysOfWeek"] = days.into(),
        (false, true) => {}
    }
    match (by_date, pattern.day_of_month) {
        (true, day @ 1..=31) => written["dayOfMonth"] = day.into(),
        (true, _) => problems.add("pattern.day_of_month", "expected 1 to 31"),
        (false, 0) => {}
        (false, _) => problems.add("pattern.day_of_month", foreign),
    }
    match (yearly, pattern.month) {
        (true, month @ 1..=12) => written["month"] = month.into(),
        (true, _) => problems.add("pattern.month", "expected 1 to 12"),
        (false, 0) => {}
        (false, _) => problems.add("pattern.month", foreign),
    }
    match (relative, words::write(WEEK, pattern.index)) {
        (true, Ok(Some(week))) => written["index"] = week.into(),
        (true, _) => problems.add("pattern.index", "is needed in this type of pattern"),
        (false, Ok(None)) => {}
        (false, _) => problems.add("pattern.index", foreign),
    }
    match (kind, words::write(DAY, pattern.first_day_of_week)) {
        (Kind::Weekly, Ok(day)) => written["firstDayOfWeek"] = day.unwrap_or("sunday").into(),
        (_, Ok(None)) => {}
        (Kind::Weekly, Err(problem)) => problems.add("pattern.first_day_of_week", problem),
        (_, _) => problems.add("pattern.first_day_of_week", foreign),
    }
    written
}

fn write_range(
    range: &RecurrenceRange,
    first: Option<Date>,
    zone: &str,
    problems: &mut Problems<'_>,
) -> Value {
    let kind = match words::write(RANGE, range.r#type) {
        Ok(Some(kind)) => kind,
        Ok(None) => {
            problems.add("range.type", "is needed");
            return Value::Null;
        }
        Err(problem) => {
            problems.add("range.type", problem);
            return Value::Null;
        }
    };
    let mut written = json!({"type": kind, "startDate": range.start_date});
    let start = date(&range.start_date);
    match (start, first) {
        (None, _) => problems.add("range.start_date", "expected a day such as 2026-03-29"),
        (Some(start), Some(first)) if start != first => {
            problems.add("range.start_date", format!("expected the day that the entry starts on: {first}"));
        }
        _ => {}
    }
    match (range.r#type(), date(&range.end_date)) {
        (End::EndDate, None) => problems.add("range.end_date", "expected a day such as 2026-03-29"),
        (End::EndDate, Some(end)) if start.is_some_and(|start| end < start) => {
            problems.add("range.end_date", "expected no day before start_date");
        }
        (End::EndDate, Some(_)) => written["endDate"] = range.end_date.clone().into(),
        (_, _) if range.end_date.is_empty() => {}
        _ => problems.add("range.end_date", "does not belong to this type of range"),
    }
    match (range.r#type(), range.number_of_occurrences) {
        (End::Numbered, times @ 1..=MAX_TIMES) => written["numberOfOccurrences"] = times.into(),
        (End::Numbered, _) => {
            problems.add("range.number_of_occurrences", format!("expected 1 to {MAX_TIMES}"));
        }
        (_, 0) => {}
        _ => problems.add("range.number_of_occurrences", "does not belong to this type of range"),
    }
    let named = &range.recurrence_time_zone;
    match Zone::find(if named.is_empty() { zone } else { named }) {
        Some(zone) => written["recurrenceTimeZone"] = zone.name().into(),
        // That the entry's own zone is none is told of that field.
        None if named.is_empty() => {}
        None => problems.add("range.recurrence_time_zone", super::when::NO_ZONE),
    }
    written
}

/// A day as the contract writes it.
pub(super) fn date(text: &str) -> Option<Date> {
    Some(text).filter(|text| text.len() == 10)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::outlook::v1::{DayOfWeek, WeekIndex};

    fn round(pattern: RecurrencePattern, range: RecurrenceRange) -> Result<Recurrence, Vec<String>> {
        let recurrence = Recurrence { pattern: Some(pattern), range: Some(range) };
        let mut problems = Vec::new();
        let written = write(&recurrence, "r", date("2026-03-29"), "Europe/Berlin", &mut problems);
        if !problems.is_empty() {
            return Err(problems.into_iter().map(|(path, _)| path).collect());
        }
        Ok(read(serde_json::from_value(written).unwrap()))
    }

    fn forever() -> RecurrenceRange {
        RecurrenceRange {
            r#type: End::NoEnd.into(),
            start_date: "2026-03-29".into(),
            recurrence_time_zone: "Europe/Berlin".into(),
            ..RecurrenceRange::default()
        }
    }

    #[test]
    fn each_type_of_pattern_comes_back_as_it_was_given() {
        let of = |kind: Kind| RecurrencePattern { r#type: kind.into(), interval: 2, ..Default::default() };
        let days = vec![DayOfWeek::Monday.into(), DayOfWeek::Sunday.into()];
        for pattern in [
            of(Kind::Daily),
            RecurrencePattern {
                days_of_week: days.clone(),
                first_day_of_week: DayOfWeek::Monday.into(),
                ..of(Kind::Weekly)
            },
            RecurrencePattern { day_of_month: 31, ..of(Kind::AbsoluteMonthly) },
            RecurrencePattern {
                days_of_week: days.clone(),
                index: WeekIndex::Last.into(),
                ..of(Kind::RelativeMonthly)
            },
            RecurrencePattern { day_of_month: 29, month: 2, ..of(Kind::AbsoluteYearly) },
            RecurrencePattern {
                days_of_week: days,
                index: WeekIndex::First.into(),
                month: 12,
                ..of(Kind::RelativeYearly)
            },
        ] {
            let came = round(pattern.clone(), forever()).unwrap();
            assert_eq!((came.pattern, came.range), (Some(pattern), Some(forever())));
        }
    }

    #[test]
    fn every_wrong_field_of_a_recurrence_is_named() {
        let weekly = RecurrencePattern { r#type: Kind::Weekly.into(), ..Default::default() };
        let numbered = RecurrenceRange { r#type: End::Numbered.into(), ..forever() };
        assert_eq!(
            round(RecurrencePattern { interval: -1, month: 3, ..weekly }, numbered).unwrap_err(),
            [
                "r.pattern.interval",
                "r.pattern.days_of_week",
                "r.pattern.month",
                "r.range.number_of_occurrences"
            ]
        );
        let relative = RecurrencePattern {
            r#type: Kind::RelativeYearly.into(),
            days_of_week: vec![9],
            day_of_month: 1,
            month: 13,
            ..Default::default()
        };
        let until = RecurrenceRange {
            r#type: End::EndDate.into(),
            start_date: "2026-03-30".into(),
            end_date: "2026-3-1".into(),
            recurrence_time_zone: "Mars/Base".into(),
            ..RecurrenceRange::default()
        };
        assert_eq!(
            round(relative, until).unwrap_err(),
            [
                "r.pattern.days_of_week[0]",
                "r.pattern.day_of_month",
                "r.pattern.month",
                "r.pattern.index",
                "r.range.start_date",
                "r.range.end_date",
                "r.range.recurrence_time_zone",
            ]
        );
        assert_eq!(
            round(RecurrencePattern::default(), RecurrenceRange::default()).unwrap_err(),
            ["r.pattern.type", "r.range.type"]
        );
    }
}
