//! What the identity platform answers instead of a token: `{"error", "error_codes", "trace_id", "correlation_id"}`. Its
//! texts are left where they are.

use std::time::Duration;

use serde::Deserialize;

use crate::account::Proof;

/// Errors that pass by themselves.
const PASSING: [&str; 2] = ["temporarily_unavailable", "server_error"];
/// Errors that a user's new sign-in ends.
const OF_USER: [&str; 4] = ["invalid_grant", "interaction_required", "consent_required", "login_required"];
/// The longest word or id that is passed on.
const MAX_WORD: usize = 64;

/// A refusal. The default: none, for the platform was not reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused {
    /// The HTTP status; 0: none.
    pub(crate) status: u16,
    /// The platform's error. Empty where it gave none.
    pub(crate) error: String,
    /// What it says beyond the error, in one word.
    pub(crate) suberror: Option<String>,
    /// The number of the error, as `AADSTS7000215`, which its documentation is looked up by.
    pub(crate) code: Option<String>,
    /// What Microsoft's support finds the request by.
    pub(crate) trace_id: Option<String>,
    /// The same, over several requests.
    pub(crate) correlation_id: Option<String>,
    /// How long it asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// The field of the connection that is likely wrong.
    pub(crate) field: Option<&'static str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    error: serde_json::Value,
    suberror: serde_json::Value,
    error_codes: serde_json::Value,
    trace_id: serde_json::Value,
    correlation_id: serde_json::Value,
}

impl Refused {
    pub(super) fn read(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let code = body.error_codes.get(0).and_then(serde_json::Value::as_u64);
        Self {
            status,
            error: word(&body.error).unwrap_or_default(),
            suberror: word(&body.suberror),
            code: code.map(|number| format!("AADSTS{number}")),
            trace_id: word(&body.trace_id),
            correlation_id: word(&body.correlation_id),
            retry_after,
            field: None,
        }
    }

    /// Whether it may pass by itself. What is no answer of the platform's at all is taken for that.
    pub(super) fn is_passing(&self) -> bool {
        let of_client = (400..500).contains(&self.status);
        !of_client || self.status == 429 || self.error.is_empty() || PASSING.contains(&self.error.as_str())
    }

    /// Whether a user must sign in anew.
    pub(crate) fn is_of_user(&self) -> bool {
        OF_USER.contains(&self.error.as_str())
    }

    /// The refusal with the field that is likely wrong.
    pub(super) fn about(mut self: Box<Self>, proof: &Proof) -> Box<Self> {
        self.field = match (self.error.as_str(), proof) {
            ("invalid_client", proof) => Some(proof.field()),
            ("invalid_grant", Proof::Delegated { .. }) => {
                Some("outlook_credentials.delegated_token.refresh_token")
            }
            ("unauthorized_client", _) => Some("outlook.client_id"),
            ("invalid_scope" | "invalid_resource" | "unsupported_grant_type", _) => Some("outlook.cloud"),
            // The tenant is part of the URL: nothing else of the request is the connection's to choose.
            ("invalid_request", _) => Some("outlook.tenant"),
            _ => None,
        };
        self
    }
}

/// A word or id: visible ASCII without what a sentence is made of.
fn word(value: &serde_json::Value) -> Option<String> {
    let text = value.as_str()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!text.is_empty() && text.len() <= MAX_WORD && text.chars().all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Refused {
        Refused::read(status, body.as_bytes(), None)
    }

    #[test]
    fn only_the_error_decides_whether_it_passes() {
        for (status, error, passing, of_user) in [
            (400, "invalid_grant", false, true),
            (400, "interaction_required", false, true),
            (400, "consent_required", false, true),
            (400, "login_required", false, true),
            (401, "invalid_client", false, false),
            (400, "unauthorized_client", false, false),
            (400, "invalid_scope", false, false),
            (400, "unheard_of", false, false),
            (400, "temporarily_unavailable", true, false),
            (400, "server_error", true, false),
            (429, "unheard_of", true, false),
            (503, "invalid_grant", true, true),
        ] {
            // The number is that of a wrong secret throughout: it must not matter.
            let refused = read(status, &format!(r#"{{"error":"{error}","error_codes":[7000215]}}"#));
            assert_eq!((refused.is_passing(), refused.is_of_user()), (passing, of_user), "{status} {error}");
        }
    }

    #[test]
    fn texts_are_not_passed_on() {
        let refused = read(
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS50173: for ann@x","error_codes":[50173],
                "suberror":"bad_token","trace_id":"t-1","correlation_id":"for ann@x"}"#,
        );
        assert_eq!(refused.code.as_deref(), Some("AADSTS50173"));
        assert_eq!(refused.suberror.as_deref(), Some("bad_token"));
        assert_eq!((refused.trace_id.as_deref(), refused.correlation_id), (Some("t-1"), None));
    }

    #[test]
    fn a_body_that_is_none_of_the_platforms_is_taken_for_an_outage() {
        for body in ["", "<html>", "[]", "7", r#"{"error":7}"#, r#"{"error":{"code":"x"}}"#] {
            assert!(read(400, body).is_passing(), "{body}");
        }
    }
}
