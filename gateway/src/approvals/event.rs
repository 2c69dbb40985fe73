//! The events that tell what becomes of approvals.

use postern_proto::approval::v1::Approval;
use postern_proto::event::v1::EventData;
use postern_proto::event::v1::event_data::Kind;
use prost::Message as _;

use crate::events::new_event;
use crate::store::NewEvent;

/// The most bytes of an event's data: the event itself has 64 KiB at most.
const MAX_DATA_BYTES: usize = 60 * 1024;

/// Somebody answered: each recipient once.
pub(super) fn responded(approval: Approval, recipient: usize) -> NewEvent {
    let key = format!("approval.responded {recipient}");
    of(approval, "approval.responded", &key, Kind::ApprovalResponded)
}

/// Its time is over, or it was cancelled.
pub(super) fn ended(approval: Approval) -> NewEvent {
    of(approval, "approval.ended", "approval.ended", Kind::ApprovalEnded)
}

fn of(mut approval: Approval, event_type: &str, key: &str, kind: impl FnOnce(Approval) -> Kind) -> NewEvent {
    if approval.encoded_len() > MAX_DATA_BYTES {
        // A hundred recipients and options at their longest: those who have answered are what it tells of.
        approval.recipients.retain(|recipient| !recipient.selected_option.is_empty());
        for recipient in &mut approval.recipients {
            recipient.queued_email.clear();
        }
    }
    let source = approval.name.clone();
    new_event(&source, event_type, None, key, None, Some(EventData { kind: Some(kind(approval)) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::approval::v1::ApprovalRecipient;
    use postern_proto::event::v1::Event;

    #[test]
    fn the_largest_approval_fits_by_leaving_out_who_has_not_answered() {
        let recipient = |number: usize| ApprovalRecipient {
            address: format!("{}{number}@example.org", "a".repeat(300)),
            selected_option: if number == 7 { "Yes".into() } else { String::new() },
            queued_email: "outbox/abc".into(),
            ..Default::default()
        };
        let approval = Approval {
            name: "approvals/abc".into(),
            options: (0..100).map(|number| format!("{number:03}{}", "😀".repeat(61))).collect(),
            subject: "😀".repeat(1_000),
            recipients: (0..100).map(recipient).collect(),
            ..Default::default()
        };
        let event = Event::decode(responded(approval, 7).encoded).unwrap();
        assert!(!event.data_omitted && event.source == "approvals/abc");
        let Some(Kind::ApprovalResponded(told)) = event.data.unwrap().kind else { panic!("another kind") };
        assert_eq!(told.recipients.len(), 1);
    }
}
