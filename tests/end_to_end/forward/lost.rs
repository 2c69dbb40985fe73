//! Connectors that are not reached, go away and come back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_chassis::fault::retry_after_of;
use postern_chassis::serve::ServeSettings;
use postern_chassis::tls::client_config;
use postern_gateway::connectors::{Connectors, Watchfulness};
use postern_gateway::store::sqlite::Sqlite;
use postern_proto::connection::v1::CheckConnectionRequest;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::edge::{Edge, Fake, PATIENCE, Said, Say, outlook, reason, smtp, until};

/// A method that the contract says changes nothing, which the fakes take as well.
const SAFE: &str = "/postern.outlook.v1.MailService/GetEmails";
/// One that changes something.
const UNSAFE: &str = "/postern.outlook.v1.MailService/SendEmail";

#[tokio::test]
async fn a_connector_that_is_gone_is_unavailable_until_it_comes_back() {
    let mut fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    edge.call("Unary", Say::new("x")).await.unwrap();
    fake.kill();
    until("calls are refused for now", || async {
        let Err(refused) = edge.call("Unary", Say::new("x")).await else { return false };
        // A call on its way when the connector was killed may not know what became of it.
        if reason(&refused) == "OUTCOME_UNKNOWN" {
            return false;
        }
        assert_eq!((refused.code(), reason(&refused)), (Code::Unavailable, "CONNECTOR_UNAVAILABLE".into()));
        assert!(retry_after_of(&refused).is_some());
        true
    })
    .await;
    fake.come_back();
    until("calls are taken again", || async { edge.call("Unary", Say::new("x")).await.is_ok() }).await;
}

#[tokio::test]
async fn a_connector_that_was_never_reached_is_unavailable_and_heals() {
    let mut fake = Fake::of("smtp");
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let store = Sqlite::open(folder.path()).unwrap();
    fake.kill();
    let edge = Edge::over(folder, store, &[fake.address()], None).await;
    let silent = edge.connectors.all_described(Duration::from_millis(100)).await;
    assert_eq!(silent, [format!("http://{}/", fake.address())]);
    let refused = edge.call("Unary", Say::new("x")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::Unavailable, "CONNECTOR_UNAVAILABLE".into()));
    let refused = edge.create("billing", smtp()).await.unwrap_err();
    assert_eq!(reason(&refused), "CONNECTOR_UNAVAILABLE");
    fake.come_back();
    assert_eq!(edge.connectors.all_described(PATIENCE).await, Vec::<String>::new());
    edge.billing().await;
    edge.call("Unary", Say::new("x")).await.unwrap();
}

#[tokio::test]
async fn a_connection_sticks_to_a_replica_and_moves_when_that_one_goes() {
    let mut fakes = [Fake::of("smtp"), Fake::of("smtp"), Fake::of("smtp")];
    let edge = Edge::before(&fakes.each_ref()).await;
    let names: Vec<_> = (0..12).map(|number| format!("connections/sticky-{number:02}")).collect();
    for name in &names {
        edge.create(name.strip_prefix("connections/").unwrap(), smtp()).await.unwrap();
    }
    let port = async |name: &str| edge.call("Unary", Say::to(name, "x")).await.unwrap().into_inner().port;
    let mut home = HashMap::new();
    for name in &names {
        home.insert(name, port(name).await);
        for _ in 0..5 {
            assert_eq!(port(name).await, home[name], "{name}");
        }
    }
    let killed = home[&names[0]];
    let place = fakes.iter().position(|fake| u32::from(fake.address().port()) == killed).unwrap();
    fakes[place].kill();
    until("the killed one is known to be gone", || async {
        edge.call("Unary", Say::to(&names[0], "x")).await.is_ok()
    })
    .await;
    for name in &names {
        let now = port(name).await;
        assert!(if home[name] == killed { now != killed } else { now == home[name] }, "{name}");
    }
    fakes[place].come_back();
    until("it is home again", || async { port(&names[0]).await == killed }).await;
}

