//! Changes whose connector can know: where nobody knows how the first try ended, the connector is asked again, and told
//! that it is.

use std::path::Path;
use std::sync::atomic::Ordering;

use postern_chassis::fault::reason_of;
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest};
use postern_sandbox::child::Gateway;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::edge::{Fake, Said, Say, ask, ask_with_stream, outlook, smtp, until};
use crate::outside;
use crate::world::connect;

/// A change that the contract says can be asked again.
const REPEATABLE: &str = "/postern.outlook.v1.MailService/SendEmail";
/// One that takes a stream.
const REPEATABLE_STREAM: &str = "/postern.outlook.v1.MailService/SendLargeEmail";
/// One that cannot.
const ONCE_ONLY: &str = "/postern.smtp.v1.SmtpService/SendEmail";

/// A gateway in a process of its own, before a fake.
async fn start(folder: &Path, fake: &Fake) -> (Gateway, Channel) {
    start_before(folder, &[fake]).await
}

/// The same, before copies of one.
async fn start_before(folder: &Path, fakes: &[&Fake]) -> (Gateway, Channel) {
    let addresses: Vec<_> = fakes.iter().map(|fake| format!("http://{}", fake.address())).collect();
    let connectors = addresses.join(",");
    let lead = ["--connectors", connectors.as_str()];
    let program = outside::program("gateway");
    let gateway = Gateway::start(&program, &lead, "127.0.0.1:0", folder, "error").await.unwrap();
    let channel = connect(gateway.address()).await;
    (gateway, channel)
}

async fn create(channel: &Channel) {
    create_of(channel, outlook()).await;
}

async fn create_of(channel: &Channel, connection: Connection) {
    let request = CreateConnectionRequest {
        connection_id: "office".to_owned(),
        connection: Some(connection),
        ..Default::default()
    };
    ConnectionServiceClient::new(channel.clone()).create_connection(request).await.unwrap();
}

/// What hangs at the connector the first time, and is answered the second.
fn say(request_id: &str) -> Say {
    Say { request_id: request_id.to_owned(), ..Say::to("connections/office", "hang-once") }
}

