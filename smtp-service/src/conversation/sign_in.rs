//! AUTH (RFC 4954): by password with PLAIN or LOGIN, by access token with XOAUTH2.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Conversation, refused};
use crate::clock::Clock;
use crate::connection::{Login, Mechanism, Proof};
use crate::error::Error;
use crate::reply::Reply;
use crate::stage::Stage;

const NOT_OFFERED: &str = "the server does not offer the mechanism that the credentials need";

impl Conversation {
    /// Signs in. `token` is the access token that came with the call, if one did.
    pub(super) async fn authenticate(
        &mut self,
        login: &Login,
        token: Option<&SecretString>,
        clock: Clock,
    ) -> Result<(), Error> {
        match &login.proof {
            Proof::Password { password, mechanism } => {
                self.by_password(&login.username, password.expose_secret(), *mechanism, clock).await
            }
            Proof::Token(_) => {
                let problem = "there is no access token to sign in with: get a grant first";
                let token = token.ok_or(Error::Credentials { problem, reply: None, refresh: true })?;
                self.by_token(&login.username, token.expose_secret(), clock).await
            }
        }
    }

    async fn by_password(
        &mut self,
        username: &str,
        password: &str,
        mechanism: Option<Mechanism>,
        clock: Clock,
    ) -> Result<(), Error> {
        let offered = (self.extensions.auth_plain, self.extensions.auth_login);
        let mechanism = match (mechanism, offered) {
            (Some(Mechanism::Plain) | None, (true, _)) => Mechanism::Plain,
            (Some(Mechanism::Login), (_, true)) | (None, (false, true)) => Mechanism::Login,
            _ => return Err(Error::Credentials { problem: NOT_OFFERED, reply: None, refresh: false }),
        };
        let proof = BASE64_STANDARD.encode(format!("\0{username}\0{password}"));
        let answers = [username, password].map(|text| BASE64_STANDARD.encode(text));
        let secrets = [password, &proof, &answers[1]];
        // What is sent first, and what is sent for each 334 after it.
        let (first, answers) = match mechanism {
            Mechanism::Plain => (format!("AUTH PLAIN {proof}\r\n"), &[][..]),
            Mechanism::Login => ("AUTH LOGIN\r\n".to_owned(), &answers[..]),
        };
        let mut reply = self.command(Stage::Auth, &first, clock).await?;
        for answer in answers {
            if !reply.is_intermediate() {
                break;
            }
            reply = self.command(Stage::Auth, &format!("{answer}\r\n"), clock).await?;
        }
        judged(reply.without(&secrets), false)
    }

    /// XOAUTH2: the token at once. A server that refuses it says why in a 334 first, which an empty answer brings to its
    /// end; others say 535 straight away.
    async fn by_token(&mut self, username: &str, token: &str, clock: Clock) -> Result<(), Error> {
        if !self.extensions.auth_xoauth2 {
            return Err(Error::Credentials { problem: NOT_OFFERED, reply: None, refresh: false });
        }
        let proof = BASE64_STANDARD.encode(format!("user={username}\x01auth=Bearer {token}\x01\x01"));
        let mut reply = self.command(Stage::Auth, &format!("AUTH XOAUTH2 {proof}\r\n"), clock).await?;
        let challenged = reply.is_intermediate();
        if challenged {
            reply = self.command(Stage::Auth, "\r\n", clock).await?;
        }
        // Of the permanent replies these alone speak of the token; a command that is not known (500, 504) does not.
        let of_token = challenged || matches!(reply.code, 530 | 534 | 535);
        judged(reply.without(&[token, &proof]), of_token)
    }
}

/// What the last reply to AUTH means.
fn judged(reply: Reply, of_token: bool) -> Result<(), Error> {
    if reply.is_positive() {
        return Ok(());
    }
    if reply.is_transient() {
        return Err(refused(Stage::Auth, reply));
    }
    let problem =
        if of_token { "the server refused the access token" } else { "the server refused the credentials" };
    Err(Error::Credentials { problem, reply: Some(reply), refresh: of_token })
}
