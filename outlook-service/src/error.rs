//! Why the connector could not do what was asked, in the words of what a caller can do about it, and the one place
//! that makes a `Status` of it. Graph's own message is never shown: it is written for developers and may hold content.

use std::time::Duration;

use postern_chassis::fault::Fault;
use postern_chassis::sign_in::Meaning;
use tonic::{Code, Status};

use crate::graph::{Failure, Refusal};
use crate::identity::Refused;

/// When a repeat may help where the provider does not say.
const SOON: Duration = Duration::from_secs(5);

/// Fields found wrong: path and problem.
pub(crate) type Problems = Vec<(String, String)>;

/// An error of the connector.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fields of the request are wrong.
    #[error("fields are wrong")]
    Fields(Problems),
    /// The trigger is of a kind that is not served.
    #[error("this kind of trigger is not served")]
    TriggerKind,
    /// The mail passes what the account may send.
    #[error("the mail is too large")]
    TooLarge(Box<Refusal>),
    /// The caller was silent for too long in the middle of its stream.
    #[error("the stream stood still")]
    Stalled,
    /// The caller has gone: what was begun for it was undone.
    #[error("the caller has gone")]
    Abandoned,
    /// There is no access token to act with.
    #[error("there is no access token")]
    NoToken,
    /// There is nothing to sign in with.
    #[error("there is nothing to sign in with")]
    SignedOut,
    /// The identity platform refused for good.
    #[error("the sign-in was refused: {}", .0.error)]
    SignInRefused(Box<Refused>),
    /// The identity platform is not reached, or out of order for now.
    #[error("the sign-in failed for now: {}", .0.error)]
    SignInUnavailable(Box<Refused>),
    /// A user's sign-in failed by what the identity platform answered.
    #[error("the user's sign-in failed: {}", .1.error)]
    SignInFailed(Meaning, Box<Refused>),
    /// A user's sign-in failed, or cannot be.
    #[error(transparent)]
    SignIn(Box<Fault>),
    /// There is no such folder.
    #[error("the folder is not there")]
    NoFolder(Option<Box<Refusal>>),
    /// Graph pushes nothing of this kind, to this account, or for one application twice.
    #[error("this is not pushed")]
    PushUnsupported(Option<Box<Refusal>>),
    /// Graph did not accept the URL to push to, such as where it could not reach it.
    #[error("the notification was refused")]
    UrlRefused(Box<Refusal>),
    /// There is no such calendar.
    #[error("the calendar is not there")]
    NoCalendar(Box<Refusal>),
    /// The item is not what the caller took it for.
    #[error("the item has changed since")]
    ItemChanged(Option<Box<Refusal>>),
    /// A change broke off where Graph may or may not have made it.
    #[error("whether the change was made is not known")]
    ChangeUnknown {
        /// What broke off.
        failure: Failure,
    },
    /// The mail broke off where Graph may or may not have taken it.
    #[error("whether the mail was sent is not known")]
    OutcomeUnknown {
        /// The draft's id: the mail can be looked for by it.
        message_id: String,
        /// What broke off.
        failure: Failure,
    },
    /// It is not certain yet that an earlier run of the call sent nothing: how long until it is.
    #[error("whether an earlier try sent the mail is not certain yet")]
    Unsettled(Duration),
    /// Graph did not do it.
    #[error(transparent)]
    Graph(#[from] Failure),
}

/// Refuses a request with wrong fields, if there are any.
pub(crate) fn refuse(problems: Problems) -> Result<(), Error> {
    if problems.is_empty() { Ok(()) } else { Err(Error::Fields(problems)) }
}

impl Error {
    /// One wrong field: its path, and what was wrong and expected.
    pub(crate) fn field(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Fields(vec![(path.into(), problem.into())])
    }

