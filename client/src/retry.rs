//! Making a call again where its error says that this helps, and the call is one that may be made again.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, OUTCOME_UNKNOWN};
use crate::pause::pause;

/// Letters of a made request id: 32 of them, 5 bits each, hence 160 bits.
const REQUEST_ID_LENGTH: usize = 32;

/// How often and how long a call is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often in all. 1: no repeat. Default: 5.
    pub tries: u32,
    /// When no further try is begun, from the first one on; a pause that would last beyond it is not waited for. Default:
    /// 60 s.
    pub total: Duration,
    /// The pause after the first failure, where the error asks for none; each is twice as long as the one before, less up
    /// to a half of it, by chance. Default: 100 ms.
    pub first_pause: Duration,
    /// The longest pause that no error asked for. Default: 10 s.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 5,
            total: Duration::from_secs(60),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// Notes what an attempt calls, to know whether it may be made again.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// A call was made whose repeat would be a second change.
    must_not_repeat: AtomicBool,
    /// A call was made of which nobody can tell afterwards whether it had its effect.
    cannot_be_asked: AtomicBool,
}

impl Witness {
    /// Notes a call: whether its repeat is safe, and whether the provider can be asked what became of it.
    pub(crate) fn note(&self, may_repeat: bool, can_be_asked: bool) {
        self.must_not_repeat.fetch_or(!may_repeat, Ordering::Relaxed);
        self.cannot_be_asked.fetch_or(!can_be_asked, Ordering::Relaxed);
    }

    /// Whether what was noted may be made again after this error.
    fn allows(&self, error: &Error) -> bool {
        if self.must_not_repeat.load(Ordering::Relaxed) {
            return false;
        }
        if error.reason() == OUTCOME_UNKNOWN {
            // The ledger would say the same again, unless the method's connector can find out.
            return !self.cannot_be_asked.load(Ordering::Relaxed);
        }
        error.is_worth_a_retry()
    }
}

/// Makes attempts as [`Client::retrying`] says.
pub(crate) async fn retrying<T, E, A>(
    client: &Client,
    mut attempt: impl FnMut(Client) -> A,
) -> Result<T, Error>
where
    E: Into<Error>,
    A: Future<Output = Result<T, E>>,
{
    let retry = client.retry();
    let end = Instant::now() + retry.total;
    let mut tried = 0;
    loop {
        let (watched, witness) = client.watched();
        let error: Error = match attempt(watched).await {
            Ok(done) => return Ok(done),
            Err(error) => error.into(),
        };
        tried += 1;
        let pause = pause(tried, retry.first_pause, retry.longest_pause, error.retry_after());
        if tried >= retry.tries || !witness.allows(&error) || Instant::now() + pause >= end {
            return Err(error);
        }
        client.turn_away();
        tracing::debug!(code = ?error.code(), reason = error.reason(), tried, "a call is made again");
        tokio::time::sleep(pause).await;
    }
}

/// A new request id that nobody else makes: 32 small letters and digits.
///
/// A change that is asked for again must have the id that it had at first: make it once, before the first try, and
/// store it with the work to do if the work outlives the process. What has a name of its own, such as an invoice's number,
/// is the better id.
#[must_use]
pub fn new_request_id() -> String {
    const LETTERS: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't',
        'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
    ];
    std::iter::repeat_with(|| fastrand::choice(LETTERS).unwrap_or('a')).take(REQUEST_ID_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn said(code: Code, reason: &str, pause: Option<Duration>) -> Error {
        let mut details = ErrorDetails::with_error_info(reason, "postern", []);
        details.set_retry_info(pause);
        Status::with_error_details(code, "", details).into()
    }

    fn after(may_repeat: bool, can_be_asked: bool) -> Witness {
        let witness = Witness::default();
        witness.note(may_repeat, can_be_asked);
        witness
    }

    #[test]
    fn only_what_may_be_repeated_is_and_only_where_the_error_says_so() {
        let busy = said(Code::ResourceExhausted, "PROVIDER_THROTTLED", Some(Duration::from_secs(1)));
        let gone = said(Code::Unavailable, "CONNECTOR_UNAVAILABLE", None);
        let refused = said(Code::FailedPrecondition, "MESSAGE_REFUSED", None);
        for error in [&busy, &gone] {
            assert!(after(true, false).allows(error));
            assert!(!after(false, false).allows(error) && !after(false, true).allows(error));
        }
        assert!(!after(true, true).allows(&refused));
        let both = after(true, false);
        both.note(false, false);
        assert!(!both.allows(&gone), "one call that must not be repeated is enough");
    }

    #[test]
    fn an_unknown_outcome_is_asked_after_only_where_somebody_can_tell() {
        let unknown = said(Code::Unknown, OUTCOME_UNKNOWN, None);
        assert!(after(true, true).allows(&unknown));
        assert!(!after(true, false).allows(&unknown) && !after(false, true).allows(&unknown));
    }

    #[test]
    fn request_ids_differ_and_travel() {
        let ids: BTreeSet<_> = (0..1_000).map(|_| new_request_id()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())));
    }
}
