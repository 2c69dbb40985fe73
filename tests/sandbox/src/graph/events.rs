//! Events of calendars: listed, shown, made, changed and deleted, alone or as one time of a series.

pub(super) mod body;
mod delta;
mod responses;
pub(super) mod shape;
mod views;

use http::{Method, StatusCode};
use jiff::civil::Date;
use serde_json::Value;

use super::exchange::Exchange;
use super::refusal::{Answer, Answered, Refusal};
use super::{Shared, folders, odata, query, recurrence, refusal, zones};
use crate::world::{Event, Exception, Mailbox, Moment, State};
use body::{Draft, change_key, check_match};
use shape::{Entry, KIND};

pub use delta::CalendarDeltas;

/// Everything of a calendar below its id: events and views.
pub(super) fn of_calendar(
    shared: &Shared,
    asked: &Exchange,
    address: &str,
    calendar: &str,
    rest: &[&str],
) -> Answer {
    match (rest, asked.method.as_str()) {
        (["events"], "GET") => list(shared, asked, address, calendar),
        (["events"], "POST") => make(shared, asked, address, calendar),
        (["events"], _) => Err(refusal::method()),
        (["events", id], _) => {
            folders::with_account(shared, address, |account| {
                let entry = Entry::find(&account.calendars, id);
                let within = entry.is_some_and(|entry| entry.event.calendar == calendar);
                if within { Ok(Answered::empty(StatusCode::OK)) } else { Err(refusal::no_item()) }
            })?;
            of_event(shared, asked, address, &[id])
        }
        (["calendarView"], "GET") => views::view(shared, asked, address, calendar),
        (["calendarView", "delta" | "microsoft.graph.delta"], "GET") => {
            delta::round(shared, asked, address, calendar)
        }
        (["calendarView", ..], method) if method != "GET" => Err(refusal::method()),
        ([.., segment], _) => Err(refusal::unknown_segment(segment)),
        ([], _) => Err(refusal::method()),
    }
}

/// Everything below `events` of the mailbox that begins with an event's id.
pub(super) fn of_event(shared: &Shared, asked: &Exchange, address: &str, rest: &[&str]) -> Answer {
    match (rest, asked.method.as_str()) {
        ([id], "GET") => show(shared, asked, address, id),
        ([id], "PATCH") => change(shared, asked, address, id),
        ([id], "DELETE") => delete(shared, asked, address, id),
        ([_], _) => Err(refusal::method()),
        ([id, "instances"], "GET") => views::instances(shared, asked, address, id),
        ([id, action @ ("accept" | "tentativelyAccept" | "decline" | "cancel" | "dismissReminder")], _) => {
            responses::act(shared, asked, address, id, action)
        }
        ([.., segment], _) => Err(refusal::unknown_segment(segment)),
        ([], _) => Err(refusal::method()),
    }
}

/// A new id of an event.
fn event_id(number: u64) -> String {
    format!("AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0B{number:08X}AAA=")
}

/// The zone that times are shown in.
fn zone_of(asked: &Exchange) -> Result<String, Refusal> {
    let zone = asked.preferred_zone().unwrap_or_else(|| "UTC".to_owned());
    zones::rules(&zone).map(|_| zone)
}

fn list(shared: &Shared, asked: &Exchange, address: &str, calendar: &str) -> Answer {
    let zone = zone_of(asked)?;
    let query = odata::read(asked, &KIND, &[])?;
    folders::with_account(shared, address, |account| {
        let mut events: Vec<&Event> =
            account.calendars.events.values().filter(|event| event.calendar == calendar).collect();
        events.sort_by_key(|event| (event.created, event.id.clone()));
        let items = events.into_iter().map(|event| Entry { event, day: None }.shown(&zone)).collect();
        Ok(Answered::ok(query.page(shared, asked, items, &[])?))
    })
}

fn show(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let zone = zone_of(asked)?;
    let (expands, rest): (Vec<_>, Vec<_>) =
        asked.options.iter().cloned().partition(|(name, _)| name == "$expand");
    if let Some((_, wrong)) = expands.iter().find(|(_, value)| value != "exceptionOccurrences") {
        return Err(refusal::bad(format!("Could not find a property named '{wrong}' to expand.")));
    }
    let query = query::read(&asked.with_options(rest), &["$select"])?;
    let select = query.select.as_deref();
    let of_series = ["id", "cancelledOccurrences", "exceptionOccurrences"];
    for field in select.into_iter().flatten().filter(|field| !of_series.contains(&field.as_str())) {
        KIND.check(field)?;
    }
    folders::with_account(shared, address, |account| {
        let entry = Entry::find(&account.calendars, id).ok_or_else(refusal::no_item)?;
        Ok(Answered::ok(odata::show(entry.shown_whole(&zone, select, !expands.is_empty()), select, &[])))
    })
}

