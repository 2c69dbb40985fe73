//! Series: their exceptions, which Graph lists under no calendar, and their occurrences, where these are told one by one.

use jiff::{SignedDuration, Timestamp};
use postern_proto::outlook::v1::{CalendarEvent, CalendarEventType};
use serde_json::Value;

use super::cancelled;
use super::changes::{Change, Sorted, What, millis};
use super::fields::Look;
use super::known::{self, Notes, Seen};
use super::place::Place;
use super::wants::{Tells, Wants};
use super::{MARGIN_SECONDS, SELECT, Shown, Watched};
use crate::error::Error;
use crate::graph::model::Page;
use crate::graph::with_options;

/// How far ahead occurrences are told one by one; the rest as time goes on.
const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How far the horizon falls behind before it is moved on.
const ROLL_SECONDS: i64 = 7 * 86_400;
/// The farthest that it is moved at once.
const LONGEST_STEP: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How many pages of occurrences are read.
const MAX_PAGES: usize = 20;
/// How many occurrences a page holds.
const PAGE: usize = 100;
/// How many occurrences a change of a series may come to, over all triggers.
const MAX_SPREAD: usize = 5_000;

impl Watched<'_> {
    /// What changed among the exceptions of a series that is new, or was changed somewhere. How they look now is noted.
    pub(super) async fn exceptions(
        &self,
        series: &Shown,
        sorted: &Sorted,
        place: &Place,
        notes: &mut Notes<'_>,
    ) -> Result<Vec<Change>, Error> {
        let select = "id,cancelledOccurrences,exceptionOccurrences";
        let options = [("$select", select), ("$expand", "exceptionOccurrences")];
        let url = with_options(self.mailbox.url(&["events", &series.entry.id]), &options);
        let read = match self.mailbox.get::<Value>(url, None).await {
            Ok(read) => read,
            Err(failure) if failure.is_gone() => return Ok(Vec::new()),
            Err(failure) => return Err(failure.into()),
        };
        let now = read.date.unwrap_or_else(Timestamp::now);
        let told_until = place.stage.told_until();
        let of = known::of_series(sorted.key);
        let mut changes = Vec::new();
        for raw in array(&read.value, "exceptionOccurrences") {
            let Some(shown) = Shown::read(raw.clone(), self.table) else { continue };
            let (key, look) = (known::key(&shown.entry), Look::of(&shown.entry));
            let modified = millis(shown.entry.date_time_last_modified.as_ref(), now);
            let before = notes.get(key).map(|seen| seen.look);
            notes.put(key, Seen { look, modified, round: place.round, of });
            let fields = match before {
                Some(before) if before.whole == look.whole => continue,
                Some(before) => look.changed_since(&before),
                // It was an exception before it was first looked at.
                None if told_until.is_some_and(|until| modified < (until - MARGIN_SECONDS) * 1_000) => {
                    continue;
                }
                None => look.changed_since(&Look::of(&as_the_series_has_it(&series.entry, &shown.entry))),
            };
            let by_time = before.is_none();
            changes.push(Change { by_time, ..Change::new(shown, What::Changed(fields)) });
        }
        let explained = sorted.what.is_some() || !changes.is_empty();
        changes.extend(cancelled::since(series, &read.value, sorted, place.round, notes, explained));
        Ok(changes)
    }

    /// Puts the occurrences of a series beside it, where somebody wants them one by one.
    pub(super) async fn spread(
        &self,
        wants: &[Wants],
        change: &mut Change,
        place: &Place,
        now: Timestamp,
    ) -> Result<(), Error> {
        let entry = &change.shown.entry;
        let wanted = change.listeners.iter().filter_map(|(listener, _)| wants.get(*listener));
        if entry.r#type() != CalendarEventType::SeriesMaster
            || !wanted.into_iter().any(|want| want.every_occurrence)
        {
            return Ok(());
        }
        let until = now.checked_add(HORIZON).unwrap_or(now);
        let until = place.horizon.and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(until);
        let url = self.mailbox.url(&["events", &entry.id, "instances"]);
        let occurrences = self.between(url, now, until).await?;
        // To very many triggers a series is told as one after all: an answer has no room for more.
        if occurrences.len() * change.listeners.len() <= MAX_SPREAD {
            change.occurrences = occurrences;
        }
        Ok(())
    }

    /// Moves the horizon on, and gives the occurrences that come within it.
    pub(super) async fn roll(
        &self,
        wants: &[Wants],
        place: &mut Place,
        now: Timestamp,
    ) -> Result<Vec<Change>, Error> {
        let listeners = wants.iter().enumerate();
        let listeners = listeners.filter(|(_, want)| want.every_occurrence && want.tells == Tells::Made);
        let listeners: Vec<_> = listeners.map(|(index, _)| (index, What::Made)).collect();
        let mut until = now.checked_add(HORIZON).unwrap_or(now);
        if listeners.is_empty() {
            place.horizon = None;
            return Ok(Vec::new());
        }
        let Some(from) = place.horizon else {
            place.horizon = Some(until.as_second());
            return Ok(Vec::new());
        };
        if until.as_second() - from < ROLL_SECONDS {
            return Ok(Vec::new());
        }
        let start = Timestamp::from_second(from).unwrap_or(now);
        // After a long pause one step at a time: an answer has only so much room.
        until = until.min(start.checked_add(LONGEST_STEP).unwrap_or(until));
        let found = self.between(self.url("calendarView"), start, until).await?;
        place.horizon = Some(until.as_second());
        // What began before was told before.
        let is_new = |shown: &Shown| {
            shown.entry.start.is_some_and(|start| start.seconds >= from)
                && matches!(
                    shown.entry.r#type(),
                    CalendarEventType::Occurrence | CalendarEventType::Exception
                )
        };
        let told = found.into_iter().filter(is_new).map(|shown| {
            let mut change = Change::new(shown, What::Made);
            change.listeners.clone_from(&listeners);
            change
        });
        Ok(told.collect())
    }

    /// What takes place within a window.
    async fn between(
        &self,
        url: reqwest::Url,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Shown>, Error> {
        let (from, until, top) = (from.to_string(), until.to_string(), PAGE.to_string());
        let options = [
            ("startDateTime", from.as_str()),
            ("endDateTime", until.as_str()),
            ("$select", SELECT),
            ("$top", &top),
        ];
        let mut url = with_options(url, &options);
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = match self.mailbox.get::<Page<Value>>(url, None).await {
                Ok(read) => read.value,
                Err(failure) if failure.is_gone() => break,
                Err(failure) => return Err(failure.into()),
            };
            found.extend(page.value.into_iter().filter_map(|raw| Shown::read(raw, self.table)));
            let Some(next) = page.next else { break };
            url = self.mailbox.link(&next)?;
        }
        Ok(found)
    }
}

/// An array of an object; empty where there is none.
pub(super) fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// An occurrence as its series would have it: what an exception is compared with when it is first seen.
pub(super) fn as_the_series_has_it(series: &CalendarEvent, exception: &CalendarEvent) -> CalendarEvent {
    let mut plain = CalendarEvent { recurrence: None, ..series.clone() };
    let Some(original) = exception.original_start else { return plain };
    let length = |entry: &CalendarEvent| match (&entry.start, &entry.end) {
        (Some(start), Some(end)) => end.seconds - start.seconds,
        _ => 0,
    };
    plain.start = Some(original);
    plain.end = Some(prost_types::Timestamp { seconds: original.seconds + length(series), ..original });
    if plain.is_all_day && exception.start == plain.start {
        plain.start_date.clone_from(&exception.start_date);
        plain.end_date.clone_from(&exception.end_date);
    }
    plain
}
