//! The grant: what a sign-in gives, as it is stored, and what of it the next sign-in needs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use postern_chassis::digest;
use postern_chassis::sign_in::{self, Who};
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
#[derive(Default, Serialize, Deserialize)]
struct Grant {
    access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// What tells the refresh token that all this began with, in the credentials, from any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// The application, and its platform, that a user signed in for: a digest. Nobody else is shown the refresh token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    /// What tells the user who signed in from all others. Empty: it was not told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
    /// The user's account, as people know it. Empty: it was not told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    account: String,
}

/// What a grant keeps for the next sign-in.
pub(crate) struct Kept {
    refresh_token: SecretString,
    /// What tells the refresh token that it began with from any other.
    pub(crate) origin: String,
    application: Option<String>,
    /// What tells the user who signed in from all others. Empty: it is not known.
    pub(crate) subject: String,
    /// The account of the user who signed in, as people know it. Empty: it is not known.
    pub(crate) account: String,
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
    let kept = grant.refresh_token.zip(grant.origin).map(|(token, origin)| Kept {
        refresh_token: token.into(),
        origin,
        application: grant.application,
        subject: grant.subject,
        account: grant.account,
    });
    (Some(grant.access_token.into()), kept)
}

/// The refresh token to use next: the newest that came of the credentials' own, else that one; of a user who signed in,
/// the newest. Credentials that were replaced begin anew, as does another application.
pub(super) fn refresh_token(account: &Account) -> Option<&SecretString> {
    match &account.proof {
        Proof::Delegated { refresh_token, .. } => {
            let newest = account.kept.as_ref().filter(|kept| kept.origin == origin(refresh_token));
            Some(newest.map_or(refresh_token, |kept| &kept.refresh_token))
        }
        Proof::User { .. } => {
            let kept = account.kept.as_ref()?;
            let is_ours = kept.application.as_deref() == Some(application(account).as_str());
            is_ours.then_some(&kept.refresh_token)
        }
        Proof::Secret(_) | Proof::Certificate(_) => None,
    }
}

/// What tells an application at its platform from all others.
fn application(account: &Account) -> String {
    let text = format!("{} {} {}", account.login, account.tenant, account.client_id).to_lowercase();
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
}

/// The grant that an answer makes.
pub(super) fn made(account: &Account, body: &[u8]) -> Result<RefreshCredentialsResponse, Error> {
    let token = token(body)?;
    let life = life(&token);
    let mut grant = Grant { access_token: token.access_token, ..Grant::default() };
    if let Proof::Delegated { .. } | Proof::User { .. } = &account.proof {
        // An answer without a newer one leaves the one before in force.
        let before = || refresh_token(account).map(|token| token.expose_secret().to_owned());
        grant.refresh_token = token.refresh_token.filter(|token| !token.is_empty()).or_else(before);
        let kept = account.kept.as_ref();
        grant.origin = match &account.proof {
            Proof::Delegated { refresh_token, .. } => Some(origin(refresh_token)),
            _ => kept.map(|kept| kept.origin.clone()),
        };
        if let Some(kept) = kept.filter(|kept| Some(&kept.origin) == grant.origin.as_ref()) {
            (grant.subject, grant.account) = (kept.subject.clone(), kept.account.clone());
            grant.application.clone_from(&kept.application);
        }
    }
    written(&grant, life)
}

/// The grant that a user's sign-in makes: what came before is forgotten, but who began with a refresh token of the
/// credentials goes on in its place.
pub(super) fn made_by_user(
    account: &Account,
    body: &[u8],
    who: Option<&Who>,
) -> Result<RefreshCredentialsResponse, Error> {
    let token = token(body)?;
    let life = life(&token);
    let refresh_token = token.refresh_token.filter(|token| !token.is_empty());
    let refresh_token =
        refresh_token.ok_or_else(|| Error::SignIn(Box::new(sign_in::without_refresh_token())))?;
    let first = SecretString::from(refresh_token.clone());
    let origin = match &account.proof {
        Proof::Delegated { refresh_token, .. } => origin(refresh_token),
        _ => origin(&first),
    };
    let grant = Grant {
        access_token: token.access_token,
        refresh_token: Some(refresh_token),
        origin: Some(origin),
        application: Some(application(account)),
        subject: who.map(|who| who.subject.clone()).unwrap_or_default(),
        account: who.map(|who| who.account.clone()).unwrap_or_default(),
    };
    written(&grant, life)
}

fn unreadable() -> Error {
    Failure::unreadable(200).into()
}

fn token(body: &[u8]) -> Result<Token, Error> {
    serde_json::from_slice(body).map_err(|_| unreadable())
}

/// How long an answer's token holds good.
fn life(token: &Token) -> Duration {
    // The platform gives a number; older endpoints gave a text.
    let life = match &token.expires_in {
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    Duration::from_secs(life.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE))
}

/// A grant as it goes to the gateway. When it ends is reckoned by our clock alone, so that others need not agree.
fn written(grant: &Grant, life: Duration) -> Result<RefreshCredentialsResponse, Error> {
    let expires = Timestamp::now().checked_add(life).map_err(|_| unreadable())?;
    let grant = serde_json::to_vec(grant).map_err(|_| unreadable())?;
    if grant.len() > MAX_GRANT {
        return Err(unreadable());
    }
    Ok(RefreshCredentialsResponse { grant: grant.into(), expire_time: Some(times::to_proto(expires)) })
}

/// A digest: what a token began with can be compared without being kept.
fn origin(token: &SecretString) -> String {
    URL_SAFE_NO_PAD.encode(digest::of(token.expose_secret().as_bytes()))
}
