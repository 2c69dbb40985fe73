//! Where providers push to: who is answered, and how.

use postern_chassis::serve::ServeSettings;
use postern_gateway::http;
use postern_proto::event::v1::PauseTriggerRequest;
use reqwest::{Client, StatusCode};
use tokio_util::sync::CancellationToken;

use super::{HOUR, asked, make, name, settled};
use crate::world::triggers::at_rest;
use crate::world::{PATIENCE, World, until};

/// A client of HTTP as providers are.
fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}

/// How many rounds of changes the provider was asked for.
fn rounds(world: &World) -> usize {
    let exchanges = world.place.graph.recorder().exchanges();
    exchanges.iter().filter(|exchange| exchange.url.contains("/delta")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_watches_that_are_known_and_who_knows_their_secret_are_heeded() {
    let world = World::pushed().await;
    make(&world, "one", HOUR).await;
    settled(&world, "one").await;
    let made = asked(&world, "POST").remove(0).request_body;
    let url = made["notificationUrl"].as_str().unwrap().to_owned();
    assert!(
        url.starts_with(&format!("http://{}/postern/notifications/office/", world.http.unwrap())),
        "{url}"
    );
    let secret = made["clientState"].as_str().unwrap();
    let item =
        |secret: &str| serde_json::json!({"value": [{"clientState": secret, "changeType": "created"}]});
    let client = client();
    let post = |url: &str, body: String| client.post(url).body(body).send();
    // What was agreed on has led to a look: what happened before was not pushed.
    until("there is a look since", || async {
        let exchanges = world.place.graph.recorder().exchanges();
        let asked = exchanges.iter().position(|exchange| exchange.url.starts_with("/v1.0/subscriptions"));
        exchanges[asked?..].iter().any(|exchange| exchange.url.contains("/delta")).then_some(())
    })
    .await;
    at_rest(&world.channel, "one").await;
    let before = rounds(&world);

    let base = format!("http://{}", world.http.unwrap());
    let unknown = format!("{base}/postern/notifications/office/{}", "0".repeat(32));
    for nowhere in [
        unknown.as_str(),
        &base,
        &format!("{base}/postern/notifications/office/x"),
        &url.replace("/postern", ""),
    ] {
        let answer = post(nowhere, item(secret).to_string()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{nowhere}");
    }
    assert_eq!(post(&url, item("guess").to_string()).await.unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(post(&url, "{".to_owned()).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let large = post(&url, "x".repeat(1024 * 1024 + 1)).await;
    // It may have ended the connection before all was sent.
    assert!(large.is_err() || large.unwrap().status() == StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(client.put(&url).send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);

    let asks = format!("{url}?validationToken=%3Cb%3Ehello+there");
    for method in [reqwest::Method::POST, reqwest::Method::GET] {
        let answer = client.request(method, &asks).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/plain");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.text().await.unwrap(), "<b>hello there");
    }
    // None of these has led to a look, and what follows does: looks are in order.
    assert_eq!(rounds(&world), before);
    assert_eq!(post(&url, item(secret).to_string()).await.unwrap().status(), StatusCode::ACCEPTED);
    until("there is a look", || async { (rounds(&world) > before).then_some(()) }).await;

    let pause = PauseTriggerRequest { name: name("one"), ..Default::default() };
    world.triggers().pause_trigger(pause).await.unwrap();
    until("nobody is there any more", || async {
        let answer = post(&url, item(secret).to_string()).await.unwrap();
        (answer.status() == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_too_much_at_the_door_is_not_waited_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::pushed().await;
    let mut stream = tokio::net::TcpStream::connect(world.http.unwrap()).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\nx: {}\r\n", "x".repeat(64 * 1024));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_or_idle_at_the_door_is_sent_away() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::pushed().await;
    make(&world, "one", HOUR).await;
    settled(&world, "one").await;
    let made = asked(&world, "POST").remove(0).request_body;
    let url: ::http::Uri = made["notificationUrl"].as_str().unwrap().parse().unwrap();
    let body = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf", url.path());
    // What each says, and how what it hears begins.
    let conversations = [
        ("", ""),
        ("POST / HTTP/1.1\r\nhost:", ""),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 404"),
        (&body, "HTTP/1.1 408"),
    ];
    let address = world.http.unwrap();
    let hearing = conversations.map(|(said, _)| {
        let said = said.to_owned();
        tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut heard = Vec::new();
            // Until the other side ends it.
            let _ = stream.read_to_end(&mut heard).await;
            String::from_utf8_lossy(&heard).into_owned()
        })
    });
    for (hearing, (said, expected)) in hearing.into_iter().zip(conversations) {
        let heard = tokio::time::timeout(2 * PATIENCE, hearing).await;
        let heard = heard.unwrap_or_else(|_| panic!("never sent away: {said:?}")).unwrap();
        assert!(heard.starts_with(expected), "{said:?}: {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_speaks_tls_where_the_gateway_does_and_ends_what_is_in_flight_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let settings =
        ServeSettings { tls_cert_file: Some(chain.clone()), tls_key_file: Some(key), ..Default::default() };
    let tls = http::tls(&settings).unwrap();
    assert!(tls.is_some() && http::tls(&ServeSettings::default()).unwrap().is_none());
    let swapped = ServeSettings { tls_key_file: Some(chain), ..settings };
    assert!(http::tls(&swapped).is_err_and(|error| error.to_string().contains("--tls-key-file")));

    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let router = axum::Router::new().fallback(|| async { "hello" });
    let serving =
        tokio::spawn(http::serve(listener, tls, router, stop.clone(), std::time::Duration::from_secs(5)));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusted = reqwest::Certificate::from_pem(signed.cert.pem().as_bytes()).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    let answer = client.get(format!("https://127.0.0.1:{port}/")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hello");
    assert!(client.get(format!("http://127.0.0.1:{port}/")).send().await.is_err());
    stop.cancel();
    serving.await.unwrap();
    assert!(client.get(format!("https://127.0.0.1:{port}/")).send().await.is_err());
}
