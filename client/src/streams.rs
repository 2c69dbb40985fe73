//! What the streams that resume by themselves go by: how long a silence may last, which errors end them, and how long to
//! wait before the next try.

use std::time::Duration;

use tonic::Code;

use crate::error::Error;
use crate::pause::pause;

/// How long a stream may take until its first answer.
pub(crate) const OPEN_PATIENCE: Duration = Duration::from_secs(20);
/// How many heartbeat intervals of silence are the end of a stream: one heartbeat may be late, two are not.
const SILENT_INTERVALS: f64 = 2.5;
/// The pause after the first break. Short: most gateways are back, or another is there, at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that no gateway asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a stream may be silent that opened with this interval between heartbeats.
pub(crate) fn longest_silence(heartbeat_interval: Option<prost_types::Duration>) -> Duration {
    let interval = heartbeat_interval.and_then(|interval| interval.try_into().ok());
    interval.unwrap_or(OPEN_PATIENCE).mul_f64(SILENT_INTERVALS)
}

/// What a stream ends with that was silent for longer.
pub(crate) fn too_silent() -> Error {
    Error::broken_off(Code::Unavailable, "the gateway was silent for longer than it may be")
}

/// How long to wait after so many breaks in a row, the last by this error.
pub(crate) fn pause_after(failures: u32, error: &Error) -> Duration {
    pause(failures, FIRST_PAUSE, LONGEST_PAUSE, error.retry_after())
}

/// Whether a stream that ended so may be given later.
pub(crate) fn is_mended_by_repeats(error: &Error) -> bool {
    !matches!(
        error.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_repeat_may_mend_is_tried_again() {
        for code in
            [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled, Code::ResourceExhausted]
        {
            assert!(is_mended_by_repeats(&Error::broken_off(code, "")), "{code:?}");
        }
        for code in [Code::Unauthenticated, Code::InvalidArgument, Code::OutOfRange, Code::Unimplemented] {
            assert!(!is_mended_by_repeats(&Error::broken_off(code, "")), "{code:?}");
        }
    }
}
