//! Calls that go through the gateway to a connector.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_chassis::fault::retry_after_of;
use postern_chassis::serve::ServeSettings;
use postern_gateway::connectors::Connectors;
use postern_gateway::forward::Forwarder;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connector::v1::{OpenConnection, PollRequest};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, ClientTlsConfig};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::Service as _;

use crate::edge::{Edge, Fake, PATIENCE, SECRET, Said, Say, outlook, reason, smtp, until};

/// A method that the contract says changes nothing, which the fakes take as well.
const SAFE: &str = "/postern.outlook.v1.MailService/GetEmails";
/// One that changes something.
const UNSAFE: &str = "/postern.outlook.v1.MailService/SendEmail";

fn opened(said: &Said) -> OpenConnection {
    OpenConnection::decode(&said.opened[..]).unwrap()
}

#[tokio::test]
async fn a_call_reaches_its_connector_with_the_connection_and_without_what_is_not_its_business() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let mut request = Request::new(Say::new("hello"));
    for (name, value) in [
        ("authorization", "Bearer caller"),
        ("postern-anything", "forged"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-team", "billing"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let forged = OpenConnection { grant: "forged".into(), ..Default::default() };
    let forged = postern_chassis::opened::encode(&forged);
    request.metadata_mut().insert_bin("postern-connection-bin", forged);
    let answer = edge.ask("/test.echo.v1.EchoService/Unary", request).await.unwrap();

    assert!(answer.metadata().contains_key("outer"));
    assert!(!answer.metadata().contains_key("postern-inner"), "{:?}", answer.metadata());
    let said = answer.into_inner();
    assert_eq!(said.text, "hello");
    let connection = opened(&said).connection.unwrap();
    assert_eq!(opened(&said).grant, "");
    assert_eq!(connection.name, "connections/billing");
    let Some(Settings::Smtp(settings)) = connection.settings else { panic!("other settings") };
    assert_eq!(settings.port, 587);
    let Some(Credentials::SmtpCredentials(credentials)) = connection.credentials else {
        panic!("no credentials")
    };
    assert_eq!(credentials.password, SECRET);
    let metadata = said.metadata.join("\n");
    assert!(metadata.contains("traceparent: 00-0af7") && metadata.contains("x-team: billing"), "{metadata}");
    assert!(!metadata.contains("caller") && !metadata.contains("forged"), "{metadata}");
    assert_eq!(metadata.matches("postern-").count(), 1, "{metadata}");
}

#[tokio::test]
async fn a_connection_that_cannot_be_meant_is_refused() {
    let (one, two) = (Fake::of("smtp"), Fake::of("outlook"));
    let edge = Edge::before(&[&one]).await;
    edge.billing().await;
    for (name, code, expected) in [
        ("connections/nowhere", Code::NotFound, "CONNECTION_NOT_FOUND"),
        ("", Code::InvalidArgument, "FIELD_INVALID"),
        ("billing", Code::InvalidArgument, "FIELD_INVALID"),
    ] {
        let refused = edge.call("Unary", Say::to(name, "x")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (code, expected.into()), "{name}");
    }
    assert_eq!(one.state.begun.load(Ordering::SeqCst), 0);

    let edge = Edge::before(&[&one, &two]).await;
    edge.create("office", outlook()).await.unwrap();
    let refused = edge.call("Unary", Say::to("connections/office", "x")).await;
    // Both fakes take the service: it is the first one's, whichever kind that is.
    let other =
        edge.create("billing", smtp()).await.map(|_| edge.call("Unary", Say::new("x"))).unwrap().await;
    let refused = [refused, other].into_iter().find_map(Result::err).unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "CONNECTION_WRONG_KIND");
}

#[tokio::test]
async fn what_no_connector_takes_is_unimplemented_and_the_gateways_own_stays_its_own() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    let unknown = edge.ask("/elsewhere.v1.Service/Method", Request::new(Say::new("x"))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    let inner = "/postern.connector.v1.ConnectorService/Poll";
    assert_eq!(edge.ask(inner, Request::new(Say::new("x"))).await.unwrap_err().code(), Code::Unimplemented);
    // The fake claims this service as well.
    edge.client()
        .list_connections(postern_proto::connection::v1::ListConnectionsRequest::default())
        .await
        .unwrap();
    assert_eq!(fake.state.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_error_comes_back_as_the_connector_gave_it() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    fake.state.refresh_refusal.lock().unwrap().replace(postern_chassis::fault::Fault::new(
        Code::Internal,
        "X",
        "x",
    ));
    let refused = edge.call("Unary", Say::new("refuse")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, "no"));
    assert_eq!(reason(&refused), "MESSAGE_REFUSED");
    assert!(refused.metadata().contains_key("outer"));
    let own: Vec<_> = refused.metadata().clone().into_headers().keys().map(ToString::to_string).collect();
    assert!(!own.iter().any(|name| name.starts_with("postern-")), "{own:?}");
}

