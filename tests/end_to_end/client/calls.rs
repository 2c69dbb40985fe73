//! What each call shows and keeps to: token, deadline, TLS, and the addresses in turn.

use std::time::Duration;

use postern_client::{Client, Identity, Settings, Start, Tls, Wish};
use postern_gateway::auth::new_token;
use postern_proto::connection::v1::ListConnectionsRequest;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_sandbox::child::Gateway;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;
use tonic::Code;

use super::Relay;
use super::scripted::{Line, Scripted};
use crate::outside;
use crate::ports::Port;
use crate::world::{PATIENCE, World};

/// Where to call at a port.
fn url(port: &Port) -> String {
    format!("http://{}", port.address)
}

#[tokio::test]
async fn a_call_shows_the_token_and_its_deadline() {
    let server = Scripted::saying([]).await;
    let call_timeout = Duration::from_secs(7);
    let client =
        Client::connect(&Settings { call_timeout, ..server.settings() }.with_token("sesame")).unwrap();
    client.smtp().send_email(SendEmailRequest::default()).await.unwrap();
    client.replace_token(Some(&"open".into())).unwrap();
    let mut own = tonic::Request::new(SendEmailRequest::default());
    own.set_timeout(Duration::from_secs(2));
    client.smtp().send_email(own).await.unwrap();
    let shown = |at: usize, key| server.calls()[at].metadata.get(key).unwrap().to_str().unwrap().to_owned();
    assert_eq!((&*shown(0, "authorization"), &*shown(0, "grpc-timeout")), ("Bearer sesame", "7000m"));
    assert_eq!((&*shown(1, "authorization"), &*shown(1, "grpc-timeout")), ("Bearer open", "2000000u"));
}

#[tokio::test]
async fn a_deadline_ends_a_call_whose_outcome_is_then_unknown() {
    let server = Scripted::saying([Line::Nothing]).await;
    let settings = Settings { call_timeout: Duration::from_millis(200), ..server.settings() };
    let client = Client::connect(&settings).unwrap();
    let error = client.smtp().send_email(SendEmailRequest::default()).await.unwrap_err();
    let error = postern_client::Error::from(error);
    assert!(matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled), "{error:?}");
    assert!(error.outcome_is_unknown());
}

#[tokio::test]
async fn addresses_are_tried_in_turn_and_none_of_them_is_told_as_such() {
    // Nobody listens there.
    let (server, nobody) = (Scripted::saying([]).await, Port::keep());
    let mut settings = server.settings();
    settings.addresses.insert(0, url(&nobody));
    let client = Client::connect(&settings).unwrap();
    client.smtp().send_email(SendEmailRequest::default()).await.unwrap();

    let client = Client::connect(&Settings::to(url(&nobody))).unwrap();
    let error = client.smtp().send_email(SendEmailRequest::default()).await.unwrap_err();
    let error = postern_client::Error::from(error);
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, ""));
    assert!(error.is_worth_a_retry() && !error.outcome_is_unknown());
}

#[tokio::test]
async fn a_silent_connection_is_noticed_by_its_keepalive() {
    let world = World::start().await;
    let relay = Relay::before(world.address()).await;
    let (keepalive_interval, keepalive_timeout) = (Duration::from_millis(200), Duration::from_millis(200));
    let settings = Settings { keepalive_interval, keepalive_timeout, ..Settings::to(relay.url()) };
    let client = Client::connect(&settings).unwrap();
    let list = |client: Client| async move {
        client.connections().list_connections(ListConnectionsRequest::default()).await
    };
    list(client.clone()).await.unwrap();
    relay.fall_silent();
    let begun = Instant::now();
    client.retrying(list).await.unwrap();
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_wrong_token_is_a_typed_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let (token, line) = new_token("billing").unwrap();
    std::fs::write(&tokens, line).unwrap();
    let lead = ["--tokens-file", tokens.to_str().unwrap()];
    let program = outside::program("gateway");
    let gateway = Gateway::start(&program, &lead, "127.0.0.1:0", folder.path(), "error").await.unwrap();
    let url = format!("http://{}", gateway.address());

    let client = Client::connect(&Settings::to(&url).with_token("sesame")).unwrap();
    let list = |client: Client| async move {
        client.connections().list_connections(ListConnectionsRequest::default()).await
    };
    let error = client.retrying(list).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Unauthenticated, "TOKEN_REFUSED"));
    let mut events = client.subscribe(Wish::from(Start::Earliest));
    assert_eq!(events.opened().await.unwrap_err().reason(), "TOKEN_REFUSED");
    assert!(events.next().await.is_none());

    client.replace_token(Some(&token.expose_secret().to_owned().into())).unwrap();
    client.retrying(list).await.unwrap();
    client.subscribe(Wish::default()).opened().await.unwrap();
}

#[tokio::test]
async fn tls_trusts_the_authorities_given_and_shows_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let vouched = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = vouched("gateway.example.org");
    let lead = [
        "--tls-cert-file".to_owned(),
        write("certificate", certificate),
        "--tls-key-file".to_owned(),
        write("key", key),
        "--tls-client-ca-file".to_owned(),
        write("authority", authority.clone()),
    ];
    let lead: Vec<_> = lead.iter().map(String::as_str).collect();
    let program = outside::program("gateway");
    let gateway = Gateway::start(&program, &lead, "127.0.0.1:0", folder.path(), "error").await.unwrap();

    let (certificates, key) = vouched("billing.example.org");
    let identity = Some(Identity { certificates, private_key: key.into() });
    let server_name = Some("gateway.example.org".to_owned());
    let right = Tls { ca_certificates: Some(authority), identity, server_name };
    let list = |tls: Tls| {
        let settings = Settings { tls, ..Settings::to(format!("https://{}", gateway.address())) };
        let client = Client::connect(&settings).unwrap();
        async move { client.connections().list_connections(ListConnectionsRequest::default()).await }
    };
    list(right.clone()).await.unwrap();
    let wrong = [
        Tls { server_name: Some("other.example.org".to_owned()), ..right.clone() },
        Tls { ca_certificates: None, ..right.clone() },
        Tls { identity: None, ..right },
    ];
    for tls in wrong {
        assert_ne!(list(tls).await.unwrap_err().code(), Code::Ok);
    }
}
