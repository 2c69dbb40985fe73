//! Which of a list is asked for, and which page of it.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use serde::Deserialize;

/// Which page of a list is asked for.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    page: String,
}

/// The token of the page that is asked for. Empty: the first.
pub(super) struct PageOf {
    pub(super) token: String,
}

/// Which of a list is asked for, and which page of that.
#[derive(Deserialize)]
pub(super) struct Wanted {
    /// The word of a filter of states. Empty: all.
    #[serde(default)]
    pub(super) state: String,
    /// The token of the page. Empty: the first.
    #[serde(default)]
    pub(super) page: String,
}

impl<S: Send + Sync> FromRequestParts<S> for PageOf {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // What is no token of a list is refused by the list.
        let asked = Query::<Asked>::try_from_uri(&parts.uri);
        Ok(Self { token: asked.map(|asked| asked.0.page).unwrap_or_default() })
    }
}
