//! One question to a token endpoint, and what its answer means: a body to read, a refusal for good, or one for now.

use std::time::Duration;

use postern_chassis::sign_in::Meaning;
use postern_chassis::untrusted::is_untrusted;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::error::Error;
use crate::stage::Stage;

/// How long the endpoint may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long connecting to it may take, TLS included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer that is read: tokens are a few kilobytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest pause that is believed.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3_600);
/// The longest `error` that is told; those of the standards have some twenty characters.
const MAX_ERROR_CHARS: usize = 64;

#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// Posts a form and gives the body of a good answer.
pub(super) async fn ask(url: &Url, authorities: &str, form: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
    let client = client(url, authorities)?;
    let mut answer = client.post(url.clone()).form(form).send().await.map_err(unreached)?;
    let status = answer.status();
    let retry_after = answer.headers().get("retry-after").and_then(|value| pause(value.to_str().ok()?));
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreached)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(unavailable(String::new(), Some(status), retry_after));
        }
    }
    if status.is_success() { Ok(body) } else { Err(refusal(status, &body, retry_after)) }
}

/// Tokens are asked for about once an hour and connection: a client for each asking keeps nothing open in between.
fn client(url: &Url, authorities: &str) -> Result<reqwest::Client, Error> {
    // Neither redirects nor a proxy of the environment: secrets go where the settings say and nowhere else.
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
        .https_only(url.scheme() == "https")
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT_PATIENCE)
        .timeout(PATIENCE);
    let unusable = || Error::field("smtp.ca_certificates", "cannot be used for smtp.oauth.token_endpoint");
    if !authorities.is_empty() {
        let trusted = reqwest::Certificate::from_pem_bundle(authorities.as_bytes());
        // Beside the machine's: the authorities of one's own mail server seldom vouch for the provider of tokens.
        builder = builder.tls_certs_merge(trusted.map_err(|_| unusable())?);
    }
    builder.build().map_err(|_| match authorities {
        "" => Error::field("smtp.ca_certificates", "is needed: the machine names no authorities to trust"),
        _ => unusable(),
    })
}

/// What an answer other than 2xx means.
fn refusal(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Error {
    let error = serde_json::from_slice::<Refused>(body).map(|refused| refused.error).unwrap_or_default();
    let error: String = error.chars().filter(|c| c.is_ascii_graphic()).take(MAX_ERROR_CHARS).collect();
    let meaning = Meaning::of_answer(status.as_u16(), &error);
    if meaning.is_passing() {
        return unavailable(error, Some(status), retry_after);
    }
    Error::SignInRefused { error, meaning }
}

fn unavailable(error: String, status: Option<StatusCode>, retry_after: Option<Duration>) -> Error {
    Error::SignInUnavailable { error, status: status.map_or(0, |status| status.as_u16()), retry_after }
}

fn unreached(error: reqwest::Error) -> Error {
    if is_untrusted(&error) {
        let problem = "that of the token endpoint did not stand the check".to_owned();
        return Error::Certificate { stage: Stage::Token, problem };
    }
    unavailable(String::new(), None, None)
}

/// What `Retry-After` asks for in seconds, up to a day. A date is not heeded: then the usual pause holds.
fn pause(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|pause| pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_judged_by_its_error_and_status_alone() {
        let judged = |status: u16, body: &str| match refusal(
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
            None,
        ) {
            Error::SignInRefused { error, .. } => (true, error),
            Error::SignInUnavailable { error, .. } => (false, error),
            other => panic!("{other:?}"),
        };
        for error in ["invalid_grant", "interaction_required", "invalid_client", "something_new"] {
            // A text that speaks of a passing fault changes nothing.
            let body = format!(r#"{{"error":"{error}","error_description":"try again later"}}"#);
            assert_eq!(judged(400, &body), (true, error.to_owned()));
        }
        assert!(!judged(400, r#"{"error":"temporarily_unavailable"}"#).0);
        assert!(!judged(429, r#"{"error":"invalid_grant"}"#).0);
        assert!(!judged(503, "").0);
        assert!(!judged(404, "<html>").0, "that is no token endpoint's answer");
        assert!(!judged(302, r#"{"error":"invalid_grant"}"#).0);
        assert_eq!(judged(400, r#"{"error":"a\u0007 b"}"#).1, "ab");
    }

    #[test]
    fn a_pause_is_read_and_bounded() {
        assert_eq!(pause("2.5"), Some(Duration::from_millis(2_500)));
        assert_eq!(pause("1e300"), None);
        assert_eq!(pause("18000000"), Some(MAX_PAUSE));
        assert_eq!(pause("-1"), None);
    }
}
