//! More recipients than a server takes at once: the rest goes in further transactions, and nobody gets a mail twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use postern_proto::mail::v1::RecipientState;
use postern_sandbox::smtp::{Action, Stage, Times};
use tonic::Code;

use super::script::{Raw, usual};
use super::world::{World, mail, refused};

fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user{number}@example.org")).collect()
}

#[tokio::test]
async fn recipients_beyond_the_limit_go_in_further_transactions_on_the_same_socket() {
    for reply in ["452 4.5.3 too many recipients", "452 too many", "552 too many", "552 5.5.3 too many"] {
        for pipelining in [true, false] {
            let world = World::plain().await;
            if !pipelining {
                world.control().hide("PIPELINING");
            }
            world.control().limit_recipients(3, reply);
            world.control().refuse("user4@example.org", "550 5.1.1 no such user");
            let to = addresses(8);
            let to: Vec<&str> = to.iter().map(String::as_str).collect();
            let sent = world.send(mail(&to)).await.unwrap();
            let told: Vec<_> = sent.recipients.iter().map(|one| one.address.as_str()).collect();
            assert_eq!(told, to, "{reply}: in the order of the envelope");
            for (number, result) in sent.recipients.iter().enumerate() {
                let expected =
                    if number == 4 { RecipientState::RefusedPermanent } else { RecipientState::Accepted };
                assert_eq!(result.state(), expected, "{reply}: {number}");
            }
            let taken: Vec<_> = world.server.accepted().into_iter().map(|delivery| delivery.to).collect();
            assert_eq!(taken.len(), 3, "{reply}");
            let mut all = taken.concat();
            all.sort();
            assert_eq!(all, to.iter().filter(|to| **to != "user4@example.org").copied().collect::<Vec<_>>());
            assert_eq!(world.control().connections_opened(), 1);
        }
    }
}

#[tokio::test]
async fn once_one_recipient_was_too_many_no_more_are_tried_in_vain() {
    for pipelining in [true, false] {
        let world = World::plain().await;
        if !pipelining {
            world.control().hide("PIPELINING");
        }
        world.control().limit_recipients(5, "452 4.5.3 too many recipients");
        let to = addresses(250);
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let sent = world.send(mail(&to)).await.unwrap();
        let told: Vec<_> = sent.recipients.iter().map(|one| one.address.as_str()).collect();
        assert_eq!(told, to, "in the order of the envelope");
        assert!(sent.recipients.iter().all(|one| one.state() == RecipientState::Accepted));
        assert_eq!(world.server.accepted().len(), 50);
        let rcpts = world.control().commands().into_iter().filter(|line| line.starts_with("RCPT")).count();
        // One too many each time, and the first flight when nothing was known yet.
        assert!(rcpts <= 250 + 49 + 100, "{rcpts}");
    }
}

#[tokio::test]
async fn a_full_mailbox_is_not_taken_for_a_limit() {
    let world = World::plain().await;
    for reply in ["452 4.2.2 mailbox full", "552 5.2.2 mailbox full"] {
        world.control().refuse("full@example.org", reply);
        let sent = world.send(mail(&["bo@example.org", "full@example.org"])).await.unwrap();
        assert_eq!(sent.recipients[1].reply.as_ref().unwrap().text, "mailbox full");
    }
    let rcpts = world.control().commands().into_iter().filter(|line| line.starts_with("RCPT")).count();
    assert_eq!(rcpts, 4, "it was not tried again");
}

#[tokio::test]
async fn what_breaks_in_a_later_transaction_is_told_of_its_recipients_alone() {
    use RecipientState::{Accepted, OutcomeUnknown, RefusedPermanent, RefusedTransient};
    let cases: [(&str, Option<&str>, RecipientState); 5] = [
        ("MAIL", None, RefusedTransient),
        ("MAIL", Some("451 4.3.0 later"), RefusedTransient),
        ("DATA", Some("554 5.7.1 no more"), RefusedPermanent),
        (".", Some("554 5.7.1 no more"), RefusedPermanent),
        (".", None, OutcomeUnknown),
    ];
    for (verb, reply, expected) in cases {
        let (transactions, tried, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let raw = Raw::start(false, move |line| {
            let is = |verb: &str| line.split(' ').next() == Some(verb);
            if is("MAIL") {
                transactions.fetch_add(1, Ordering::SeqCst);
                tried.store(0, Ordering::SeqCst);
            }
            if is("RCPT") && tried.fetch_add(1, Ordering::SeqCst) >= 2 {
                return Some(b"452 4.5.3 enough\r\n".to_vec());
            }
            // From the second transaction on; a break is not made good for either.
            if is(verb) && transactions.load(Ordering::SeqCst) > 1 {
                wrong.fetch_add(1, Ordering::SeqCst);
                return reply.map(|reply| format!("{reply}\r\n").into_bytes());
            }
            usual(line)
        })
        .await;
        let mut world = World::plain().await;
        world.stored.port = raw.port.into();
        let sent = world.send(mail(&["a@example.org", "b@example.org", "c@example.org"])).await.unwrap();
        let states: Vec<_> = sent.recipients.iter().map(|one| one.state()).collect();
        assert_eq!(states, [Accepted, Accepted, expected], "{verb} {reply:?}");
        assert_eq!(sent.reply.unwrap().code, 250);
        let again = raw.heard().iter().filter(|line| line.starts_with("RCPT TO:<a@")).count();
        assert_eq!(again, 1, "{verb}: nobody who has it is tried again");
    }
}

#[tokio::test]
async fn a_limit_that_the_first_recipient_meets_is_an_ordinary_refusal() {
    let world = World::plain().await;
    world.control().limit_recipients(0, "452 4.5.3 too many recipients");
    let sent = world.send(mail(&["a@example.org", "b@example.org"])).await;
    let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!((said.stage(), said.retry), ("rcpt", true));
}

#[tokio::test]
async fn further_transactions_count_as_messages_of_their_socket() {
    let mut world = World::plain().await;
    world.stored.max_messages_per_connection = 2;
    world.control().limit_recipients(1, "452 4.5.3 too many recipients");
    let to = addresses(5);
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let sent = world.send(mail(&to)).await.unwrap();
    assert!(sent.recipients.iter().all(|one| one.state() == RecipientState::Accepted));
    assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (5, 3));
}

#[tokio::test]
async fn a_socket_that_ends_between_two_transactions_is_replaced() {
    let world = World::plain().await;
    world.control().limit_recipients(1, "452 4.5.3 too many recipients");
    let enough = Action::ReplyAndClose("250 2.0.0 Ok\r\n421 4.7.0 enough for one socket".into());
    world.control().at(Stage::Message, enough, Times::Once);
    let sent = world.send(mail(&["a@example.org", "b@example.org"])).await.unwrap();
    assert!(sent.recipients.iter().all(|one| one.state() == RecipientState::Accepted), "{sent:?}");
    assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (2, 2));
}
