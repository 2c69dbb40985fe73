//! What a server is asked to report of delivery (RFC 3461), as the conversation needs it.

use postern_proto::smtp::v1::{DeliveryReportContent, DeliveryReportOccasion, DeliveryReports};

use super::fields::Problems;

/// The longest ENVID (RFC 3461, section 4.4).
const MAX_ENVELOPE_ID_CHARS: usize = 100;

/// What is asked for. The default asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reports {
    /// When the sender is told.
    pub(crate) notify: Notify,
    /// Whether a report holds the whole message, or its header. None: not said.
    pub(crate) full: Option<bool>,
    /// The id that reports carry: visible ASCII, not yet written as xtext.
    pub(crate) envelope_id: Option<String>,
}

/// When the sender is told. Nothing set: not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are the flags of NOTIFY")]
pub(crate) struct Notify {
    /// Never: nothing else is set.
    pub(crate) never: bool,
    /// When it was delivered.
    pub(crate) success: bool,
    /// When it cannot be delivered.
    pub(crate) failure: bool,
    /// When it takes longer.
    pub(crate) delay: bool,
}

impl Reports {
    /// Checks what was given. Who wants a receipt of delivery asks for a report of it, and loses none of failure.
    pub(super) fn of(
        given: Option<&DeliveryReports>,
        wants_receipt: bool,
        request_id: &str,
        problems: &mut Problems,
    ) -> Self {
        let envelope_id =
            || Some(request_id).filter(|id| !id.is_empty() && id.len() <= MAX_ENVELOPE_ID_CHARS);
        let Some(given) = given else {
            let notify = Notify { success: wants_receipt, failure: wants_receipt, ..Notify::default() };
            let envelope_id = envelope_id().filter(|_| wants_receipt).map(ToOwned::to_owned);
            return Self { notify, full: None, envelope_id };
        };
        let full = match DeliveryReportContent::try_from(given.content) {
            Ok(DeliveryReportContent::Unspecified) => None,
            Ok(DeliveryReportContent::Full) => Some(true),
            Ok(DeliveryReportContent::Headers) => Some(false),
            Err(_) => {
                problems.add("delivery_reports.content", "is no content of reports");
                None
            }
        };
        let own = given.envelope_id.as_str();
        if own.len() > MAX_ENVELOPE_ID_CHARS || !own.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = format!("expected at most {MAX_ENVELOPE_ID_CHARS} visible ASCII characters");
            problems.add("delivery_reports.envelope_id", problem);
        }
        let envelope_id = Some(own).filter(|id| !id.is_empty()).or_else(envelope_id).map(ToOwned::to_owned);
        let mut notify = Notify::of(given, problems);
        if given.notify.is_empty() && wants_receipt {
            (notify.success, notify.failure) = (true, true);
        }
        Self { notify, full, envelope_id }
    }

    /// Whether anything is asked for.
    pub(crate) fn are_asked(&self) -> bool {
        *self != Self::default()
    }
}

impl Notify {
    fn of(given: &DeliveryReports, problems: &mut Problems) -> Self {
        let mut notify = Self::default();
        for (at, occasion) in given.notify.iter().enumerate() {
            match DeliveryReportOccasion::try_from(*occasion) {
                Ok(DeliveryReportOccasion::Never) => notify.never = true,
                Ok(DeliveryReportOccasion::Success) => notify.success = true,
                Ok(DeliveryReportOccasion::Failure) => notify.failure = true,
                Ok(DeliveryReportOccasion::Delay) => notify.delay = true,
                Ok(DeliveryReportOccasion::Unspecified) | Err(_) => {
                    let problem = "expected NEVER, SUCCESS, FAILURE or DELAY";
                    problems.add(format!("delivery_reports.notify[{at}]"), problem);
                }
            }
        }
        if notify.never && (notify.success || notify.failure || notify.delay) {
            problems.add("delivery_reports.notify", "names another occasion beside NEVER");
        }
        notify
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeliveryReportOccasion::{Delay, Failure, Never, Success, Unspecified};

    fn asked(occasions: &[DeliveryReportOccasion]) -> DeliveryReports {
        let notify = occasions.iter().map(|occasion| i32::from(*occasion)).collect();
        DeliveryReports { notify, ..Default::default() }
    }

    fn reports(given: Option<&DeliveryReports>, wants_receipt: bool, id: &str) -> (Reports, bool) {
        let mut problems = Problems::default();
        let reports = Reports::of(given, wants_receipt, id, &mut problems);
        (reports, problems.is_empty())
    }

    #[test]
    fn nothing_is_asked_unless_somebody_wants_it() {
        assert_eq!(reports(None, false, "id"), (Reports::default(), true));
        let (wanted, _) = reports(None, true, "id");
        assert!(wanted.notify.success && wanted.notify.failure && !wanted.notify.delay);
        assert_eq!(wanted.envelope_id.as_deref(), Some("id"));
        let (own, right) = reports(Some(&asked(&[Delay])), true, "");
        assert!(right && own.notify.delay && !own.notify.success && own.envelope_id.is_none());
        let (empty, _) = reports(Some(&asked(&[])), true, &"x".repeat(101));
        assert!(empty.notify.success && empty.envelope_id.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(reports(Some(&asked(&[Never])), false, "").1);
        assert!(reports(Some(&asked(&[Success, Failure, Failure])), false, "").1);
        assert!(!reports(Some(&asked(&[Never, Success])), false, "").1);
        assert!(!reports(Some(&asked(&[Unspecified])), false, "").1);
        for id in ["a b", "ü", &"x".repeat(101)] {
            let wrong = DeliveryReports { envelope_id: id.into(), ..Default::default() };
            assert!(!reports(Some(&wrong), false, "").1, "{id}");
        }
        assert!(!reports(Some(&DeliveryReports { content: 9, ..Default::default() }), false, "").1);
        let full = DeliveryReports { content: DeliveryReportContent::Headers.into(), ..Default::default() };
        assert_eq!(reports(Some(&full), false, "").0.full, Some(false));
    }
}
