//! How pages go out: whole, never kept by anybody, allowed nothing but what the gateway itself serves.

use askama::Template;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

/// What a page may load and where it may lead: the gateway itself. Mail is shown in frames that may do nothing.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A page.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => whole(status, "text/html; charset=utf-8", text.into()),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made")
        }
    }
}

/// A line of text in place of a page.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response {
    whole(status, "text/plain; charset=utf-8", text.to_owned().into())
}

/// A response with the headers that all have.
pub(crate) fn whole(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

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
