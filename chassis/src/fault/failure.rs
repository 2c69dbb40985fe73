//! A [`Fault`] as a message of the contract: for streams on which each item fails alone.

use postern_proto::mail::v1::{Failure, FieldViolation, RecipientResults};
use prost::Message as _;

use tonic::Status;
use tonic_types::StatusExt as _;

use super::{Fault, detail_of};

/// The one detail that a failure has a field for.
const RECIPIENTS: &str = "type.googleapis.com/postern.mail.v1.RecipientResults";

/// What a status says, whoever made it.
#[must_use]
pub fn failure_of(status: &Status) -> Failure {
    let details = status.get_error_details();
    let (reason, metadata) =
        details.error_info().cloned().map(|info| (info.reason, info.metadata)).unwrap_or_default();
    let retry_after = details.retry_info().and_then(|info| info.retry_delay);
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let recipients: Option<RecipientResults> = detail_of(status, "postern.mail.v1.RecipientResults");
    Failure {
        code: status.code() as i32,
        reason,
        message: status.message().to_owned(),
        metadata,
        retry_after: retry_after.and_then(|delay| delay.try_into().ok()),
        field_violations: violations
            .into_iter()
            .map(|it| FieldViolation { field: it.field, description: it.description })
            .collect(),
        recipients: recipients.unwrap_or_default().recipients,
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let recipients = fault.detail.filter(|detail| detail.type_url == RECIPIENTS);
        let recipients = recipients.and_then(|detail| RecipientResults::decode(detail.value.as_slice()).ok());
        let violations = fault.fields.into_iter();
        Self {
            code: fault.code as i32,
            reason: fault.reason.to_owned(),
            message: fault.message,
            metadata: fault.metadata,
            retry_after: fault.retry_after.and_then(|delay| delay.try_into().ok()),
            field_violations: violations
                .map(|(field, description)| FieldViolation { field, description })
                .collect(),
            recipients: recipients.unwrap_or_default().recipients,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postern_proto::mail::v1::RecipientResult;
    use tonic::Code;

    use super::*;

    #[test]
    fn a_failure_says_all_that_a_status_would() {
        let recipients = vec![RecipientResult { address: "a@example.org".into(), ..Default::default() }];
        let fault = Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "refused for now")
            .with("smtp.code", "450")
            .retry_after(Duration::from_secs(60))
            .detail(
                "postern.mail.v1.RecipientResults",
                &RecipientResults { recipients: recipients.clone(), omitted: 0 },
            );
        let failure = Failure::from(fault.clone());
        assert_eq!(failure_of(&fault.into()), failure, "by way of a status too");
        assert_eq!((failure.code, failure.reason.as_str()), (14, "PROVIDER_UNAVAILABLE"));
        assert_eq!(
            (failure.message.as_str(), &failure.metadata["smtp.code"][..]),
            ("refused for now", "450")
        );
        assert_eq!(failure.retry_after.map(|delay| delay.seconds), Some(60));
        assert_eq!(failure.recipients, recipients);

        let failure = Failure::from(Fault::field("email.to", "is absent"));
        assert_eq!((failure.code, failure.retry_after), (3, None));
        let expected = FieldViolation { field: "email.to".into(), description: "is absent".into() };
        assert_eq!(failure.field_violations, [expected]);
    }
}
