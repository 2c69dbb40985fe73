//! How long things may take: the bound on one step of a conversation, and the caller's deadline for the whole call.

use std::time::Duration;

use postern_chassis::deadline::timeout_in;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// The part of the caller's time that is kept for the answer to travel, and its most: an answer that says what became
/// of the mail is worth more than a deadline that says nothing.
const ANSWER_SHARE: u32 = 10;
const ANSWER_MOST: Duration = Duration::from_millis(200);
/// How many steps' time the server has to answer the final dot, and the most of it (RFC 5321, section 4.5.3.2.6): what
/// it does then, such as looking at the content, takes long, and who gives up does not know what became of the mail.
const FINAL_STEPS: u32 = 10;
const FINAL_MOST: Duration = Duration::from_secs(600);

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

    /// When the server must have answered the final dot that was sent now.
    pub(crate) fn final_end(&self) -> Instant {
        self.end_within((self.step * FINAL_STEPS).min(FINAL_MOST))
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

    #[test]
    fn the_answer_to_the_final_dot_has_more_time_than_a_step_and_at_most_ten_minutes() {
        let within = |step: u64, seconds: std::ops::Range<u64>| {
            let clock = Clock::of_call(&MetadataMap::new(), Duration::from_secs(step));
            let left = clock.final_end() - Instant::now();
            assert!(seconds.contains(&left.as_secs()), "{step}: {left:?}");
        };
        within(1, 9..11);
        within(60, 599..601);
        within(600, 599..601);
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "1S".parse().unwrap());
        let hurried = Clock::of_call(&metadata, Duration::from_secs(60));
        assert!(hurried.final_end() <= Instant::now() + Duration::from_millis(900));
    }
}
