//! The style sheet and the script.

use axum::extract::Path;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::page::{plain, whole};

/// `GET /assets/{name}`
pub(super) async fn give(Path(name): Path<String>) -> Response {
    let (media_type, text) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", include_str!("../../assets/console.css")),
        "console.js" => ("text/javascript; charset=utf-8", include_str!("../../assets/console.js")),
        _ => return plain(StatusCode::NOT_FOUND, "there is no such file"),
    };
    let mut response = whole(StatusCode::OK, media_type, text.into());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    response
}
