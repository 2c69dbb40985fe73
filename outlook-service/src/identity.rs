//! Microsoft's identity platform: an application's sign-in by its secret (OAuth 2.0 client credentials), and the grant
//! that comes of it. Only the answer's `error` is heeded, never its texts or numbers, as the platform asks.

use std::time::Duration;

use jiff::Timestamp;
use postern_proto::connector::v1::RefreshCredentialsResponse;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::error::Error;
use crate::graph::Failure;
use crate::times;

/// How long the platform may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer that is read: tokens are a few kilobytes.
const MAX_ANSWER: usize = 64 * 1024;
/// The largest grant the contract allows.
const MAX_GRANT: usize = 16 * 1024;
/// How long a token holds good where the platform does not say.
const DEFAULT_LIFE: u64 = 3_600;
/// Errors that pass by themselves.
const PASSING: [&str; 2] = ["temporarily_unavailable", "server_error"];

/// What a grant holds, as it is stored.
#[derive(Serialize, Deserialize)]
struct Grant {
    access_token: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// The access token in a grant. Nothing where there is none that could be used.
pub(crate) fn token_of(grant: &[u8]) -> Option<SecretString> {
    let grant: Grant = serde_json::from_slice(grant).ok()?;
    Some(grant.access_token.into())
}

/// Gets a new grant.
///
/// # Errors
/// Refused for good, or for now.
pub(crate) async fn sign_in(
    http: &reqwest::Client,
    account: &Account,
) -> Result<RefreshCredentialsResponse, Error> {
    let secret = account.secret.as_ref().ok_or(Error::SignedOut)?;
    let path = format!("{}/oauth2/v2.0/token", account.tenant);
    let url =
        account.login.join(&path).map_err(|_| Error::field("outlook.tenant", "cannot stand in a URL"))?;
    let scope = format!("{}/.default", account.graph.as_str().trim_end_matches("/v1.0/"));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &account.client_id),
        ("client_secret", secret.expose_secret()),
        ("scope", &scope),
    ];
    let (status, retry_after, body) = ask(http, url, &form).await?;
    if status.is_success() {
        return grant(&body);
    }
    let error = serde_json::from_slice::<Refused>(&body).map(|refused| refused.error).unwrap_or_default();
    let passing = PASSING.contains(&error.as_str()) || status.as_u16() == 429 || status.is_server_error();
    if passing || error.is_empty() || !status.is_client_error() {
        return Err(Error::SignInUnavailable { error, status: status.as_u16(), retry_after });
    }
    Err(Error::SignInRefused { error })
}

async fn ask(
    http: &reqwest::Client,
    url: Url,
    form: &[(&str, &str)],
) -> Result<(reqwest::StatusCode, Option<Duration>, Vec<u8>), Error> {
    let unreached = |_| Error::SignInUnavailable { error: String::new(), status: 0, retry_after: None };
    let mut answer = http.post(url).form(form).timeout(PATIENCE).send().await.map_err(unreached)?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let date = header("date").and_then(times::from_http);
    let retry_after = header("retry-after").and_then(|text| times::retry_after(text, date));
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreached)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(Failure::unreadable(status.as_u16()).into());
        }
    }
    Ok((status, retry_after, body))
}

fn grant(body: &[u8]) -> Result<RefreshCredentialsResponse, Error> {
    let unreadable = || Error::from(Failure::unreadable(200));
    let token: Token = serde_json::from_slice(body).map_err(|_| unreadable())?;
    // The platform gives a number; older endpoints gave a text.
    let life = match &token.expires_in {
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    let life = Duration::from_secs(life.unwrap_or(DEFAULT_LIFE));
    let expires = Timestamp::now().checked_add(life).map_err(|_| unreadable())?;
    let grant = serde_json::to_vec(&Grant { access_token: token.access_token }).map_err(|_| unreadable())?;
    if grant.len() > MAX_GRANT {
        return Err(unreadable());
    }
    Ok(RefreshCredentialsResponse { grant: grant.into(), expire_time: Some(times::to_proto(expires)) })
}