    /// The same, its fields within a field of the request.
    pub(crate) fn within(self, field: &str) -> Self {
        match self {
            Self::Fields(fields) => {
                let inner = fields.into_iter().map(|(path, problem)| (format!("{field}.{path}"), problem));
                Self::Fields(inner.collect())
            }
            other => other,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::SignIn(Box::new(fault))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Fields(fields) => Fault::fields(fields),
            Error::TriggerKind => Fault::new(
                Code::InvalidArgument,
                "TRIGGER_KIND_UNSUPPORTED",
                "this kind of trigger is not served: expected new_email, event_created, event_modified or \
                 event_starting_soon",
            ),
            Error::TooLarge(refusal) => {
                let message = "the account does not take a mail of this size";
                told(Fault::new(Code::InvalidArgument, "MESSAGE_TOO_LARGE", message), &refusal)
            }
            Error::Stalled => {
                let message = "the stream stood still for too long: the mail was not sent";
                Fault::new(Code::DeadlineExceeded, "STREAM_STALLED", message)
            }
            Error::Abandoned => {
                Fault::new(Code::Cancelled, "CALL_CANCELLED", "the call was cancelled: the mail was not sent")
            }
            Error::NoToken => {
                refused_credentials("there is no access token to act with: get a grant first").refresh()
            }
            Error::SignedOut => {
                refused_credentials("nobody has signed in yet: let the user sign in (StartSignIn)")
            }
            Error::SignInFailed(meaning, refused) => signed_in(meaning.failure(&refused.error), &refused),
            Error::SignIn(fault) => *fault,
            Error::SignInRefused(refused) => {
                let meaning = refused.meaning();
                let message = match (meaning, refused.field) {
                    (Meaning::Misconfigured, Some(field)) => {
                        format!("the identity platform refused the application: {field} is likely wrong")
                    }
                    (Meaning::Misconfigured, None) => {
                        "the identity platform refused the application".to_owned()
                    }
                    _ => "the identity platform wants the user to sign in anew".to_owned(),
                };
                signed_in(Fault::new(Code::FailedPrecondition, meaning.reason(), message), &refused)
            }
            Error::SignInUnavailable(refused) => {
                let message = "the identity platform is not reached or out of order for now";
                signed_in(unavailable(message, refused.retry_after), &refused)
            }
            Error::NoFolder(refusal) => {
                let fault = Fault::new(Code::NotFound, "FOLDER_NOT_FOUND", "the folder is not there");
                match refusal {
                    Some(refusal) => told(fault, &refusal),
                    None => fault,
                }
            }
            Error::PushUnsupported(refusal) => {
                let message = "Graph does not push this to this account: it is polled";
                let fault = Fault::new(Code::FailedPrecondition, "PUSH_UNSUPPORTED", message);
                match refusal {
                    Some(refusal) => told(fault, &refusal),
                    None => fault,
                }
            }
            Error::NoCalendar(refusal) => {
                told(Fault::new(Code::NotFound, "CALENDAR_NOT_FOUND", "the calendar is not there"), &refusal)
            }
            Error::ItemChanged(refusal) => {
                let message = "the item has changed since: expected the change_key that it has now";
                let fault = Fault::new(Code::Aborted, "ITEM_CHANGED", message);
                match refusal {
                    Some(refusal) => told(fault, &refusal),
                    None => fault,
                }
            }
            Error::UrlRefused(refusal) => {
                let message = "Graph did not accept the URL to push to: it must reach it and be answered";
                told(Fault::new(Code::FailedPrecondition, "NOTIFICATION_REFUSED", message), &refusal)
            }
            Error::ChangeUnknown { failure } => {
                let message = "the change broke off: it may or may not have been made";
                broken_off(Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", message), &failure)
            }
            Error::OutcomeUnknown { message_id, failure } => {
                let message = "the sending broke off: the mail may or may not have been sent";
                let fault =
                    Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", message).with("message_id", message_id);
                broken_off(fault, &failure)
            }
            Error::Unsettled(left) => {
                let message =
                    "whether an earlier try sent the mail is not certain yet: nothing was done in this one";
                Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", message).retry_after(left)
            }
            Error::Graph(failure) => by_failure(&failure),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Fault::from(error).into()
    }
}

fn refused_credentials(message: &str) -> Fault {
    Fault::new(Code::FailedPrecondition, "CREDENTIALS_REFUSED", message)
}

fn unavailable(message: &str, retry_after: Option<Duration>) -> Fault {
    Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", message).retry_after(retry_after.unwrap_or(SOON))
}

fn by_failure(failure: &Failure) -> Fault {
    match failure {
        Failure::Refused(refusal) => told(by_refusal(refusal), refusal),
        Failure::Busy => {
            let message = "too many requests of this mailbox or connector wait already";
            Fault::new(Code::ResourceExhausted, "PROVIDER_THROTTLED", message).retry_after(SOON)
        }
        Failure::Paused { left } => {
            let message = "Graph asked for a pause that is not over";
            Fault::new(Code::ResourceExhausted, "PROVIDER_THROTTLED", message).retry_after(*left)
        }
        Failure::Spent { left } => {
            let message = "what Outlook allows for this mailbox in some minutes is used up";
            Fault::new(Code::ResourceExhausted, "PROVIDER_THROTTLED", message).retry_after(*left)
        }
        Failure::Untrusted => {
            let message = "the provider's certificate is not trusted";
            Fault::new(Code::FailedPrecondition, "CERTIFICATE_REFUSED", message)
        }
        Failure::Unreached { client_request_id } => {
            unavailable("Graph is not reached", None).with("graph.client_request_id", client_request_id)
        }
        Failure::Broken { client_request_id } => unavailable("the connection to Graph broke off", None)
            .with("graph.client_request_id", client_request_id),
        Failure::Unreadable { status } => {
            unavailable("Graph's answer cannot be read", None).with("graph.status", status.to_string())
        }
        Failure::ForeignLink => {
            unavailable("Graph's answer links to another place, which is not followed", None)
        }
    }
}

fn by_refusal(refusal: &Refusal) -> Fault {
    match refusal.status {
        401 => refused_credentials("Graph refused the access token").refresh(),
        404 if refusal.is_of_mailbox() => {
            Fault::new(Code::NotFound, "MAILBOX_NOT_FOUND", "the mailbox is not there")
        }
        404 => Fault::new(Code::NotFound, "ITEM_NOT_FOUND", "the item is not there"),
        413 => Fault::new(Code::InvalidArgument, "MESSAGE_TOO_LARGE", "the message is too large for Graph"),
        status if refusal.is_throttling() || status == 509 => {
            let message = "Graph asks for a pause longer than the call can wait";
            Fault::new(Code::ResourceExhausted, "PROVIDER_THROTTLED", message)
                .retry_after(refusal.retry_after.unwrap_or(SOON))
        }
        // Gone is what a forgotten place is called; one that is asked for anew comes back.
        status if refusal.is_passing() || status < 400 || status == 410 => {
            unavailable("Graph is out of order for now", refusal.retry_after)
        }
        403 => Fault::new(Code::FailedPrecondition, "PROVIDER_REFUSED", "the account may not do this"),
        _ => Fault::new(Code::FailedPrecondition, "PROVIDER_REFUSED", "Graph refused the request"),
    }
}

/// The fault with what identifies the request that broke off.
fn broken_off(fault: Fault, failure: &Failure) -> Fault {
    match failure {
        Failure::Refused(refusal) => told(fault, refusal),
        Failure::Broken { client_request_id } => fault.with("graph.client_request_id", client_request_id),
        _ => fault,
    }
}

/// The fault with what identifies Graph's answer.
fn told(fault: Fault, refusal: &Refusal) -> Fault {
    let fault = fault
        .with("graph.status", refusal.status.to_string())
        .with("graph.client_request_id", &refusal.client_request_id);
    let fault = match refusal.codes.last() {
        Some(code) => fault.with("graph.code", code),
        None => fault,
    };
    match &refusal.request_id {
        Some(id) => fault.with("graph.request_id", id),
        None => fault,
    }
}

/// The fault with what identifies the identity platform's answer.
fn signed_in(fault: Fault, refused: &Refused) -> Fault {
    let status = (refused.status != 0).then(|| refused.status.to_string());
    [
        ("identity.error", Some(refused.error.clone()).filter(|error| !error.is_empty())),
        ("identity.suberror", refused.suberror.clone()),
        ("identity.code", refused.code.clone()),
        ("identity.status", status),
        ("identity.trace_id", refused.trace_id.clone()),
        ("identity.correlation_id", refused.correlation_id.clone()),
        ("field", refused.field.map(str::to_owned)),
    ]
    .into_iter()
    .fold(fault, |fault, (key, value)| match value {
        Some(value) => fault.with(key, value),
        None => fault,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Fault {
        Error::from(Failure::Refused(Box::new(Refusal {
            status,
            codes: if code.is_empty() { Vec::new() } else { vec![code.to_owned()] },
            request_id: Some("1".into()),
            client_request_id: "2".into(),
            retry_after: None,
        })))
        .into()
    }

    #[test]
    fn what_graph_refuses_is_told_by_what_a_caller_can_do() {
        for (status, code, reason) in [
            (401, "InvalidAuthenticationToken", "CREDENTIALS_REFUSED"),
            (403, "ErrorAccessDenied", "PROVIDER_REFUSED"),
            (404, "ErrorItemNotFound", "ITEM_NOT_FOUND"),
            (404, "mailboxnotenabledforrestapi", "MAILBOX_NOT_FOUND"),
            (429, "ApplicationThrottled", "PROVIDER_THROTTLED"),
            (503, "", "PROVIDER_UNAVAILABLE"),
            (503, "ErrorServerBusy", "PROVIDER_THROTTLED"),
            (509, "", "PROVIDER_THROTTLED"),
            (302, "", "PROVIDER_UNAVAILABLE"),
            (410, "", "PROVIDER_UNAVAILABLE"),
            (400, "BadRequest", "PROVIDER_REFUSED"),
        ] {
            assert_eq!(refused(status, code).reason(), reason, "{status} {code}");
        }
    }
}
