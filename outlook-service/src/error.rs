//! Why the connector could not do what was asked, in the words of what a caller can do about it, and the one place
//! that makes a `Status` of it. Graph's own message is never shown: it is written for developers and may hold content.

use std::time::Duration;

use postern_chassis::fault::Fault;
use tonic::{Code, Status};

use crate::graph::{Failure, Refusal};

/// When a repeat may help where the provider does not say.
const SOON: Duration = Duration::from_secs(5);

/// An error of the connector.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fields of the request are wrong: pairs of path and problem.
    #[error("fields are wrong")]
    Fields(Vec<(String, String)>),
    /// The trigger is of a kind that is not served.
    #[error("this kind of trigger is not served")]
    TriggerKind,
    /// The attachments pass what a mail may hold.
    #[error("the attachments pass 3 MiB in all")]
    TooLarge,
    /// There is no access token to act with.
    #[error("there is no access token")]
    NoToken,
    /// There is nothing to sign in with.
    #[error("there is nothing to sign in with")]
    SignedOut,
    /// The identity platform refused for good.
    #[error("the sign-in was refused: {error}")]
    SignInRefused {
        /// The platform's error.
        error: String,
    },
    /// The identity platform is out of order for now.
    #[error("the sign-in failed for now: {error}")]
    SignInUnavailable {
        /// The platform's error, where it gave one.
        error: String,
        /// The HTTP status; 0: none.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// There is no such folder.
    #[error("the folder is not there")]
    NoFolder(Option<Box<Refusal>>),
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
    /// Graph did not do it.
    #[error(transparent)]
    Graph(#[from] Failure),
}

impl Error {
    /// One wrong field: its path, and what was wrong and expected.
    pub(crate) fn field(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Fields(vec![(path.into(), problem.into())])
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
            Error::TooLarge => {
                Fault::new(Code::InvalidArgument, "MESSAGE_TOO_LARGE", "the attachments pass 3 MiB in all")
            }
            Error::NoToken => {
                refused_credentials("there is no access token to act with: get a grant first").refresh()
            }
            Error::SignedOut => refused_credentials("there is no client secret to sign in with"),
            Error::SignInRefused { error } => {
                refused_credentials("the identity platform refused the sign-in").with("identity.error", error)
            }
            Error::SignInUnavailable { error, status, retry_after } => {
                let message = "the identity platform is not reached or out of order for now";
                let fault = Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", message)
                    .retry_after(retry_after.unwrap_or(SOON))
                    .with("identity.error", error);
                if status == 0 { fault } else { fault.with("identity.status", status.to_string()) }
            }
            Error::NoFolder(refusal) => {
                let fault = Fault::new(Code::NotFound, "FOLDER_NOT_FOUND", "the folder is not there");
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
            let message = "too many requests of this mailbox wait already";
            Fault::new(Code::ResourceExhausted, "PROVIDER_THROTTLED", message).retry_after(SOON)
        }
        Failure::Paused { left } => {
            let message = "Graph asked for a pause that is not over";
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
        429 | 509 => {
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
            (302, "", "PROVIDER_UNAVAILABLE"),
            (410, "", "PROVIDER_UNAVAILABLE"),
            (400, "BadRequest", "PROVIDER_REFUSED"),
        ] {
            assert_eq!(refused(status, code).reason(), reason, "{status} {code}");
        }
    }
}
