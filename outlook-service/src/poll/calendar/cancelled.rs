//! The times of a series that were cancelled: Graph names them by the day they would have been on, and no more.

use jiff::civil::Date;
use postern_chassis::digest;
use postern_proto::outlook::v1::{CalendarEvent, CalendarEventType};
use serde_json::{Value, json};

use super::Shown;
use super::changes::{Change, Sorted, What};
use super::fields::{Look, first_eight};
use super::known::{self, Notes, Seen};
use super::series::{array, as_the_series_has_it};
use crate::times;
use crate::zones::Zone;

/// The times of a series that were cancelled since they were last looked at. `read`: the series with
/// `cancelledOccurrences`; `explained`: something else is told of the series. Of a new series nothing is told: what is
/// cancelled of it is only noted.
pub(super) fn since(
    series: &Shown,
    read: &Value,
    sorted: &Sorted,
    round: u8,
    notes: &mut Notes<'_>,
    explained: bool,
) -> Vec<Change> {
    let look = Look::of(&CalendarEvent::default());
    let seen = Seen { look, modified: i64::MAX, round, of: known::of_series(sorted.key) };
    // That they were looked at is remembered beside the series, under a key that no entry has but by a chance of one to
    // 2^64.
    let was_looked_at = notes.get(!sorted.key).is_some();
    notes.put(!sorted.key, seen);
    let mut new = Vec::new();
    for id in array(read, "cancelledOccurrences").iter().filter_map(Value::as_str) {
        if !note(notes, id, seen) {
            new.push(id);
        }
    }
    let whole = || vec![Change::new(series.clone(), What::Changed(vec!["cancelled_occurrences"]))];
    if sorted.is_new || new.is_empty() {
        return Vec::new();
    }
    // Which of them are new cannot be known the first time: something is told where nothing else explains the change.
    if !was_looked_at {
        return if explained { Vec::new() } else { whole() };
    }
    let each: Option<Vec<_>> = new.iter().map(|id| one(series, id)).collect();
    each.unwrap_or_else(whole)
}

/// Gives whether it was known already.
fn note(notes: &mut Notes<'_>, id: &str, seen: Seen) -> bool {
    let key = first_eight(&digest::of(id.as_bytes()));
    let was_known = notes.get(key).is_some();
    notes.put(key, seen);
    was_known
}

/// A cancelled time, from its id: `OID.`, the series' id, and the day.
fn one(series: &Shown, id: &str) -> Option<Change> {
    let day: Date = id.rsplit('.').next()?.parse().ok()?;
    let zone = Zone::find(&series.entry.start_time_zone)?;
    let first = times::from_proto(series.entry.start.as_ref()?)?;
    let start = zone.instant(day.to_datetime(zone.wall_time(first).time()))?;
    let original = CalendarEvent { original_start: Some(times::to_proto(start)), ..Default::default() };
    let mut entry = as_the_series_has_it(&series.entry, &original);
    if entry.is_all_day {
        let last = times::from_proto(entry.end.as_ref()?)?;
        entry.start_date = day.to_string();
        entry.end_date = zone.wall_time(last).date().to_string();
    }
    entry.original_start = original.original_start;
    entry.series_master_id = std::mem::replace(&mut entry.id, id.to_owned());
    entry.is_cancelled = true;
    entry.r#type = CalendarEventType::Occurrence.into();
    let mut raw = series.raw.clone();
    let at = |time: Option<prost_types::Timestamp>| {
        let time =
            time.as_ref().and_then(times::from_proto).map(|time| time.strftime("%FT%T.0000000").to_string());
        json!({"dateTime": time, "timeZone": "UTC"})
    };
    for (name, value) in [
        ("id", id.into()),
        ("seriesMasterId", series.entry.id.as_str().into()),
        ("type", "occurrence".into()),
        ("isCancelled", true.into()),
        ("recurrence", Value::Null),
        ("start", at(entry.start)),
        ("end", at(entry.end)),
    ] {
        if let Some(fields) = raw.as_object_mut() {
            fields.insert(name.to_owned(), value);
        }
    }
    Some(Change::new(Shown { entry, raw }, What::Changed(vec!["is_cancelled"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_time_is_on_its_day_at_the_hour_of_its_series_whatever_the_clocks_do_in_between() {
        let raw = json!({
            "id": "S", "iCalUId": "u", "subject": "daily", "type": "seriesMaster",
            "start": {"dateTime": "2026-03-27T09:00:00.0000000", "timeZone": "UTC"},
            "end": {"dateTime": "2026-03-27T09:30:00.0000000", "timeZone": "UTC"},
            "originalStartTimeZone": "W. Europe Standard Time", "originalEndTimeZone": "W. Europe Standard Time",
        });
        let series = Shown::read(raw, "").unwrap();
        let change = one(&series, "OID.S.x=.2026-03-30").unwrap();
        let entry = &change.shown.entry;
        assert_eq!(change.shown.raw["start"]["dateTime"], "2026-03-30T08:00:00.0000000");
        assert_eq!(entry.start, entry.original_start);
        assert_eq!(entry.end.unwrap().seconds - entry.start.unwrap().seconds, 1_800);
        assert!(entry.is_cancelled && entry.series_master_id == "S" && entry.id == "OID.S.x=.2026-03-30");
        assert!(one(&series, "OID.S.").is_none());
    }
}
