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
    /// The fields that were wrong, each with what was expected.
    pub(crate) fields: Vec<(String, String)>,
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|request| request.field_violations.as_slice());
        let fields = violations.unwrap_or_default().iter();
        Self {
            message: status.message().to_owned(),
            code: format!("{:?}", status.code()),
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            fields: fields.map(|field| (field.field.clone(), field.description.clone())).collect(),
        }
    }
}

impl Failure {
    /// What is said of one field. Empty: nothing.
    pub(crate) fn of(&self, field: &str) -> &str {
        self.fields.iter().find(|(name, _)| name == field).map_or("", |(_, problem)| problem)
    }
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
