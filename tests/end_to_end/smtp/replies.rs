//! What servers say that they should not, and how: replies cut, mangled, endless, in pieces, out of turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postern_proto::smtp::v1::TlsMode;
use postern_sandbox::smtp::{Action, Stage, Times};
use tokio::time::Instant;
use tonic::Code;

use super::script::{Raw, usual};
use super::world::{World, mail, refused};

/// A connection to a scripted server, in the clear.
async fn world_at(raw: &Raw) -> World {
    let mut world = World::plain().await;
    world.stored.port = raw.port.into();
    world
}

/// The lines that are answered before the message is handed over, and the names of their stages.
const STAGES: [(&str, &str); 5] =
    [("", "greeting"), ("EHLO", "ehlo"), ("MAIL", "mail"), ("RCPT", "rcpt"), ("DATA", "data")];

fn is(line: &str, verb: &str) -> bool {
    line.split(' ').next() == Some(verb)
}

#[tokio::test]
async fn replies_in_pieces_and_in_many_lines_are_read_as_one() {
    let raw = Raw::start(true, |line| match line.split(' ').next() {
        Some("MAIL") => Some(b"250-2.1.0 one\r\n250-2.1.0 two\r\n250 2.1.0 three\r\n".to_vec()),
        Some(".") => Some(b"250-2.0.0 queued\r\n250 2.0.0 as 7\r\n".to_vec()),
        _ => usual(line),
    })
    .await;
    let world = world_at(&raw).await;
    let sent = world.send(mail(&["bo@example.org", "cy@example.org"])).await.unwrap();
    assert_eq!(sent.recipients.len(), 2);
    assert_eq!(sent.reply.unwrap().text, "queued\nas 7");
}

#[tokio::test]
async fn what_is_no_reply_breaks_the_conversation_with_nothing_sent() {
    type Bytes = fn() -> Vec<u8>;
    let wrong: [(&str, Bytes); 6] = [
        ("no code", || b"hello there\r\n".to_vec()),
        ("two codes", || b"250-one\r\n550 two\r\n".to_vec()),
        ("no separator", || b"250_ok\r\n".to_vec()),
        ("a line of 64 KiB", || [b"250 ".to_vec(), vec![b'x'; 64 * 1024], b"\r\n".to_vec()].concat()),
        ("a line without end", || vec![b'2'; 64 * 1024]),
        ("lines without end", || b"250-more\r\n".repeat(1_000)),
    ];
    for (what, bytes) in wrong {
        for (verb, stage) in STAGES {
            let raw =
                Raw::start(false, move |line| if is(line, verb) { Some(bytes()) } else { usual(line) }).await;
            let sent = world_at(&raw).await.send(mail(&["bo@example.org"])).await;
            let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
            assert_eq!((said.stage(), said.retry), (stage, true), "{what}");
        }
        // After the final dot the server may have it all the same.
        let raw = Raw::start(false, move |line| if line == "." { Some(bytes()) } else { usual(line) }).await;
        let sent = world_at(&raw).await.send(mail(&["bo@example.org"])).await;
        assert_eq!(refused(sent, Code::Unknown, "OUTCOME_UNKNOWN").stage(), "message", "{what}");
    }
}

#[tokio::test]
async fn a_reply_that_cannot_be_one_to_the_command_is_not_believed() {
    for (verb, reply, stage) in
        [("MAIL", "354 go", "mail"), ("RCPT", "334 go", "rcpt"), ("DATA", "250 Ok", "data")]
    {
        let answer = format!("{reply}\r\n").into_bytes();
        let raw =
            Raw::start(false, move |line| if is(line, verb) { Some(answer.clone()) } else { usual(line) })
                .await;
        let sent = world_at(&raw).await.send(mail(&["bo@example.org"])).await;
        assert_eq!(refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE").stage(), stage);
        assert!(!raw.heard().contains(&".".to_owned()));
    }
}

#[tokio::test]
async fn a_greeting_that_never_comes_is_waited_for_as_long_as_a_step_may_take() {
    let raw = Raw::start(false, |line| if line.is_empty() { Some(Vec::new()) } else { usual(line) }).await;
    let mut world = world_at(&raw).await;
    world.stored.command_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let began = Instant::now();
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!((said.stage(), said.retry), ("greeting", true));
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&began.elapsed()));
}

