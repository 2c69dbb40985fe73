//! Access tokens for XOAUTH2, from a provider's token endpoint (RFC 6749): of a user who signs in, by a refresh token, else
//! by the client's own credentials. Of a refusal only its `error` is heeded: texts are for people and change.

mod ask;
mod grant;
mod user;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_proto::connector::v1::RefreshCredentialsResponse;
use postern_proto::smtp::v1::{OAuthSettings, SmtpCredentials};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::Error;
use crate::message::Problems;
pub(crate) use crate::oauth::grant::Grant;

/// The longest secret, refresh token or client id.
const MAX_TEXT_BYTES: usize = 8 * 1024;
/// The most scopes.
const MAX_SCOPES: usize = 50;

/// An OAuth client and its provider's token endpoint.
#[derive(Debug)]
pub(crate) struct Provider {
    client_id: String,
    token_endpoint: Url,
    /// Where users sign in in a browser, if they can.
    authorization_endpoint: Option<Url>,
    /// Where device codes come from, if they do.
    device_authorization_endpoint: Option<Url>,
    /// What its pages say whose they are. Empty: it is not known.
    issuer: String,
    /// Space-separated, as the endpoint takes them.
    scope: String,
    client_secret: Option<SecretString>,
    refresh_token: Option<SecretString>,
    /// The authorities to trust beside the machine's, PEM; empty: none.
    authorities: String,
}

impl Provider {
    /// Checks what is stored of it.
    pub(crate) fn check(
        oauth: &OAuthSettings,
        credentials: &SmtpCredentials,
        authorities: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        if oauth.client_id.is_empty() || oauth.client_id.len() > MAX_TEXT_BYTES {
            problems.add("smtp.oauth.client_id", "expected 1 byte to 8 KiB");
        }
        let token_endpoint = endpoint("token_endpoint", &oauth.token_endpoint, problems);
        if oauth.token_endpoint.is_empty() {
            problems.add("smtp.oauth.token_endpoint", "is needed");
        }
        let authorization_endpoint =
            endpoint("authorization_endpoint", &oauth.authorization_endpoint, problems);
        let device_authorization_endpoint =
            endpoint("device_authorization_endpoint", &oauth.device_authorization_endpoint, problems);
        endpoint("issuer", &oauth.issuer, problems);
        if oauth.scopes.len() > MAX_SCOPES {
            problems.add("smtp.oauth.scopes", format!("are more than {MAX_SCOPES}"));
        }
        for (at, scope) in oauth.scopes.iter().enumerate() {
            if scope.is_empty() || scope.len() > 1_024 || !scope.bytes().all(is_scope_byte) {
                let problem = "expected 1 to 1,024 visible ASCII characters without \" and \\";
                problems.add(format!("smtp.oauth.scopes[{at}]"), problem);
            }
        }
        let mut secret = |name: &str, text: &str| {
            if text.len() > MAX_TEXT_BYTES {
                problems.add(format!("smtp_credentials.{name}"), "is longer than 8 KiB");
            }
            Some(SecretString::from(text)).filter(|_| !text.is_empty())
        };
        let client_secret = secret("oauth_client_secret", &credentials.oauth_client_secret);
        let refresh_token = secret("oauth_refresh_token", &credentials.oauth_refresh_token);
        let by_people =
            !oauth.authorization_endpoint.is_empty() || !oauth.device_authorization_endpoint.is_empty();
        if client_secret.is_none() && refresh_token.is_none() && !by_people {
            problems.add(
                "smtp_credentials.oauth_refresh_token",
                "or oauth_client_secret is needed: without an authorization endpoint nobody can sign in",
            );
        }
        Some(Self {
            client_id: oauth.client_id.clone(),
            token_endpoint: token_endpoint?,
            authorization_endpoint,
            device_authorization_endpoint,
            issuer: oauth.issuer.clone(),
            scope: oauth.scopes.join(" "),
            client_secret,
            refresh_token,
            authorities: authorities.to_owned(),
        })
    }

    /// Whether only a user who signs in can give the first token.
    pub(crate) fn needs_user(&self) -> bool {
        let by_people = self.authorization_endpoint.is_some() || self.device_authorization_endpoint.is_some();
        by_people && self.refresh_token.is_none()
    }

    /// What tells this client at its provider from all others: nobody else is shown its refresh tokens.
    fn key(&self) -> String {
        let text = format!("{} {}", self.token_endpoint, self.client_id);
        URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
    }

    /// Gets a new access token: by the newest refresh token, which is the one in the grant where the provider rotates
    /// them, else by the client's own credentials.
    ///
    /// # Errors
    /// Refused for good, or for now.
    pub(crate) async fn refresh(&self, held: Option<&Grant>) -> Result<RefreshCredentialsResponse, Error> {
        let key = self.key();
        let rotated = held.and_then(|held| held.refresh_token(&key));
        let refresh_token = rotated.or(self.refresh_token.as_ref());
        let mut form = vec![("client_id", self.client_id.as_str())];
        match (refresh_token, &self.client_secret) {
            (Some(token), _) => {
                form.extend([("grant_type", "refresh_token"), ("refresh_token", token.expose_secret())]);
            }
            (None, _) if self.needs_user() => return Err(Error::SignedOut),
            (None, Some(_)) => form.push(("grant_type", "client_credentials")),
            (None, None) => return Err(Error::SignedOut),
        }
        if let Some(secret) = &self.client_secret {
            form.push(("client_secret", secret.expose_secret()));
        }
        if !self.scope.is_empty() {
            form.push(("scope", &self.scope));
        }
        let answer = ask::ask(&self.token_endpoint, &self.authorities, &form).await?;
        let subject = held.map(|held| held.subject(&key)).unwrap_or_default();
        Grant::stored(&answer, refresh_token, key.clone(), subject)
    }
}

/// An endpoint's URL. Nothing where there is none, or it is wrong.
fn endpoint(name: &str, text: &str, problems: &mut Problems) -> Option<Url> {
    if text.is_empty() {
        return None;
    }
    let url = Url::parse(text).ok().filter(|url| {
        let is_secure = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
        is_secure && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
    });
    if url.is_none() || text.len() > 2_048 {
        let problem =
            "expected an https URL of at most 2,048 bytes; http is taken for loopback addresses only";
        problems.add(format!("smtp.oauth.{name}"), problem);
    }
    url
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// RFC 6749, appendix A.4.
fn is_scope_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_endpoints() {
        let takes = |text: &str| {
            let mut problems = Problems::default();
            endpoint("token_endpoint", text, &mut problems).is_some() && problems.is_empty()
        };
        for right in [
            "https://login.example.org/token",
            "http://127.0.0.1:8080/token",
            "http://[::1]/token",
            "http://localhost:1/",
        ] {
            assert!(takes(right), "{right}");
        }
        for wrong in [
            "http://login.example.org/token",
            "http://127.0.0.1.example.org/",
            "http://localhost.example.org/",
            "ftp://localhost/",
            "https://user:secret@login.example.org/",
            "login.example.org",
        ] {
            assert!(!takes(wrong), "{wrong}");
        }
    }
}
