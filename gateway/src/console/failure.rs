//! What a call of the gateway's services failed with, as a page says it.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::session::Session;
use crate::pages::page;

/// A failed call, for people.
pub(crate) struct Failure {
    /// What went wrong.
    pub(crate) message: String,
    /// The gRPC code's name.
    pub(crate) code: String,
    /// The reason, in UPPER_SNAKE_CASE.
    pub(crate) reason: String,
    /// What somebody can do about it. Empty: nothing is known.
    pub(crate) advice: &'static str,
    /// What the provider said: names and values.
    pub(crate) facts: Vec<(String, String)>,
    /// The fields that were wrong, each with what was expected.
    pub(crate) fields: Vec<(String, String)>,
}

/// What can be done here about what failed for a reason.
fn advice(reason: &str) -> &'static str {
    match reason {
        "CONNECTION_IN_USE" => "To delete its triggers along with it, tick “and its triggers”.",
        "CONNECTION_NOT_FOUND" | "TRIGGER_NOT_FOUND" | "APPROVAL_NOT_FOUND" | "EMAIL_NOT_FOUND" => {
            "It may have been deleted, or its name is not right."
        }
        "CONNECTION_EXISTS" => "Choose another id.",
        "CONNECTOR_UNAVAILABLE" => "Its connector may be starting: try again in a moment.",
        "CONNECTOR_MISSING" => "The gateway is set up without a connector of this kind (--connectors).",
        "CREDENTIALS_REFUSED" => "Sign in again, or give the connection new credentials.",
        "SIGN_IN_UNSUPPORTED" => {
            "Nobody signs in for this connection: it works by the credentials that it was given."
        }
        "PUBLIC_URL_MISSING" => "Sign in by code, or start the gateway with --public-url.",
        "REQUEST_ID_REUSED" => "This form was sent before: open its page again.",
        "OUTCOME_UNKNOWN" => "It may have been done: look before you repeat it.",
        _ => "",
    }
}

/// What failed for a reason, where the service says it in words of the contract alone.
fn plainly(reason: &str) -> Option<&'static str> {
    (reason == "CONNECTION_IN_USE").then_some("Triggers use this connection.")
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|request| request.field_violations.as_slice());
        let fields = violations.unwrap_or_default().iter();
        let info = details.error_info();
        let reason = info.map(|info| info.reason.clone()).unwrap_or_default();
        let mut facts: Vec<_> = info.iter().flat_map(|info| info.metadata.clone()).collect();
        // Those that a connector puts its kind before are of its provider.
        facts.retain(|(name, value)| name.contains('.') && !value.is_empty());
        facts.sort_unstable();
        Self {
            facts,
            message: plainly(&reason).map_or_else(|| sentence(status.message()), str::to_owned),
            code: format!("{:?}", status.code()),
            advice: advice(&reason),
            reason,
            fields: fields.map(|field| (field.field.clone(), field.description.clone())).collect(),
        }
    }
}

/// A message as a sentence; one that begins with a name stays as it is.
pub(super) fn sentence(message: &str) -> String {
    let first = message.split([' ', ':']).next().unwrap_or_default();
    if message.is_empty() || first.contains(['/', '_', '.']) {
        return message.to_owned();
    }
    let mut letters = message.chars();
    let capital = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{capital}{}.", letters.as_str().trim_end_matches('.'))
}

#[derive(Template)]
#[template(path = "console/failed.html")]
struct Failed<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    failure: Failure,
}

/// The page that says that a call failed.
pub(super) fn failed(session: &Session, here: &str, status: &Status) -> Response {
    page(status_of(status), &Failed { root: &session.root, here, session, failure: status.into() })
}

/// The HTTP status that says about the same.
pub(super) fn status_of(status: &Status) -> StatusCode {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::PermissionDenied | Code::Unauthenticated => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_a_sentence_and_a_name_stays_a_name() {
        assert_eq!(sentence("the server refused it"), "The server refused it.");
        assert_eq!(sentence("connections/x needs a sign-in"), "connections/x needs a sign-in");
        assert_eq!(sentence("smtp.server: is needed"), "smtp.server: is needed");
        assert_eq!(sentence(""), "");
    }
}
