//! What becomes of each recipient.

use postern_proto::mail::v1::{Email, RecipientState};
use postern_sandbox::smtp::{Action, Stage, Times};
use tonic::Code;

use super::world::{World, mail, refused};

#[tokio::test]
async fn a_refused_recipient_does_not_stop_the_others() {
    for pipelining in [true, false] {
        let world = World::plain().await;
        if !pipelining {
            world.control().hide("PIPELINING");
        }
        world.control().refuse("nobody@example.org", "550 5.1.1 no such user");
        world.control().refuse("later@example.org", "450-4.2.0 greylisted\r\n450 4.2.0 come back");
        let email = Email {
            cc: vec!["nobody@example.org".into(), "BO@EXAMPLE.ORG".into()],
            bcc: vec!["later@example.org; bo@EXAMPLE.org".into()],
            ..mail(&["bo@example.org"])
        };
        let sent = world.send(email).await.unwrap();
        let results: Vec<_> = sent
            .recipients
            .iter()
            .map(|result| {
                let reply = result.reply.clone().unwrap();
                (result.address.as_str(), result.state(), reply.code, reply.enhanced_code, reply.text)
            })
            .collect();
        use RecipientState::{Accepted, RefusedPermanent, RefusedTransient};
        let expected = [
            ("bo@example.org", Accepted, 250, "2.1.5", "Ok"),
            ("nobody@example.org", RefusedPermanent, 550, "5.1.1", "no such user"),
            ("BO@EXAMPLE.ORG", Accepted, 250, "2.1.5", "Ok"),
            ("later@example.org", RefusedTransient, 450, "4.2.0", "greylisted\ncome back"),
        ];
        let expected = expected.map(|(a, s, c, e, t)| (a, s, c, e.to_owned(), t.to_owned()));
        assert_eq!(results, expected);
        assert_eq!(sent.reply.unwrap().enhanced_code, "2.0.0");
        assert_eq!(world.server.accepted()[0].to, ["bo@example.org", "BO@EXAMPLE.ORG"]);
    }
}

#[tokio::test]
async fn all_refused_for_good_is_for_good_and_says_what_each_was_told() {
    for pipelining in [true, false] {
        let world = World::plain().await;
        if !pipelining {
            world.control().hide("PIPELINING");
        }
        world.control().refuse("a@example.org", "550 5.1.1 no a");
        world.control().refuse("b@example.org", "551 5.7.1 no b");
        let said = refused(
            world.send(mail(&["a@example.org", "b@example.org"])).await,
            Code::FailedPrecondition,
            "MESSAGE_REFUSED",
        );
        assert_eq!((said.stage(), said.metadata["smtp.code"].as_str()), ("rcpt", "550"));
        assert_eq!(said.metadata["smtp.enhanced_code"], "5.1.1");
        assert_eq!(said.metadata["smtp.text"], "no a");
        let codes = said.recipients.unwrap().recipients;
        assert_eq!(codes.iter().map(|one| one.reply.as_ref().unwrap().code).collect::<Vec<_>>(), [550, 551]);
        assert!(!said.retry && world.server.accepted().is_empty());
        // The socket is as good as before.
        world.send(mail(&["c@example.org"])).await.unwrap();
        assert_eq!(world.control().connections_opened(), 1);
    }
}

#[tokio::test]
async fn all_refused_with_one_for_now_is_worth_a_repeat() {
    let world = World::plain().await;
    world.control().refuse("a@example.org", "550 5.1.1 no a");
    world.control().refuse("b@example.org", "451 4.7.1 later");
    let sent = world.send(mail(&["a@example.org", "b@example.org"])).await;
    let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert!(said.retry);
    assert_eq!((said.stage(), said.metadata["smtp.code"].as_str()), ("rcpt", "451"));
    assert_eq!(said.recipients.unwrap().recipients.len(), 2);
}

#[tokio::test]
async fn a_server_that_wants_a_message_for_nobody_gets_an_empty_one() {
    let world = World::plain().await;
    world.control().refuse("a@example.org", "550 5.1.1 no a");
    world.control().at(Stage::Data, Action::Reply("354 go on".into()), Times::Once);
    let sent = world.send(mail(&["a@example.org"])).await;
    refused(sent, Code::FailedPrecondition, "MESSAGE_REFUSED");
    assert!(world.server.accepted().iter().all(|delivery| delivery.message.is_empty()));
}

