//! Why the connector could not do what was asked, in the words of what a caller can do about it, and the one place
//! that makes a [`Fault`] of it.

use std::time::Duration;

use postern_chassis::fault::Fault;
use postern_chassis::sign_in::Meaning;
use postern_proto::mail::v1::{Failure, RecipientResult, RecipientResults, RecipientState};
use prost::Message as _;
use tonic::{Code, Status};

use crate::reply::Reply;
use crate::stage::Stage;

#[cfg(test)]
mod tests;

/// When to try again after a server that was not reached: long enough for a restart of it.
const RETRY_UNREACHED: Duration = Duration::from_secs(5);
/// When to try again after a 4yz reply: greylisting servers want a minute at least.
const RETRY_REFUSED: Duration = Duration::from_secs(60);
/// When to try again where the connector holds too many bytes: about as long as a large mail takes to be handed over.
const RETRY_NO_ROOM: Duration = Duration::from_secs(2);
/// The most bytes of recipients' results in an error. Errors travel in trailers, and clients take 16 KiB of these in all
/// unless told otherwise; base64 makes four bytes of three.
const MAX_RESULTS_BYTES: usize = 6 * 1024;

/// How many recipients' results did not fit.
const OMITTED: &str = "smtp.recipients_omitted";

/// An error of the connector.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// Fields of the request or of the connection are wrong: pairs of path and problem.
    #[error("fields are wrong")]
    Fields(Vec<(String, String)>),
    /// The message is over a limit: its size, the limit, and whose limit it is.
    #[error("the message has {size} bytes, the limit of {whose} is {limit}")]
    TooLarge {
        /// The message's size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
        /// Whose limit.
        whose: &'static str,
    },
    /// The server was not reached, or the way to it broke before it can have taken the message.
    #[error("nothing was sent ({stage}): {problem}")]
    Broken {
        /// Where.
        stage: Stage,
        /// What happened.
        problem: String,
    },
    /// The server refused a step, or every recipient.
    #[error("the server refused ({stage}) with {}", .reply.code)]
    Refused {
        /// Where.
        stage: Stage,
        /// What it answered; where every recipient was refused, to the one that decides whether a repeat can help.
        reply: Reply,
        /// What it answered for each recipient, where they were tried.
        recipients: Vec<RecipientResult>,
    },
    /// The server does not offer what the message needs.
    #[error("{0}")]
    Incapable(&'static str),
    /// The server refused the credentials, offers no way to give them, or wants some where there are none.
    #[error("{problem}")]
    Credentials {
        /// What happened.
        problem: &'static str,
        /// What it answered, where it was asked.
        reply: Option<Reply>,
        /// Whether it was an access token that was refused, or missing: a newer one may help.
        refresh: bool,
    },
    /// There is nothing to get an access token with.
    #[error(
        "nobody has signed in: let the user sign in (StartSignIn), or give a refresh token or a client secret"
    )]
    SignedOut,
    /// A user's sign-in failed, or cannot be.
    #[error(transparent)]
    SignIn(Box<Fault>),
    /// The provider of access tokens refused for good.
    #[error("the provider of access tokens refused: {error}")]
    SignInRefused {
        /// Its error, such as `invalid_grant`.
        error: String,
        /// What that means.
        meaning: Meaning,
    },
    /// The provider of access tokens is not reached, or out of order.
    #[error("the provider of access tokens is not reached, or out of order for now")]
    SignInUnavailable {
        /// Its error, where it gave one.
        error: String,
        /// The HTTP status; 0: none.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The server was not asked: it failed or refused just now, and is given a pause.
    #[error("not tried again yet: {last}")]
    Slowed {
        /// How long until it is asked again.
        wait: Duration,
        /// What it failed with last.
        last: Box<Error>,
    },
    /// TLS is required and not offered.
    #[error("the server offers no STARTTLS, and the connection requires it")]
    TlsRequired(Option<Reply>),
    /// The server's certificate did not stand the check.
    #[error("the server's certificate was refused: {problem}")]
    Certificate {
        /// Where.
        stage: Stage,
        /// Why.
        problem: String,
    },
    /// No socket, or no turn by the connection's pace, came free in time; when to try again.
    #[error("all sockets of the connection were busy until the call's patience ended")]
    Busy(Duration),
    /// The way broke after the final dot.
    #[error("the server may or may not have taken the message: {problem}")]
    OutcomeUnknown {
        /// What happened.
        problem: String,
        /// What is known of each recipient.
        recipients: Vec<RecipientResult>,
    },
    /// The connector holds as many bytes of mails as it may.
    #[error("the connector already holds as many bytes of mails as it may: nothing was sent")]
    NoRoom,
    /// The caller sent nothing more for too long, or until its deadline.
    #[error("no more came in time: what was not answered was not sent")]
    Stalled,
    /// The caller took no answers of a stream for too long: some are lost.
    #[error("answers were not taken in time: mails without an answer may have been sent")]
    Unheard,
    /// The connector stops.
    #[error("the connector stops: what was not answered was not sent")]
    Stopping,
    /// The connector does not serve this.
    #[error("the smtp connector {0}")]
    NotServed(&'static str),
}

impl Error {
    /// One wrong field.
    pub(crate) fn field(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Fields(vec![(path.into(), problem.into())])
    }

    /// Whether the server ended the conversation before it can have taken the message: what a socket that went stale
    /// looks like.
    pub(crate) fn is_stale(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Refused { reply, .. } => reply.is_closing(),
            _ => false,
        }
    }

    /// Where in the conversation it came up, and the code of the server's reply, where there are such.
    pub(crate) fn place(&self) -> (Option<Stage>, Option<u16>) {
        match self {
            Self::Broken { stage, .. } | Self::Certificate { stage, .. } => (Some(*stage), None),
            Self::Refused { stage, reply, .. } => (Some(*stage), Some(reply.code)),
            Self::Credentials { reply, .. } => (Some(Stage::Auth), reply.as_ref().map(|reply| reply.code)),
            Self::TlsRequired(reply) => (Some(Stage::StartTls), reply.as_ref().map(|reply| reply.code)),
            Self::SignedOut | Self::SignInRefused { .. } | Self::SignInUnavailable { .. } => {
                (Some(Stage::Token), None)
            }
            Self::OutcomeUnknown { .. } => (Some(Stage::Message), None),
            Self::Slowed { last, .. } => last.place(),
            _ => (None, None),
        }
    }

    /// Whether it says that the server does not want to be asked again at once: it came up while a socket was opened,
    /// and a repeat would end the same way or do harm, as a wrong password does that is given again and again.
    pub(crate) fn asks_for_a_pause(&self) -> bool {
        match self {
            Self::Broken { stage, .. } | Self::Refused { stage, .. } => matches!(
                stage,
                Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Auth
            ),
            Self::Credentials { reply, refresh, .. } => reply.is_some() && !refresh,
            _ => false,
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
        let message = error.to_string();
        match error {
            Error::Fields(fields) => Self::fields(fields),
            Error::TooLarge { .. } => Self::new(Code::InvalidArgument, "MESSAGE_TOO_LARGE", message),
            Error::Broken { stage, .. } => Self::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", message)
                .with("smtp.stage", stage.as_str())
                .retry_after(RETRY_UNREACHED),
            Error::Refused { stage, reply, recipients } => refused(message, stage, &reply, recipients),
            Error::Incapable(_) => Self::new(Code::FailedPrecondition, "MESSAGE_REFUSED", message)
                .with("smtp.stage", Stage::Mail.as_str()),
            Error::Credentials { reply, refresh, .. } => {
                let fault = Self::new(Code::FailedPrecondition, "CREDENTIALS_REFUSED", message);
                let fault = with_reply(fault, Stage::Auth, reply.as_ref());
                if refresh { fault.refresh() } else { fault }
            }
            Error::SignedOut => Self::new(Code::FailedPrecondition, "CREDENTIALS_REFUSED", message)
                .with("smtp.stage", Stage::Token.as_str()),
            Error::SignIn(fault) => *fault,
            Error::SignInRefused { error, meaning } => {
                Self::new(Code::FailedPrecondition, meaning.reason(), message)
                    .with("smtp.stage", Stage::Token.as_str())
                    .with("oauth.error", error)
            }
            Error::SignInUnavailable { error, status, retry_after } => {
                let fault = Self::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", message)
                    .with("smtp.stage", Stage::Token.as_str())
                    .retry_after(retry_after.unwrap_or(RETRY_UNREACHED));
                let fault = if error.is_empty() { fault } else { fault.with("oauth.error", error) };
                if status == 0 { fault } else { fault.with("oauth.status", status.to_string()) }
            }
            Error::Slowed { wait, last } => {
                let fault = Self::from(*last);
                match fault.code() {
                    Code::Unavailable => fault.retry_after(wait),
                    _ => fault,
                }
            }
            Error::TlsRequired(reply) => with_reply(
                Self::new(Code::FailedPrecondition, "TLS_REQUIRED", message),
                Stage::StartTls,
                reply.as_ref(),
            ),
            Error::Certificate { stage, .. } => {
                Self::new(Code::FailedPrecondition, "CERTIFICATE_REFUSED", message)
                    .with("smtp.stage", stage.as_str())
            }
            Error::Busy(wait) => {
                Self::new(Code::ResourceExhausted, "CONNECTION_BUSY", message).retry_after(wait)
            }
            Error::Unheard => Self::new(Code::Unknown, "OUTCOME_UNKNOWN", message),
            Error::OutcomeUnknown { recipients, .. } => {
                let fault = Self::new(Code::Unknown, "OUTCOME_UNKNOWN", message)
                    .with("smtp.stage", Stage::Message.as_str());
                with_results(fault, recipients)
            }
            Error::NoRoom => {
                Self::new(Code::ResourceExhausted, "SENDS_TOO_LARGE", message).retry_after(RETRY_NO_ROOM)
            }
            Error::Stalled => Self::new(Code::DeadlineExceeded, "NOTHING_DONE", message),
            Error::Stopping => {
                Self::new(Code::Unavailable, "CONNECTOR_UNAVAILABLE", message).retry_after(RETRY_UNREACHED)
            }
            Error::NotServed(_) => Self::new(Code::FailedPrecondition, "NOT_SERVED", message),
        }
    }
}

/// An error as the contract's streams tell it of one item. It travels in a message, where there is room for every
/// recipient.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let recipients = match &error {
            Error::Refused { recipients, .. } | Error::OutcomeUnknown { recipients, .. } => {
                recipients.clone()
            }
            _ => Vec::new(),
        };
        let mut failure = Self::from(Fault::from(error));
        failure.metadata.remove(OMITTED);
        Self { recipients, ..failure }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Fault::from(error).into()
    }
}

