//! What is done with meetings: answered, cancelled, and their copies in the calendars of those invited.

use http::{Method, StatusCode};
use serde_json::Value;

use super::body::only;
use super::shape::Entry;
use crate::graph::exchange::Exchange;
use crate::graph::refusal::{Answer, Answered, Refusal};
use crate::graph::{Shared, refusal};
use crate::world::{Event, State};

/// `accept`, `tentativelyAccept`, `decline`, `cancel` and `dismissReminder` of an event.
pub(super) fn act(shared: &Shared, asked: &Exchange, address: &str, id: &str, action: &str) -> Answer {
    if asked.method != Method::POST {
        return Err(refusal::method());
    }
    let body = if asked.body.is_empty() { Value::Object(serde_json::Map::new()) } else { asked.json()? };
    let fields: &[&str] = match action {
        "cancel" => &["comment", "Comment"],
        "dismissReminder" => &[],
        _ => &["comment", "Comment", "sendResponse", "SendResponse", "proposedNewTime", "ProposedNewTime"],
    };
    only(&body, fields, action)?;
    shared.world.change(|state| match action {
        "accept" => respond(state, address, id, "accepted"),
        "tentativelyAccept" => respond(state, address, id, "tentativelyAccepted"),
        "decline" => respond(state, address, id, "declined"),
        "dismissReminder" => dismiss(state, address, id),
        _ => cancel(state, address, id),
    })?;
    Ok(Answered::empty(StatusCode::ACCEPTED))
}

/// A copy of the event, and the day where the id is that of one time of a series.
fn find(state: &mut State, address: &str, id: &str) -> Result<(Event, Option<jiff::civil::Date>), Refusal> {
    let account = state.account(address).ok_or_else(refusal::no_item)?;
    let entry = Entry::find(&account.calendars, id).ok_or_else(refusal::no_item)?;
    Ok((entry.event.clone(), entry.day))
}

/// An acceptance makes the event anew: another id and time of making, and the same `iCalUId`. A refusal takes it out.
fn respond(state: &mut State, address: &str, id: &str, response: &str) -> Result<(), Refusal> {
    let (event, _) = find(state, address, id)?;
    if event.is_organizer {
        return Err(refusal::is_organizer());
    }
    let (now, number) = (state.now(), state.number());
    let account = state.account(address).ok_or_else(refusal::no_item)?;
    account.calendars.events.remove(&event.id);
    let changed = account.calendars.next_change();
    if response != "declined" {
        let made = Event {
            id: super::event_id(number),
            created: now,
            modified: now,
            changed,
            response: response.to_owned(),
            responded: Some(now),
            ..event.clone()
        };
        account.calendars.events.insert(made.id.clone(), made);
    }
    let organizer = event.organizer.address.clone();
    if let Some(account) = state.account(&organizer) {
        let changed = account.calendars.next_change();
        let theirs = account.calendars.events.values_mut().find(|theirs| theirs.ical_uid == event.ical_uid);
        if let Some(theirs) = theirs {
            let attendees = theirs.fields.get_mut("attendees").and_then(Value::as_array_mut);
            for attendee in attendees.into_iter().flatten() {
                let who = attendee["emailAddress"]["address"].as_str().unwrap_or_default();
                if who.eq_ignore_ascii_case(address) {
                    attendee["status"]["response"] = response.into();
                    attendee["status"]["time"] = crate::graph::shape::time(now).into();
                }
            }
            (theirs.changed, theirs.modified) = (changed, now);
        }
    }
    Ok(())
}

fn dismiss(state: &mut State, address: &str, id: &str) -> Result<(), Refusal> {
    let (event, _) = find(state, address, id)?;
    let account = state.account(address).ok_or_else(refusal::no_item)?;
    let changed = account.calendars.next_change();
    if let Some(there) = account.calendars.events.get_mut(&event.id) {
        there.fields.insert("isReminderOn".to_owned(), false.into());
        there.changed = changed;
    }
    Ok(())
}

fn cancel(state: &mut State, address: &str, id: &str) -> Result<(), Refusal> {
    let (event, day) = find(state, address, id)?;
    if !event.is_organizer || invited(&event).is_empty() {
        return Err(refusal::not_organizer());
    }
    remove(state, address, &event, day)
}

/// Takes an event, or one time of a series, out of a calendar. Of the organizer's own, those invited keep it cancelled.
pub(super) fn remove(
    state: &mut State,
    address: &str,
    event: &Event,
    day: Option<jiff::civil::Date>,
) -> Result<(), Refusal> {
    let now = state.now();
    let account = state.account(address).ok_or_else(refusal::no_item)?;
    account.calendars.next_change();
    match day {
        Some(day) => {
            let there = account.calendars.events.get_mut(&event.id).ok_or_else(refusal::no_item)?;
            there.exceptions.remove(&day);
            there.cancelled.insert(day);
            there.modified = now;
            if event.is_organizer {
                let there = there.clone();
                each_copy(state, &there, |copy, _| {
                    copy.cancelled.clone_from(&there.cancelled);
                    copy.modified = now;
                });
            }
        }
        None => {
            account.calendars.events.remove(&event.id);
            if event.is_organizer {
                each_copy(state, event, |copy, number| {
                    let subject = copy.fields.get("subject").and_then(Value::as_str).unwrap_or_default();
                    let subject = format!("Canceled: {subject}");
                    copy.fields.insert("subject".to_owned(), subject.into());
                    copy.is_cancelled = true;
                    (copy.changed, copy.modified) = (number, now);
                });
            }
        }
    }
    Ok(())
}

/// The addresses of those who are invited.
pub(super) fn invited(event: &Event) -> Vec<String> {
    let attendees = event.fields.get("attendees").and_then(Value::as_array);
    let address = |attendee: &Value| attendee["emailAddress"]["address"].as_str().map(str::to_lowercase);
    attendees.into_iter().flatten().filter_map(address).collect()
}

/// Changes each copy of a meeting in the calendars of those invited.
fn each_copy(state: &mut State, event: &Event, mut change: impl FnMut(&mut Event, u64)) {
    for who in invited(event) {
        let Some(account) = state.account(&who) else { continue };
        let number = account.calendars.next_change();
        let copies = account.calendars.events.values_mut();
        for copy in copies.filter(|copy| copy.ical_uid == event.ical_uid && !copy.is_organizer) {
            change(copy, number);
        }
    }
}

/// Brings the calendars of those invited up to what the organizer's says: who is new gets the event.
pub(super) fn invite(state: &mut State, event: &Event) {
    if !event.is_organizer {
        return;
    }
    each_copy(state, event, |copy, number| {
        let own = copy.clone();
        *copy = Event {
            id: own.id,
            calendar: own.calendar,
            is_organizer: false,
            response: own.response,
            responded: own.responded,
            created: own.created,
            transaction_id: None,
            changed: number,
            ..event.clone()
        };
    });
    for who in invited(event) {
        let number = state.number();
        let Some(account) = state.account(&who) else { continue };
        let mut copies = account.calendars.events.values();
        if who == event.organizer.address.to_lowercase() || copies.any(|copy| copy.ical_uid == event.ical_uid)
        {
            continue;
        }
        let copy = Event {
            id: super::event_id(number),
            calendar: account.calendars.default_id(),
            is_organizer: false,
            response: "notResponded".to_owned(),
            responded: None,
            transaction_id: None,
            changed: account.calendars.next_change(),
            ..event.clone()
        };
        account.calendars.events.insert(copy.id.clone(), copy);
    }
}
