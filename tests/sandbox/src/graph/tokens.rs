//! The access tokens that the sandbox's sign-in gave, and what they must claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderMap;

use super::refusal::{Refusal, challenged, unauthorized};

/// How many tokens are kept: the sandbox may run for days.
const KEPT: usize = 10_000;

/// Access tokens: those that hold good, and what new ones must claim.
#[derive(Debug, Default)]
pub struct AccessTokens(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    good: HashMap<String, Token>,
    /// What tokens must claim that are given from now on.
    claims: Option<String>,
}

/// A token that holds good.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// Whose it is, by address. Absent: the application's own.
    pub(super) user: Option<String>,
    /// What it claims.
    claims: Option<String>,
}

impl Token {
    /// A token of the application's own: it reaches every mailbox.
    pub(super) fn of_anybody() -> Self {
        Self { user: None, claims: None }
    }
}

impl AccessTokens {
    /// Lets all tokens expire that were given so far.
    pub fn expire_all(&self) {
        self.lock().good.clear();
    }

    /// From now on only tokens hold good that were asked for with these claims, JSON; others are told so.
    pub fn challenge(&self, claims: &str) {
        self.lock().claims = Some(claims.to_owned());
    }

    /// Takes a token of a user's, by address, that another platform gave.
    pub fn accept(&self, token: &str, user: &str) {
        let user = Some(user.to_lowercase());
        self.lock().good.insert(token.to_owned(), Token { user, claims: None });
    }

    pub(super) fn give(&self, user: Option<String>, claims: Option<String>) -> String {
        let token: String = std::iter::repeat_with(fastrand::alphanumeric).take(64).collect();
        let mut kept = self.lock();
        if kept.good.len() >= KEPT {
            kept.good.clear();
        }
        kept.good.insert(token.clone(), Token { user, claims });
        token
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Token, Refusal> {
        let header = headers.get("authorization").and_then(|value| value.to_str().ok());
        let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(unauthorized("InvalidAuthenticationToken", "Access token is empty."));
        };
        let kept = self.lock();
        match (kept.good.get(token), &kept.claims) {
            (Some(good), None) => Ok(good.clone()),
            (Some(good), claims) if good.claims == *claims => Ok(good.clone()),
            (Some(_), Some(claims)) => Err(challenged(claims)),
            (None, _) => Err(unauthorized(
                "InvalidAuthenticationToken",
                "Lifetime validation failed, the token is expired.",
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
