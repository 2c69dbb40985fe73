//! What follows from each kind of answer, on records alone.

use postern_chassis::fault::Fault;
use postern_proto::mail::v1::Reply;

use super::*;

const START: Duration = Duration::from_secs(1_790_000_000);

fn settings() -> OutboxSettings {
    let minute = Duration::from_secs(60);
    let (back_off, give_up, keep) = (20 * minute, 2_880 * minute, minute);
    OutboxSettings { back_off, give_up, keep, max_emails: 1, max_bytes: 1 }
}

fn at(after: Duration) -> SystemTime {
    UNIX_EPOCH + START + after
}

/// A mail in its first attempt.
fn sending() -> Record {
    let expire_time = Some(at(settings().give_up).into());
    let mut email = QueuedEmail { attempts: 1, expire_time, ..QueuedEmail::default() };
    email.set_state(QueuedEmailState::Sending);
    Record { tries: 1, ..Record::new(email, 1, 1, String::new()) }
}

fn result(address: &str, state: RecipientState) -> RecipientResult {
    RecipientResult { address: address.into(), state: state.into(), reply: Some(Reply::default()) }
}

fn took(results: &[(&str, RecipientState)]) -> Answer {
    let recipients = results.iter().map(|(address, state)| result(address, *state)).collect();
    Answer::of(Ok(SendEmailResponse {
        recipients,
        internet_message_id: "<a@b>".into(),
        ..Default::default()
    }))
}

fn refused(fault: Fault, results: &[(&str, RecipientState)]) -> Answer {
    let recipients = results.iter().map(|(address, state)| result(address, *state)).collect();
    let fault = match results.is_empty() {
        true => fault,
        false => {
            fault.detail("postern.mail.v1.RecipientResults", &RecipientResults { recipients, omitted: 0 })
        }
    };
    Answer::of(Err(Status::from(fault).into()))
}

fn for_now() -> Fault {
    Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "not now").retry_after(Duration::from_secs(60))
}

fn applied(record: &mut Record, answer: Answer, now: Duration) -> QueuedEmailState {
    apply(record, answer, false, &settings(), at(now));
    record.state()
}

#[test]
fn who_took_it_is_not_sent_it_again_and_who_refused_for_now_is() {
    use RecipientState::{Accepted, RefusedPermanent, RefusedTransient};
    let mut record = sending();
    let answer = took(&[("a@x", Accepted), ("b@x", RefusedTransient), ("c@x", RefusedPermanent)]);
    assert_eq!(applied(&mut record, answer, Duration::ZERO), QueuedEmailState::Deferred);
    assert_eq!(record.left, ["b@x"]);
    assert_eq!(record.due(), at(settings().back_off));
    assert_eq!(record.email().last_failure.as_ref().unwrap().recipients.len(), 1);
    assert!(record.shown().internet_message_id.is_empty());
    let answer = refused(for_now(), &[("b@x", RefusedTransient)]);
    assert_eq!(applied(&mut record, answer, Duration::ZERO), QueuedEmailState::Deferred);
    assert_eq!(record.left, ["b@x"]);
    let answer =
        refused(Fault::new(Code::FailedPrecondition, "MESSAGE_REFUSED", "no"), &[("b@x", RefusedPermanent)]);
    assert_eq!(applied(&mut record, answer, Duration::ZERO), QueuedEmailState::Delivered);
    let states: Vec<_> = record.shown().recipients.iter().map(RecipientResult::state).collect();
    assert_eq!(states, [Accepted, RefusedPermanent, RefusedPermanent]);
    assert_eq!(record.shown().internet_message_id, "<a@b>");
}

#[test]
fn what_is_refused_for_good_fails_at_once_and_what_is_of_the_connection_waits() {
    for (code, reason, failed) in [
        (Code::InvalidArgument, "FIELD_INVALID", true),
        (Code::FailedPrecondition, "MESSAGE_REFUSED", true),
        (Code::NotFound, "CONNECTION_NOT_FOUND", true),
        (Code::FailedPrecondition, "CREDENTIALS_REFUSED", false),
        (Code::FailedPrecondition, "TLS_REQUIRED", false),
        (Code::Unavailable, "PROVIDER_UNAVAILABLE", false),
        (Code::ResourceExhausted, "PROVIDER_THROTTLED", false),
        (Code::DeadlineExceeded, "NOTHING_DONE", false),
    ] {
        let mut record = sending();
        let state = applied(&mut record, refused(Fault::new(code, reason, "no"), &[]), Duration::ZERO);
        let expected = if failed { QueuedEmailState::Failed } else { QueuedEmailState::Deferred };
        assert_eq!(state, expected, "{reason}");
    }
}

