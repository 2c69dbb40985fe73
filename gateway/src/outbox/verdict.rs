//! What follows from the answer to an attempt: delivered, tried again, given up, or in doubt. Pure: it asks nobody.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_chassis::fault::{detail_of, failure_of};
use postern_proto::connector::v1::SendEmailResponse;
use postern_proto::mail::v1::{Failure, RecipientResult, RecipientResults, RecipientState};
use postern_proto::outbox::v1::{QueuedEmail, QueuedEmailState};
use tonic::{Code, Status};

use super::record::Record;
use super::{OutboxSettings, event};
use crate::connections::{CONFIGURATION_REFUSED, CREDENTIALS_REFUSED};
use crate::error::Error;

/// How long to wait before a connector is asked how an attempt ended, the first time; twice as long each further time.
const ASK_PAUSE: Duration = Duration::from_secs(5);
/// The longest such wait.
const MAX_ASK_PAUSE: Duration = Duration::from_secs(20 * 60);
/// How long to wait after the first attempt that reached no connector, which is mostly back soon; twice as long after each
/// further one.
const UNREACHED_PAUSE: Duration = Duration::from_secs(5);
/// How long a connection is left alone that is throttled and does not say for how long.
const QUIET: Duration = Duration::from_secs(30);
/// The longest that a connection is left alone.
const MAX_QUIET: Duration = Duration::from_secs(86_400);
/// The most bytes of recipients' results that are kept, of all attempts and of the last one that failed.
const MAX_RESULTS_BYTES: usize = 448 * 1024;
const MAX_FAILURE_BYTES: usize = 128 * 1024;
/// What speaks of the connection rather than of the mail: somebody may mend it.
const OF_CONNECTION: [&str; 5] =
    [CREDENTIALS_REFUSED, CONFIGURATION_REFUSED, "CERTIFICATE_REFUSED", "TLS_REQUIRED", "CONNECTOR_MISSING"];

/// What became of an attempt.
#[derive(Debug)]
pub(super) enum Answer {
    /// The provider took the mail, for some recipients at least.
    Taken(SendEmailResponse),
    /// It is certain that this attempt handed nothing over.
    Not {
        /// Why.
        failure: Failure,
        /// Whether another attempt is of no use.
        for_good: bool,
        /// Whether the failure tells of all recipients that were tried.
        all_told: bool,
        /// Whether a connector said so, rather than the gateway before it asked one.
        by_connector: bool,
    },
    /// The provider may or may not have taken it.
    Unknown(Failure),
}

impl Answer {
    /// What a call gave.
    pub(super) fn of(called: Result<SendEmailResponse, Error>) -> Self {
        match called {
            Ok(response) => Self::Taken(response),
            Err(error @ Error::Unanswered(_)) => Self::unknown(failure_of(&error.into())),
            Err(error) => {
                let by_connector = matches!(error, Error::Connector(_));
                let status = Status::from(error);
                let failure = failure_of(&status);
                if by_connector && is_unknown(status.code(), &failure.reason) {
                    return Self::unknown(failure);
                }
                let results: Option<RecipientResults> =
                    detail_of(&status, "postern.mail.v1.RecipientResults");
                let all_told = results.is_some_and(|results| results.omitted == 0);
                let for_good = is_for_good(status.code(), &failure.reason);
                Self::Not { failure, for_good, all_told, by_connector }
            }
        }
    }

    /// An attempt that broke off with the gateway that made it.
    pub(super) fn lost() -> Self {
        Self::unknown(Failure::default())
    }

    fn unknown(failure: Failure) -> Self {
        let message = match failure.message.as_str() {
            "" => "the gateway ended while the mail was handed over".to_owned(),
            message => message.to_owned(),
        };
        let (code, reason) = (Code::Unknown as i32, "OUTCOME_UNKNOWN".to_owned());
        Self::Unknown(Failure { code, reason, message, retry_after: None, ..failure })
    }

