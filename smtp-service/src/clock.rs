//! How long things may take: the bound on one step of a conversation, and the caller's deadline for the whole call.

use std::time::Duration;

use postern_chassis::deadline::timeout_in;
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
        let timeout = timeout_in(metadata.as_ref());
        Self { step, until: timeout.map(|timeout| Instant::now() + usable(timeout)) }
    }

    /// Whether the caller's time is up: what ends now for want of time says nothing of the server.
    pub(crate) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
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

#[cfg(test)]
mod tests {
    use super::*;

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
