//! How a socket is opened: with TLS where it is to be had, with HELO where there is nothing better, and not again and
//! again at a server that does not want it.

use std::time::Duration;

use postern_proto::connector::v1::CheckConnectionRequest;
use postern_proto::smtp::v1::TlsMode;
use postern_sandbox::smtp::{Action, Authority, Stage, Times};
use tonic::Code;

use super::world::{World, mail, refused};

#[tokio::test]
async fn starttls_is_taken_where_it_is_offered_and_done_without_where_it_is_not() {
    let mut world = World::start().await;
    world.stored.tls_mode = TlsMode::Opportunistic.into();
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert!(world.control().commands().contains(&"STARTTLS".to_owned()));

    let mut world = World::plain().await;
    world.stored.tls_mode = TlsMode::Opportunistic.into();
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert!(!world.control().commands().contains(&"STARTTLS".to_owned()));
}

#[tokio::test]
async fn where_tls_is_taken_as_offered_its_certificate_is_checked_all_the_same() {
    let mut world = World::start().await;
    world.stored.tls_mode = TlsMode::Opportunistic.into();
    world.stored.ca_certificates = Authority::new().unwrap().certificate().to_owned();
    let sent = world.send(mail(&["bo@example.org"])).await;
    assert_eq!(refused(sent, Code::FailedPrecondition, "CERTIFICATE_REFUSED").stage(), "starttls");
    assert!(!world.control().commands().iter().any(|line| line.starts_with("AUTH")));
}

#[tokio::test]
async fn a_server_older_than_ehlo_is_greeted_with_helo() {
    for code in ["500", "502", "504"] {
        let world = World::plain().await;
        world.control().at(Stage::Ehlo, Action::Reply(format!("{code} 5.5.1 what")), Times::Once);
        world.send(mail(&["bo@example.org"])).await.unwrap();
        let heard = world.control().commands();
        assert!(heard[1].starts_with("HELO "), "{heard:?}");
        let mail_from = heard.iter().find(|line| line.starts_with("MAIL")).unwrap();
        assert_eq!(mail_from, "MAIL FROM:<sender@example.org>", "it said nothing of extensions");
    }
    // What needs extensions is not tried without.
    let world = World::start().await;
    world.control().at(Stage::Ehlo, Action::Reply("502 5.5.1 what".into()), Times::Once);
    let sent = world.send(mail(&["bo@example.org"])).await;
    assert_eq!(refused(sent, Code::FailedPrecondition, "MESSAGE_REFUSED").stage(), "ehlo");
    assert!(!world.control().commands().iter().any(|line| line.starts_with("HELO")));
}

#[tokio::test]
async fn a_server_that_refuses_sign_ins_is_given_pauses_that_no_other_connection_feels() {
    let world = World::start().await;
    let signs_in = || world.control().commands().iter().filter(|line| line.starts_with("AUTH")).count();
    for tried in 1..=4 {
        world.control().at(Stage::Auth, Action::Reply("454 4.7.0 busy".into()), Times::Once);
        let sent = world.send(mail(&["bo@example.org"])).await;
        refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert_eq!(signs_in(), tried);
    }
    // The pause now is longer than this call can wait: it is told at once what is known, and when to come back.
    let sent = world.send_within(Duration::from_millis(900), mail(&["bo@example.org"])).await;
    let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!((said.stage(), said.metadata["smtp.code"].as_str(), said.retry), ("auth", "454", true));
    assert_eq!(signs_in(), 4, "the server was left alone");

    // Another connection to the same server, which differs in its name alone.
    let mut request = world.request(super::world::sending(mail(&["bo@example.org"])));
    let mut other = world.opened();
    other.connection.as_mut().unwrap().name = "connections/other".to_owned();
    let metadata = postern_chassis::opened::encode(&other);
    request.metadata_mut().insert_bin(postern_chassis::opened::CONNECTION_METADATA, metadata);
    request.set_timeout(Duration::from_millis(900));
    world.smtp().send_email(request).await.unwrap();

    // Whoever asks whether the connection works is answered by the server, and with that the pause is over.
    world.connector().check_connection(world.request(CheckConnectionRequest {})).await.unwrap();
    world.send_within(Duration::from_millis(900), mail(&["bo@example.org"])).await.unwrap();
}

#[tokio::test]
async fn changed_settings_take_effect_at_once_and_sockets_of_the_old_ones_are_closed() {
    let mut world = World::plain().await;
    world.send(mail(&["bo@example.org"])).await.unwrap();
    world.stored.ehlo_name = "changed.example.org".to_owned();
    world.send(mail(&["bo@example.org"])).await.unwrap();
    crate::world::until("the old socket is closed", || async {
        world.control().commands().iter().any(|line| line == "QUIT").then_some(())
    })
    .await;
    assert_eq!(world.control().connections_opened(), 2);
    assert!(world.control().commands().contains(&"EHLO changed.example.org".to_owned()));
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert_eq!(world.control().connections_opened(), 2, "the new one is kept");
}
