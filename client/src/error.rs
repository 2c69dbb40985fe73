//! Errors that can be asked: what a gRPC status says with its `google.rpc` details, read once. It decides nothing about
//! repeats; `retry.rs` does.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;

use postern_proto::mail::v1::{Failure, FieldViolation, RecipientResult, RecipientResults};
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt as _;

/// The `domain` of every `google.rpc.ErrorInfo` of the contract.
const DOMAIN: &str = "postern";
/// The reason of a change that may or may not have been made.
pub(crate) const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
/// The reason of a deadline that passed before anything was begun.
const NOTHING_DONE: &str = "NOTHING_DONE";
/// The type of the one detail that is of the contract itself.
const RECIPIENTS: &str = "postern.mail.v1.RecipientResults";

/// Why a call failed. What is asked for and was not said is empty.
#[derive(Clone, thiserror::Error)]
#[error("{}", .0.text())]
pub struct Error(Box<Said>);

/// What an error says.
#[derive(Debug, Clone)]
struct Said {
    code: Code,
    reason: String,
    message: String,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
    fields: Vec<FieldViolation>,
    recipients: Vec<RecipientResult>,
    by: Speaker,
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    /// A gateway or connector.
    Postern,
    /// Whoever else answered: a proxy, another server.
    Other,
    /// Nobody: no connection came about, or what was to be sent is not there. Nothing was sent.
    NotReached,
    /// Nobody: the connection broke, or the deadline passed on this side.
    BrokenOff,
}

impl Said {
    fn text(&self) -> String {
        let reason = if self.reason.is_empty() { "no reason given" } else { &self.reason };
        format!("{} ({:?}, {reason})", self.message, self.code)
    }
}

impl std::fmt::Debug for Error {
    /// Without the recipients: addresses do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("reason", &self.0.reason)
            .field("message", &self.0.message)
            .field("metadata", &self.0.metadata)
            .field("retry_after", &self.0.retry_after)
            .field("field_violations", &self.0.fields)
            .field("recipients", &self.0.recipients.len())
            .field("by", &self.0.by)
            .finish()
    }
}

impl Error {
    /// The canonical gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The reason, in UPPER_SNAKE_CASE, such as `MESSAGE_REFUSED`: what programs decide by. Empty where Postern did not
    /// speak: the gateway was not reached, or somebody else answered.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What went wrong, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What more is known by this key, such as `smtp.code` or `graph.request_id`.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.0.metadata.get(key).map(String::as_str)
    }

    /// After how long another try may help, where that was said.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The fields of the request that were wrong, each with what was expected.
    #[must_use]
    pub fn field_violations(&self) -> &[FieldViolation] {
        &self.0.fields
    }

    /// What became of each recipient, where recipients were tried.
    #[must_use]
    pub fn recipients(&self) -> &[RecipientResult] {
        &self.0.recipients
    }

    /// Whether a change may or may not have been made: Postern says so, or the call broke off before its answer. False:
    /// nothing was changed.
    #[must_use]
    pub fn outcome_is_unknown(&self) -> bool {
        match (self.0.by, self.0.code) {
            (Speaker::NotReached, _) => false,
            (Speaker::BrokenOff, _) | (Speaker::Other, Code::Unavailable) => true,
            (_, Code::DeadlineExceeded) => self.0.reason != NOTHING_DONE,
            (_, code) => matches!(code, Code::Unknown | Code::Internal | Code::DataLoss | Code::Cancelled),
        }
    }

    /// Whether the error says that the same call may succeed later: it names a pause, or nobody was there to answer.
    ///
    /// Whether the call may be made again is another question: one that changes something needs a `request_id` for
    /// that. [`Client::retrying`](crate::Client::retrying) asks both.
    #[must_use]
    pub fn is_worth_a_retry(&self) -> bool {
        self.0.reason != OUTCOME_UNKNOWN
            && (self.0.retry_after.is_some()
                || self.0.code == Code::Unavailable
                || self.0.by == Speaker::BrokenOff && self.0.code != Code::DeadlineExceeded)
    }

    /// The connection broke, or this side lost its patience.
    pub(crate) fn broken_off(code: Code, message: &str) -> Self {
        Self::own(code, message.to_owned(), Speaker::BrokenOff)
    }

    /// What was given to be sent cannot be: nothing was.
    pub(crate) fn not_sent(message: String) -> Self {
        Self::own(Code::InvalidArgument, message, Speaker::NotReached)
    }

    fn own(code: Code, message: String, by: Speaker) -> Self {
        Self(Box::new(Said {
            code,
            reason: String::new(),
            message,
            metadata: HashMap::new(),
            retry_after: None,
            fields: Vec::new(),
            recipients: Vec::new(),
            by,
        }))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let by = match info {
            Some(_) => Speaker::Postern,
            None if has_source::<ConnectError>(&status) => Speaker::NotReached,
            None if status.source().is_some() => Speaker::BrokenOff,
            None => Speaker::Other,
        };
        let (reason, metadata) =
            info.map(|info| (info.reason.clone(), info.metadata.clone())).unwrap_or_default();
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let violation = |violation: &tonic_types::FieldViolation| FieldViolation {
            field: violation.field.clone(),
            description: violation.description.clone(),
        };
        Self(Box::new(Said {
            code: status.code(),
            reason,
            message: status.message().to_owned(),
            metadata,
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            fields: violations.iter().map(violation).collect(),
            recipients: recipients(status.details()),
            by,
        }))
    }
}

