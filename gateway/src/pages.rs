//! Pages for people: one layout and one style for all, written by hand and served by the gateway itself. A page loads
//! nothing from elsewhere and runs no script; what is put into one is escaped.

use askama::Template;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

/// The style of all pages.
const STYLE: &str = include_str!("pages/style.css");
/// What a page may do: show itself and its style. No form, no frame, no script, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the style lies, below the public URL.
pub const STYLE_PATH: &str = "/style.css";

/// How what happened is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Well,
    /// Somebody has to do something.
    Care,
    /// It is still going on.
    Waiting,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Care => "care",
            Self::Waiting => "waiting",
        }
    }

    /// The same without colour.
    fn mark(self) -> &'static str {
        match self {
            Self::Well => "✓",
            Self::Care => "!",
            Self::Waiting => "…",
        }
    }
}

/// A page that says what happened and what to do next.
#[derive(Debug, Template)]
#[template(path = "notice.html")]
pub struct Notice {
    /// Where the gateway is below its host, without a slash at its end.
    pub base: String,
    /// How it is to be taken.
    pub tone: Tone,
    /// What happened, in a few words.
    pub title: String,
    /// What happened, in sentences.
    pub happened: Vec<String>,
    /// What to do next.
    pub next: String,
    /// What it is about: pairs of name and value.
    pub facts: Vec<(&'static str, String)>,
}

/// A template as an answer that no cache keeps, that tells nobody its URL and that nothing can be put into.
pub fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => answer(status, "text/html; charset=utf-8", "no-store", html),
        Err(error) => {
            tracing::error!(%error, "a page cannot be made");
            answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "no-store", String::new())
        }
    }
}

/// The style.
pub async fn style() -> Response {
    answer(StatusCode::OK, "text/css; charset=utf-8", "public, max-age=3600", STYLE.to_owned())
}

/// An answer with what every answer to a browser carries.
pub fn answer(status: StatusCode, kind: &'static str, cache: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("x-robots-tag", HeaderValue::from_static("noindex, nofollow"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_page_is_escaped() {
        let notice = Notice {
            base: "/postern".into(),
            tone: Tone::Well,
            title: "<script>alert(1)</script>".into(),
            happened: vec!["a & b".into()],
            next: "\"quoted\"".into(),
            facts: vec![("Connection", "<img src=x>".into())],
        };
        let html = notice.render().unwrap();
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(html.contains("a &#38; b") && html.contains("/postern/style.css"), "{html}");
    }
}