/// A server's refusal: for now where it, or what it said of any recipient, is transient; else for good.
fn refused(message: String, stage: Stage, reply: &Reply, recipients: Vec<RecipientResult>) -> Fault {
    let transient = reply.is_transient()
        || recipients.iter().any(|recipient| recipient.state() == RecipientState::RefusedTransient);
    let fault = if is_too_large(stage, reply) {
        Fault::new(Code::InvalidArgument, "MESSAGE_TOO_LARGE", "the message is over the server's limit")
    } else if transient {
        Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", message).retry_after(RETRY_REFUSED)
    } else {
        Fault::new(Code::FailedPrecondition, "MESSAGE_REFUSED", message)
    };
    with_results(with_reply(fault, stage, Some(reply)), recipients)
}

/// A fault with what is known of each recipient, as far as it fits.
fn with_results(fault: Fault, recipients: Vec<RecipientResult>) -> Fault {
    if recipients.is_empty() {
        return fault;
    }
    let tried = recipients.len();
    let mut results = fitting(RecipientResults { recipients, omitted: 0 });
    let omitted = tried - results.recipients.len();
    results.omitted = i32::try_from(omitted).unwrap_or(i32::MAX);
    let fault = fault.detail("postern.mail.v1.RecipientResults", &results);
    if omitted == 0 { fault } else { fault.with(OMITTED, omitted.to_string()) }
}

