//! `calendarView/delta`: rounds of changes within a window that the first request fixes. Each token leads to what was
//! told up to it, so that an old one can be used again, and all can be forgotten on demand.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::views::{self, Window};
use super::zone_of;
use crate::graph::exchange::Exchange;
use crate::graph::refusal::{Answer, Answered, Refusal};
use crate::graph::{Shared, folders, query, refusal};

/// How many items a page holds where nothing is preferred.
const PAGE: usize = 10;

/// What the small Graph remembers of rounds.
#[derive(Debug, Default)]
pub struct CalendarDeltas {
    states: Mutex<HashMap<u64, State>>,
    next: AtomicU64,
    replays: AtomicBool,
    redirects: AtomicBool,
}

impl CalendarDeltas {
    /// The next round tells again what was told before, as Graph does at times.
    pub fn replay(&self) {
        self.replays.store(true, Ordering::Relaxed);
    }

    /// Forgets all tokens: their use is answered with 410, `resyncRequired`, and where to begin anew in `Location`.
    /// (`GraphServer::forget_delta_tokens` has it answered with `SyncStateNotFound`, and no place.)
    pub fn require_resync(&self) {
        self.redirects.store(true, Ordering::Relaxed);
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn keep(&self, state: State) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.states.lock().unwrap_or_else(PoisonError::into_inner).insert(number, state);
        number
    }

    fn find(&self, number: u64) -> Option<State> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }
}

/// A place in the rounds.
#[derive(Debug, Clone)]
struct State {
    calendar: String,
    window: Window,
    /// What was told, by id, and the change it stood at.
    told: BTreeMap<String, u64>,
    /// The last change that was looked at.
    change: u64,
    /// What is left of a round. Absent between rounds.
    rest: Option<Vec<Value>>,
}

/// What a token's text holds.
type Token = (u64, u64, Option<String>);

/// Answers one page.
pub(super) fn round(shared: &Shared, asked: &Exchange, address: &str, calendar: &str) -> Answer {
    let zone = zone_of(asked)?;
    let mut state = state(shared, asked, calendar)?;
    let mut rest = match state.rest.take() {
        Some(rest) => rest,
        None => {
            folders::with_round(shared, address, |calendars| changes(shared, calendars, &mut state, &zone))?
        }
    };
    let size = asked.preferred_page().unwrap_or(PAGE);
    let later = rest.split_off(rest.len().min(size));
    let mut body = json!({"value": rest});
    let (option, name) = match later.is_empty() {
        true => ("$deltatoken", "@odata.deltaLink"),
        false => ("$skiptoken", "@odata.nextLink"),
    };
    state.rest = (!later.is_empty()).then_some(later);
    let first = format!("startDateTime={}&endDateTime={}", state.window.from, state.window.until);
    let number = shared.calendar_deltas.keep(state);
    let token: Token = (shared.faults.delta_generation(), number, Some(first));
    let path = asked.target.split('?').next().unwrap_or_default();
    body[name] = format!("{}{path}?{option}={}", shared.url, query::seal(&token)).into();
    let mut answered = Answered::ok(body);
    answered.headers.insert("preference-applied", http::HeaderValue::from_static("odata.track-changes"));
    Ok(answered)
}

/// The place that a request asks from.
fn state(shared: &Shared, asked: &Exchange, calendar: &str) -> Result<State, Refusal> {
    let tokens = ["$deltatoken", "$skiptoken"];
    let taken = ["startDateTime", "endDateTime"];
    let Some((_, token)) = asked.options.iter().find(|(name, _)| tokens.contains(&name.as_str())) else {
        if let Some((name, _)) = asked.options.iter().find(|(name, _)| !taken.contains(&name.as_str())) {
            return Err(refusal::bad(format!(
                "The query parameter '{name}' is not supported with change tracking."
            )));
        }
        let window = Window::read(asked)?;
        return Ok(State {
            calendar: calendar.to_owned(),
            window,
            told: BTreeMap::new(),
            change: 0,
            rest: None,
        });
    };
    if asked.options.len() != 1 {
        return Err(refusal::bad("A token carries the options of the first request: do not repeat them."));
    }
    let (generation, number, first): Token = query::unseal(token).ok_or_else(refusal::sync_state_bad)?;
    if generation != shared.faults.delta_generation() {
        return Err(refusal::sync_state_gone());
    }
    match shared.calendar_deltas.find(number) {
        Some(state) if state.calendar == calendar => Ok(state),
        Some(_) => Err(refusal::sync_state_bad()),
        None if shared.calendar_deltas.redirects.load(Ordering::Relaxed) => {
            let path = asked.target.split('?').next().unwrap_or_default();
            Err(refusal::resync(format!("{}{path}?{}&$deltatoken=", shared.url, first.unwrap_or_default())))
        }
        None => Err(refusal::sync_state_gone()),
    }
}

/// What is to be told in a round. Series are shown whole before their times, of which only the exceptions are. What
/// changed outside of the window is told as removed, whether it was told before or not.
fn changes(
    shared: &Shared,
    calendars: &crate::world::Calendars,
    state: &mut State,
    zone: &str,
) -> Vec<Value> {
    let replays = shared.calendar_deltas.replays.swap(false, Ordering::Relaxed);
    let mut now = BTreeMap::new();
    let mut told = Vec::new();
    for event in calendars.events.values().filter(|event| event.calendar == state.calendar) {
        let entries = views::within(event, state.window);
        let noise = state.change > 0 && event.changed > state.change && !state.told.contains_key(&event.id);
        if entries.is_empty() && noise {
            told.push(json!({"id": event.id, "@removed": {"reason": "deleted"}}));
        }
        let master = super::shape::Entry { event, day: None };
        let with_master = (event.recurrence.is_some() && !entries.is_empty()).then_some(master);
        for entry in with_master.into_iter().chain(entries) {
            let (id, changed) = (entry.id(), entry.changed());
            if replays || state.told.get(&id) != Some(&changed) {
                told.push(if entry.kind() == "occurrence" { entry.thin(zone) } else { entry.shown(zone) });
            }
            now.insert(id, changed);
        }
    }
    let gone = state.told.keys().filter(|id| !now.contains_key(*id));
    told.extend(gone.map(|id| json!({"id": id, "@removed": {"reason": "deleted"}})));
    state.told = now;
    state.change = calendars.last_change();
    told
}
