//! Which entries of a calendar start soon: each occurrence is told once for each time that it is to start at.

use jiff::{SignedDuration, Timestamp};
use postern_proto::connector::v1::Occurrence;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::trigger;
use postern_proto::event::v1::{EventData, Trigger};
use postern_proto::outlook::v1::CalendarEvent;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bound;
use super::calendar::{Looked, SELECT, Shown, Watched, fit, key, name};
use crate::calendar::no_calendar;
use crate::error::Error;
use crate::graph::model::Page;
use crate::graph::{Failure, with_options};

/// The version of the cursor's bytes; other kinds of watch have others.
const VERSION: u8 = 4;
/// How long ahead where a trigger does not say, in minutes.
const LOOK_AHEAD: i64 = 15;
/// The longest that may be asked for, in minutes.
const MAX_LOOK_AHEAD: i64 = 1_440;
/// How many entries a page holds.
const PAGE: usize = 100;
/// How many pages a look reads: so many entries of one day no calendar has.
const MAX_PAGES: usize = 50;
/// How many entries are remembered as told: a cursor has room for no more.
const MAX_TOLD: usize = 5_000;
/// After how long the time is written on though nothing was told: until then the same look gives the same cursor.
const STALE_SECONDS: i64 = 300;
/// How far back a first look begins at most.
const FIRST_SECONDS: i64 = 86_400;

/// What a trigger for entries that start soon asks for.
#[derive(Debug)]
pub(super) struct Ahead {
    name: String,
    /// How long ahead, in seconds.
    seconds: i64,
    /// When the trigger was made, by the gateway's clock.
    since: i64,
}

/// What was told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// What started before this was looked at, in seconds since 1970.
    until: i64,
    /// The entries that were told and have not started yet.
    told: Vec<Told>,
}

/// An entry that was told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Told {
    /// What stays the same of the entry.
    key: u64,
    /// When it was to start.
    start: i64,
    /// Triggers that look at least this long ahead were told.
    ahead: i64,
    /// When that was: triggers that were made later were not.
    at: i64,
}

impl Ahead {
    /// Reads a trigger.
    ///
    /// # Errors
    /// The wrong field, from the Trigger on; or it is of another kind.
    pub(super) fn read(trigger: &Trigger, since: Timestamp) -> Result<Self, Error> {
        let Some(trigger::Kind::EventStartingSoon(asked)) = &trigger.kind else {
            return Err(Error::TriggerKind);
        };
        let minutes = match i64::from(asked.look_ahead_time_in_minutes) {
            0 => LOOK_AHEAD,
            minutes @ 1..=MAX_LOOK_AHEAD => minutes,
            _ => {
                let problem = format!("expected 1 to {MAX_LOOK_AHEAD} minutes");
                return Err(Error::field("event_starting_soon.look_ahead_time_in_minutes", problem));
            }
        };
        Ok(Self { name: trigger.name.clone(), seconds: minutes * 60, since: since.as_second() })
    }
}

/// Looks what starts soon.
///
/// # Errors
/// What Graph answered; or the cursor is none.
pub(super) async fn look(watched: &Watched<'_>, wants: &[Ahead], cursor: &[u8]) -> Result<Looked, Error> {
    let now = Timestamp::now();
    let mut state = read(cursor, first(wants, now))?;
    let before = state.clone();
    let farthest = wants.iter().map(|want| want.seconds).max().unwrap_or_default();
    let entries = entries(watched, state.until, now, farthest).await?;
    let due = due(&mut state, wants, &entries, now.as_second());
    // The same look gives the same cursor, so that nothing need be stored.
    if state.told == before.told && now.as_second() - before.until < STALE_SECONDS {
        state.until = before.until;
    }
    let bound = bound(due.len());
    let occurrences = due.into_iter().map(|due| occurrence(due, bound)).collect();
    Ok(Looked { occurrences, cursor: write(&state)?, more: false })
}

/// Where the first look begins: what started since the first trigger was made is told, late as it is.
fn first(wants: &[Ahead], now: Timestamp) -> i64 {
    let now = now.as_second();
    wants.iter().map(|want| want.since).min().unwrap_or(now).clamp(now - FIRST_SECONDS, now)
}

