//! How long things may take: the bound on one step of a conversation, and the caller's deadline for the whole call.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// The part of the caller's time that is kept for the answer to travel, and its most: an answer that says what became
/// of the mail is worth more than a deadline that says nothing.
const ANSWER_SHARE: u32 = 10;
const ANSWER_MOST: Duration = Duration::from_millis(200);

/// The bounds in force for one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    step: Duration,
    until: Option<Instant>,
}

impl Clock {
    /// The bounds of a call that came with this metadata, on a connection whose steps may take `step` each.
    pub(crate) fn of_call(metadata: &MetadataMap, step: Duration) -> Self {
        let timeout = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout);
        Self { step, until: timeout.map(|timeout| Instant::now() + usable(timeout)) }
    }

    /// When a step that begins now must be done.
    pub(crate) fn step_end(&self) -> Instant {
        self.end_within(self.step)
    }

    /// When something that may take `most` and begins now must be done.
    pub(crate) fn end_within(&self, most: Duration) -> Instant {
        let end = Instant::now() + most;
        self.until.map_or(end, |until| until.min(end))
    }
}

/// What is left of a caller's time when the answer has its share.
fn usable(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / ANSWER_SHARE).min(ANSWER_MOST))
}

/// Reads a `grpc-timeout`: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_in_each_of_its_units() {
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout("4S"), Some(Duration::from_secs(4)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("7u"), Some(Duration::from_micros(7)));
        assert_eq!(timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "S", "1", "1s", "123456789S", "-1S", "1é"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_callers_deadline_cuts_a_step_short_and_leaves_time_to_answer() {
        assert_eq!(usable(Duration::from_secs(1)), Duration::from_millis(900));
        assert_eq!(usable(Duration::from_secs(60)), Duration::from_millis(59_800));
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "1S".parse().unwrap());
        let clock = Clock::of_call(&metadata, Duration::from_secs(60));
        assert!(clock.step_end() <= Instant::now() + Duration::from_millis(900));
        assert!(clock.end_within(Duration::from_millis(10)) <= Instant::now() + Duration::from_millis(10));
        let patient = Clock::of_call(&MetadataMap::new(), Duration::from_secs(60));
        assert!(patient.step_end() > Instant::now() + Duration::from_secs(59));
    }
}