impl From<Failure> for Error {
    /// What became of one mail on a stream on which each fails alone.
    fn from(failure: Failure) -> Self {
        Self(Box::new(Said {
            code: Code::from_i32(failure.code),
            reason: failure.reason,
            message: failure.message,
            metadata: failure.metadata,
            retry_after: failure.retry_after.and_then(|delay| delay.try_into().ok()),
            fields: failure.field_violations,
            recipients: failure.recipients,
            by: Speaker::Postern,
        }))
    }
}

/// Whether an error of this type lies somewhere beneath.
fn has_source<E: StdError + 'static>(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The recipients in the details of a status, an encoded `google.rpc.Status`.
fn recipients(details: &[u8]) -> Vec<RecipientResult> {
    /// `google.rpc.Status`, as far as it matters here.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Details {
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    let details = Details::decode(details).unwrap_or_default().details;
    let found = details.iter().find(|any| any.type_url.rsplit('/').next() == Some(RECIPIENTS));
    let results = found.and_then(|any| RecipientResults::decode(any.value.as_slice()).ok());
    results.unwrap_or_default().recipients
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn said(code: Code, reason: &str, pause: Option<Duration>) -> Error {
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, [("smtp.code".into(), "450".into())]);
        details.set_retry_info(pause);
        details.add_bad_request_violation("email.to", "is absent");
        Status::with_error_details(code, "not now", details).into()
    }

    #[test]
    fn an_error_says_what_its_status_said() {
        let error = said(Code::Unavailable, "PROVIDER_UNAVAILABLE", Some(Duration::from_secs(7)));
        assert_eq!((error.code(), error.reason()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(error.metadata("smtp.code"), Some("450"));
        assert_eq!(error.metadata("smtp.text"), None);
        assert_eq!(error.field_violations()[0].field, "email.to");
        assert!(error.is_worth_a_retry() && !error.outcome_is_unknown());
        assert_eq!(error.to_string(), "not now (Unavailable, PROVIDER_UNAVAILABLE)");
    }

    #[test]
    fn an_unknown_outcome_is_told_from_a_refusal_and_from_nothing_done() {
        let unknown = said(Code::Unknown, OUTCOME_UNKNOWN, None);
        assert!(unknown.outcome_is_unknown() && !unknown.is_worth_a_retry());
        assert!(!said(Code::FailedPrecondition, "MESSAGE_REFUSED", None).outcome_is_unknown());
        assert!(!said(Code::DeadlineExceeded, NOTHING_DONE, None).outcome_is_unknown());
        assert!(said(Code::DeadlineExceeded, "", None).outcome_is_unknown());
        // What somebody on the way answers does not say that the gateway did nothing.
        assert!(Error::from(Status::unavailable("bad gateway")).outcome_is_unknown());
    }

    #[test]
    fn a_reason_of_another_domain_is_not_postern_s() {
        let details = ErrorDetails::with_error_info("MESSAGE_REFUSED", "example.org", HashMap::new());
        let error = Error::from(Status::with_error_details(Code::FailedPrecondition, "no", details));
        assert_eq!(error.reason(), "");
    }

    #[test]
    fn debug_shows_no_address() {
        let failure = Failure {
            code: Code::FailedPrecondition as i32,
            reason: "MESSAGE_REFUSED".to_owned(),
            recipients: vec![RecipientResult {
                address: "anna@example.org".to_owned(),
                ..Default::default()
            }],
            ..Failure::default()
        };
        let error = Error::from(failure);
        assert_eq!(error.recipients()[0].address, "anna@example.org");
        assert!(!format!("{error:?}").contains("anna"));
    }
}