#[tokio::test]
async fn a_stream_goes_both_ways_at_the_same_time() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let (says, sent) = tokio::sync::mpsc::channel(1);
    let mut client = tonic::client::Grpc::new(edge.channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.echo.v1.EchoService/Stream");
    says.send(Say::new("0")).await.unwrap();
    let request = Request::new(ReceiverStream::new(sent));
    let codec = ProstCodec::<Say, Said>::default();
    let mut answers = client.streaming(request, path, codec).await.unwrap().into_inner();
    for number in 0..50 {
        // Each answer is here before the next message is sent.
        assert_eq!(answers.message().await.unwrap().unwrap().text, number.to_string());
        let next = Say { text: (number + 1).to_string(), ballast: vec![7; 40_000], ..Default::default() };
        says.send(next).await.unwrap();
    }
    drop(says);
    let last = answers.message().await.unwrap().unwrap();
    assert_eq!((last.text.as_str(), last.ballast.len()), ("50", 40_000));
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_message_passes_up_to_the_bound_and_not_beyond() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let ballast = |length| Say { ballast: vec![7; length], ..Say::new("x") };
    let said = edge.call("Unary", ballast(3 * 1024 * 1024)).await.unwrap().into_inner();
    assert_eq!(said.ballast.len(), 3 * 1024 * 1024);
    let refused = edge.call("Unary", ballast(5 * 1024 * 1024)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".into()));
    assert_eq!(fake.state.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_its_caller_drops_is_dropped_at_the_connector() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let hanging = edge.call("Unary", Say::new("hang"));
    tokio::select! {
        _ = hanging => panic!("it hangs"),
        () = until("it began", || async { fake.state.begun.load(Ordering::SeqCst) == 1 }) => {}
    }
    until("it was dropped", || async { fake.state.dropped.load(Ordering::SeqCst) == 1 }).await;
}

/// Calls the forwarder itself, with nothing around it that has a word in it. Gives code and reason.
async fn directly(edge: &Edge, timeout: &str, body: Vec<u8>) -> (Code, String) {
    let mut forwarder = Forwarder::new(edge.connections.clone(), edge.connectors.clone());
    let request = http::Request::post("/test.echo.v1.EchoService/Unary")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(Body::new(http_body_util::Full::new(bytes::Bytes::from(body))))
        .unwrap();
    let response = forwarder.call(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let status = Status::from_header_map(response.headers()).expect("trailers only");
    if status.code() == Code::Unimplemented {
        assert_eq!(response.headers()["grpc-accept-encoding"], "identity");
    }
    (status.code(), reason(&status))
}

/// A message with its prefix.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[tokio::test]
async fn a_deadline_ends_the_call_here_and_there() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let hang = framed(0, &Say::new("hang").encode_to_vec());
    let ended = tokio::time::timeout(PATIENCE, directly(&edge, "300m", hang)).await.unwrap();
    assert_eq!(ended, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
    until("it was dropped", || async { fake.state.dropped.load(Ordering::SeqCst) == 1 }).await;

    let mut request = Request::new(Say::new("x"));
    request.metadata_mut().insert("grpc-timeout", "20S".parse().unwrap());
    let said = edge.ask("/test.echo.v1.EchoService/Unary", request).await.unwrap().into_inner();
    let passed = said.metadata.iter().find_map(|line| line.strip_prefix("grpc-timeout: ")).unwrap();
    let micros: u64 = passed.strip_suffix('u').unwrap().parse().unwrap();
    assert!((10_000_000..20_000_000).contains(&micros), "{passed}");
}

#[tokio::test]
async fn what_is_no_request_is_refused_before_any_connector_hears_of_it() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let message = Say::new("x").encode_to_vec();
    for (body, code, expected) in [
        (vec![], Code::InvalidArgument, "MESSAGE_MALFORMED"),
        (framed(0, &[0xff]), Code::InvalidArgument, "MESSAGE_MALFORMED"),
        (framed(0, &message)[..9].to_vec(), Code::InvalidArgument, "MESSAGE_MALFORMED"),
        (framed(1, &message), Code::Unimplemented, "COMPRESSION_UNSUPPORTED"),
    ] {
        assert_eq!(directly(&edge, "10S", body).await, (code, expected.into()));
    }
    assert_eq!(fake.state.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_refused_access_token_is_renewed_once_and_the_call_repeated_once() {
    let fake = Fake::granting("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    let call = || edge.call("Unary", Say::to("connections/office", "x"));
    assert_eq!(opened(call().await.unwrap().get_ref()).grant, "grant-1");
    fake.state.spent.store(1, Ordering::SeqCst);
    assert_eq!(opened(call().await.unwrap().get_ref()).grant, "grant-2");
    assert_eq!(fake.state.begun.load(Ordering::SeqCst), 3);

    fake.state.spent.store(1_000, Ordering::SeqCst);
    let refused = call().await.unwrap_err();
    assert_eq!(reason(&refused), "CREDENTIALS_REFUSED");
    assert!(!refused.metadata().contains_key("postern-refresh"));
    assert_eq!(fake.state.begun.load(Ordering::SeqCst), 5, "one repeat, no more");
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 3);
    assert_eq!(reason(&call().await.unwrap_err()), "CREDENTIALS_REFUSED");
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 3, "what did not help is not done again at once");
}

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
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let store = postern_gateway::store::sqlite::Sqlite::open(folder.path()).unwrap();
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
async fn the_gateways_own_calls_go_the_same_way() {
    let fake = Fake::granting("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    let poll = PollRequest { cursor: "here".into(), ..Default::default() };
    let answer =
        edge.connections.call("connections/office", PATIENCE, poll, |mut connector, request| async move {
            connector.poll(request).await
        });
    assert_eq!(answer.await.unwrap().next_cursor, "here");
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1);
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
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        Connectors::new(vec![address.parse().unwrap()], Some(tls)).unwrap()
    };
    let right = trusting(ours.cert.pem());
    assert_eq!(right.all_described(PATIENCE).await, Vec::<String>::new());
    assert_eq!(right.for_kind("smtp").unwrap().kind(), "smtp");
    let wrong = trusting(other.cert.pem());
    assert_eq!(wrong.all_described(Duration::from_millis(500)).await.len(), 1);
    assert_eq!(wrong.for_kind("smtp").unwrap_err().reason(), "CONNECTOR_UNAVAILABLE");
}
