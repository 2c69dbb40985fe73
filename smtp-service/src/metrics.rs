//! What the connector counts of itself: numbers of the whole process. What each means is in docs/metrics.md.

use std::fmt;

use postern_chassis::metrics::{Counter, Gauge, Histogram, Page};

use crate::error::Error;

/// Mails, by what became of them.
pub(crate) static MAILS: Mails =
    Mails { taken: Counter::new(), refused: Counter::new(), unknown: Counter::new(), failed: Counter::new() };
/// How long the handing over took.
pub(crate) static SECONDS: Histogram = Histogram::new();
/// Sockets on which somebody is signed in.
pub(crate) static SOCKETS: Gauge = Gauge::new();
/// How often one was opened.
pub(crate) static OPENED: Counter = Counter::new();

pub(crate) struct Mails {
    taken: Counter,
    refused: Counter,
    unknown: Counter,
    failed: Counter,
}

impl Mails {
    /// Counts a mail by how its sending ended.
    pub(crate) fn count<T>(&self, ended: &Result<T, Error>) {
        match ended {
            Ok(_) => &self.taken,
            Err(Error::OutcomeUnknown { .. }) => &self.unknown,
            Err(Error::Refused { .. }) => &self.refused,
            Err(_) => &self.failed,
        }
        .inc();
    }
}

/// The connector's metrics.
///
/// # Errors
/// The page cannot be written.
pub fn tell(page: &mut Page<'_>) -> fmt::Result {
    let mails = [
        ("taken", &MAILS.taken),
        ("refused", &MAILS.refused),
        ("unknown", &MAILS.unknown),
        ("not_sent", &MAILS.failed),
    ];
    page.counters(
        "postern_smtp_sends",
        "Mails handed to SMTP servers, by what became of them",
        mails.map(|(outcome, counter)| ([("outcome", outcome)], counter.get())),
    )?;
    page.histogram(
        "postern_smtp_send_duration_seconds",
        "How long the handing over of a mail took, the wait for a socket included",
        &SECONDS,
    )?;
    #[allow(clippy::cast_precision_loss, reason = "there are not that many")]
    page.gauge(
        "postern_smtp_sockets_open",
        "Sockets to SMTP servers that are open and signed in",
        SOCKETS.get() as f64,
    )?;
    page.counter("postern_smtp_sockets_opened", "Sockets to SMTP servers that were opened", OPENED.get())
}
