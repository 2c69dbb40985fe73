//! Calls that go through the gateway to a connector.

use std::sync::atomic::Ordering;

use postern_gateway::forward::Forwarder;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connector::v1::{OpenConnection, PollRequest};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::Service as _;

use crate::edge::{Edge, Fake, PATIENCE, SECRET, Said, Say, outlook, reason, smtp, until};

mod copies;
mod door;
mod killed;
mod lost;
mod streams;

pub(crate) use killed::Copy;

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
    let stop = tokio_util::sync::CancellationToken::new();
    let mut forwarder = Forwarder::new(edge.connections.clone(), edge.connectors.clone(), stop);
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
