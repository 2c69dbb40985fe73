//! What the identity platform answers instead of a token: `{"error", "error_codes", "trace_id", "correlation_id"}`. Its
//! texts are left where they are.

use std::time::Duration;

use postern_chassis::sign_in::Meaning;
use serde::Deserialize;

use crate::account::Proof;

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

    /// What it means.
    pub(crate) fn meaning(&self) -> Meaning {
        Meaning::of_answer(self.status, &self.error)
    }

    /// Whether it may pass by itself.
    pub(super) fn is_passing(&self) -> bool {
        self.meaning().is_passing()
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
    fn only_the_error_decides_what_it_means() {
        for (error, meaning) in [
            ("invalid_grant", Meaning::Expired),
            ("interaction_required", Meaning::WantsMore),
            ("invalid_client", Meaning::Misconfigured),
            ("temporarily_unavailable", Meaning::Passing),
        ] {
            // The number is that of a wrong secret throughout: it must not matter.
            let refused = read(400, &format!(r#"{{"error":"{error}","error_codes":[7000215]}}"#));
            assert_eq!(refused.meaning(), meaning, "{error}");
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
