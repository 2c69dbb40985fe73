//! What the gateway counts of itself: numbers of the whole process, whatever runs in it. What each means is in
//! docs/metrics.md.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use postern_chassis::metrics::{Counter, Gauge, Histogram, Page};
use tonic::transport::Uri;

use crate::store::Sequence;

/// Bytes of messages that were passed on.
pub(crate) static FORWARDED: Forwarded =
    Forwarded { to_connectors: Counter::new(), to_callers: Counter::new() };
/// Calls that were handed to a connector and broke off.
pub(crate) static BROKEN_CALLS: Counter = Counter::new();
/// Calls that were handed over again.
pub(crate) static MOVED: Moved = Moved { unprocessed: Counter::new(), broken: Counter::new() };
/// Changes with a request id.
pub(crate) static LEDGER: Changes = Changes {
    made: Counter::new(),
    answered: Counter::new(),
    refused: Counter::new(),
    left_over: Counter::new(),
};
/// Questions to connectors what has happened.
pub(crate) static POLLS: Polls =
    Polls { answered: Counter::new(), failed: Counter::new(), seconds: Histogram::new() };
/// What became durable.
pub(crate) static STORE: Commits = Commits {
    seconds: Histogram::new(),
    conflicts: Counter::new(),
    failures: Counter::new(),
    events: Counter::new(),
    repeated: Counter::new(),
};
/// Events handed to subscribers, each time one was.
pub(crate) static DELIVERED: Counter = Counter::new();

/// The last place of the log, as far as this process knows.
static LAST: AtomicU64 = AtomicU64::new(0);
/// The addresses of connectors, and whether each is reached.
static CONNECTORS: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
/// The places of the subscribers that are reading.
static SUBSCRIBERS: Mutex<Vec<Weak<AtomicU64>>> = Mutex::new(Vec::new());
/// How many there are.
static SUBSCRIBED: Gauge = Gauge::new();

pub(crate) struct Forwarded {
    pub(crate) to_connectors: Counter,
    pub(crate) to_callers: Counter,
}

pub(crate) struct Moved {
    pub(crate) unprocessed: Counter,
    pub(crate) broken: Counter,
}

pub(crate) struct Changes {
    pub(crate) made: Counter,
    pub(crate) answered: Counter,
    pub(crate) refused: Counter,
    pub(crate) left_over: Counter,
}

pub(crate) struct Polls {
    pub(crate) answered: Counter,
    pub(crate) failed: Counter,
    pub(crate) seconds: Histogram,
}

pub(crate) struct Commits {
    pub(crate) seconds: Histogram,
    pub(crate) conflicts: Counter,
    pub(crate) failures: Counter,
    pub(crate) events: Counter,
    pub(crate) repeated: Counter,
}

/// Notes whether an address of a connector is reached.
pub(crate) fn reached(address: &Uri, is_reached: bool) {
    let mut connectors = CONNECTORS.lock().unwrap_or_else(PoisonError::into_inner);
    connectors.insert(address.to_string(), is_reached);
}

/// Notes the last place of the log.
pub(crate) fn log_grew(last: Sequence) {
    LAST.fetch_max(last, Ordering::Relaxed);
}

/// A subscriber that is counted, and whose place is known, until it is dropped.
#[derive(Debug)]
pub(crate) struct Subscriber {
    place: Arc<AtomicU64>,
    _held: postern_chassis::metrics::Held,
}

impl Subscriber {
    /// A subscriber at a place.
    pub(crate) fn at(place: Sequence) -> Self {
        let place = Arc::new(AtomicU64::new(place));
        let mut subscribers = SUBSCRIBERS.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are gone are cleared away when there is no more room, so that each costs little.
        if subscribers.len() == subscribers.capacity() {
            subscribers.retain(|place| place.strong_count() > 0);
        }
        subscribers.push(Arc::downgrade(&place));
        Self { place, _held: SUBSCRIBED.hold() }
    }

