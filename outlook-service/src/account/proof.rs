//! What proves who we are to the identity platform, as the connection's credentials have it.

use postern_proto::connection::v1::connection::Credentials;
use postern_proto::outlook::v1::ClientCertificate;
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::Problems;
use crate::identity::Signer;

/// The field of a secret.
const SECRET: &str = "outlook_credentials.client_secret";
/// The field of the same, beside a user.
const USER_SECRET: &str = "outlook_credentials.user.client_secret";
/// The longest secret or refresh token: the connection travels with each call, and so does the grant that comes of it.
const MAX_SECRET: usize = 8 * 1024;

/// What proves who we are.
pub(crate) enum Proof {
    /// A user who signs in.
    User {
        /// The application's secret; absent for a public client.
        client_secret: Option<SecretString>,
    },
    /// The application's secret.
    Secret(SecretString),
    /// The application's certificate with its key, read where it is used: that takes longer than most calls need it for.
    Certificate(Box<ClientCertificate>),
    /// What a user gave the application elsewhere.
    Delegated {
        /// The refresh token.
        refresh_token: SecretString,
        /// The application's secret; absent for a public client.
        client_secret: Option<SecretString>,
    },
}

impl Proof {
    pub(super) fn read(credentials: Option<Credentials>) -> Self {
        let given = |secret: String| Some(secret).filter(|secret| !secret.is_empty()).map(SecretString::from);
        let Some(Credentials::OutlookCredentials(credentials)) = credentials else {
            return Self::User { client_secret: None };
        };
        match credentials.sign_in {
            None => Self::User { client_secret: None },
            Some(SignIn::User(user)) => Self::User { client_secret: given(user.client_secret) },
            Some(SignIn::ClientSecret(secret)) => Self::Secret(secret.into()),
            Some(SignIn::ClientCertificate(certificate)) => Self::Certificate(Box::new(certificate)),
            Some(SignIn::DelegatedToken(token)) => Self::Delegated {
                refresh_token: token.refresh_token.into(),
                client_secret: given(token.client_secret),
            },
        }
    }

    /// Whether an application acts for itself, and no user.
    pub(crate) fn is_app_only(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::Certificate(_))
    }

    /// Checks that it is complete and well-formed.
    pub(super) fn check(&self, problems: &mut Problems) {
        match self {
            Self::User { client_secret } => {
                if let Some(secret) = client_secret {
                    check_text(USER_SECRET, secret, problems);
                }
            }
            Self::Secret(secret) => check_text(SECRET, secret, problems),
            Self::Certificate(certificate) => {
                if let Err(found) = Signer::read(certificate) {
                    problems.extend(found);
                }
            }
            Self::Delegated { refresh_token, client_secret } => {
                check_text("outlook_credentials.delegated_token.refresh_token", refresh_token, problems);
                if let Some(secret) = client_secret {
                    check_text("outlook_credentials.delegated_token.client_secret", secret, problems);
                }
            }
        }
    }

    /// The field that holds what proves who the application is.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::User { .. } => USER_SECRET,
            Self::Secret(_) => SECRET,
            Self::Certificate(_) => "outlook_credentials.client_certificate",
            Self::Delegated { .. } => "outlook_credentials.delegated_token.client_secret",
        }
    }
}

fn check_text(field: &str, secret: &SecretString, problems: &mut Problems) {
    let secret = secret.expose_secret();
    // What was pasted with a line's end would be refused as a wrong secret, which nobody sees the reason of.
    let problem = if secret.is_empty() {
        "is empty".to_owned()
    } else if secret.len() > MAX_SECRET {
        format!("expected at most {MAX_SECRET} bytes")
    } else if secret.trim() != secret || secret.chars().any(char::is_control) {
        "expected no line breaks, and no spaces at its ends".to_owned()
    } else {
        return;
    };
    problems.push((field.to_owned(), problem));
}
