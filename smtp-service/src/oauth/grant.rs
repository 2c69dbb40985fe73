//! What a gateway keeps for a connection that signs in by tokens: the access token, and the refresh token that the
//! provider rotated to.

use std::time::{Duration, SystemTime};

use postern_proto::connector::v1::RefreshCredentialsResponse;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The largest grant the contract allows.
const MAX_GRANT_BYTES: usize = 16 * 1024;
/// The longest access token: AUTH must fit a line of 12,288 octets in base64 (RFC 4954, section 4), the user with it.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How long a token holds good where the provider does not say.
const DEFAULT_LIFE: u64 = 3_600;
/// The longest life that is believed: a year.
const MAX_LIFE: u64 = 365 * 24 * 3_600;

/// A grant.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    /// Whose refresh token it is: the client's key.
    client: String,
    /// What tells the user who signed in from all others. Empty: it is not known.
    subject: String,
}

/// A grant as it is stored.
#[derive(Serialize, Deserialize)]
struct Written {
    access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default)]
    client: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
}

/// A token endpoint's answer (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Token {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl Grant {
    /// Reads a stored grant. Nothing where there is none that could be used.
    pub(crate) fn read(stored: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(stored).ok()?;
        is_token(&written.access_token).then(|| Self {
            access_token: written.access_token.into(),
            refresh_token: written.refresh_token.map(SecretString::from),
            client: written.client,
            subject: written.subject,
        })
    }

    /// The access token.
    pub(crate) fn access_token(&self) -> &SecretString {
        &self.access_token
    }

    /// The refresh token that a client is to use next, if this is its grant.
    pub(super) fn refresh_token(&self, client: &str) -> Option<&SecretString> {
        self.refresh_token.as_ref().filter(|_| self.client == client)
    }

    /// What tells the user who signed in for a client from all others. Empty: it is not known.
    pub(super) fn subject(&self, client: &str) -> &str {
        if self.client == client { &self.subject } else { "" }
    }

    /// Makes the grant to store of an endpoint's answer. Where it gives no new refresh token, the one before goes on.
    pub(super) fn stored(
        answer: &[u8],
        before: Option<&SecretString>,
        client: String,
        subject: &str,
    ) -> Result<RefreshCredentialsResponse, Error> {
        let unreadable = || Error::SignInUnavailable { error: String::new(), status: 200, retry_after: None };
        let token: Token = serde_json::from_slice(answer).map_err(|_| unreadable())?;
        if !is_token(&token.access_token) {
            return Err(unreadable());
        }
        // The standard says a number; some endpoints give a text.
        let life = match &token.expires_in {
            Some(serde_json::Value::Number(number)) => number.as_u64(),
            Some(serde_json::Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        let life = Duration::from_secs(life.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE));
        let refresh_token = token.refresh_token.filter(|token| !token.is_empty());
        let refresh_token = refresh_token.or_else(|| before.map(|token| token.expose_secret().to_owned()));
        let written =
            Written { access_token: token.access_token, refresh_token, client, subject: subject.to_owned() };
        let grant = serde_json::to_vec(&written).map_err(|_| unreadable())?;
        if grant.len() > MAX_GRANT_BYTES {
            return Err(unreadable());
        }
        let expire_time = Some((SystemTime::now() + life).into());
        Ok(RefreshCredentialsResponse { grant: grant.into(), expire_time })
    }
}

/// Whether a text can stand in AUTH XOAUTH2: what separates its parts there is a control character.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(answer: &str, before: Option<&str>) -> Option<Grant> {
        let before = before.map(SecretString::from);
        Grant::read(&Grant::stored(answer.as_bytes(), before.as_ref(), "client".into(), "ann").ok()?.grant)
    }

    #[test]
    fn a_rotated_refresh_token_is_kept_and_one_that_is_not_rotated_goes_on() {
        let token =
            |grant: &Grant| grant.refresh_token("client").map(|token| token.expose_secret().to_owned());
        let rotated = after(r#"{"access_token":"a","refresh_token":"new"}"#, Some("old")).unwrap();
        assert_eq!(token(&rotated).as_deref(), Some("new"));
        assert!(rotated.refresh_token("another").is_none());
        assert_eq!((rotated.subject("client"), rotated.subject("another")), ("ann", ""));
        let same = after(r#"{"access_token":"a","expires_in":"60"}"#, Some("old")).unwrap();
        assert_eq!(token(&same).as_deref(), Some("old"));
        assert_eq!(token(&after(r#"{"access_token":"a"}"#, None).unwrap()), None);
    }

    #[test]
    fn what_could_not_stand_in_auth_is_no_token_and_nothing_shows_one() {
        for wrong in [r#"{"access_token":""}"#, r#"{"access_token":"a\u0001b"}"#, r#"{"token":"a"}"#, "{"] {
            assert!(after(wrong, None).is_none(), "{wrong}");
        }
        let grant = after(r#"{"access_token":"sesame","refresh_token":"sesame"}"#, None);
        assert!(!format!("{grant:?}").contains("sesame"));
        assert!(Grant::read(b"").is_none());
    }
}
