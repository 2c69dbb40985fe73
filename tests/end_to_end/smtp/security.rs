//! TLS and AUTH: nothing is sent where either is not as the connection wants it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use postern_proto::smtp::v1::{AuthMechanism, TlsMode};
use postern_sandbox::smtp::{Action, Authority, SmtpSettings, Stage, Times, Tls};
use tonic::Code;

use super::world::{PASSWORD, Said, USER, World, mail, refused};

fn users() -> Vec<(String, String)> {
    vec![(USER.to_owned(), PASSWORD.to_owned())]
}

#[tokio::test]
async fn each_way_of_securing_the_connection_carries_mail() {
    for tls in [Tls::StartTls, Tls::Implicit, Tls::None] {
        let world = World::with(SmtpSettings { tls, users: users(), ..Default::default() }).await;
        for _ in 0..2 {
            world.send(mail(&["bo@example.org"])).await.unwrap();
        }
        assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (2, 1), "{tls:?}");
        let starttls = world.control().commands().contains(&"STARTTLS".to_owned());
        assert_eq!(starttls, tls == Tls::StartTls);
    }
}

#[tokio::test]
async fn a_server_without_starttls_is_refused_before_anything_is_said_to_it() {
    let world = World::start().await;
    world.control().hide("STARTTLS");
    let said = refused(world.send(mail(&["bo@example.org"])).await, Code::FailedPrecondition, "TLS_REQUIRED");
    assert_eq!(said.stage(), "starttls");
    assert!(world.control().commands().iter().all(|line| line.starts_with("EHLO")));
}

#[tokio::test]
async fn starttls_refused_for_good_or_for_now_is_told_apart() {
    let world = World::start().await;
    world.control().at(Stage::StartTls, Action::Reply("454 4.7.0 later".into()), Times::Once);
    refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    world.control().at(Stage::StartTls, Action::Reply("502 5.5.1 never".into()), Times::Once);
    refused(world.send(mail(&["bo@example.org"])).await, Code::FailedPrecondition, "TLS_REQUIRED");
    assert!(!world.control().commands().iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    for tls in [Tls::StartTls, Tls::Implicit] {
        let mut world = World::with(SmtpSettings { tls, users: users(), ..Default::default() }).await;
        world.stored.ca_certificates = Authority::new().unwrap().certificate().to_owned();
        let sent = world.send(mail(&["bo@example.org"])).await;
        refused(sent, Code::FailedPrecondition, "CERTIFICATE_REFUSED");
        // The machine's authorities did not sign it either.
        world.stored.ca_certificates.clear();
        let sent = world.send(mail(&["bo@example.org"])).await;
        refused(sent, Code::FailedPrecondition, "CERTIFICATE_REFUSED");
        assert!(!world.control().commands().iter().any(|line| line.starts_with("AUTH")));
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let host_names = vec!["elsewhere.example.org".to_owned()];
    let world = World::with(SmtpSettings { host_names, users: users(), ..Default::default() }).await;
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::FailedPrecondition, "CERTIFICATE_REFUSED");
    assert_eq!(said.stage(), "starttls");
    assert!(!world.control().commands().iter().any(|line| line.starts_with("AUTH")));
}

#[tokio::test]
async fn a_host_name_is_checked_as_an_address_is() {
    let mut world = World::start().await;
    world.stored.server = "localhost".to_owned();
    world.send(mail(&["bo@example.org"])).await.unwrap();
}

#[tokio::test]
async fn what_is_put_in_front_of_tls_is_not_believed() {
    let world = World::start().await;
    // Believed, it would be the answer to the EHLO under TLS, and AUTH would be tried as it says.
    world.control().inject_after_starttls("250-evil\r\n250 AUTH LOGIN\r\n");
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!(said.stage(), "starttls");
    assert_eq!(world.control().commands().iter().filter(|line| line.starts_with("EHLO")).count(), 1);
}

#[tokio::test]
async fn refused_credentials_are_told_and_nothing_is_sent() {
    let mut world = World::start().await;
    world.password = "wrong".to_owned();
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::FailedPrecondition, "CREDENTIALS_REFUSED");
    assert_eq!((said.stage(), said.metadata["smtp.code"].as_str()), ("auth", "535"));
    assert_eq!(said.metadata["smtp.enhanced_code"], "5.7.8");
    world.password = PASSWORD.to_owned();
    world.control().at(Stage::Auth, Action::Reply("454 4.7.0 later".into()), Times::Once);
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!((said.stage(), said.retry), ("auth", true));
    assert!(!world.control().commands().iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test]
async fn a_server_that_repeats_a_password_does_not_get_it_into_an_error() {
    let world = World::start().await;
    let proof = BASE64_STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
    for reply in [
        format!("500 5.5.1 unknown command: AUTH PLAIN {proof}"),
        format!("454-4.7.0 not now\r\n454 4.7.0 {PASSWORD}"),
        format!("535 5.7.8 cannot decode {}", BASE64_STANDARD.encode(PASSWORD)),
    ] {
        world.control().at(Stage::Auth, Action::Reply(reply.clone()), Times::Once);
        let status = world.send(mail(&["bo@example.org"])).await.unwrap_err();
        let said = Said::of(&status);
        assert_eq!(said.metadata["smtp.code"], reply[..3]);
        let shown = format!("{status:?} {said:?}");
        for secret in [PASSWORD, &proof, &BASE64_STANDARD.encode(PASSWORD)] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_server_that_wants_credentials_that_the_connection_has_not_says_so() {
    let mut world = World::start().await;
    (world.stored.username, world.password) = (String::new(), String::new());
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::FailedPrecondition, "CREDENTIALS_REFUSED");
    assert_eq!(said.metadata["smtp.code"], "530");
    // Also one that hangs up with it.
    world.control().at(Stage::Mail, Action::ReplyAndClose("530 5.7.0 who are you".into()), Times::Once);
    let sent = world.send(mail(&["bo@example.org"])).await;
    refused(sent, Code::FailedPrecondition, "CREDENTIALS_REFUSED");
}

#[tokio::test]
async fn the_mechanism_is_the_one_asked_for_or_the_best_on_offer() {
    use AuthMechanism::{Login, Plain, Unspecified};
    for (asked, hidden, used) in [
        (Unspecified, "", "AUTH PLAIN"),
        (Unspecified, "PLAIN", "AUTH LOGIN"),
        (Plain, "LOGIN", "AUTH PLAIN"),
        (Login, "", "AUTH LOGIN"),
    ] {
        let mut world = World::start().await;
        world.control().hide(hidden);
        world.stored.auth_mechanism = asked.into();
        world.send(mail(&["bo@example.org"])).await.unwrap();
        assert!(world.control().commands().contains(&used.to_owned()), "{asked:?} {hidden}");
    }
    for (asked, hidden) in [(Plain, "PLAIN"), (Login, "LOGIN"), (Unspecified, "AUTH")] {
        let mut world = World::start().await;
        world.control().hide(hidden);
        world.stored.auth_mechanism = asked.into();
        let sent = world.send(mail(&["bo@example.org"])).await;
        refused(sent, Code::FailedPrecondition, "CREDENTIALS_REFUSED");
    }
}

#[tokio::test]
async fn tls_spoken_to_a_server_in_the_clear_ends_in_time_and_sends_nothing() {
    let mut world = World::plain().await;
    world.stored.tls_mode = TlsMode::Implicit.into();
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!(said.stage(), "connect");
}