#[tokio::test]
async fn a_server_that_takes_some_recipients_and_dies_has_taken_nothing() {
    for pipelining in [true, false] {
        let asked = AtomicUsize::new(0);
        let raw = Raw::start(false, move |line| match line.split(' ').next() {
            Some("EHLO") if !pipelining => Some(b"250 raw\r\n".to_vec()),
            Some("RCPT") if asked.fetch_add(1, Ordering::SeqCst) == 1 => None,
            _ => usual(line),
        })
        .await;
        let sent =
            world_at(&raw).await.send(mail(&["a@example.org", "b@example.org", "c@example.org"])).await;
        let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert_eq!((said.stage(), said.retry), ("rcpt", true));
        assert!(!raw.heard().contains(&".".to_owned()));
    }
}

#[tokio::test]
async fn a_server_that_refuses_every_recipient_and_closes_is_not_asked_again() {
    for pipelining in [true, false] {
        let raw = Raw::start(false, move |line| match line.split(' ').next() {
            Some("EHLO") if !pipelining => Some(b"250 raw\r\n".to_vec()),
            Some("RCPT") if line.contains("last") => Some(b"550 5.1.1 no such user\r\n\0".to_vec()),
            Some("RCPT") => Some(b"550 5.1.1 no such user\r\n".to_vec()),
            _ => usual(line),
        })
        .await;
        let sent = world_at(&raw).await.send(mail(&["bo@example.org", "last@example.org"])).await;
        let said = refused(sent, Code::FailedPrecondition, "MESSAGE_REFUSED");
        assert_eq!((said.stage(), said.retry), ("rcpt", false));
        assert_eq!(said.recipients.unwrap().recipients.len(), 2);
    }
}

#[tokio::test]
async fn a_tls_handshake_that_breaks_is_told_as_starttls() {
    let raw = Raw::start(false, |line| match line.split(' ').next() {
        Some("EHLO") => Some(b"250-raw\r\n250 STARTTLS\r\n".to_vec()),
        Some("STARTTLS") => Some(b"220 go\r\n\0".to_vec()),
        _ => usual(line),
    })
    .await;
    let mut world = world_at(&raw).await;
    world.stored.tls_mode = TlsMode::Starttls.into();
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!((said.stage(), said.retry), ("starttls", true));
    assert!(!raw.heard().iter().any(|line| is(line, "MAIL")));
}

#[tokio::test]
async fn a_421_while_a_socket_is_idle_is_heeded_before_the_next_mail() {
    let world = World::plain().await;
    let parting = Action::ReplyAndClose("250 2.0.0 Ok\r\n421 4.4.2 idle for too long".into());
    world.control().at(Stage::Message, parting, Times::Once);
    for _ in 0..2 {
        world.send(mail(&["bo@example.org"])).await.unwrap();
    }
    assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (2, 2));
}

#[tokio::test]
async fn a_421_in_the_middle_of_a_flight_ends_the_conversation_and_a_kept_socket_is_replaced() {
    for (stage, name) in [(Stage::Mail, "mail"), (Stage::Rcpt, "rcpt"), (Stage::Data, "data")] {
        let world = World::plain().await;
        let closes = || Action::ReplyAndClose("421 4.3.2 shutting down".into());
        world.control().at(stage, closes(), Times::Once);
        let sent = world.send(mail(&["a@example.org", "b@example.org"])).await;
        let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert_eq!((said.stage(), said.metadata["smtp.code"].as_str(), said.retry), (name, "421", true));
        assert_eq!(said.metadata["smtp.text"], "shutting down");
        // The next mail has a new socket; on that, once kept, the same is made good for.
        world.send(mail(&["bo@example.org"])).await.unwrap();
        world.control().at(stage, closes(), Times::Once);
        world.send(mail(&["bo@example.org"])).await.unwrap();
        assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (2, 3), "{name}");
    }
}
