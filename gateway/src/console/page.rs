//! Which page of a list is asked for, and how pages go out.

pub(super) use crate::pages::{page, plain, whole};

/// Which page of a list is asked for.
#[derive(serde::Deserialize)]
struct Asked {
    #[serde(default)]
    page: String,
}

/// The token of the page that is asked for. Empty: the first.
pub(super) struct PageOf {
    pub(super) token: String,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for PageOf {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        // What is no token of a list is refused by the list.
        let asked = axum::extract::Query::<Asked>::try_from_uri(&parts.uri);
        Ok(Self { token: asked.map(|asked| asked.0.page).unwrap_or_default() })
    }
}
