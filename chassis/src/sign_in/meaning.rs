//! What a provider's `error` means (RFC 6749, sections 4.1.2.1 and 5.2; RFC 8628, section 3.5): for a user's sign-in, and
//! where a connection's grant is renewed.

use tonic::Code;

use super::word;
use crate::fault::Fault;

/// What an `error` of a provider means for a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The user has not done it yet.
    Pending,
    /// The same, and the provider is asked too often.
    SlowDown,
    /// The user or an administrator did not consent.
    Denied,
    /// The provider wants more of the user or of an administrator than it got.
    WantsMore,
    /// The code has run out, or was used already.
    Expired,
    /// It passes by itself.
    Passing,
    /// The application is not set up as the provider wants it.
    Misconfigured,
}

impl Meaning {
    /// What an error means, by its word alone: texts and numbers are for people and change.
    #[must_use]
    pub fn of(error: &str) -> Self {
        match error {
            "authorization_pending" => Self::Pending,
            "slow_down" => Self::SlowDown,
            "access_denied" | "authorization_declined" => Self::Denied,
            "interaction_required" | "login_required" | "consent_required" | "account_selection_required" => {
                Self::WantsMore
            }
            "invalid_grant" | "expired_token" | "bad_verification_code" | "code_expired" => Self::Expired,
            "temporarily_unavailable" | "server_error" => Self::Passing,
            _ => Self::Misconfigured,
        }
    }

    /// What a token endpoint's answer means that is no token: by its status and `error` alone. What is no answer of such
    /// an endpoint at all is taken for a fault that passes.
    #[must_use]
    pub fn of_answer(status: u16, error: &str) -> Self {
        let of_client = (400..500).contains(&status) && status != 429;
        if of_client && !error.is_empty() { Self::of(error) } else { Self::Passing }
    }

    /// Whether the same may be asked again as it is.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Passing | Self::Pending | Self::SlowDown)
    }

    /// The reason by which callers are told of it where a connection's grant is renewed.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Passing | Self::Pending | Self::SlowDown => "PROVIDER_UNAVAILABLE",
            Self::Denied | Self::WantsMore | Self::Expired => "CREDENTIALS_REFUSED",
            Self::Misconfigured => "CONFIGURATION_REFUSED",
        }
    }

    /// The failure of a sign-in that this ends, with what to do about it.
    #[must_use]
    pub fn failure(self, error: &str) -> Fault {
        let (reason, message) = match self {
            Self::Denied => (
                "SIGN_IN_DENIED",
                "the sign-in was declined at the provider: if that was not meant, begin a new one",
            ),
            Self::WantsMore => (
                "SIGN_IN_DENIED",
                "the provider wants more than it was given, such as a second factor or an administrator's consent: \
                 see to that, then begin a new sign-in",
            ),
            Self::Expired | Self::Pending | Self::SlowDown => (
                "SIGN_IN_EXPIRED",
                "the provider's code has expired or was used already: begin a new sign-in",
            ),
            Self::Passing => (
                "PROVIDER_UNAVAILABLE",
                "the provider is out of order for now: begin a new sign-in in a while",
            ),
            Self::Misconfigured => (
                "CONFIGURATION_REFUSED",
                "the provider refuses the application itself: correct how it is registered there, or the settings \
                 and credentials of the connection, then begin a new sign-in",
            ),
        };
        let fault = Fault::new(Code::FailedPrecondition, reason, message);
        if error.is_empty() { fault } else { fault.with("oauth.error", word(error)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_what_can_be_done() {
        for (error, reason) in [
            ("access_denied", "SIGN_IN_DENIED"),
            ("authorization_declined", "SIGN_IN_DENIED"),
            ("consent_required", "SIGN_IN_DENIED"),
            ("interaction_required", "SIGN_IN_DENIED"),
            ("invalid_grant", "SIGN_IN_EXPIRED"),
            ("expired_token", "SIGN_IN_EXPIRED"),
            ("bad_verification_code", "SIGN_IN_EXPIRED"),
            ("temporarily_unavailable", "PROVIDER_UNAVAILABLE"),
            ("invalid_client", "CONFIGURATION_REFUSED"),
            ("unauthorized_client", "CONFIGURATION_REFUSED"),
            ("unheard_of", "CONFIGURATION_REFUSED"),
        ] {
            assert_eq!(Meaning::of(error).failure(error).reason(), reason, "{error}");
        }
    }

    #[test]
    fn what_a_token_endpoint_says_tells_the_user_the_configuration_and_an_outage_apart() {
        for (status, error, reason) in [
            (400, "invalid_grant", "CREDENTIALS_REFUSED"),
            (400, "interaction_required", "CREDENTIALS_REFUSED"),
            (400, "consent_required", "CREDENTIALS_REFUSED"),
            (400, "login_required", "CREDENTIALS_REFUSED"),
            (400, "access_denied", "CREDENTIALS_REFUSED"),
            (401, "invalid_client", "CONFIGURATION_REFUSED"),
            (400, "unauthorized_client", "CONFIGURATION_REFUSED"),
            (400, "invalid_scope", "CONFIGURATION_REFUSED"),
            (400, "invalid_resource", "CONFIGURATION_REFUSED"),
            (400, "unsupported_grant_type", "CONFIGURATION_REFUSED"),
            (400, "invalid_request", "CONFIGURATION_REFUSED"),
            (400, "unheard_of", "CONFIGURATION_REFUSED"),
            (400, "temporarily_unavailable", "PROVIDER_UNAVAILABLE"),
            (400, "server_error", "PROVIDER_UNAVAILABLE"),
            (400, "slow_down", "PROVIDER_UNAVAILABLE"),
            (429, "invalid_grant", "PROVIDER_UNAVAILABLE"),
            (500, "invalid_client", "PROVIDER_UNAVAILABLE"),
            (302, "invalid_grant", "PROVIDER_UNAVAILABLE"),
            (400, "", "PROVIDER_UNAVAILABLE"),
            (0, "", "PROVIDER_UNAVAILABLE"),
        ] {
            let meaning = Meaning::of_answer(status, error);
            assert_eq!(meaning.reason(), reason, "{status} {error}");
            assert_eq!(meaning.is_passing(), reason == "PROVIDER_UNAVAILABLE", "{status} {error}");
        }
    }
}
