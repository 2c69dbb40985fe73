//! What callers are told of an error.

use super::*;

fn reply(code: u16, enhanced: Option<&str>) -> Reply {
    Reply { code, enhanced: enhanced.map(str::to_owned), lines: vec!["no".to_owned()] }
}

fn refusal(stage: Stage, reply: Reply, states: &[RecipientState]) -> Fault {
    let recipients =
        states.iter().map(|state| RecipientResult { state: (*state).into(), ..Default::default() });
    Error::Refused { stage, reply, recipients: recipients.collect() }.into()
}

#[test]
fn a_refusal_is_for_good_only_when_nothing_in_it_is_for_now() {
    use RecipientState::{RefusedPermanent, RefusedTransient};
    let fault = refusal(Stage::Rcpt, reply(550, None), &[RefusedPermanent, RefusedPermanent]);
    assert_eq!((fault.code(), fault.reason()), (Code::FailedPrecondition, "MESSAGE_REFUSED"));
    let fault = refusal(Stage::Rcpt, reply(550, None), &[RefusedPermanent, RefusedTransient]);
    assert_eq!((fault.code(), fault.reason()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
    let fault = refusal(Stage::Mail, reply(451, None), &[]);
    assert_eq!((fault.code(), fault.reason()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
}

#[test]
fn results_of_many_recipients_are_cut_to_what_trailers_hold() {
    let result = |number: usize, text: &str| RecipientResult {
        address: format!("user{number}@example.org"),
        state: RecipientState::RefusedPermanent.into(),
        reply: Some((&Reply { lines: vec![text.to_owned()], ..reply(550, Some("5.1.1")) }).into()),
    };
    let few = RecipientResults {
        recipients: (0..3).map(|number| result(number, "no")).collect(),
        ..Default::default()
    };
    assert_eq!(fitting(few.clone()), few);
    let wordy = RecipientResults {
        recipients: (0..20).map(|number| result(number, &"x".repeat(900))).collect(),
        ..Default::default()
    };
    assert_eq!(fitting(wordy).recipients.len(), 20, "addresses and codes are worth more than texts");
    let many = fitting(RecipientResults {
        recipients: (0..900).map(|number| result(number, "no")).collect(),
        ..Default::default()
    });
    assert!((50..900).contains(&many.recipients.len()), "{}", many.recipients.len());
    assert!(many.encoded_len() <= MAX_RESULTS_BYTES);
}

#[test]
fn a_failure_of_one_of_many_mails_tells_of_every_recipient() {
    let states = vec![RecipientState::RefusedPermanent; 2_000];
    let recipients = states.iter().map(|state| RecipientResult {
        address: "somebody@example.org".into(),
        state: (*state).into(),
        ..Default::default()
    });
    let recipients: Vec<_> = recipients.collect();
    let error =
        Error::Refused { stage: Stage::Rcpt, reply: reply(550, None), recipients: recipients.clone() };
    let failure = Failure::from(error);
    assert_eq!((failure.reason.as_str(), failure.recipients), ("MESSAGE_REFUSED", recipients));
    assert!(!failure.metadata.contains_key(OMITTED));
}

#[test]
fn a_full_mailbox_is_not_taken_for_a_message_that_is_too_large() {
    let reason = |stage, code, enhanced| refusal(stage, reply(code, enhanced), &[]).reason();
    assert_eq!(reason(Stage::Mail, 552, None), "MESSAGE_TOO_LARGE");
    assert_eq!(reason(Stage::Message, 552, Some("5.3.4")), "MESSAGE_TOO_LARGE");
    assert_eq!(reason(Stage::Message, 552, Some("5.2.2")), "MESSAGE_REFUSED");
    assert_eq!(reason(Stage::Message, 552, None), "MESSAGE_REFUSED");
}
