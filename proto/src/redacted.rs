//! `Debug` for the messages that hold a secret: it says whether one is there, never what it is.

use std::fmt::{Debug, Formatter, Result};

use crate::connector::v1::{
    CompleteSignInRequest, CompleteSignInResponse, OpenConnection, ReadNotificationRequest,
    RefreshCredentialsResponse, RenewNotificationRequest, StartSignInResponse,
};
use crate::outlook::v1::outlook_credentials::SignIn;
use crate::outlook::v1::{ClientCertificate, DelegatedToken, OutlookCredentials, UserSignIn};
use crate::smtp::v1::SmtpCredentials;

/// What stands in the place of a secret.
fn mask(secret: &[u8]) -> &'static str {
    if secret.is_empty() { "absent" } else { "[redacted]" }
}

impl Debug for SmtpCredentials {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("SmtpCredentials")
            .field("password", &mask(self.password.as_bytes()))
            .field("dkim_private_key", &mask(self.dkim_private_key.as_bytes()))
            .field("oauth_client_secret", &mask(self.oauth_client_secret.as_bytes()))
            .field("oauth_refresh_token", &mask(self.oauth_refresh_token.as_bytes()))
            .finish()
    }
}

impl Debug for OutlookCredentials {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("OutlookCredentials").field("sign_in", &self.sign_in).finish()
    }
}

impl Debug for SignIn {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::ClientSecret(secret) => {
                f.debug_tuple("ClientSecret").field(&mask(secret.as_bytes())).finish()
            }
            Self::ClientCertificate(certificate) => {
                f.debug_tuple("ClientCertificate").field(certificate).finish()
            }
            Self::DelegatedToken(token) => f.debug_tuple("DelegatedToken").field(token).finish(),
            Self::User(user) => f.debug_tuple("User").field(user).finish(),
        }
    }
}

impl Debug for ClientCertificate {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ClientCertificate")
            .field("certificate", &self.certificate)
            .field("private_key", &mask(self.private_key.as_bytes()))
            .finish()
    }
}

impl Debug for DelegatedToken {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("DelegatedToken")
            .field("refresh_token", &mask(self.refresh_token.as_bytes()))
            .field("client_secret", &mask(self.client_secret.as_bytes()))
            .finish()
    }
}

impl Debug for UserSignIn {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("UserSignIn").field("client_secret", &mask(self.client_secret.as_bytes())).finish()
    }
}

impl Debug for RenewNotificationRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("RenewNotificationRequest")
            .field("trigger", &self.trigger)
            .field("url", &self.url)
            .field("secret", &mask(self.secret.as_bytes()))
            .field("notification", &self.notification)
            .field("reauthorize", &self.reauthorize)
            .finish()
    }
}

impl Debug for ReadNotificationRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // The body repeats the secret, and the query may hold a token.
        f.debug_struct("ReadNotificationRequest")
            .field("content_type", &self.content_type)
            .field("body.len", &self.body.len())
            .field("secret", &mask(self.secret.as_bytes()))
            .field("notification", &self.notification)
            .finish()
    }
}

impl Debug for OpenConnection {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("OpenConnection")
            .field("connection", &self.connection)
            .field("grant", &mask(&self.grant))
            .finish()
    }
}

impl Debug for RefreshCredentialsResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("RefreshCredentialsResponse")
            .field("grant", &mask(&self.grant))
            .field("expire_time", &self.expire_time)
            .finish()
    }
}

impl Debug for StartSignInResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("StartSignInResponse")
            .field("verification_url", &self.verification_url)
            .field("expire_time", &self.expire_time)
            .field("poll_interval", &self.poll_interval)
            .field("sign_in", &mask(&self.sign_in))
            .finish_non_exhaustive()
    }
}

impl Debug for CompleteSignInRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CompleteSignInRequest")
            .field("sign_in", &mask(&self.sign_in))
            .field("query", &mask(self.query.as_bytes()))
            .field("redirect_url", &self.redirect_url)
            .finish()
    }
}

impl Debug for CompleteSignInResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CompleteSignInResponse")
            .field("grant", &mask(&self.grant))
            .field("expire_time", &self.expire_time)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}
