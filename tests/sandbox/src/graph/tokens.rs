//! The access tokens that the sandbox's sign-in gave.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderMap;

use super::refusal::{Refusal, unauthorized};

/// Access tokens: those that hold good, and those that expired.
#[derive(Debug, Default)]
pub struct AccessTokens {
    good: Mutex<HashSet<String>>,
}

impl AccessTokens {
    /// Lets all tokens expire that were given so far.
    pub fn expire_all(&self) {
        self.lock().clear();
    }

    pub(super) fn give(&self) -> String {
        let token: String = std::iter::repeat_with(fastrand::alphanumeric).take(64).collect();
        self.lock().insert(token.clone());
        token
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let header = headers.get("authorization").and_then(|value| value.to_str().ok());
        match header.and_then(|value| value.strip_prefix("Bearer ")) {
            None => Err(unauthorized("InvalidAuthenticationToken", "Access token is empty.")),
            Some(token) if self.lock().contains(token) => Ok(()),
            Some(_) => Err(unauthorized(
                "InvalidAuthenticationToken",
                "Lifetime validation failed, the token is expired.",
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