/// What starts from `from` on, until as far ahead as is asked for.
async fn entries(
    watched: &Watched<'_>,
    from: i64,
    now: Timestamp,
    farthest: i64,
) -> Result<Vec<CalendarEvent>, Error> {
    let until = now.checked_add(SignedDuration::from_secs(farthest + 1)).unwrap_or(now).to_string();
    let start = Timestamp::from_second(from).unwrap_or(now).to_string();
    let top = PAGE.to_string();
    let options = [
        ("startDateTime", start.as_str()),
        ("endDateTime", until.as_str()),
        ("$select", SELECT),
        ("$orderby", "start/dateTime"),
        ("$top", &top),
    ];
    let mut url = with_options(watched.url("calendarView"), &options);
    let mut entries = Vec::new();
    for page in 0..MAX_PAGES {
        let read = watched.mailbox.get::<Page<Value>>(url, None).await;
        let read = read.map_err(|failure| if page == 0 { no_calendar(failure) } else { failure.into() })?;
        let page = read.value;
        entries.extend(page.value.into_iter().filter_map(|raw| Shown::read(raw, watched.table)));
        let Some(next) = page.next else { break };
        url = watched.mailbox.link(&next)?;
    }
    Ok(entries.into_iter().map(|shown| shown.entry).collect())
}

/// An entry that is due, for triggers that look equally far ahead.
struct Due<'a> {
    entry: &'a CalendarEvent,
    seconds: i64,
    triggers: Vec<String>,
}

/// Who is told of what, and notes it. What began before `state.until` is of the past.
fn due<'a>(state: &mut State, wants: &[Ahead], entries: &'a [CalendarEvent], now: i64) -> Vec<Due<'a>> {
    let mut due: Vec<Due<'a>> = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_cancelled) {
        let Some(start) = entry.start.map(|start| start.seconds).filter(|start| *start >= state.until) else {
            continue;
        };
        let (key, left, first) = (key(entry), start - now, due.len());
        let known = state.told.iter_mut().find(|told| told.key == key && told.start == start);
        let told = known.as_deref().copied();
        for want in wants {
            let was_told = told.is_some_and(|told| told.ahead <= want.seconds && want.since <= told.at);
            // What started before the trigger was made was never soon to it.
            if left > want.seconds || start < want.since || was_told {
                continue;
            }
            let seconds = want.seconds;
            match due.iter_mut().skip(first).find(|due| due.seconds == seconds) {
                Some(due) => due.triggers.push(want.name.clone()),
                None => due.push(Due { entry, seconds, triggers: vec![want.name.clone()] }),
            }
        }
        if due.len() == first {
            continue;
        }
        match known {
            Some(known) => (known.ahead, known.at) = (left, now),
            None => state.told.push(Told { key, start, ahead: left, at: now }),
        }
    }
    state.until = state.until.max(now);
    state.told.retain(|told| told.start >= state.until);
    let excess = state.told.len().saturating_sub(MAX_TOLD);
    state.told.drain(..excess);
    due
}

fn occurrence(due: Due<'_>, bound: usize) -> Occurrence {
    let start = due.entry.start.unwrap_or_default();
    let entry = fit(due.entry.clone(), bound);
    Occurrence {
        triggers: due.triggers,
        key: format!("soon:{}:{}", name(&entry), start.seconds),
        r#type: "calendar_event.starting_soon".to_owned(),
        // It happens when it becomes soon: so long before its start.
        time: Some(prost_types::Timestamp { seconds: start.seconds - due.seconds, nanos: 0 }),
        data: Some(EventData { kind: Some(Kind::EventStartingSoon(entry)) }),
    }
}

fn read(bytes: &[u8], first: i64) -> Result<State, Error> {
    let Some((version, rest)) = bytes.split_first() else {
        return Ok(State { until: first, told: Vec::new() });
    };
    let wrong = || Error::field("cursor", "expected the next_cursor of a look before");
    if *version != VERSION {
        return Err(wrong());
    }
    serde_json::from_slice(rest).map_err(|_| wrong())
}

