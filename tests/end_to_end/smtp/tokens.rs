//! Signing in by access tokens (XOAUTH2): at the connector, and through a gateway that keeps the grants.

use std::sync::Arc;

use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connector::v1::{RefreshCredentialsRequest, ValidateConnectionRequest};
use postern_proto::smtp::v1::{
    AuthMechanism, OAuthSettings, SmtpCredentials, SmtpSettings as Stored, TlsMode,
};
use postern_sandbox::smtp::{Action, Control, SmtpServer, SmtpSettings, Stage, Times};
use postern_sandbox::tokens::{CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, TokenServer};
use tonic::Code;

use super::world::{Said, USER, World, mail};
use crate::ports::Port;
use crate::world as gateway;

/// A provider whose tokens a server takes.
async fn provider(control: &Control) -> TokenServer {
    let control = control.clone();
    TokenServer::start(Arc::new(move |token| control.accept_token(token))).await.unwrap()
}

fn oauth(tokens: &TokenServer) -> OAuthSettings {
    OAuthSettings {
        client_id: CLIENT_ID.to_owned(),
        token_endpoint: tokens.url().to_owned(),
        scopes: vec!["https://mail.example.org/".to_owned(), "offline_access".to_owned()],
        ..Default::default()
    }
}

fn by_refresh_token() -> SmtpCredentials {
    SmtpCredentials { oauth_refresh_token: REFRESH_TOKEN.to_owned(), ..Default::default() }
}

/// A connector whose connection signs in by tokens.
async fn signing_in_by(credentials: SmtpCredentials) -> (World, TokenServer) {
    let mut world = World::start().await;
    world.control().expire_tokens();
    let tokens = provider(world.control()).await;
    world.stored.auth_mechanism = AuthMechanism::Xoauth2.into();
    world.stored.oauth = Some(oauth(&tokens));
    world.credentials = Some(credentials);
    (world, tokens)
}

