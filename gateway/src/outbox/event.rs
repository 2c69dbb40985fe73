//! The events that tell what becomes of queued mails. Each attempt is told once: its event's id is made of the mail's name
//! and the attempt.

use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{EmailDeferred, EmailDelivered, EmailFailed, EventData};
use postern_proto::mail::v1::{Failure, RecipientResult, RecipientState};
use postern_proto::outbox::v1::QueuedEmailState;
use prost::Message as _;

use super::record::Record;
use crate::events::new_event;
use crate::store::NewEvent;

/// The most bytes of an event's data: the event itself has 64 KiB at most.
const MAX_DATA_BYTES: usize = 60 * 1024;

/// The event of an attempt that ended: what the mail's state says. `None`: there is nothing to tell.
pub(super) fn of(record: &Record) -> Option<NewEvent> {
    let email = record.email();
    let (queued_email, request_id, attempts) = (email.name.clone(), email.request_id.clone(), email.attempts);
    let (event_type, kind) = match record.state() {
        QueuedEmailState::Delivered => {
            let mut delivered = EmailDelivered {
                queued_email,
                request_id,
                attempts,
                recipients: email.recipients.clone(),
                internet_message_id: email.internet_message_id.clone(),
                message_id: email.message_id.clone(),
            };
            let rest = EmailDelivered { recipients: Vec::new(), ..delivered.clone() }.encoded_len();
            fit(&mut delivered.recipients, MAX_DATA_BYTES.saturating_sub(rest));
            ("email.delivered", Kind::EmailDelivered(delivered))
        }
        QueuedEmailState::Deferred => {
            let failure = email.last_failure.clone().map(fitting);
            let next_attempt_time = email.next_attempt_time;
            let deferred = EmailDeferred { queued_email, request_id, attempts, failure, next_attempt_time };
            ("email.deferred", Kind::EmailDeferred(deferred))
        }
        QueuedEmailState::Failed => {
            let failure = email.last_failure.clone().map(fitting);
            ("email.failed", Kind::EmailFailed(EmailFailed { queued_email, request_id, attempts, failure }))
        }
        _ => return None,
    };
    let key = format!("{event_type} {} {}", email.name, record.tries);
    let data = Some(EventData { kind: Some(kind) });
    Some(new_event(&email.connection, event_type, None, &key, None, data))
}

fn fitting(mut failure: Failure) -> Failure {
    let recipients = std::mem::take(&mut failure.recipients);
    let rest = failure.encoded_len();
    failure.recipients = recipients;
    fit(&mut failure.recipients, MAX_DATA_BYTES.saturating_sub(rest));
    failure
}

/// Has results fit: first without the replies' texts, then without the last of those who are accepted, then the last.
pub(super) fn fit(results: &mut Vec<RecipientResult>, most: usize) {
    let size = |results: &[RecipientResult]| results.iter().map(|it| it.encoded_len() + 4).sum::<usize>();
    if size(results) <= most {
        return;
    }
    for reply in results.iter_mut().filter_map(|result| result.reply.as_mut()) {
        reply.text.clear();
    }
    let mut over = size(results).saturating_sub(most);
    for accepted_alone in [true, false] {
        let mut at = results.len();
        while over > 0 && at > 0 {
            at -= 1;
            let goes = !accepted_alone || results[at].state() == RecipientState::Accepted;
            if goes {
                over = over.saturating_sub(results.remove(at).encoded_len() + 4);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::Event;
    use postern_proto::mail::v1::Reply;
    use postern_proto::outbox::v1::QueuedEmail;

    fn result(number: usize, state: RecipientState, text: &str) -> RecipientResult {
        let reply = Reply { code: 250, text: text.to_owned(), ..Default::default() };
        let address = format!("recipient-{number:04}@example.org");
        RecipientResult { address, state: state.into(), reply: Some(reply) }
    }

    #[test]
    fn an_event_tells_of_the_refused_where_all_are_too_many() {
        let accepted = (0..2_000).map(|number| result(number, RecipientState::Accepted, "taken"));
        let refused = result(9_999, RecipientState::RefusedPermanent, &"no ".repeat(300));
        let mut email =
            QueuedEmail { recipients: accepted.chain([refused]).collect(), ..QueuedEmail::default() };
        email.set_state(QueuedEmailState::Delivered);
        let event = of(&Record::new(email, 0, 0, String::new())).unwrap();
        let event = Event::decode(event.encoded).unwrap();
        assert!(!event.data_omitted);
        let Some(Kind::EmailDelivered(told)) = event.data.unwrap().kind else { panic!("another kind") };
        assert!((500..2_000).contains(&told.recipients.len()), "{}", told.recipients.len());
        assert_eq!(told.recipients.last().unwrap().state(), RecipientState::RefusedPermanent);
        assert_eq!(told.recipients[0].address, "recipient-0000@example.org");
    }

    #[test]
    fn each_attempt_has_an_event_of_its_own_and_the_same_one_again() {
        let event = |tries| {
            let mut email = QueuedEmail { name: "outbox/abc".into(), ..Default::default() };
            email.set_state(QueuedEmailState::Deferred);
            let record = Record { tries, ..Record::new(email, 0, 0, String::new()) };
            of(&record).unwrap().id
        };
        assert_eq!(event(1), event(1));
        assert_ne!(event(1), event(2));
    }
}
