//! Series: their recurrence checked as Graph checks it, and the days that it comes to.

use jiff::civil::{Date, Weekday};
use jiff::{Span, ToSpan as _, Unit};
use serde_json::Value;

use super::refusal::{self, Refusal};

/// How far a series is followed, in days from its start.
const MAX_DAYS: usize = 20_000;

/// A recurrence as it is reckoned with.
struct Rule {
    kind: String,
    interval: i64,
    days: Vec<Weekday>,
    first_day: Weekday,
    day_of_month: i8,
    month: i8,
    index: usize,
    start: Date,
    end: Option<Date>,
    times: Option<usize>,
}

/// Checks a recurrence for an event that starts on a day.
pub(super) fn check(recurrence: &Value, start: Date) -> Result<(), Refusal> {
    let rule = Rule::read(recurrence)?;
    if rule.start != start {
        return Err(refusal::recurrence("The start date of the range is not that of the event."));
    }
    if days(recurrence, start.checked_add(10.years()).unwrap_or(start))?.is_empty() {
        return Err(refusal::recurrence("The recurrence has no occurrences."));
    }
    Ok(())
}

/// The days of a series up to a day.
pub(super) fn days(recurrence: &Value, until: Date) -> Result<Vec<Date>, Refusal> {
    let rule = Rule::read(recurrence)?;
    let until = rule.end.map_or(until, |end| end.min(until));
    let mut found = Vec::new();
    let mut day = rule.start;
    for _ in 0..MAX_DAYS {
        if day > until || rule.times.is_some_and(|times| found.len() == times) {
            break;
        }
        if rule.holds(day) {
            found.push(day);
        }
        let Ok(next) = day.tomorrow() else { break };
        day = next;
    }
    Ok(found)
}

fn span(from: Date, to: Date, unit: Unit) -> Span {
    from.until((unit, to)).unwrap_or_default()
}

