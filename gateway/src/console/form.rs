//! The fields of a form, and whether the form was ours.

use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::StatusCode;

use super::session::Session;
use crate::pages::{Link, Notice, Tone, page, plain};

/// The fields of a form that was sent.
#[derive(Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Fields as if they had been typed.
    pub(super) fn typed(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

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

    /// Where a list is that a form was sent from, as it was filtered.
    pub(super) fn back_to(&self, session: &Session, here: &str) -> String {
        let state: String = form_urlencoded::byte_serialize(self.get("state").as_bytes()).collect();
        let filter = if state.is_empty() { String::new() } else { format!("?state={state}") };
        format!("{}/console{here}{filter}", session.root)
    }

    /// Refuses what no form of ours sent.
    pub(super) fn check(&self, session: &Session) -> Result<(), Response> {
        let (given, expected) = (self.get("csrf").as_bytes(), session.csrf().as_bytes());
        let differing = given.iter().zip(expected).fold(0, |sum, (a, b)| sum | (a ^ b));
        if given.len() == expected.len() && std::hint::black_box(differing) == 0 {
            return Ok(());
        }
        let happened = "The form that was sent does not belong to this session, so nothing was done. You may have signed \
                        in again since its page was opened.";
        let notice = Notice {
            root: session.root.clone(),
            tone: Tone::Care,
            title: "This form is out of date".to_owned(),
            happened: vec![happened.to_owned()],
            next: "Open the page again, and repeat it there.".to_owned(),
            facts: Vec::new(),
            link: Some(Link { href: format!("{}/console", session.root), words: "Go to the overview" }),
        };
        Err(page(StatusCode::FORBIDDEN, &notice))
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