fn write(state: &State) -> Result<bytes::Bytes, Error> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, state).map_err(|_| Failure::unreadable(200))?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(name: &str, minutes: i64, since: i64) -> Ahead {
        Ahead { name: name.into(), seconds: minutes * 60, since }
    }

    fn entry(uid: &str, start: i64) -> CalendarEvent {
        let start = Some(prost_types::Timestamp { seconds: start, nanos: 0 });
        CalendarEvent { ical_uid: uid.into(), start, ..Default::default() }
    }

    /// Who is told of what at a time.
    fn told(state: &mut State, wants: &[Ahead], entries: &[CalendarEvent], now: i64) -> Vec<String> {
        let due = due(state, wants, entries, now);
        let line = |due: &Due<'_>| format!("{} {}", due.triggers.join("+"), due.entry.ical_uid);
        due.iter().map(line).collect()
    }

    #[test]
    fn each_trigger_is_told_once_when_the_start_is_as_near_as_it_asked() {
        let (mut state, wants) = (State::default(), [want("near", 5, 0), want("far", 60, 0)]);
        let entries = [entry("a", 10_000)];
        assert!(told(&mut state, &wants, &entries, 6_000).is_empty());
        assert_eq!(told(&mut state, &wants, &entries, 6_400), ["far a"]);
        assert!(told(&mut state, &wants, &entries, 9_000).is_empty());
        assert_eq!(told(&mut state, &wants, &entries, 9_700), ["near a"]);
        assert!(told(&mut state, &wants, &entries, 9_999).is_empty());
        assert!(told(&mut state, &wants, &entries, 10_001).is_empty());
        assert_eq!(state.told, []);
    }

    #[test]
    fn a_start_that_moves_is_told_again_and_a_cancelled_one_is_not() {
        let (mut state, wants) = (State::default(), [want("t", 15, 0)]);
        assert_eq!(told(&mut state, &wants, &[entry("a", 1_000)], 500), ["t a"]);
        assert_eq!(told(&mut state, &wants, &[entry("a", 1_200)], 510), ["t a"]);
        assert!(told(&mut state, &wants, &[entry("a", 1_000)], 520).is_empty(), "moved back");
        let cancelled = CalendarEvent { is_cancelled: true, ..entry("b", 1_000) };
        assert!(told(&mut state, &wants, &[cancelled], 530).is_empty());
    }

    #[test]
    fn what_started_while_nobody_looked_is_told_late_rather_than_never() {
        let (mut state, wants) = (State { until: 1_000, ..State::default() }, [want("t", 15, 0)]);
        assert_eq!(told(&mut state, &wants, &[entry("a", 2_000), entry("b", 900)], 5_000), ["t a"]);
        assert!(told(&mut state, &wants, &[entry("a", 2_000)], 5_001).is_empty());
    }

    #[test]
    fn a_trigger_that_comes_later_is_told_what_the_others_were_told_before() {
        let mut state = State::default();
        let first = want("first", 15, 0);
        assert_eq!(told(&mut state, std::slice::from_ref(&first), &[entry("a", 1_000)], 500), ["first a"]);
        let both = [first, want("second", 15, 600)];
        assert_eq!(told(&mut state, &both, &[entry("a", 1_000)], 601), ["second a"]);
        assert!(told(&mut state, &both, &[entry("a", 1_000)], 602).is_empty());
        let third = [want("third", 15, 1_100)];
        assert!(told(&mut state, &third, &[entry("a", 1_000)], 1_101).is_empty());
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let told = vec![Told { key: u64::MAX, start: 5, ahead: 6, at: -7 }];
        let state = State { until: 9, told };
        assert_eq!(read(&write(&state).unwrap(), 0).unwrap(), state);
        assert_eq!(read(b"", 0).unwrap(), State::default());
        assert!(read(b"\x01{}", 0).is_err());
        let full = State {
            until: i64::MAX,
            told: vec![Told { key: u64::MAX, start: i64::MIN, ahead: -9_999, at: i64::MIN }; MAX_TOLD],
        };
        assert!(write(&full).unwrap().len() <= 512 * 1024);
    }
}
