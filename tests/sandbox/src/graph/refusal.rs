//! Answers and refusals as Graph words them: `{"error": {"code", "message", "innerError"}}`.

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

/// What a request gets: an answer, or a refusal.
pub(super) type Answer = Result<Answered, Refusal>;

/// An answer.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Content,
}

enum Content {
    Nothing,
    Json(Value),
    Bytes(Bytes),
}

/// A refusal: status, code and message.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(&'static str, String)>,
}

impl Answered {
    pub(super) fn json_of(status: StatusCode, body: Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        Self { status, headers, body: Content::Json(body) }
    }

    pub(super) fn ok(body: Value) -> Self {
        Self::json_of(StatusCode::OK, body)
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Content::Nothing }
    }

    pub(super) fn bytes_of(content_type: &str, content: Vec<u8>) -> Self {
        let mut headers = HeaderMap::new();
        if let Ok(content_type) = HeaderValue::from_str(content_type) {
            headers.insert("content-type", content_type);
        }
        Self { status: StatusCode::OK, headers, body: Content::Bytes(content.into()) }
    }

    pub(super) fn raw(status: u16, given: &[(String, String)], body: String) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        let body = match serde_json::from_str(&body) {
            Ok(json) => Content::Json(json),
            Err(_) => Content::Bytes(body.into()),
        };
        if matches!(body, Content::Json(_)) {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers, body }
    }

    pub(super) fn json(&self) -> Option<&Value> {
        match &self.body {
            Content::Json(body) => Some(body),
            _ => None,
        }
    }

    pub(super) fn json_mut(&mut self) -> Option<&mut Value> {
        match &mut self.body {
            Content::Json(body) => Some(body),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> Bytes {
        match &self.body {
            Content::Nothing => Bytes::new(),
            Content::Json(body) => body.to_string().into(),
            Content::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl From<Refusal> for Answered {
    fn from(refusal: Refusal) -> Self {
        let body = json!({"error": {"code": refusal.code, "message": refusal.message}});
        let mut answered = Self::json_of(refusal.status, body);
        if let Some((name, value)) = refusal.header
            && let Ok(value) = HeaderValue::try_from(value)
        {
            answered.headers.insert(name, value);
        }
        answered
    }
}

fn refuse(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into(), header: None }
}

pub(super) fn bad(message: impl Into<String>) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, "BadRequest", message)
}

pub(super) fn bad_body(message: impl Into<String>) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, "RequestBodyRead", message)
}

pub(super) fn unknown_segment(segment: &str) -> Refusal {
    bad(format!("Resource not found for the segment '{segment}'."))
}

pub(super) fn me_without_user() -> Refusal {
    bad("/me request is only valid with delegated authentication flow.")
}

pub(super) fn method() -> Refusal {
    refuse(
        StatusCode::METHOD_NOT_ALLOWED,
        "Request_BadRequest",
        "Specified HTTP method is not allowed for the request target.",
    )
}

pub(super) fn no_mailbox(user: &str) -> Refusal {
    refuse(StatusCode::NOT_FOUND, "ErrorInvalidUser", format!("The requested user '{user}' is invalid."))
}

pub(super) fn no_item() -> Refusal {
    refuse(StatusCode::NOT_FOUND, "ErrorItemNotFound", "The specified object was not found in the store.")
}

pub(super) fn no_subscription() -> Refusal {
    refuse(StatusCode::NOT_FOUND, "ResourceNotFound", "The object was not found.")
}

pub(super) fn subscription_exists() -> Refusal {
    refuse(StatusCode::CONFLICT, "Conflict", "A subscription for this resource exists already.")
}

pub(super) fn too_many_subscriptions() -> Refusal {
    refuse(StatusCode::FORBIDDEN, "ExtensionError", "The limit of subscriptions for this mailbox is reached.")
}

pub(super) fn not_validated() -> Refusal {
    refuse(StatusCode::BAD_REQUEST, "ValidationError", "Subscription validation request failed.")
}

pub(super) fn unauthorized(code: &'static str, message: &str) -> Refusal {
    let mut refusal = refuse(StatusCode::UNAUTHORIZED, code, message);
    refusal.header = Some(("www-authenticate", "Bearer realm=\"\", error=\"invalid_token\"".to_owned()));
    refusal
}

/// A token that must be asked for anew, with claims.
pub(super) fn challenged(claims: &str) -> Refusal {
    let message = "Continuous access evaluation resulted in challenge with result: InteractionRequired.";
    let mut refusal = refuse(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message);
    let claims = base64::engine::general_purpose::STANDARD.encode(claims);
    let header = format!(
        "Bearer realm=\"\", authorization_uri=\"https://login.example/common/oauth2/authorize\", \
         client_id=\"00000003-0000-0000-c000-000000000000\", error=\"insufficient_claims\", claims=\"{claims}\""
    );
    refusal.header = Some(("www-authenticate", header));
    refusal
}

