//! How a request to Graph can fail, classified: what was done, and whether a repeat can help.

use std::time::Duration;

use serde_json::Value;

/// Codes of 404 that speak of the mailbox rather than of what was asked for in it.
const OF_MAILBOX: [&str; 6] = [
    "ErrorInvalidUser",
    "ErrorNonExistentMailbox",
    "MailboxNotEnabledForRESTAPI",
    "MailboxNotSupportedForRESTAPI",
    "Request_ResourceNotFound",
    "ResourceNotFound",
];
/// Codes that say that the place to go on from is forgotten.
const OF_LOST_PLACE: [&str; 5] = [
    "syncStateNotFound",
    "resyncRequired",
    "syncStateInvalid",
    "InvalidSyncStateData",
    "ErrorInvalidSyncStateData",
];
/// Codes that say that a request was turned away unlooked-at because there were too many, whatever the status they come
/// with: nothing was done.
const OF_THROTTLING: [&str; 6] = [
    "ApplicationThrottled",
    "TooManyRequests",
    "activityLimitReached",
    "ErrorExceededConnectionCount",
    "ErrorServerBusy",
    "MailboxConcurrency",
];
/// How long a mailbox is left alone that turned a request away without saying for how long.
const UNSAID_PAUSE: Duration = Duration::from_millis(300);
/// The longest code or id that is passed on.
const MAX_PLAIN: usize = 128;
/// The deepest that errors within errors are looked into.
const DEPTH: usize = 5;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Graph answered with an error.
    #[error("Graph answered {}", .0.status)]
    Refused(Box<Refusal>),
    /// The gate of the mailbox did not open in time: nothing was sent.
    #[error("no place at the gate came free")]
    Busy,
    /// Graph has asked for a pause that is not over: nothing was sent.
    #[error("Graph asked for a pause")]
    Paused {
        /// How long it lasts yet.
        left: Duration,
    },
    /// What Outlook allows for a mailbox in some minutes is used up: nothing was sent.
    #[error("the mailbox's allowance is used up")]
    Spent {
        /// How long until there is room again.
        left: Duration,
    },
    /// No connection was made: nothing was sent.
    #[error("Graph was not reached")]
    Unreached {
        /// The request's id.
        client_request_id: String,
    },
    /// The provider's certificate is not trusted: nothing was sent.
    #[error("the provider's certificate is not trusted")]
    Untrusted,
    /// The connection broke off, or time ran out, when the request was on its way.
    #[error("the connection broke off")]
    Broken {
        /// The request's id.
        client_request_id: String,
    },
    /// The answer makes no sense.
    #[error("the answer of status {status} cannot be read")]
    Unreadable {
        /// The HTTP status.
        status: u16,
    },
    /// A link in an answer leads elsewhere.
    #[error("a link leads elsewhere")]
    ForeignLink,
}

/// An error as Graph gave it, without its message.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Its codes, the most specific last. None where it gave none.
    pub(crate) codes: Vec<String>,
    /// Graph's id of the request.
    pub(crate) request_id: Option<String>,
    /// Our id of the request.
    pub(crate) client_request_id: String,
    /// How long it asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn unreadable(status: u16) -> Self {
        Self::Unreadable { status }
    }

    /// Whether it is certain that nothing was done, and a repeat can help.
    pub(crate) fn did_nothing(&self) -> bool {
        match self {
            Self::Unreached { .. } | Self::Paused { .. } | Self::Spent { .. } => true,
            Self::Refused(refusal) => refusal.is_throttling(),
            _ => false,
        }
    }

    /// How long the mailbox is to be left alone after this, by all.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) if refusal.is_throttling() => {
                Some(refusal.retry_after.unwrap_or(UNSAID_PAUSE))
            }
            // Overloaded, and it says for how long.
            Self::Refused(refusal) if matches!(refusal.status, 503 | 509) => refusal.retry_after,
            _ => None,
        }
    }

    /// The ids of the request, Graph's own and ours, where there are any.
    pub(super) fn ids(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Refused(refusal) => (refusal.request_id.as_deref(), Some(&refusal.client_request_id)),
            Self::Unreached { client_request_id } | Self::Broken { client_request_id } => {
                (None, Some(client_request_id))
            }
            _ => (None, None),
        }
    }

    /// Whether it may pass by itself.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Unreached { .. } | Self::Broken { .. } | Self::Paused { .. } | Self::Spent { .. } => true,
            Self::Busy | Self::Untrusted | Self::Unreadable { .. } | Self::ForeignLink => false,
        }
    }

    /// Whether what was asked for may have been done all the same.
    pub(crate) fn is_doubtful(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                matches!(refusal.status, 408 | 409 | 500..)
                    && refusal.status != 509
                    && !refusal.is_throttling()
            }
            Self::Broken { .. } | Self::Unreadable { .. } => true,
            Self::Busy
            | Self::Paused { .. }
            | Self::Spent { .. }
            | Self::Untrusted
            | Self::Unreached { .. }
            | Self::ForeignLink => false,
        }
    }

    /// The status, where Graph answered with an error.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// Whether the item that was asked for is not there; a mailbox that cannot be reached says nothing of its items.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 404 && !refusal.is_of_mailbox())
            && !self.lost_place()
    }

    /// Whether it can be the fault of the one item that was asked for, rather than of the mailbox, the way there or too
    /// many requests.
    pub(crate) fn is_of_item(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                !matches!(refusal.status, 401 | 408 | 429 | 503 | 509) && !refusal.is_of_mailbox()
            }
            Self::Unreadable { .. } => true,
            _ => false,
        }
    }

    /// How long Graph asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Paused { left } | Self::Spent { left } => Some(*left),
            _ => None,
        }
    }

    /// Whether Graph does not go on from a link that it gave, for whatever reason: it is to be begun again.
    pub(crate) fn refuses_link(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(refusal.status, 400 | 404 | 410) || self.lost_place(),
            _ => false,
        }
    }

    /// Whether Graph has forgotten the place to go on from.
    pub(crate) fn lost_place(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.status == 410 || refusal.has_code(&OF_LOST_PLACE),
            _ => false,
        }
    }
}

