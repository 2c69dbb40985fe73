//! A [`Fault`] as a message of the contract: for streams on which each item fails alone.

use postern_proto::mail::v1::{Failure, FieldViolation, RecipientResults};
use prost::Message as _;

use super::Fault;

/// The one detail that a failure has a field for.
const RECIPIENTS: &str = "type.googleapis.com/postern.mail.v1.RecipientResults";

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
            .detail("postern.mail.v1.RecipientResults", &RecipientResults { recipients: recipients.clone() });
        let failure = Failure::from(fault);
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