    /// It has come to a place.
    pub(crate) fn reach(&self, place: Sequence) {
        self.place.store(place, Ordering::Relaxed);
    }
}

/// How far the subscriber furthest behind is from the end of the log.
fn lag() -> u64 {
    let subscribers = SUBSCRIBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let places = subscribers.iter().filter_map(Weak::upgrade).map(|place| place.load(Ordering::Relaxed));
    places.min().map_or(0, |furthest| LAST.load(Ordering::Relaxed).saturating_sub(furthest))
}

/// The gateway's metrics.
///
/// # Errors
/// The page cannot be written.
pub fn tell(page: &mut Page<'_>) -> fmt::Result {
    let outcomes = |rows: &[(&'static str, &'static str, &Counter)]| {
        rows.iter().map(|(label, value, counter)| ([(*label, *value)], counter.get())).collect::<Vec<_>>()
    };
    page.counters(
        "postern_forwarded_bytes",
        "Bytes of messages passed on, by direction",
        outcomes(&[
            ("direction", "to_connector", &FORWARDED.to_connectors),
            ("direction", "to_caller", &FORWARDED.to_callers),
        ]),
    )?;
    page.counter(
        "postern_forwarded_broken_calls",
        "Tries of forwarded calls that broke off after they were handed over",
        BROKEN_CALLS.get(),
    )?;
    page.counters(
        "postern_forwarded_repeats",
        "Forwarded calls handed over again, by why: nothing was processed, or a repeat does no harm",
        outcomes(&[("why", "unprocessed", &MOVED.unprocessed), ("why", "broken", &MOVED.broken)]),
    )?;
    let connectors = CONNECTORS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    page.gauges(
        "postern_connector_reached",
        "Whether the connector at an address answers: 1 or 0",
        connectors.iter().map(|(address, is)| ([("address", address.as_str())], i64::from(*is))),
    )?;
    page.counters(
        "postern_ledger_changes",
        "Calls with a request_id, by what became of them",
        outcomes(&[
            ("outcome", "new", &LEDGER.made),
            ("outcome", "repeat_answered", &LEDGER.answered),
            ("outcome", "repeat_asked_again", &LEDGER.left_over),
            ("outcome", "refused", &LEDGER.refused),
        ]),
    )?;
    page.counters(
        "postern_polls",
        "Questions to connectors what has happened, by outcome",
        outcomes(&[("outcome", "answered", &POLLS.answered), ("outcome", "failed", &POLLS.failed)]),
    )?;
    page.histogram(
        "postern_poll_duration_seconds",
        "How long connectors took to answer them",
        &POLLS.seconds,
    )?;
    tell_of_the_log(page)
}

#[allow(clippy::cast_precision_loss, reason = "for people to look at")]
fn tell_of_the_log(page: &mut Page<'_>) -> fmt::Result {
    page.histogram(
        "postern_store_commit_duration_seconds",
        "How long a commit took until it was durable, the wait for its turn included",
        &STORE.seconds,
    )?;
    page.counter(
        "postern_store_conflicts",
        "Commits that were refused because something had changed: part of the work",
        STORE.conflicts.get(),
    )?;
    page.counter("postern_store_failures", "Commits and reads that storage failed", STORE.failures.get())?;
    page.counter("postern_events_appended", "Events that became durable", STORE.events.get())?;
    page.counter(
        "postern_events_dropped_as_known",
        "Events not appended because the log held them already",
        STORE.repeated.get(),
    )?;
    page.counter(
        "postern_events_delivered",
        "Events handed to subscribers, one for each subscriber",
        DELIVERED.get(),
    )?;
    page.gauge(
        "postern_subscribers",
        "Subscribe and Consume streams that are open",
        SUBSCRIBED.get() as f64,
    )?;
    page.gauge(
        "postern_subscriber_lag_events",
        "How many places the subscriber furthest behind is from the end of the log",
        lag() as f64,
    )?;
    page.gauge(
        "postern_log_last_sequence",
        "The last place of the event log",
        LAST.load(Ordering::Relaxed) as f64,
    )
}
