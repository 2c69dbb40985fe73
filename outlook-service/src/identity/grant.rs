//! The grant: what a sign-in gives, as it is stored, and what of it the next sign-in needs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use postern_chassis::digest;
use postern_proto::connector::v1::RefreshCredentialsResponse;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::account::{Account, Proof};
use crate::error::Error;
use crate::graph::Failure;
use crate::times;

/// The largest grant the contract allows.
const MAX_GRANT: usize = 16 * 1024;
/// How long a token holds good where the platform does not say.
const DEFAULT_LIFE: u64 = 3_600;
/// The longest life that is believed: what is said beyond could not be reckoned with.
const MAX_LIFE: u64 = 7 * 24 * 3_600;

/// What a grant holds, as it is stored.
#[derive(Serialize, Deserialize)]
struct Grant {
    access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// What tells the refresh token that all this began with, in the credentials, from any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

/// What a grant keeps for the next sign-in.
pub(crate) struct Kept {
    refresh_token: SecretString,
    /// What tells the refresh token that it began with from any other.
    pub(crate) origin: String,
}

/// An answer of the token endpoint.
#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: Option<serde_json::Value>,
    refresh_token: Option<String>,
}

/// The access token in a grant, and what it keeps. Nothing where there is nothing that could be used.
pub(crate) fn read(grant: &[u8]) -> (Option<SecretString>, Option<Kept>) {
    let Ok(grant) = serde_json::from_slice::<Grant>(grant) else { return (None, None) };
    let kept = grant.refresh_token.zip(grant.origin);
    let kept = kept.map(|(token, origin)| Kept { refresh_token: token.into(), origin });
    (Some(grant.access_token.into()), kept)
}

/// The refresh token to use next: the newest that came of the credentials' own, else that one. Credentials that were
/// replaced begin anew.
pub(super) fn refresh_token(account: &Account) -> Option<&SecretString> {
    let Proof::Delegated { refresh_token, .. } = &account.proof else { return None };
    let newest = account.kept.as_ref().filter(|kept| kept.origin == origin(refresh_token));
    Some(newest.map_or(refresh_token, |kept| &kept.refresh_token))
}

/// The grant that an answer makes.
pub(super) fn made(account: &Account, body: &[u8]) -> Result<RefreshCredentialsResponse, Error> {
    let unreadable = || Error::from(Failure::unreadable(200));
    let token: Token = serde_json::from_slice(body).map_err(|_| unreadable())?;
    // The platform gives a number; older endpoints gave a text.
    let life = match &token.expires_in {
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    let life = Duration::from_secs(life.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE));
    let expires = Timestamp::now().checked_add(life).map_err(|_| unreadable())?;
    let mut grant = Grant { access_token: token.access_token, refresh_token: None, origin: None };
    if let Proof::Delegated { refresh_token: first, .. } = &account.proof {
        // An answer without a newer one leaves the one before in force.
        let before = || refresh_token(account).map(|token| token.expose_secret().to_owned());
        grant.refresh_token = token.refresh_token.filter(|token| !token.is_empty()).or_else(before);
        grant.origin = Some(origin(first));
    }
    let grant = serde_json::to_vec(&grant).map_err(|_| unreadable())?;
    if grant.len() > MAX_GRANT {
        return Err(unreadable());
    }
    Ok(RefreshCredentialsResponse { grant: grant.into(), expire_time: Some(times::to_proto(expires)) })
}

/// A digest: what a token began with can be compared without being kept.
fn origin(token: &SecretString) -> String {
    URL_SAFE_NO_PAD.encode(digest::of(token.expose_secret().as_bytes()))
}
