//! What the caller is told of a call that broke off.

use std::future::Future;

use postern_chassis::fault::Fault;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::NOTHING_DONE;
use crate::connectors::unavailable;
use crate::contract::Terms;

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
    fn a_call_that_changes_nothing_is_worth_a_repeat_and_another_may_have_been_made() {
        let safe = Terms { is_safe: true, ..Terms::default() };
        assert_eq!(interrupted(safe).code(), Code::Unavailable);
        assert_eq!(interrupted(Terms::default()).reason(), "OUTCOME_UNKNOWN");
        let gathers = Terms { takes_stream: true, ..Terms::default() };
        assert_eq!(cut_short(gathers).code(), Code::Unavailable);
        assert_eq!(cut_short(Terms::default()).reason(), "OUTCOME_UNKNOWN");
    }
}