impl Rule {
    fn read(recurrence: &Value) -> Result<Self, Refusal> {
        let bad = |what: &str| refusal::recurrence(&format!("The recurrence has no good {what}."));
        let (pattern, range) = (&recurrence["pattern"], &recurrence["range"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = text(&pattern["type"]);
        let kinds =
            ["daily", "weekly", "absoluteMonthly", "relativeMonthly", "absoluteYearly", "relativeYearly"];
        if !kinds.contains(&kind.as_str()) {
            return Err(bad("type"));
        }
        let number = |value: &Value| value.as_i64().unwrap_or_default();
        let interval = number(&pattern["interval"]);
        if !(1..=999).contains(&interval) {
            return Err(bad("interval"));
        }
        let mut days = Vec::new();
        for day in pattern["daysOfWeek"].as_array().into_iter().flatten() {
            days.push(weekday(day.as_str().unwrap_or_default()).ok_or_else(|| bad("daysOfWeek"))?);
        }
        let by_day = kind == "weekly" || kind.starts_with("relative");
        if by_day && days.is_empty() {
            return Err(bad("daysOfWeek"));
        }
        let day_of_month = i8::try_from(number(&pattern["dayOfMonth"])).unwrap_or_default();
        if kind.starts_with("absolute") && !(1..=31).contains(&day_of_month) {
            return Err(bad("dayOfMonth"));
        }
        let month = i8::try_from(number(&pattern["month"])).unwrap_or_default();
        if kind.ends_with("Yearly") && !(1..=12).contains(&month) {
            return Err(bad("month"));
        }
        let words = ["first", "second", "third", "fourth", "last"];
        let index = words.iter().position(|word| pattern["index"].as_str().unwrap_or("first") == *word);
        let date = |value: &Value| value.as_str().and_then(|text| text.parse::<Date>().ok());
        let (end, times) = match range["type"].as_str() {
            Some("endDate") => (Some(date(&range["endDate"]).ok_or_else(|| bad("endDate"))?), None),
            Some("noEnd") => (None, None),
            Some("numbered") => {
                let times = usize::try_from(number(&range["numberOfOccurrences"])).unwrap_or_default();
                if times == 0 {
                    return Err(bad("numberOfOccurrences"));
                }
                (None, Some(times))
            }
            _ => return Err(bad("range")),
        };
        Ok(Self {
            kind,
            interval,
            days,
            first_day: weekday(pattern["firstDayOfWeek"].as_str().unwrap_or("sunday"))
                .ok_or_else(|| bad("firstDayOfWeek"))?,
            day_of_month,
            month,
            index: index.ok_or_else(|| bad("index"))?,
            start: date(&range["startDate"]).ok_or_else(|| bad("startDate"))?,
            end,
            times,
        })
    }

    fn holds(&self, day: Date) -> bool {
        let months =
            i64::from(day.year() - self.start.year()) * 12 + i64::from(day.month() - self.start.month());
        let years = i64::from(day.year() - self.start.year());
        let on_day = day.day() == self.day_of_month.min(day.days_in_month());
        match self.kind.as_str() {
            "daily" => i64::from(span(self.start, day, Unit::Day).get_days()) % self.interval == 0,
            "weekly" => {
                let weeks = span(self.week(self.start), self.week(day), Unit::Day).get_days() / 7;
                self.days.contains(&day.weekday()) && i64::from(weeks) % self.interval == 0
            }
            "absoluteMonthly" => on_day && months % self.interval == 0,
            "relativeMonthly" => self.is_nth(day) && months % self.interval == 0,
            "absoluteYearly" => on_day && day.month() == self.month && years % self.interval == 0,
            _ => self.is_nth(day) && day.month() == self.month && years % self.interval == 0,
        }
    }

    /// The day that a day's week begins with.
    fn week(&self, day: Date) -> Date {
        let since = self.first_day.until(day.weekday());
        day.checked_sub(i64::from(since).days()).unwrap_or(day)
    }

    fn is_nth(&self, day: Date) -> bool {
        let same = |number: i8| {
            let other = Date::new(day.year(), day.month(), number).ok()?;
            self.days.contains(&other.weekday()).then_some(other)
        };
        let days: Vec<Date> = (1..=day.days_in_month()).filter_map(same).collect();
        let wanted = if self.index == 4 { days.last() } else { days.get(self.index) };
        wanted == Some(&day)
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    let days = [
        ("sunday", Weekday::Sunday),
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
    ];
    days.into_iter().find(|(name, _)| *name == word).map(|(_, day)| day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(pattern: Value, start: &str, times: u64) -> Vec<String> {
        let range = json!({"type": "numbered", "startDate": start, "numberOfOccurrences": times});
        let until = "2040-01-01".parse().unwrap();
        let found = days(&json!({"pattern": pattern, "range": range}), until).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_pattern_comes_to_its_days() {
        let daily = json!({"type": "daily", "interval": 2});
        assert_eq!(of(daily, "2026-02-27", 3), ["2026-02-27", "2026-03-01", "2026-03-03"]);
        let weekly = json!({
            "type": "weekly", "interval": 2, "daysOfWeek": ["monday", "sunday"], "firstDayOfWeek": "monday",
        });
        assert_eq!(of(weekly, "2026-03-02", 4), ["2026-03-02", "2026-03-08", "2026-03-16", "2026-03-22"]);
        let end_of_month = json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 31});
        assert_eq!(of(end_of_month, "2026-01-31", 3), ["2026-01-31", "2026-02-28", "2026-03-31"]);
        let last_friday =
            json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["friday"], "index": "last"});
        assert_eq!(of(last_friday, "2026-01-30", 2), ["2026-01-30", "2026-02-27"]);
        let leap = json!({"type": "absoluteYearly", "interval": 1, "month": 2, "dayOfMonth": 29});
        assert_eq!(of(leap, "2027-01-01", 2), ["2027-02-28", "2028-02-29"]);
        let second = json!({
            "type": "relativeYearly", "interval": 1, "month": 3, "daysOfWeek": ["tuesday"], "index": "second",
        });
        assert_eq!(of(second, "2026-03-10", 2), ["2026-03-10", "2027-03-09"]);
    }
}