    /// How long the connection is to be left alone after it: where its provider, or its connector, is out of reach or has
    /// enough of it. What is said of recipients is about them alone.
    pub(super) fn quiet(&self) -> Option<Duration> {
        let Self::Not { failure, .. } = self else { return None };
        let code = Code::from_i32(failure.code);
        if !failure.recipients.is_empty() || !matches!(code, Code::Unavailable | Code::ResourceExhausted) {
            return None;
        }
        let quiet = retry_after(failure).or((code == Code::ResourceExhausted).then_some(QUIET));
        quiet.map(|quiet| quiet.min(MAX_QUIET))
    }
}

/// Whether a connector's answer leaves open what became of the mail: it says so, or it is none of its own making, as
/// where its deadline ended the call from outside.
fn is_unknown(code: Code, reason: &str) -> bool {
    use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, Internal, Unavailable, Unknown};
    let open =
        matches!(code, Unknown | Cancelled | DeadlineExceeded | Internal | Unavailable | Aborted | DataLoss);
    reason == "OUTCOME_UNKNOWN" || (reason.is_empty() && open)
}

/// Whether another attempt would end in the same way.
fn is_for_good(code: Code, reason: &str) -> bool {
    use Code::{AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound};
    use Code::{OutOfRange, PermissionDenied, Unauthenticated, Unimplemented};
    match code {
        FailedPrecondition => !OF_CONNECTION.contains(&reason),
        InvalidArgument | NotFound | OutOfRange | AlreadyExists | DataLoss => true,
        PermissionDenied | Unauthenticated | Unimplemented => true,
        _ => false,
    }
}

/// How long a failure asks to wait.
fn retry_after(failure: &Failure) -> Option<Duration> {
    failure.retry_after.and_then(|delay| Duration::try_from(delay).ok())
}

/// Brings a mail to where an attempt leaves it.
pub(super) fn apply(
    record: &mut Record,
    answer: Answer,
    is_repeatable: bool,
    settings: &OutboxSettings,
    now: SystemTime,
) {
    match answer {
        Answer::Taken(response) => taken(record, response, settings, now),
        Answer::Unknown(failure) => unknown(record, failure, is_repeatable, settings, now),
        // Nothing is known yet of the attempt that it was to tell of.
        Answer::Not { for_good: false, failure, .. } if record.in_doubt => {
            let Answer::Unknown(failure) = Answer::unknown(failure) else { return };
            unknown(record, failure, is_repeatable, settings, now);
        }
        Answer::Not { by_connector: false, failure, .. } if record.in_doubt => {
            let Answer::Unknown(failure) = Answer::unknown(failure) else { return };
            unknown(record, failure, false, settings, now);
        }
        Answer::Not { failure, for_good, all_told, .. } => {
            let told = merge(record.email_mut(), &failure.recipients);
            if !record.left.is_empty() {
                record.left.retain(|to| told.get(to) != Some(&RecipientState::RefusedPermanent));
            } else if all_told {
                record.left = still_to_try(record.email());
            }
            let nobody_left = all_told && record.left.is_empty();
            if for_good || nobody_left {
                give_up(record, failure, now);
            } else {
                defer(record, failure, settings, now);
            }
        }
    }
    event::fit(&mut record.email_mut().recipients, MAX_RESULTS_BYTES);
    if let Some(failure) = &mut record.email_mut().last_failure {
        event::fit(&mut failure.recipients, MAX_FAILURE_BYTES);
    }
}

fn taken(record: &mut Record, response: SendEmailResponse, settings: &OutboxSettings, now: SystemTime) {
    let email = record.email_mut();
    merge(email, &response.recipients);
    if email.internet_message_id.is_empty() {
        email.internet_message_id = response.internet_message_id;
        email.message_id = response.message_id;
    }
    record.left = still_to_try(record.email());
    let accepted = response.recipients.is_empty() || any_accepted(record.email());
    if record.left.is_empty() && accepted {
        return record.settle(QueuedEmailState::Delivered, now);
    }
    let of = |state: RecipientState| {
        let results = response.recipients.iter().filter(|result| result.state() == state);
        results.cloned().collect::<Vec<_>>()
    };
    if record.left.is_empty() {
        let failure = Failure {
            code: Code::FailedPrecondition as i32,
            reason: "MESSAGE_REFUSED".to_owned(),
            message: "every recipient was refused".to_owned(),
            recipients: of(RecipientState::RefusedPermanent),
            ..Failure::default()
        };
        return give_up(record, failure, now);
    }
    let failure = Failure {
        code: Code::Unavailable as i32,
        reason: "PROVIDER_UNAVAILABLE".to_owned(),
        message: "some recipients were refused for now".to_owned(),
        recipients: of(RecipientState::RefusedTransient),
        ..Failure::default()
    };
    defer(record, failure, settings, now);
}

