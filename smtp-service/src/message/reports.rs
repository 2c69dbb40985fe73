//! What a server is asked to report of a mail's delivery (RFC 3461).

use postern_proto::smtp::v1::{DeliveryReportContent, DeliveryReportOccasion as Occasion, SendEmailRequest};

/// The wish of one mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reports {
    /// Never report: no other occasion stands beside it.
    pub(crate) never: bool,
    /// When it was delivered.
    pub(crate) success: bool,
    /// When it cannot be delivered.
    pub(crate) failure: bool,
    /// When it takes longer than usual.
    pub(crate) delay: bool,
    /// Whether a report holds the whole message (else its header). None: the server's habit.
    pub(crate) full: Option<bool>,
    /// The id that reports carry.
    pub(crate) envelope_id: Option<String>,
}

impl Reports {
    /// The wish of a request. None: the server's habit.
    pub(super) fn of(request: &SendEmailRequest) -> Option<Self> {
        let reports = request.delivery_reports.as_ref()?;
        let wants = |occasion: Occasion| reports.notify.contains(&i32::from(occasion));
        let id = [&reports.envelope_id, &request.request_id].into_iter().find(|id| !id.is_empty());
        Some(Self {
            never: wants(Occasion::Never),
            success: wants(Occasion::Success),
            failure: wants(Occasion::Failure),
            delay: wants(Occasion::Delay),
            full: match reports.content() {
                DeliveryReportContent::Unspecified => None,
                content => Some(content == DeliveryReportContent::Full),
            },
            envelope_id: id.cloned(),
        })
    }
}
