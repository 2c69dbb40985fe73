//! Why the gateway could not do what was asked, in the words of what a caller can do about it, and the one place that
//! makes a `Status` of it.

use std::time::Duration;

use postern_chassis::fault::Fault;
use tonic::{Code, Status};

use crate::store::StoreError;

/// An error of the gateway's own, or one that a connector gave and that is passed on as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong: pairs of path and problem.
    #[error("fields are wrong")]
    Fields(Vec<(String, String)>),
    /// There is no such resource: `Connection`, `Trigger`, `Subscription`, `QueuedEmail` or `Approval`, and its name.
    #[error("{0} {1} is not there")]
    NotFound(&'static str, String),
    /// There is such a resource already.
    #[error("{0} {1} is there already")]
    Exists(&'static str, String),
    /// The resource has changed since the caller read it.
    #[error("{0} has changed: read it again")]
    EtagMismatch(String),
    /// Any other refusal, ready to be given.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A call to a connector had no answer: whether it did what was asked is not known. As it is told to who asked for
    /// what can be repeated.
    #[error(transparent)]
    Unanswered(Fault),
    /// What a connector answered.
    #[error("the connector answered {:?}", .0.code())]
    Connector(Box<Status>),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// One wrong field: its path, and what was wrong and expected.
    pub fn field(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Fields(vec![(path.into(), problem.into())])
    }

    /// RECORD_UNREADABLE: what lies under a key is no record of ours. Told in the log too, for whoever mends it.
    pub(crate) fn unreadable(key: &str) -> Self {
        tracing::error!(key, "a stored value cannot be read");
        let message = format!("what is stored of {key} cannot be read");
        Fault::new(Code::Internal, "RECORD_UNREADABLE", message).into()
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Connector(Box::new(status))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Fields(fields) => Fault::fields(fields).into(),
            Error::NotFound(resource, name) => {
                let reason = match resource {
                    "Trigger" => "TRIGGER_NOT_FOUND",
                    "Subscription" => "SUBSCRIPTION_NOT_FOUND",
                    "QueuedEmail" => "QUEUED_EMAIL_NOT_FOUND",
                    "Approval" => "APPROVAL_NOT_FOUND",
                    _ => "CONNECTION_NOT_FOUND",
                };
                Fault::new(Code::NotFound, reason, format!("{name} is not there")).with("name", name).into()
            }
            Error::Exists(resource, name) => {
                let reason = match resource {
                    "Trigger" => "TRIGGER_EXISTS",
                    "Subscription" => "SUBSCRIPTION_EXISTS",
                    _ => "CONNECTION_EXISTS",
                };
                Fault::new(Code::AlreadyExists, reason, format!("{name} is there already"))
                    .with("name", name)
                    .into()
            }
            Error::EtagMismatch(name) => {
                let message = format!("{name} has changed since its etag was read: read it again");
                Fault::new(Code::Aborted, "ETAG_MISMATCH", message).with("name", name).into()
            }
            Error::Fault(fault) | Error::Unanswered(fault) => fault.into(),
            Error::Connector(status) => *status,
            Error::Store(StoreError::Conflict { key }) => {
                let message = format!("{key} was changed at the same time: try again");
                Fault::new(Code::Aborted, "CONFLICT", message).into()
            }
            Error::Store(StoreError::Refused(problem)) => Fault::new(
                Code::ResourceExhausted,
                "RECORD_TOO_LARGE",
                format!("it cannot be stored: {problem}"),
            )
            .into(),
            Error::Store(error @ StoreError::Unknown(_)) => {
                tracing::error!(%error, "storage broke off");
                let message = "whether the gateway has stored it is not known: look before a repeat";
                Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", message).into()
            }
            Error::Store(error) => {
                tracing::error!(%error, "storage failed");
                Fault::new(Code::Unavailable, "STORAGE_UNAVAILABLE", "the gateway's storage failed for now")
                    .retry_after(Duration::from_secs(5))
                    .into()
            }
        }
    }
}