#[test]
fn a_connector_that_is_away_for_a_moment_does_not_cost_the_pause_of_a_provider_that_refuses() {
    let seconds = Duration::from_secs;
    let away = || Answer::of(Err(crate::connectors::unavailable("away").into()));
    let mut record = sending();
    for pause in [5, 10, 20] {
        applied(&mut record, away(), Duration::ZERO);
        assert_eq!(record.due(), at(seconds(pause)));
        record.email_mut().attempts += 1;
    }
    applied(&mut record, refused(for_now(), &[]), Duration::ZERO);
    assert_eq!(record.due(), at(settings().back_off), "the first that its provider refused");
    record.unreached = 30;
    applied(&mut record, away(), Duration::ZERO);
    assert_eq!(record.due(), at(settings().back_off), "and no longer than that");
}

#[test]
fn pauses_grow_keep_to_what_the_provider_asks_and_end_with_a_last_try() {
    let mut record = sending();
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    applied(&mut record, refused(for_now().retry_after(hours(5)), &[]), Duration::ZERO);
    assert_eq!(record.due(), at(hours(5)));
    record.email_mut().attempts = 7;
    applied(&mut record, refused(for_now(), &[]), hours(40));
    assert_eq!(record.due(), at(hours(48)), "the last try is at the end of its time");
    assert_eq!(applied(&mut record, refused(for_now(), &[]), hours(48)), QueuedEmailState::Failed);
    assert_eq!(record.email().last_failure.as_ref().unwrap().reason, "PROVIDER_UNAVAILABLE");
    let mut record = sending();
    let beyond = refused(for_now().retry_after(hours(49)), &[]);
    assert_eq!(applied(&mut record, beyond, Duration::ZERO), QueuedEmailState::Failed);
}

#[test]
fn what_some_took_is_delivered_though_the_rest_is_given_up() {
    use RecipientState::{Accepted, RefusedTransient};
    let mut record = sending();
    let answer = took(&[("a@x", Accepted), ("b@x", RefusedTransient)]);
    let state = applied(&mut record, answer, settings().give_up);
    assert_eq!(state, QueuedEmailState::Delivered);
    assert_eq!(record.email().recipients[1].state(), RefusedTransient);
}

#[test]
fn an_unknown_outcome_ends_it_unless_the_connector_can_tell() {
    let unknown = || Status::unknown("it went silent").into();
    let mut record = sending();
    assert_eq!(applied(&mut record, Answer::of(Err(unknown())), Duration::ZERO), QueuedEmailState::Failed);
    assert_eq!(record.email().last_failure.as_ref().unwrap().reason, "OUTCOME_UNKNOWN");

    let mut record = sending();
    apply(&mut record, Answer::of(Err(unknown())), true, &settings(), at(Duration::ZERO));
    assert!(record.in_doubt && record.state() == QueuedEmailState::Sending);
    assert_eq!(record.due(), at(ASK_PAUSE));
    // What is wrong with the next question says nothing of what became of the mail.
    apply(&mut record, refused(for_now(), &[]), true, &settings(), at(Duration::ZERO));
    assert!(record.in_doubt && record.state() == QueuedEmailState::Sending);
    assert_eq!(record.due(), at(2 * ASK_PAUSE));
    let gone = Answer::of(Err(Error::NotFound("Connection", "connections/abc".into())));
    let mut without = record.clone();
    apply(&mut without, gone, true, &settings(), at(Duration::ZERO));
    assert_eq!(without.email().last_failure.as_ref().unwrap().reason, "OUTCOME_UNKNOWN");
    assert_eq!(without.state(), QueuedEmailState::Failed);
    apply(&mut record, took(&[]), true, &settings(), at(Duration::ZERO));
    assert_eq!(record.state(), QueuedEmailState::Delivered);
    assert!(!record.in_doubt);
}

#[test]
fn answers_that_are_none_of_the_connectors_own_are_of_unknown_outcome() {
    for status in [
        Status::deadline_exceeded("Timeout expired"),
        Status::cancelled("Timeout expired"),
        Status::unavailable("upstream reset"),
        Status::internal("protocol error"),
        Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", "perhaps").into(),
    ] {
        let said = format!("{status:?}");
        assert!(matches!(Answer::of(Err(status.into())), Answer::Unknown(_)), "{said}");
    }
    let unreached = Error::Fault(for_now());
    assert!(matches!(Answer::of(Err(unreached)), Answer::Not { for_good: false, .. }));
    assert!(matches!(Answer::of(Err(Error::Unanswered(for_now()))), Answer::Unknown(_)));
}

#[test]
fn only_what_is_said_of_the_connection_holds_it() {
    let throttled = Fault::new(Code::ResourceExhausted, "PROVIDER_THROTTLED", "slower");
    assert_eq!(refused(throttled, &[]).quiet(), Some(QUIET));
    assert_eq!(refused(for_now(), &[]).quiet(), Some(Duration::from_secs(60)));
    let of_recipients = refused(for_now(), &[("a@x", RecipientState::RefusedTransient)]);
    assert_eq!(of_recipients.quiet(), None);
    assert_eq!(took(&[]).quiet(), None);
}
