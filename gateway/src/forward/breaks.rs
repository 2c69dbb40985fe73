//! How calls break: what an error of the way to a connector proves about what was done, and what the caller is told.

use std::error::Error as StdError;
use std::future::Future;

use postern_chassis::fault::Fault;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::NOTHING_DONE;
use crate::connectors::unavailable;
use crate::contract::Terms;

/// An error of the way to a connector, of whatever layer.
pub(super) type WayError = Box<dyn StdError + Send + Sync>;

/// What a future gives, if it does so by the deadline.
///
/// # Errors
/// DEADLINE_EXCEEDED (NOTHING_DONE).
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    future: impl Future<Output = T>,
) -> Result<T, Fault> {
    let Some(deadline) = deadline else { return Ok(future.await) };
    timeout_at(deadline, future).await.map_err(|_| {
        let message = "the call's deadline passed before it was handed to its connector: nothing was done";
        Fault::new(Code::DeadlineExceeded, NOTHING_DONE, message)
    })
}

/// The error of a call that was being handed over, or had been, when its deadline passed.
pub(super) fn out_of_time() -> Fault {
    Fault::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the call's deadline has passed")
}

/// The first error of a type behind another, itself included.
fn cause<E: StdError + 'static>(error: &WayError) -> Option<&E> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&**error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Whether there was no connection to make the call on.
pub(super) fn is_not_connected(error: &WayError) -> bool {
    cause::<tonic::ConnectError>(error).is_some()
}

/// Whether the call's own timeout ran out.
pub(super) fn is_out_of_time(error: &WayError) -> bool {
    cause::<tonic::TimeoutExpired>(error).is_some()
}

/// Whether the connector said that nothing was processed: it refused the stream, or it went away (GOAWAY) and the stream
/// is behind the last that it took (RFC 9113, sections 8.7 and 6.8). h2 gives a peer's GOAWAY as the error of those alone.
pub(super) fn is_unprocessed(error: &WayError) -> bool {
    cause::<h2::Error>(error).is_some_and(|error| {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (is_refused || error.is_go_away())
    })
}

/// Whether the connection was given up because the connector no longer answered pings: it may still be at work. Where
/// its process had died, the system would have closed the connection.
pub(super) fn is_silence(error: &WayError) -> bool {
    cause::<hyper::Error>(error).is_some_and(hyper::Error::is_timeout)
}

/// The error of a call that broke off once it was handed over: whether it was carried out is not known. Where that
/// makes no difference, it is worth a repeat.
pub(super) fn interrupted(terms: Terms) -> Fault {
    if terms.is_safe {
        return unavailable("the call to it broke off");
    }
    let message = "the call to the connector broke off: it may or may not have been carried out";
    Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", message)
}

/// The error of a call that broke off before the end of its request was handed over.
pub(super) fn cut_short(terms: Terms) -> Fault {
    if terms.gathers() {
        return unavailable("the call to it broke off before the end of its stream: nothing was done");
    }
    interrupted(terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_told_from_what_broke() {
        let local: WayError = Box::new(h2::Error::from(h2::Reason::REFUSED_STREAM));
        assert!(!is_unprocessed(&local), "only the connector can say so");
        let broken: WayError = Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(!is_unprocessed(&broken) && !is_not_connected(&broken) && !is_silence(&broken));
    }

    #[test]
    fn a_call_that_changes_nothing_is_worth_a_repeat_and_another_may_have_been_made() {
        let safe = Terms { is_safe: true, ..Terms::default() };
        assert_eq!(interrupted(safe).code(), Code::Unavailable);
        assert_eq!(interrupted(Terms::default()).reason(), "OUTCOME_UNKNOWN");
        let gathers = Terms { takes_stream: true, ..Terms::default() };
        assert_eq!(cut_short(gathers).code(), Code::Unavailable);
        assert_eq!(cut_short(Terms::default()).reason(), "OUTCOME_UNKNOWN");
    }
}