/// Results that fit the trailers of an answer: where they do not, without texts, and where that is not enough, the
/// first of them only.
fn fitting(mut results: RecipientResults) -> RecipientResults {
    if results.encoded_len() <= MAX_RESULTS_BYTES {
        return results;
    }
    for reply in results.recipients.iter_mut().filter_map(|recipient| recipient.reply.as_mut()) {
        reply.text.clear();
    }
    let mut left = MAX_RESULTS_BYTES;
    let fit = results.recipients.iter().take_while(|recipient| {
        // A tag and at most two bytes of length before each.
        let needed = recipient.encoded_len() + 3;
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    });
    let fit = fit.count();
    results.recipients.truncate(fit);
    results
}

/// Whether a reply says that the message is too large (RFC 1870; RFC 3463, 5.3.4 and 5.2.3). 552 alone says so only to
/// MAIL: elsewhere it may speak of a full mailbox.
fn is_too_large(stage: Stage, reply: &Reply) -> bool {
    match reply.enhanced.as_deref() {
        Some(enhanced) => matches!(enhanced, "5.3.4" | "5.2.3") && stage != Stage::Rcpt,
        None => reply.code == 552 && stage == Stage::Mail,
    }
}

fn with_reply(fault: Fault, stage: Stage, reply: Option<&Reply>) -> Fault {
    let fault = fault.with("smtp.stage", stage.as_str());
    let Some(reply) = reply else { return fault };
    let fault = fault.with("smtp.code", reply.code.to_string()).with("smtp.text", reply.text());
    match &reply.enhanced {
        Some(enhanced) => fault.with("smtp.enhanced_code", enhanced),
        None => fault,
    }
}