/// A code or id as it is passed on: visible ASCII, and not too much of it.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(MAX_PLAIN).collect()
}

impl Refusal {
    /// Reads an error's body, whatever it is.
    pub(crate) fn read(
        status: u16,
        body: &[u8],
        request_id: Option<String>,
        client_request_id: String,
        retry_after: Option<Duration>,
    ) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut codes = Vec::new();
        let mut error = body.get("error");
        let mut named = None;
        for _ in 0..DEPTH {
            let Some(within) = error else { break };
            if let Some(code) = within.get("code").and_then(Value::as_str).filter(|code| !code.is_empty()) {
                codes.push(plain(code));
            }
            let id = within.get("request-id").or_else(|| within.get("requestId"));
            named = named.or_else(|| id.and_then(Value::as_str).map(plain));
            error = within.get("innerError").or_else(|| within.get("innererror"));
        }
        Self { status, codes, request_id: request_id.or(named), client_request_id, retry_after }
    }

    /// Whether it bears one of these codes, case aside as Graph's own copies of them differ.
    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.iter().any(|other| code.eq_ignore_ascii_case(other)))
    }

    /// Whether it speaks of the mailbox rather than of what was asked for in it.
    pub(crate) fn is_of_mailbox(&self) -> bool {
        self.status == 404 && self.has_code(&OF_MAILBOX)
    }

    /// Whether Graph turned the request away because there were too many: nothing was done.
    pub(crate) fn is_throttling(&self) -> bool {
        self.status == 429 || (matches!(self.status, 503 | 509) && self.has_code(&OF_THROTTLING))
    }

    /// Whether it may pass by itself.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.status, 408 | 423 | 429 | 500 | 502 | 503 | 504 | 509)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Refusal {
        Refusal::read(410, body.as_bytes(), None, String::new(), None)
    }

    #[test]
    fn the_most_specific_code_is_found_however_the_inner_error_is_spelt() {
        let refusal = read(
            r#"{"error":{"code":"","innererror":{"code":"A","requestId":"r","innerError":{"code":"SYNCSTATENOTFOUND"}}}}"#,
        );
        assert_eq!(refusal.codes, ["A", "SYNCSTATENOTFOUND"]);
        assert_eq!(refusal.request_id.as_deref(), Some("r"));
        assert!(refusal.has_code(&OF_LOST_PLACE));
    }

    #[test]
    fn a_body_that_is_none_of_graphs_is_no_reason_to_fail() {
        for body in ["", "<html>busy</html>", "[]", r#"{"error":"text"}"#, r#"{"error":{"code":7}}"#] {
            assert!(read(body).codes.is_empty(), "{body}");
        }
    }

    #[test]
    fn only_what_certainly_did_nothing_is_called_so() {
        let refused = |status, code: &str| {
            let body = format!(r#"{{"error":{{"code":"{code}"}}}}"#);
            let refusal = Refusal::read(status, body.as_bytes(), None, String::new(), None);
            Failure::Refused(Box::new(refusal))
        };
        for (status, code, did_nothing, doubtful) in [
            (429, "", true, false),
            (503, "ErrorServerBusy", true, false),
            (503, "", false, true),
            (509, "", false, false),
            (500, "ApplicationThrottled", false, true),
            (504, "", false, true),
            (400, "BadRequest", false, false),
            (409, "Conflict", false, true),
        ] {
            let failure = refused(status, code);
            let said = (failure.did_nothing(), failure.is_doubtful());
            assert_eq!(said, (did_nothing, doubtful), "{status} {code}");
        }
    }

    #[test]
    fn codes_and_ids_are_passed_on_only_as_far_as_they_are_plain() {
        let long = "x".repeat(1_000);
        let refusal =
            read(&format!(r#"{{"error":{{"code":"a\n b\u00e4","innerError":{{"code":"{long}"}}}}}}"#));
        assert_eq!(refusal.codes[0], "ab");
        assert_eq!(refusal.codes[1].len(), MAX_PLAIN);
    }
}
