//! The refresh tokens of users. As at Microsoft, each use gives a newer one and the one before still holds good.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many tokens are kept: the sandbox may run for days.
const KEPT: usize = 10_000;

/// Refresh tokens, by user.
#[derive(Debug, Default)]
pub struct RefreshTokens(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Whose each is, and why it holds good no more.
    tokens: HashMap<String, (String, Option<Refused>)>,
    used: Vec<String>,
}

/// Why a refresh token is refused: the platform's `error`, its number and text.
pub(super) type Refused = (&'static str, u32, &'static str);

const UNKNOWN: Refused = ("invalid_grant", 9_002_313, "Invalid request. The refresh token is malformed.");
const REVOKED: Refused = ("invalid_grant", 50_173, "The provided grant has expired due to it being revoked.");
const INACTIVE: Refused = ("invalid_grant", 700_082, "The refresh token has expired due to inactivity.");
const NOT_ENOUGH: Refused =
    ("interaction_required", 50_076, "You must use multi-factor authentication to access the resource.");

impl RefreshTokens {
    /// A refresh token of a user, by address, who consented elsewhere.
    #[must_use]
    pub fn give(&self, user: &str) -> String {
        let token: String = std::iter::repeat_with(fastrand::alphanumeric).take(96).collect();
        let mut kept = self.lock();
        if kept.tokens.len() >= KEPT {
            kept.tokens.clear();
        }
        kept.tokens.insert(token.clone(), (user.to_lowercase(), None));
        token
    }

    /// Revokes all tokens of a user, as a new password does.
    pub fn revoke(&self, user: &str) {
        self.refuse(user, REVOKED);
    }

    /// Lets all tokens of a user expire, as ninety days without use do.
    pub fn expire(&self, user: &str) {
        self.refuse(user, INACTIVE);
    }

    /// Wants more of a user than a refresh token, as an administrator's new policy does.
    pub fn want_interaction(&self, user: &str) {
        self.refuse(user, NOT_ENOUGH);
    }

    /// The tokens that were used, in order.
    #[must_use]
    pub fn used(&self) -> Vec<String> {
        self.lock().used.clone()
    }

    /// Uses a token: gives whose it is.
    pub(super) fn spend(&self, token: &str) -> Result<String, Refused> {
        let mut kept = self.lock();
        if kept.used.len() >= KEPT {
            kept.used.clear();
        }
        kept.used.push(token.to_owned());
        match kept.tokens.get(token) {
            None => Err(UNKNOWN),
            Some((_, Some(refused))) => Err(*refused),
            Some((user, None)) => Ok(user.clone()),
        }
    }

    fn refuse(&self, user: &str, why: Refused) {
        let user = user.to_lowercase();
        for (_, refused) in self.lock().tokens.values_mut().filter(|(whose, _)| *whose == user) {
            *refused = Some(why);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
