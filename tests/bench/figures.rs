//! Figures as they stand in the document: quantiles, units, tables.

use std::fmt::Write as _;
use std::time::Duration;

/// A quantile of some durations, by rank: 0.5 is the median, 1.0 the longest. Zero of none.
pub(crate) fn quantile(times: &mut [Duration], q: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank"
    )]
    let rank = (last as f64 * q).round() as usize;
    times.get(rank).copied().unwrap_or_default()
}

/// A duration in milliseconds.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// A table with a heading and notes.
pub(crate) struct Table {
    heading: String,
    lead: String,
    rows: String,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(heading: &str, columns: &[&str]) -> Self {
        let rule = columns.iter().map(|_| "---").collect::<Vec<_>>().join(" | ");
        let rows = format!("| {} |\n| {rule} |\n", columns.join(" | "));
        Self { heading: heading.to_owned(), lead: String::new(), rows, notes: Vec::new() }
    }

    /// What is to be read first: ratios.
    pub(crate) fn lead(&mut self, lead: &str) {
        self.lead = format!("{lead}\n\n");
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.rows, "| {} |", cells.join(" | "));
    }

    pub(crate) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    pub(crate) fn markdown(self) -> String {
        format!("## {}\n\n{}{}\n{}\n", self.heading, self.lead, self.rows, self.notes.join("\n\n"))
    }
}
