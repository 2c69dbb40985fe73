//! Pages for people, as all of them go out: whole, never kept by anybody, allowed nothing but what the gateway itself
//! serves.

mod notice;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderName, HeaderValue, StatusCode, header};

pub(crate) use notice::{Link, Notice, Tone};

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
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The style sheet and the script, which all pages below `root` share.
pub(crate) fn assets(root: &str) -> Router {
    Router::new().route(&format!("{root}/assets/{{name}}"), get(asset))
}

/// `GET /assets/{name}`
async fn asset(Path(name): Path<String>) -> Response {
    let (media_type, text) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", include_str!("../assets/console.css")),
        "icon.svg" => ("image/svg+xml", include_str!("../assets/icon.svg")),
        "console.js" => ("text/javascript; charset=utf-8", include_str!("../assets/console.js")),
        _ => return plain(StatusCode::NOT_FOUND, "there is no such file"),
    };
    let mut response = whole(StatusCode::OK, media_type, text.into());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    response
}