/// Makes an event. One with a `transactionId` that was there before is not made again: the first is given, or, where that
/// was asked for of the small Graph, a conflict is told. Which of the two Graph does is not documented.
fn make(shared: &Shared, asked: &Exchange, address: &str, calendar: &str) -> Answer {
    let zone = zone_of(asked)?;
    query::read(asked, &[])?;
    let mut draft = body::read(&asked.json()?)?;
    let made = shared.world.change(|state| {
        let now = state.now();
        let number = state.number();
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        account.calendars.find(calendar).ok_or_else(refusal::no_item)?;
        let seen = account.calendars.events.values().find(|event| {
            event.transaction_id.is_some()
                && event.transaction_id == draft.transaction_id
                && event.is_organizer
        });
        if let Some(seen) = seen {
            return if shared.faults.refuses_seen_transactions() {
                Err(refusal::transaction_seen())
            } else {
                Ok(Entry { event: seen, day: None }.shown(&zone))
            };
        }
        let needed = || refusal::property("Start and end of the event are needed.");
        let mut event = Event {
            id: event_id(number),
            calendar: calendar.to_owned(),
            ical_uid: format!("040000008200E00074C5B7101A82E008{number:032X}"),
            created: now,
            modified: now,
            transaction_id: draft.transaction_id.take(),
            organizer: Mailbox { address: address.to_owned(), name: account.display_name.clone() },
            is_organizer: true,
            response: "organizer".to_owned(),
            changed: account.calendars.next_change(),
            ..Event::default()
        };
        if draft.start.is_none() || draft.end.is_none() {
            return Err(needed());
        }
        event.take(draft);
        check(&event)?;
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        account.calendars.events.insert(event.id.clone(), event.clone());
        responses::invite(state, &event);
        Ok(Entry { event: &event, day: None }.shown(&zone))
    })?;
    Ok(Answered::json_of(StatusCode::CREATED, made))
}

fn check(event: &Event) -> Result<(), Refusal> {
    Draft::check_times(&event.start, &event.end, event.is_all_day)?;
    match &event.recurrence {
        Some(recurrence) => recurrence::check(recurrence, event.start.wall_time.date()),
        None => Ok(()),
    }
}

fn change(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let zone = zone_of(asked)?;
    let draft = body::read(&asked.json()?)?;
    if draft.transaction_id.is_some() {
        return Err(refusal::property("The transactionId of an event cannot be changed."));
    }
    let shown = shared.world.change(|state| {
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        let entry = Entry::find(&account.calendars, id).ok_or_else(refusal::no_item)?;
        check_match(&asked.headers, &change_key(entry.changed()))?;
        let (mut event, day) = (entry.event.clone(), entry.day);
        match day {
            Some(day) => except(state, address, &mut event, day, draft)?,
            None => {
                let before = event.start.wall_time.date();
                let moved = draft.start.is_some() && draft.recurrence.is_none();
                event.take(draft);
                if moved && event.start.wall_time.date() != before {
                    // A series that begins on another day has its range begin there as well.
                    let day = event.start.wall_time.date().to_string();
                    if let Some(recurrence) = &mut event.recurrence {
                        recurrence["range"]["startDate"] = day.into();
                    }
                }
                check(&event)?;
                event.modified = state.now();
                let account = state.account(address).ok_or_else(refusal::no_item)?;
                event.changed = account.calendars.next_change();
            }
        }
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        account.calendars.events.insert(event.id.clone(), event.clone());
        responses::invite(state, &event);
        Ok::<Value, Refusal>(Entry { event: &event, day }.shown(&zone))
    })?;
    Ok(Answered::ok(shown))
}

/// Changes one time of a series: it becomes an exception, which stays between its neighbours.
fn except(
    state: &mut State,
    address: &str,
    event: &mut Event,
    day: Date,
    draft: Draft,
) -> Result<(), Refusal> {
    if draft.recurrence.is_some() || draft.is_all_day.is_some_and(|is_all_day| is_all_day != event.is_all_day)
    {
        return Err(refusal::property(
            "An occurrence neither recurs nor differs from its series in lasting days.",
        ));
    }
    let entry = Entry { event: &*event, day: Some(day) };
    let mut exception = entry.exception().cloned().unwrap_or(Exception {
        start: entry.start(),
        end: entry.end(),
        ..Exception::default()
    });
    exception.start = draft.start.unwrap_or(exception.start);
    exception.end = draft.end.unwrap_or(exception.end);
    exception.fields.extend(draft.fields);
    Draft::check_times(&exception.start, &exception.end, event.is_all_day)?;
    let later = day.checked_add(jiff::Span::new().years(3)).unwrap_or(day);
    let series = event.recurrence.clone().unwrap_or_default();
    let days: Vec<Date> = recurrence::days(&series, later)?;
    let at = |other: &Date| -> Moment { Entry { event: &*event, day: Some(*other) }.start() };
    let start = zones::instant(&exception.start);
    let before = days.iter().rev().find(|other| **other < day).map(at);
    let after = days.iter().find(|other| **other > day).map(at);
    if before.is_some_and(|before| zones::instant(&before) >= start)
        || after.is_some_and(|after| zones::instant(&after) <= start)
    {
        return Err(refusal::crossing());
    }
    exception.modified = state.now();
    // The series counts as changed with it.
    event.modified = exception.modified;
    let account = state.account(address).ok_or_else(refusal::no_item)?;
    exception.changed = account.calendars.next_change();
    event.exceptions.insert(day, exception);
    Ok(())
}

fn delete(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    if asked.method != Method::DELETE {
        return Err(refusal::method());
    }
    shared.world.change(|state| {
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        let entry = Entry::find(&account.calendars, id).ok_or_else(refusal::no_item)?;
        check_match(&asked.headers, &change_key(entry.changed()))?;
        let (event, day) = (entry.event.clone(), entry.day);
        responses::remove(state, address, &event, day)
    })?;
    Ok(Answered::empty(StatusCode::NO_CONTENT))
}