/// Has the connector asked later, where it can tell and time is left; else ends it.
fn unknown(
    record: &mut Record,
    failure: Failure,
    is_repeatable: bool,
    settings: &OutboxSettings,
    now: SystemTime,
) {
    if !is_repeatable || now >= expires(record) {
        let untold = std::mem::take(&mut record.left);
        let results = untold.into_iter().map(|address| {
            let state = RecipientState::OutcomeUnknown.into();
            RecipientResult { address, state, reply: None }
        });
        merge(record.email_mut(), &results.collect::<Vec<_>>());
        return give_up(record, failure, now);
    }
    let pause = ASK_PAUSE.min(settings.back_off).saturating_mul(1 << record.asked.min(16)).min(MAX_ASK_PAUSE);
    record.in_doubt = true;
    record.asked = record.asked.saturating_add(1);
    record.wait = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    record.ask_time = Some((now + pause).into());
    let email = record.email_mut();
    email.set_state(QueuedEmailState::Sending);
    email.last_failure = Some(failure);
}

/// Has it tried again, unless its time is over.
fn defer(record: &mut Record, failure: Failure, settings: &OutboxSettings, now: SystemTime) {
    let (expires, asked) = (expires(record), retry_after(&failure).unwrap_or_default());
    if now >= expires || now.checked_add(asked).is_none_or(|soonest| soonest > expires) {
        return give_up(record, failure, now);
    }
    let attempts = u32::try_from(record.email().attempts).unwrap_or(1);
    let pause = if failure.reason == "CONNECTOR_UNAVAILABLE" {
        let pause = UNREACHED_PAUSE.saturating_mul(1 << record.unreached.min(16));
        record.unreached = record.unreached.saturating_add(1);
        pause.min(settings.back_off)
    } else {
        settings.pause(attempts.saturating_sub(record.unreached))
    };
    let pause = pause.max(asked);
    let due = now.checked_add(pause).unwrap_or(expires).min(expires);
    (record.in_doubt, record.ask_time) = (false, None);
    record.wait_until(due, pause);
    let email = record.email_mut();
    email.set_state(QueuedEmailState::Deferred);
    email.last_failure = Some(failure);
}

/// Ends it: what some recipients took is delivered, though others do not get it.
fn give_up(record: &mut Record, failure: Failure, now: SystemTime) {
    record.left.clear();
    let state = match any_accepted(record.email()) {
        true => QueuedEmailState::Delivered,
        false => QueuedEmailState::Failed,
    };
    record.email_mut().last_failure = Some(failure);
    record.settle(state, now);
}

fn expires(record: &Record) -> SystemTime {
    let expires = record.email().expire_time;
    expires.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(UNIX_EPOCH)
}

fn any_accepted(email: &QueuedEmail) -> bool {
    email.recipients.iter().any(|result| result.state() == RecipientState::Accepted)
}

fn still_to_try(email: &QueuedEmail) -> Vec<String> {
    let left = email.recipients.iter().filter(|it| it.state() == RecipientState::RefusedTransient);
    left.map(|result| result.address.clone()).collect()
}

/// Takes in what an attempt told of recipients. Gives what it told.
fn merge(email: &mut QueuedEmail, told: &[RecipientResult]) -> HashMap<String, RecipientState> {
    let known = email.recipients.iter().enumerate();
    let places: HashMap<_, _> = known.map(|(place, result)| (result.address.clone(), place)).collect();
    for result in told {
        match places.get(&result.address).and_then(|place| email.recipients.get_mut(*place)) {
            Some(known) => *known = result.clone(),
            None => email.recipients.push(result.clone()),
        }
    }
    told.iter().map(|result| (result.address.clone(), result.state())).collect()
}

#[cfg(test)]
mod tests;