#[tokio::test]
async fn a_connector_that_dies_during_a_call_leaves_the_outcome_open_where_it_matters() {
    for (path, code, expected) in
        [(UNSAFE, Code::Unknown, "OUTCOME_UNKNOWN"), (SAFE, Code::Unavailable, "CONNECTOR_UNAVAILABLE")]
    {
        let mut fake = Fake::of("outlook");
        let edge = Edge::before(&[&fake]).await;
        edge.create("office", outlook()).await.unwrap();
        let state = fake.state.clone();
        let call = edge.ask(path, Request::new(Say::to("connections/office", "hang")));
        let kill = async {
            until("it began", || async { state.begun.load(Ordering::SeqCst) == 1 }).await;
            fake.kill();
        };
        let (broken, ()) = tokio::join!(call, kill);
        let broken: Status = broken.unwrap_err();
        assert_eq!((broken.code(), reason(&broken)), (code, expected.into()), "{path}");
    }
}

/// Watched as it is in earnest, but for how soon a question without an answer is doubted.
async fn check_while_deaf(fake: &Fake, suspicion: Duration) -> (Edge, tokio::task::JoinHandle<Status>) {
    let describe_timeout = Duration::from_millis(500);
    let watchfulness = Watchfulness { suspicion, describe_timeout, ..Default::default() };
    let edge = Edge::watched(&[fake.address()], watchfulness).await;
    edge.billing().await;
    fake.state.is_deaf.store(true, Ordering::SeqCst);
    let mut client = edge.client();
    let asking = tokio::spawn(async move {
        let request = CheckConnectionRequest { name: "connections/billing".into() };
        client.check_connection(request).await.unwrap_err()
    });
    until("it began", || async { fake.state.checks.load(Ordering::SeqCst) == 1 }).await;
    (edge, asking)
}

#[tokio::test]
async fn a_question_of_the_gateways_own_that_takes_long_has_its_connector_doubted() {
    let fake = Fake::of("smtp");
    let (edge, asking) = check_while_deaf(&fake, Duration::from_millis(300)).await;
    until("it is known not to answer", || async { !edge.connectors.unreached().is_empty() }).await;
    assert!(!asking.is_finished(), "it may be answered yet");
    asking.abort();
}

#[tokio::test]
async fn a_question_of_the_gateways_own_that_breaks_off_has_its_connector_doubted() {
    let mut fake = Fake::of("smtp");
    let (edge, asking) = check_while_deaf(&fake, Duration::from_secs(60)).await;
    fake.kill();
    assert_eq!(reason(&asking.await.unwrap()), "CONNECTOR_UNAVAILABLE");
    until("it is known to be gone", || async { !edge.connectors.unreached().is_empty() }).await;
}

#[tokio::test]
async fn a_stream_that_its_connector_leaves_ends_with_a_status() {
    let mut fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let (says, sent) = tokio::sync::mpsc::channel(1);
    let mut client = tonic::client::Grpc::new(edge.channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.echo.v1.EchoService/Stream");
    says.send(Say::new("0")).await.unwrap();
    let codec = ProstCodec::<Say, Said>::default();
    let request = Request::new(ReceiverStream::new(sent));
    let mut answers = client.streaming(request, path, codec).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "0");
    fake.kill();
    let broken = answers.message().await.unwrap_err();
    assert_eq!((broken.code(), reason(&broken)), (Code::Unknown, "OUTCOME_UNKNOWN".into()));
}

#[tokio::test]
async fn a_connector_is_reached_over_tls_by_the_authority_that_is_trusted_alone() {
    let folder = tempfile::tempdir().unwrap();
    let made = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (ours, other) = (made(), made());
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, ours.cert.pem()).unwrap();
    std::fs::write(&key, ours.signing_key.serialize_pem()).unwrap();
    let serving =
        ServeSettings { tls_cert_file: Some(certificate), tls_key_file: Some(key), ..Default::default() };
    let fake = Fake::served("smtp", serving);
    let address = format!("https://localhost:{}", fake.address().port());
    let trusting = |pem: String| {
        let tls = client_config(Some(&pem)).unwrap();
        Connectors::new(vec![address.parse().unwrap()], Some(tls)).unwrap()
    };
    let right = trusting(ours.cert.pem());
    assert_eq!(right.all_described(PATIENCE).await, Vec::<String>::new());
    assert_eq!(right.for_kind("smtp").unwrap().kind(), "smtp");
    let wrong = trusting(other.cert.pem());
    assert_eq!(wrong.all_described(Duration::from_millis(500)).await.len(), 1);
    assert_eq!(wrong.for_kind("smtp").unwrap_err().reason(), "CONNECTOR_UNAVAILABLE");
}
