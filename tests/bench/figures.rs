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

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let values = sorted(values);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// The lowest and the highest value.
pub(crate) fn ends(values: &[f64]) -> (f64, f64) {
    let values = sorted(values);
    (values.first().copied().unwrap_or(f64::NAN), values.last().copied().unwrap_or(f64::NAN))
}

/// What was measured of one to what was measured of another, round by round.
pub(crate) fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert_eq!(ends(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }
}
