//! What takes place in a window: `calendarView` and `instances`, each time of a series for itself.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;

use super::shape::{Entry, KIND};
use super::zone_of;
use crate::graph::exchange::Exchange;
use crate::graph::refusal::{Answer, Answered, Refusal};
use crate::graph::{Shared, folders, odata, recurrence, refusal};
use crate::world::{Calendars, Event};

/// The longest window, in days.
const MAX_DAYS: i64 = 1_830;

/// The ends of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Window {
    /// Reads `startDateTime` and `endDateTime`: without an offset they are in UTC.
    pub(super) fn read(asked: &Exchange) -> Result<Self, Refusal> {
        let end = |name: &str| {
            let value = asked.options.iter().find(|(option, _)| option.eq_ignore_ascii_case(name));
            let (_, text) = value.ok_or_else(|| {
                refusal::bad("This request requires a time window specified by the query string parameters StartDateTime and EndDateTime.")
            })?;
            let plain = || {
                text.parse::<jiff::civil::DateTime>()
                    .ok()?
                    .to_zoned(TimeZone::UTC)
                    .ok()
                    .map(|at| at.timestamp())
            };
            let read = text.parse::<Timestamp>().ok().or_else(plain);
            read.ok_or_else(|| refusal::bad(format!("The value of '{name}' is no date and time.")))
        };
        let (from, until) = (end("startDateTime")?, end("endDateTime")?);
        if until < from || until.as_second() - from.as_second() > MAX_DAYS * 86_400 {
            return Err(refusal::bad("The time window is not valid: at most 1825 days."));
        }
        Ok(Self { from, until })
    }
}

/// The times of an event, or of each occurrence of a series, in a window.
pub(super) fn within(event: &Event, window: Window) -> Vec<Entry<'_>> {
    let entries = match &event.recurrence {
        None => vec![Entry { event, day: None }],
        Some(recurrence) => {
            // Two days more: wall time may be ahead, and an exception may have been moved from behind the window.
            let last =
                TimeZone::UTC.to_datetime(window.until).date().checked_add(2.days()).unwrap_or_default();
            let moved = event.exceptions.keys().copied();
            let mut days = recurrence::days(recurrence, last).unwrap_or_default();
            days.extend(moved);
            days.sort();
            days.dedup();
            days.retain(|day| !event.cancelled.contains(day));
            days.into_iter().map(|day| Entry { event, day: Some(day) }).collect()
        }
    };
    entries.into_iter().filter(|entry| entry.is_within(window.from, window.until)).collect()
}

/// All that takes place in a calendar in a window, in order of time.
pub(super) fn of_calendar<'a>(calendars: &'a Calendars, calendar: &str, window: Window) -> Vec<Entry<'a>> {
    let events = calendars.events.values().filter(|event| event.calendar == calendar);
    let mut entries: Vec<_> = events.flat_map(|event| within(event, window)).collect();
    entries.sort_by_key(|entry| crate::graph::zones::instant(&entry.start()));
    entries
}

/// `calendarView` of a calendar.
pub(super) fn view(shared: &Shared, asked: &Exchange, address: &str, calendar: &str) -> Answer {
    let (window, zone) = (Window::read(asked)?, zone_of(asked)?);
    let query = odata::read(asked, &KIND, &["startDateTime", "endDateTime"])?;
    folders::with_account(shared, address, |account| {
        let entries = of_calendar(&account.calendars, calendar, window);
        let items: Vec<Value> = entries.iter().map(|entry| entry.shown(&zone)).collect();
        Ok(Answered::ok(query.page(shared, asked, items, &[])?))
    })
}

/// `instances` of a series.
pub(super) fn instances(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let (window, zone) = (Window::read(asked)?, zone_of(asked)?);
    let query = odata::read(asked, &KIND, &["startDateTime", "endDateTime"])?;
    folders::with_account(shared, address, |account| {
        let event = account.calendars.events.get(id).ok_or_else(refusal::no_item)?;
        if event.recurrence.is_none() {
            return Err(refusal::property("Only a series has instances."));
        }
        let items = within(event, window).iter().map(|entry| entry.shown(&zone)).collect();
        Ok(Answered::ok(query.page(shared, asked, items, &[])?))
    })
}
