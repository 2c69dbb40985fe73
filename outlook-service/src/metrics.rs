//! What the connector counts of itself: numbers of the whole process. What each means is in docs/metrics.md.

use std::fmt;

use postern_chassis::metrics::{Counter, Histogram, Page};

/// Requests to Graph that were answered, by the status's first digit.
pub(crate) static ANSWERS: [Counter; 5] = [const { Counter::new() }; 5];
/// Requests that had no answer.
pub(crate) static UNANSWERED: Counter = Counter::new();
/// Requests that Graph turned away for now.
pub(crate) static THROTTLED: Counter = Counter::new();
/// How long Graph took to begin its answer.
pub(crate) static SECONDS: Histogram = Histogram::new();

/// Counts an answer by its status.
pub(crate) fn answered(status: u16) {
    if let Some(counter) = ANSWERS.get(usize::from(status / 100).wrapping_sub(1)) {
        counter.inc();
    }
}

/// The connector's metrics.
///
/// # Errors
/// The page cannot be written.
pub fn tell(page: &mut Page<'_>) -> fmt::Result {
    let statuses = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&ANSWERS);
    let rows = statuses.chain([("none", &UNANSWERED)]);
    page.counters(
        "postern_graph_requests",
        "Requests to Microsoft Graph, by the status of their answer",
        rows.map(|(status, counter)| ([("status", status)], counter.get())),
    )?;
    page.counter(
        "postern_graph_throttled",
        "Requests that Graph turned away with a pause: a mailbox's gate was shut each time",
        THROTTLED.get(),
    )?;
    page.histogram(
        "postern_graph_request_duration_seconds",
        "How long Graph took from a request to the head of its answer",
        &SECONDS,
    )
}
