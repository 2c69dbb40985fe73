//! Errors as callers see them: a canonical gRPC code with `google.rpc` details. It decides nothing about what went
//! wrong: each room has its own error type and maps it to a [`Fault`] in one place.

mod failure;

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use prost_types::Any;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub use failure::failure_of;

/// The `domain` of every `google.rpc.ErrorInfo` that Postern makes.
pub const DOMAIN: &str = "postern";

/// How many wrong fields an error tells of: it travels in HTTP/2 trailers, which peers bound (8 or 16 KiB are common).
const MAX_FIELDS: usize = 20;

/// Metadata on an error whose access token was refused: the gateway may refresh and repeat once.
pub const REFRESH_METADATA: &str = "postern-refresh";

/// An error on its way to a caller. The reason is in UPPER_SNAKE_CASE; the message is a lower-case sentence without a
/// full stop, and holds no secret and no content of mail.
#[derive(Debug, Clone)]
pub struct Fault {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
    fields: Vec<(String, String)>,
    detail: Option<Any>,
    refresh: bool,
}

impl Fault {
    /// An error of this code and reason.
    #[must_use]
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            retry_after: None,
            fields: Vec::new(),
            detail: None,
            refresh: false,
        }
    }

    /// INVALID_ARGUMENT (FIELD_INVALID) about one field: its path in the request, what was wrong and what was expected.
    #[must_use]
    pub fn field(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::fields([(path.into(), problem.into())])
    }

    /// INVALID_ARGUMENT (FIELD_INVALID) about several fields: pairs of path and problem, at least one. The first twenty
    /// are told.
    #[must_use]
    pub fn fields(fields: impl IntoIterator<Item = (String, String)>) -> Self {
        let fields: Vec<_> = fields.into_iter().take(MAX_FIELDS).collect();
        let message = fields.iter().map(|(path, problem)| format!("{path}: {problem}"));
        let mut fault =
            Self::new(Code::InvalidArgument, "FIELD_INVALID", message.collect::<Vec<_>>().join("; "));
        fault.fields = fields;
        fault
    }

    /// Adds what is dynamic in the message, for machines (`ErrorInfo.metadata`).
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Says when a repeat can help (`RetryInfo`).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds a detail message of the contract, such as `postern.mail.v1.RecipientResults`.
    #[must_use]
    pub fn detail(mut self, type_name: &str, message: &impl prost::Message) -> Self {
        self.detail = Some(Any {
            type_url: format!("type.googleapis.com/{type_name}"),
            value: message.encode_to_vec(),
        });
        self
    }

    /// Says that nothing was done because an access token was refused: worth one repeat after a refresh.
    #[must_use]
    pub fn refresh(mut self) -> Self {
        self.refresh = true;
        self
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason, in UPPER_SNAKE_CASE.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The message for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?} {})", self.message, self.code, self.reason)
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut details = ErrorDetails::with_error_info(fault.reason, DOMAIN, fault.metadata);
        if let Some(delay) = fault.retry_after {
            details.set_retry_info(Some(delay));
        }
        for (path, problem) in fault.fields {
            details.add_bad_request_violation(path, problem);
        }
        let mut metadata = MetadataMap::new();
        if fault.refresh {
            metadata.insert(REFRESH_METADATA, tonic::metadata::MetadataValue::from_static("1"));
        }
        let status = Status::with_error_details_and_metadata(fault.code, fault.message, details, metadata);
        match fault.detail {
            Some(detail) => append_detail(&status, detail),
            None => status,
        }
    }
}

/// The same status with one more detail. `tonic_types` builds the standard details only, hence by way of the encoded
/// `google.rpc.Status`, to which a further `details` (field 3) is appended.
fn append_detail(status: &Status, detail: Any) -> Status {
    let mut encoded = status.details().to_vec();
    prost::encoding::message::encode(3, &detail, &mut encoded);
    Status::with_details_and_metadata(
        status.code(),
        status.message(),
        encoded.into(),
        status.metadata().clone(),
    )
}

/// The reason in a status's `ErrorInfo`, whoever made it. Empty where there is none.
#[must_use]
pub fn reason_of(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// How long a status's `RetryInfo` asks to wait.
#[must_use]
pub fn retry_after_of(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// The first detail of a message type of the contract in a status, decoded.
#[must_use]
pub fn detail_of<M: prost::Message + Default>(status: &Status, type_name: &str) -> Option<M> {
    /// `google.rpc.Status`, as far as it matters here.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Details {
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    let details = Details::decode(status.details()).ok()?.details;
    let any = details.iter().find(|any| any.type_url.rsplit('/').next() == Some(type_name))?;
    M::decode(any.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::mail::v1::{RecipientResult, RecipientResults};

    #[test]
    fn a_fault_becomes_a_status_with_all_its_details() {
        let results = RecipientResults {
            recipients: vec![RecipientResult { address: "a@example.org".into(), ..Default::default() }],
            ..Default::default()
        };
        let status: Status = Fault::new(Code::FailedPrecondition, "MESSAGE_REFUSED", "all refused")
            .with("smtp.code", "550")
            .retry_after(Duration::from_secs(3))
            .detail("postern.mail.v1.RecipientResults", &results)
            .refresh()
            .into();
        assert_eq!(reason_of(&status), "MESSAGE_REFUSED");
        assert_eq!(retry_after_of(&status), Some(Duration::from_secs(3)));
        assert_eq!(detail_of::<RecipientResults>(&status, "postern.mail.v1.RecipientResults"), Some(results));
        assert_eq!(status.get_details_error_info().unwrap().metadata["smtp.code"], "550");
        assert!(status.metadata().contains_key(REFRESH_METADATA));
    }

    #[test]
    fn field_faults_name_each_field() {
        let status: Status =
            Fault::fields([("a".into(), "is empty".into()), ("b".into(), "is too long".into())]).into();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "a: is empty; b: is too long");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), 2);
    }
}
