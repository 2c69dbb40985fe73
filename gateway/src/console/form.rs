//! The fields of a form, and whether the form was ours.

use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::StatusCode;

use super::session::Session;
use crate::pages::plain;

/// The fields of a form that was sent.
#[derive(Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// A field's value without the space around it. Empty: it was left empty or is not there.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// A field's value as it was typed.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Whether a box was ticked.
    pub(super) fn is_set(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// Refuses what no form of ours sent.
    pub(super) fn check(&self, session: &Session) -> Result<(), Response> {
        let (given, expected) = (self.get("csrf").as_bytes(), session.csrf().as_bytes());
        let differing = given.iter().zip(expected).fold(0, |sum, (a, b)| sum | (a ^ b));
        if given.len() == expected.len() && std::hint::black_box(differing) == 0 {
            return Ok(());
        }
        let text = "this form is none of this session's: open its page again and repeat";
        Err(plain(StatusCode::FORBIDDEN, text))
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match axum::Form::<Vec<(String, String)>>::from_request(request, state).await {
            Ok(axum::Form(fields)) => Ok(Self(fields)),
            Err(rejection) => Err(plain(rejection.status(), "this is no form that could be read")),
        }
    }
}
