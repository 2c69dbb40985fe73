//! Sockets: kept, bounded, let go in order, and not held up by anything but the server.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use postern_proto::mail::v1::Email;
use postern_sandbox::smtp::{Action, Stage, Times};
use tonic::Code;

use super::world::{World, mail, refused};

#[tokio::test]
async fn two_hundred_mails_over_one_socket_wait_for_no_delayed_acknowledgement() {
    for mut world in [World::plain().await, World::start().await] {
        world.stored.max_connections = 1;
        world.send(mail(&["bo@example.org"])).await.unwrap();
        let mut took = [Vec::new(), Vec::new()];
        for number in 0..200 {
            // Short ones in one write, and ones that go in two.
            let body = "0123456789\r\n".repeat(if number % 2 == 0 { 1 } else { 2_000 });
            let began = tokio::time::Instant::now();
            world.send(Email { body, ..mail(&["bo@example.org"]) }).await.unwrap();
            took[number % 2].push(began.elapsed());
        }
        // With Nagle's algorithm on, each of the long ones would take 40 ms more, and each of the others too if its
        // final dot had a write of its own. The fastest tell it, however much else the machine has to do.
        for mut took in took {
            took.sort_unstable();
            assert!(took[10] < Duration::from_millis(40), "{took:?}");
        }
        assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (201, 1));
    }
}

#[tokio::test]
async fn no_more_sockets_are_open_than_the_connection_allows_and_all_mails_go() {
    let mut world = World::plain().await;
    world.stored.max_connections = 3;
    world.control().at(Stage::Message, Action::Delay(Duration::from_millis(5)), Times::Always);
    let sent = join_all((0..60).map(|number| {
        let world = &world;
        async move { world.send(mail(&[&format!("user{number}@example.org")])).await }
    }));
    assert!(sent.await.iter().all(Result::is_ok));
    assert_eq!(world.server.accepted().len(), 60);
    assert_eq!(world.control().most_open(), 3);
    assert_eq!(world.control().connections_opened(), 3, "sockets are used again");
}

#[tokio::test]
async fn a_call_that_finds_all_sockets_busy_is_told_so_in_time() {
    let mut world = World::plain().await;
    world.stored.max_connections = 1;
    world.control().at(Stage::Mail, Action::Silence, Times::Once);
    let world = Arc::new(world);
    let holder = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.send_within(Duration::from_secs(20), mail(&["slow@example.org"])).await }
    });
    let taken = async {
        while !world.control().commands().iter().any(|line| line.starts_with("MAIL")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.unwrap();
    let sent = world.send_within(Duration::from_secs(2), mail(&["bo@example.org"])).await;
    let said = refused(sent, Code::ResourceExhausted, "CONNECTION_BUSY");
    assert!(said.retry);
    // The socket comes free when its caller goes.
    holder.abort();
    world.send(mail(&["bo@example.org"])).await.unwrap();
}

#[tokio::test]
async fn a_socket_on_which_the_server_spoke_unasked_is_not_used_again() {
    let world = World::plain().await;
    // Taken for the answer to MAIL, it would shift every answer after it by one.
    let twice = Action::Reply("250 2.0.0 Ok\r\n250 2.0.0 unasked".into());
    world.control().at(Stage::Message, twice, Times::Once);
    for _ in 0..2 {
        world.send(mail(&["bo@example.org"])).await.unwrap();
    }
    assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (2, 2));
}

#[tokio::test]
async fn other_credentials_or_settings_use_other_sockets() {
    let mut world = World::start().await;
    world.send(mail(&["bo@example.org"])).await.unwrap();
    world.password = "wrong".to_owned();
    let sent = world.send(mail(&["bo@example.org"])).await;
    refused(sent, Code::FailedPrecondition, "CREDENTIALS_REFUSED");
    assert_eq!(world.control().connections_opened(), 2);
}

#[tokio::test]
async fn a_socket_carries_so_many_messages_and_no_more() {
    let mut world = World::plain().await;
    world.stored.max_messages_per_connection = 3;
    for _ in 0..7 {
        world.send(mail(&["bo@example.org"])).await.unwrap();
    }
    assert_eq!(world.control().connections_opened(), 3);
}

#[tokio::test]
async fn an_unused_socket_is_closed_with_quit_after_its_time() {
    let mut world = World::plain().await;
    world.stored.idle_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    world.send(mail(&["bo@example.org"])).await.unwrap();
    world.control().all_closed().await.unwrap();
    assert_eq!(world.control().commands().last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn a_socket_that_is_being_closed_counts_until_it_is() {
    let mut world = World::plain().await;
    world.stored.max_connections = 1;
    world.stored.idle_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    world.control().at(Stage::Quit, Action::Delay(Duration::from_millis(400)), Times::Once);
    world.send(mail(&["bo@example.org"])).await.unwrap();
    while world.control().commands().last().is_none_or(|line| line != "QUIT") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert_eq!((world.control().most_open(), world.control().connections_opened()), (1, 2));
}

#[tokio::test]
async fn a_connector_that_stops_says_quit_on_its_sockets() {
    let mut world = World::start().await;
    world.send(mail(&["bo@example.org"])).await.unwrap();
    world.stop_connector().await;
    world.control().all_closed().await.unwrap();
    assert_eq!(world.control().commands().last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn mails_keep_the_pace_of_the_connection() {
    let mut world = World::plain().await;
    world.stored.max_messages_per_second = 20.0;
    let began = tokio::time::Instant::now();
    let sent = join_all((0..11).map(|_| world.send(mail(&["bo@example.org"]))));
    assert!(sent.await.iter().all(Result::is_ok));
    assert!(began.elapsed() >= Duration::from_millis(500), "ten intervals of 50 ms");
    world.stored.max_messages_per_second = 0.01;
    world.send(mail(&["bo@example.org"])).await.unwrap();
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::ResourceExhausted, "CONNECTION_BUSY");
    assert!(said.retry, "its turn would come in 100 s: nobody waits that long");
}