#[tokio::test]
async fn a_refused_sender_and_a_refused_message_are_told_by_stage() {
    let world = World::plain().await;
    let cases = [
        (Stage::Mail, "550 5.7.1 not you", Code::FailedPrecondition, "MESSAGE_REFUSED", "mail"),
        (Stage::Mail, "451 4.3.0 later", Code::Unavailable, "PROVIDER_UNAVAILABLE", "mail"),
        (Stage::Data, "554 5.7.1 no", Code::FailedPrecondition, "MESSAGE_REFUSED", "data"),
        (Stage::Data, "451 4.3.0 later", Code::Unavailable, "PROVIDER_UNAVAILABLE", "data"),
        (Stage::Message, "554 5.7.1 spam", Code::FailedPrecondition, "MESSAGE_REFUSED", "message"),
        (Stage::Message, "452 4.3.1 full", Code::Unavailable, "PROVIDER_UNAVAILABLE", "message"),
        (Stage::Message, "552 5.3.4 too big", Code::InvalidArgument, "MESSAGE_TOO_LARGE", "message"),
    ];
    for (stage, reply, code, reason, name) in cases {
        world.control().at(stage, Action::Reply(reply.into()), Times::Once);
        let said = refused(world.send(mail(&["a@example.org"])).await, code, reason);
        assert_eq!((said.stage(), said.metadata["smtp.code"].as_str()), (name, &reply[..3]), "{reply}");
        assert_eq!(said.retry, code == Code::Unavailable, "{reply}");
        if name != "mail" {
            let states: Vec<_> = said.recipients.unwrap().recipients.iter().map(|one| one.state()).collect();
            assert!(!states.contains(&RecipientState::Accepted), "nobody got anything: {states:?}");
        }
    }
    assert!(world.server.accepted().is_empty());
    world.send(mail(&["a@example.org"])).await.unwrap();
    assert_eq!(world.control().connections_opened(), 1);
}

#[tokio::test]
async fn a_mail_on_a_warm_socket_takes_two_round_trips() {
    let world = World::plain().await;
    world.send(mail(&["warm@example.org"])).await.unwrap();
    let before = world.control().waits();
    world.send(mail(&["a@example.org", "b@example.org"])).await.unwrap();
    // For the envelope with DATA, for the message, and for what comes next.
    assert!(world.control().waits() - before <= 2, "{} waits", world.control().waits() - before);
}

#[tokio::test]
async fn many_recipients_go_in_few_flights() {
    let world = World::plain().await;
    let to: Vec<String> = (0..350).map(|number| format!("user{number}@example.org")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    world.send(mail(&["warm@example.org"])).await.unwrap();
    let before = world.control().waits();
    let sent = world.send(mail(&to)).await.unwrap();
    assert_eq!(sent.recipients.len(), 350);
    assert_eq!(world.server.accepted()[1].to, to);
    let waits = world.control().waits() - before;
    assert!(waits < 60, "the server waited {waits} times: the commands did not go ahead of the replies");
}

#[tokio::test]
async fn a_refusal_of_very_many_recipients_still_reaches_the_caller() {
    let world = World::plain().await;
    let to: Vec<String> = (0..900).map(|number| format!("user{number}@example.org")).collect();
    for to in &to {
        world.control().refuse(to, &format!("550 5.1.1 {}", "ü".repeat(1_024)));
    }
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let said = refused(world.send(mail(&to)).await, Code::FailedPrecondition, "MESSAGE_REFUSED");
    let told = said.recipients.unwrap().recipients;
    assert_eq!(told[0].address, "user0@example.org");
    let omitted: usize = said.metadata["smtp.recipients_omitted"].parse().unwrap();
    assert_eq!(told.len() + omitted, 900);
}

#[tokio::test]
async fn the_servers_text_is_bounded_and_clean() {
    let world = World::plain().await;
    let reply = format!("550 5.1.1 \u{7}{}", "x".repeat(2_000));
    world.control().refuse("a@example.org", &reply);
    let sent = world.send(mail(&["a@example.org"])).await;
    let said = refused(sent, Code::FailedPrecondition, "MESSAGE_REFUSED");
    assert_eq!(said.metadata["smtp.text"], "x".repeat(1_024));
}