fn is_told(said: &Said) -> bool {
    said.metadata.iter().any(|line| line == "postern-repeat: 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_asked_again_after_a_gateway_died_in_between() {
    let (fake, folder) = (Fake::of("outlook"), tempfile::tempdir().unwrap());
    let (gateway, channel) = start(folder.path(), &fake).await;
    create(&channel).await;
    let hanging = tokio::spawn(async move { ask(&channel, REPEATABLE, Request::new(say("a"))).await });
    until("it has begun", || async { fake.state.begun.load(Ordering::SeqCst) == 1 }).await;
    gateway.kill().await.unwrap();
    hanging.await.unwrap().unwrap_err();

    let (_gateway, channel) = start(folder.path(), &fake).await;
    let again = ask(&channel, REPEATABLE, Request::new(say("a"))).await.unwrap().into_inner();
    assert!(is_told(&again), "{:?}", again.metadata);
    let third = ask(&channel, REPEATABLE, Request::new(say("a"))).await.unwrap().into_inner();
    assert_eq!((&third, fake.state.begun.load(Ordering::SeqCst)), (&again, 2), "answered is answered");
    let other = Say { text: "other".to_owned(), ..say("a") };
    let reused = ask(&channel, REPEATABLE, Request::new(other)).await.unwrap_err();
    assert_eq!(reason_of(&reused), "REQUEST_ID_REUSED");
    // A first try is none, whatever its caller says.
    let mut forged = Request::new(say("b"));
    forged.metadata_mut().insert("postern-repeat", "1".parse().unwrap());
    assert!(!is_told(ask(&channel, REPEATABLE, forged).await.unwrap().get_ref()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_asked_again_too() {
    let (fake, folder) = (Fake::of("outlook"), tempfile::tempdir().unwrap());
    let (gateway, channel) = start(folder.path(), &fake).await;
    create(&channel).await;
    let says = || tokio_stream::iter([say("a"), Say { ballast: vec![7; 100_000], ..Default::default() }]);
    let hanging = tokio::spawn(async move { ask_with_stream(&channel, REPEATABLE_STREAM, says()).await });
    until("it was heard out", || async { fake.state.heard_out.load(Ordering::SeqCst) == 1 }).await;
    gateway.kill().await.unwrap();
    hanging.await.unwrap().unwrap_err();

    let (_gateway, channel) = start(folder.path(), &fake).await;
    let again = ask_with_stream(&channel, REPEATABLE_STREAM, says()).await.unwrap();
    assert!(is_told(&again), "{:?}", again.metadata);
    assert_eq!(ask_with_stream(&channel, REPEATABLE_STREAM, says()).await.unwrap(), again);
    assert_eq!(fake.state.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_connector_cannot_know_stays_unknown() {
    let (fake, folder) = (Fake::of("smtp"), tempfile::tempdir().unwrap());
    let (gateway, channel) = start(folder.path(), &fake).await;
    create_of(&channel, smtp()).await;
    let hanging = tokio::spawn(async move { ask(&channel, ONCE_ONLY, Request::new(say("a"))).await });
    until("it has begun", || async { fake.state.begun.load(Ordering::SeqCst) == 1 }).await;
    gateway.kill().await.unwrap();
    hanging.await.unwrap().unwrap_err();
    let (_gateway, channel) = start(folder.path(), &fake).await;
    let unknown = ask(&channel, ONCE_ONLY, Request::new(say("a"))).await.unwrap_err();
    assert_eq!((unknown.code(), reason_of(&unknown).as_str()), (Code::Unknown, "OUTCOME_UNKNOWN"));
    assert_eq!(fake.state.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_its_connector_left_open_is_asked_again() {
    let (mut fake, folder) = (Fake::of("outlook"), tempfile::tempdir().unwrap());
    let (_gateway, channel) = start(folder.path(), &fake).await;
    create(&channel).await;
    let asking = channel.clone();
    let hanging = tokio::spawn(async move { ask(&asking, REPEATABLE, Request::new(say("a"))).await });
    until("it has begun", || async { fake.state.begun.load(Ordering::SeqCst) == 1 }).await;
    fake.kill();
    let unknown = hanging.await.unwrap().unwrap_err();
    assert_eq!((unknown.code(), reason_of(&unknown).as_str()), (Code::Unknown, "OUTCOME_UNKNOWN"));
    fake.come_back();
    let asked = || async { ask(&channel, REPEATABLE, Request::new(say("a"))).await.ok() };
    let again = crate::world::until("it is answered", asked).await;
    assert!(is_told(again.get_ref()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_another_copy_could_not_look_for_yet_is_looked_for_later() {
    let (mut one, mut two) = (Fake::of("outlook"), Fake::of("outlook"));
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, channel) = start_before(folder.path(), &[&one, &two]).await;
    create(&channel).await;
    let probe = Say::to("connections/office", "x");
    let port = ask(&channel, REPEATABLE, Request::new(probe)).await.unwrap().into_inner().port;
    if port != u32::from(one.address().port()) {
        std::mem::swap(&mut one, &mut two);
    }
    // The first copy dies in the middle; the second one is told, and cannot ask its provider for now.
    let text = format!("hang-at {}", port);
    let change = || Say { request_id: "a".to_owned(), ..Say::to("connections/office", &text) };
    two.state.is_cut_off.store(true, Ordering::SeqCst);
    let before = one.state.begun.load(Ordering::SeqCst);
    let asking = channel.clone();
    let first = change();
    let hanging = tokio::spawn(async move { ask(&asking, REPEATABLE, Request::new(first)).await });
    until("it has begun", || async { one.state.begun.load(Ordering::SeqCst) == before + 1 }).await;
    one.kill();
    let refused = hanging.await.unwrap().unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
    // That it did nothing does not say that the first one did nothing.
    for _ in 0..2 {
        ask(&channel, REPEATABLE, Request::new(change())).await.unwrap_err();
    }
    two.state.is_cut_off.store(false, Ordering::SeqCst);
    let said = ask(&channel, REPEATABLE, Request::new(change())).await.unwrap().into_inner();
    assert!(is_told(&said), "{:?}", said.metadata);
}