/// Too much of something: to be tried again so many seconds later, which Graph gives with decimals.
pub(super) fn throttled(message: &str, seconds: f64) -> Refusal {
    let mut refusal = refuse(StatusCode::TOO_MANY_REQUESTS, "ApplicationThrottled", message);
    refusal.header = Some(("retry-after", format!("{seconds:.3}")));
    refusal
}

pub(super) fn access_denied() -> Refusal {
    refuse(StatusCode::FORBIDDEN, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
}

/// A request of a batch that depends on one that failed.
pub(super) fn failed_dependency() -> Refusal {
    refuse(StatusCode::FAILED_DEPENDENCY, "FailedDependency", "A request that this one depends on failed.")
}

pub(super) fn sync_state_gone() -> Refusal {
    refuse(
        StatusCode::GONE,
        "SyncStateNotFound",
        "The sync state generation is not found; generation=1;[highest=2][lowest=2]",
    )
}

pub(super) fn sync_state_bad() -> Refusal {
    refuse(StatusCode::BAD_REQUEST, "SyncStateInvalid", "The sync state is not valid.")
}

pub(super) fn inefficient() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "InefficientFilter",
        "The restriction or sort order is too complex for this operation.",
    )
}

pub(super) fn search_with(option: &str) -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "SearchWithOther",
        format!("The query parameter '{option}' is not supported with '$search'."),
    )
}

pub(super) fn recipients() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "ErrorInvalidRecipients",
        "At least one recipient is not valid., Recipient is not resolved.",
    )
}

pub(super) fn send_as() -> Refusal {
    refuse(
        StatusCode::FORBIDDEN,
        "ErrorSendAsDenied",
        "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account.",
    )
}

pub(super) fn too_large() -> Refusal {
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "The request is too large.")
}

pub(super) fn both_comment_and_body() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "ErrorInvalidParameter",
        "Comment and Message.Body parameters cannot be specified at the same time.",
    )
}

pub(super) fn no_value() -> Refusal {
    refuse(StatusCode::METHOD_NOT_ALLOWED, "ErrorInvalidRequest", "A reference attachment has no value.")
}

pub(super) fn attachment_too_small() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
        "Attachment size must be greater than the minimum size.",
    )
}

pub(super) fn message_too_large() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "ErrorMessageSizeExceeded",
        "The message exceeds the maximum supported size.",
    )
}

pub(super) fn wrong_range() -> Refusal {
    refuse(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "InvalidContentRange",
        "The range is not the one that is expected next.",
    )
}

pub(super) fn no_session() -> Refusal {
    refuse(StatusCode::NOT_FOUND, "ErrorItemNotFound", "The upload session was not found.")
}

pub(super) fn headers() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "InvalidInternetMessageHeaderCollection",
        "Maximum number of headers in one message should be less than or equal to 5.",
    )
}

pub(super) fn resync(location: String) -> Refusal {
    let mut refusal = refuse(StatusCode::GONE, "resyncRequired", "Resynchronization is required.");
    refusal.header = Some(("location", location));
    refusal
}

pub(super) fn time_zone(name: &str) -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "TimeZoneNotSupportedException",
        format!(
            "A valid TimeZone value must be specified. The following TimeZone value is not supported: '{name}'."
        ),
    )
}

pub(super) fn property(message: &str) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, "ErrorPropertyValidationFailure", message)
}

pub(super) fn recurrence(message: &str) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, "ErrorCalendarInvalidRecurrence", message)
}

pub(super) fn crossing() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "ErrorOccurrenceCrossingBoundary",
        "Modified occurrence is crossing or overlapping adjacent occurrence.",
    )
}

pub(super) fn changed() -> Refusal {
    refuse(
        StatusCode::PRECONDITION_FAILED,
        "ErrorIrresolvableConflict",
        "The send or update operation could not be performed because the change key passed in the request does not match the current change key for the item.",
    )
}

pub(super) fn not_organizer() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "ErrorAccessDenied",
        "Your request can't be completed. You need to be an organizer to cancel a meeting.",
    )
}

pub(super) fn is_organizer() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "ErrorInvalidRequest",
        "Your request can't be completed. You can't respond to this meeting because you're the meeting organizer.",
    )
}

pub(super) fn transaction_seen() -> Refusal {
    refuse(
        StatusCode::CONFLICT,
        "ErrorDuplicateTransactionId",
        "Your request can't be completed. An event with this transaction id exists already.",
    )
}

pub(super) fn default_calendar() -> Refusal {
    refuse(
        StatusCode::FORBIDDEN,
        "ErrorDeleteDistinguishedFolder",
        "Distinguished folders cannot be deleted.",
    )
}