async fn refresh(world: &World) -> Result<Vec<u8>, Said> {
    let answered = world.connector().refresh_credentials(world.request(RefreshCredentialsRequest {})).await;
    let answered = answered.map_err(|status| Said::of(&status))?.into_inner();
    assert!(answered.expire_time.is_some());
    Ok(answered.grant.to_vec())
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn only_a_connection_that_signs_in_by_tokens_needs_a_grant() {
    let (world, tokens) = signing_in_by(by_refresh_token()).await;
    let needs = async |world: &World| {
        let asked = world.request(ValidateConnectionRequest {});
        world.connector().validate_connection(asked).await.unwrap().into_inner().needs_grant
    };
    assert!(needs(&world).await);
    assert!(!needs(&World::start().await).await);
    assert!(tokens.asked().is_empty());
}

#[tokio::test]
async fn a_grant_is_got_by_the_newest_refresh_token_and_a_mail_is_sent_with_it() {
    let (mut world, tokens) = signing_in_by(by_refresh_token()).await;
    for number in 1..=3 {
        world.grant = refresh(&world).await.unwrap();
        assert_eq!(
            field(&tokens.asked()[number - 1], "refresh_token"),
            Some(&*format!("refresh-{}", number - 1))
        );
    }
    tokens.keep_refresh_token();
    world.grant = refresh(&world).await.unwrap();
    world.grant = refresh(&world).await.unwrap();
    let form = tokens.asked().pop().unwrap();
    assert_eq!(field(&form, "refresh_token"), Some("refresh-3"), "one that was not rotated goes on");
    assert_eq!(field(&form, "scope"), Some("https://mail.example.org/ offline_access"));
    assert_eq!(field(&form, "client_secret"), None);
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert!(world.control().commands().contains(&"AUTH XOAUTH2".to_owned()));
}

#[tokio::test]
async fn without_a_refresh_token_the_client_signs_in_for_itself() {
    let secret = SmtpCredentials { oauth_client_secret: CLIENT_SECRET.to_owned(), ..Default::default() };
    let (mut world, tokens) = signing_in_by(secret).await;
    world.grant = refresh(&world).await.unwrap();
    assert_eq!(field(&tokens.asked()[0], "grant_type"), Some("client_credentials"));
    world.send(mail(&["bo@example.org"])).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_refused_or_missing_asks_for_a_refresh_and_nothing_is_sent() {
    let (mut world, _tokens) = signing_in_by(by_refresh_token()).await;
    let asks = |status: &tonic::Status| status.metadata().contains_key("postern-refresh");
    let status = world.send(mail(&["bo@example.org"])).await.unwrap_err();
    assert!(asks(&status) && Said::of(&status).reason == "CREDENTIALS_REFUSED", "{status:?}");
    world.grant = refresh(&world).await.unwrap();
    world.control().expire_tokens();
    let status = world.send(mail(&["bo@example.org"])).await.unwrap_err();
    let said = Said::of(&status);
    assert!(asks(&status), "{status:?}");
    assert_eq!((said.code, said.reason.as_str()), (Code::FailedPrecondition, "CREDENTIALS_REFUSED"));
    assert_eq!((said.stage(), said.metadata["smtp.code"].as_str()), ("auth", "535"));
    // With a password, and where the mechanism is not offered, no refresh helps.
    world.control().hide("AUTH");
    assert!(!asks(&world.send(mail(&["bo@example.org"])).await.unwrap_err()));
    assert!(world.server.accepted().is_empty());
}

#[tokio::test]
async fn what_the_provider_of_tokens_answers_is_told_by_what_can_be_done() {
    let (mut world, tokens) = signing_in_by(by_refresh_token()).await;
    let refused = |code| format!(r#"{{"error":"{code}","error_description":"sesame"}}"#);
    for (status, body, code, reason) in [
        (400, refused("invalid_grant"), Code::FailedPrecondition, "CREDENTIALS_REFUSED"),
        (400, refused("interaction_required"), Code::FailedPrecondition, "CREDENTIALS_REFUSED"),
        (400, refused("consent_required"), Code::FailedPrecondition, "CREDENTIALS_REFUSED"),
        (400, refused("login_required"), Code::FailedPrecondition, "CREDENTIALS_REFUSED"),
        (401, refused("invalid_client"), Code::FailedPrecondition, "CONFIGURATION_REFUSED"),
        (400, refused("unauthorized_client"), Code::FailedPrecondition, "CONFIGURATION_REFUSED"),
        (400, refused("invalid_scope"), Code::FailedPrecondition, "CONFIGURATION_REFUSED"),
        (400, refused("invalid_resource"), Code::FailedPrecondition, "CONFIGURATION_REFUSED"),
        (400, refused("unsupported_grant_type"), Code::FailedPrecondition, "CONFIGURATION_REFUSED"),
        (400, refused("unheard_of"), Code::FailedPrecondition, "CONFIGURATION_REFUSED"),
        (400, refused("server_error"), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (400, refused("temporarily_unavailable"), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (429, refused("slow"), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (503, String::new(), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (200, "no token".to_owned(), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (200, "x".repeat(100_000), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
    ] {
        tokens.refuse(status, &body);
        let said = refresh(&world).await.unwrap_err();
        assert_eq!((said.code, said.reason.as_str()), (code, reason), "{status} {body:.60}");
        assert_eq!((said.stage(), said.retry), ("token", code == Code::Unavailable));
        assert!(!format!("{said:?}").contains("sesame"));
    }
    let nobody = Port::keep();
    world.stored.oauth.as_mut().unwrap().token_endpoint = format!("http://{}/token", nobody.address);
    let said = refresh(&world).await.unwrap_err();
    assert_eq!(
        (said.code, said.reason.as_str(), said.retry),
        (Code::Unavailable, "PROVIDER_UNAVAILABLE", true)
    );
}

/// A gateway whose connection signs in by tokens at a server, each socket for so many messages.
async fn through_a_gateway(messages: u32) -> (gateway::World, SmtpServer, TokenServer) {
    let users = vec![(USER.to_owned(), "unused".to_owned())];
    let server = SmtpServer::start(SmtpSettings { users, ..Default::default() }).await.unwrap();
    server.control().expire_tokens();
    let tokens = provider(server.control()).await;
    let world = gateway::World::start().await;
    let settings = Stored {
        server: "127.0.0.1".to_owned(),
        port: server.address().port().into(),
        tls_mode: TlsMode::Starttls.into(),
        ca_certificates: server.ca_certificate().to_owned(),
        username: USER.to_owned(),
        auth_mechanism: AuthMechanism::Xoauth2.into(),
        oauth: Some(oauth(&tokens)),
        max_messages_per_connection: messages,
        ..Default::default()
    };
    let connection = (Settings::Smtp(settings), Credentials::SmtpCredentials(by_refresh_token()));
    gateway::create(&world.channel, gateway::SMTP, connection).await.unwrap();
    (world, server, tokens)
}

#[tokio::test]
async fn a_gateway_gets_keeps_and_renews_the_grant_and_each_mail_is_sent_once() {
    // Each mail signs in anew.
    let (mut world, server, tokens) = through_a_gateway(1).await;

    gateway::send(&world.channel, "first", gateway::mail("first")).await.unwrap();
    gateway::send(&world.channel, "second", gateway::mail("second")).await.unwrap();
    assert_eq!(tokens.asked().len(), 1, "the grant is kept");

    // A token that ran out early is renewed once, by the refresh token that the first grant was rotated to.
    server.control().expire_tokens();
    gateway::send(&world.channel, "third", gateway::mail("third")).await.unwrap();
    assert_eq!(server.accepted().len(), 3);
    // So it is by a gateway that has but its store.
    world.restart().await;
    server.control().expire_tokens();
    gateway::send(&world.channel, "fourth", gateway::mail("fourth")).await.unwrap();
    let asked = tokens.asked();
    let by: Vec<_> = asked.iter().map(|form| field(form, "refresh_token").unwrap()).collect();
    assert_eq!(by, ["refresh-0", "refresh-1", "refresh-2"]);
    assert_eq!(server.accepted().len(), 4);

    // Refused for good: the connection needs a sign-in, and the provider is not asked again.
    server.control().expire_tokens();
    tokens.refuse(400, r#"{"error":"invalid_grant"}"#);
    for _ in 0..2 {
        let status = gateway::send(&world.channel, "", gateway::mail("fifth")).await.unwrap_err();
        assert_eq!(Said::of(&status).reason, "CREDENTIALS_REFUSED", "{status:?}");
        assert!(!status.metadata().contains_key("postern-refresh"));
    }
    assert_eq!((tokens.asked().len(), server.accepted().len()), (4, 4));
}

#[tokio::test]
async fn sockets_whose_token_has_run_out_are_not_used_again() {
    let (world, server, tokens) = through_a_gateway(100).await;
    server.control().at(Stage::Message, Action::Hold, Times::Always);
    let both = async {
        tokio::join!(
            gateway::send(&world.channel, "first", gateway::mail("first")),
            gateway::send(&world.channel, "second", gateway::mail("second"))
        )
    };
    let sockets = gateway::until("two sockets", async || {
        (server.control().connections_opened() == 2).then(|| server.control().let_go())
    });
    let ((first, second), ()) = tokio::join!(both, sockets);
    first.unwrap();
    second.unwrap();

    server.control().end_sessions_with_tokens();
    server.control().expire_tokens();
    gateway::send(&world.channel, "third", gateway::mail("third")).await.unwrap();
    gateway::send(&world.channel, "fourth", gateway::mail("fourth")).await.unwrap();
    assert_eq!((server.accepted().len(), tokens.asked().len()), (4, 2));
    assert_eq!(server.control().connections_opened(), 3, "the new token's socket is kept");
}
