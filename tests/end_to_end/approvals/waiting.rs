//! AwaitResponse: the answer reaches who waits, whatever happens to the gateway meanwhile.

use std::sync::Arc;
use std::time::Duration;

use postern_chassis::fault::retry_after_of;
use postern_gateway::approvals::{Approvals, Needs};
use postern_gateway::connections::Connections;
use postern_gateway::connectors::Connectors;
use postern_gateway::leases::Leases;
use postern_gateway::outbox::Outbox;
use postern_gateway::seal::KeyRing;
use postern_gateway::store::sqlite::Sqlite;
use postern_proto::approval::v1::approval_service_server::ApprovalServiceServer;
use postern_proto::approval::v1::*;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};
use tower::ServiceExt as _;

use super::browser::Browser;
use super::stage::{A_LOOK, Stage};
use super::*;
use crate::world::PATIENCE;

pub(crate) async fn wait(channel: &Channel, name: &str) -> Streaming<AwaitResponseResponse> {
    let request = AwaitResponseRequest { name: name.into(), ..Default::default() };
    client(channel).await_response(request).await.unwrap().into_inner()
}

pub(crate) async fn next(stream: &mut Streaming<AwaitResponseResponse>) -> Result<Option<Approval>, Status> {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("it is told in time")?;
    Ok(next.map(|told| told.approval.filter(|_| told.tell_time.is_some()).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_pending_then_the_answer_over_a_restart() {
    let mut stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let mut stream = wait(&stage.channel, &name).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap().state(), ApprovalState::Pending);
    let mut browser = Browser::new();
    let form = browser.open(&link).await.form();
    stage.stop.cancel();
    let status = next(&mut stream).await.unwrap_err();
    assert_eq!((status.code(), &*reason_of(&status)), (Code::Unavailable, "DRAINING"));
    assert!(retry_after_of(&status).is_some());
    stage.restart(&[]).await;

    let mut stream = wait(&stage.channel, &name).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap().state(), ApprovalState::Pending);
    tokio::time::sleep(A_LOOK).await;
    // The page was given out before the restart.
    browser.press(&link, &form).await.says(200, &["Thank you"]);
    let told = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(
        (told.state(), &*told.selected_option, &*told.responder),
        (ApprovalState::Answered, "Approve", CARLA)
    );
    assert!(next(&mut stream).await.unwrap().is_none(), "the stream ends with it");
    // And for whoever calls again.
    let mut again = wait(&stage.channel, &name).await;
    assert_eq!(next(&mut again).await.unwrap().unwrap(), told);
    assert!(next(&mut again).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_is_broken_by_what_is_known() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let interval = Duration::from_secs(5);
    let heartbeat_interval = Some(interval.try_into().unwrap());
    let request = AwaitResponseRequest { name: name.clone(), heartbeat_interval };
    let mut stream = client(&stage.channel).await_response(request.clone()).await.unwrap().into_inner();
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(next(&mut stream).await.unwrap().unwrap().state(), ApprovalState::Pending);
    }
    assert!(begun.elapsed() >= interval - Duration::from_millis(50), "{:?}", begun.elapsed());
    let short = prost_types::Duration { seconds: 4, nanos: 0 };
    let request = AwaitResponseRequest { heartbeat_interval: Some(short), ..request };
    let refused = client(&stage.channel).await_response(request).await.map(drop);
    assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
    let nothing = AwaitResponseRequest { name: "approvals/nothing".into(), ..Default::default() };
    let refused = client(&stage.channel).await_response(nothing).await.map(drop);
    assert_refused(refused, Code::NotFound, "APPROVAL_NOT_FOUND");
}

/// The approvals of one gateway over a store that others share.
async fn approvals(store: &Arc<Sqlite>, keys: &Arc<KeyRing>, stop: &CancellationToken) -> Approvals {
    use clap::Parser as _;
    let settings = postern_gateway::settings::Settings::parse_from(["gateway"]);
    let connectors = Arc::new(Connectors::new(Vec::new(), None).unwrap());
    let connections = Arc::new(Connections::new(store.clone(), store.clone(), connectors, keys.clone()));
    let digests = keys.digest_key().unwrap();
    let leases = Leases::start(store.clone(), "a gateway".to_owned()).await.unwrap();
    let (outbox, _) = Outbox::start(
        connections.clone(),
        store.clone(),
        store.clone(),
        leases.clone(),
        digests.clone(),
        settings.outbox.clone(),
        (stop.clone(), Duration::ZERO),
    );
    let (approvals, _) = Approvals::start(Needs {
        connections,
        outbox,
        store: store.clone(),
        log: store.clone(),
        leases,
        digests,
        public_url: Some("http://127.0.0.1:1/postern".parse().unwrap()),
        settings: settings.approvals.clone(),
        stop: stop.clone(),
    });
    approvals
}

/// Presses the button of a link at one gateway, which nobody listens for.
async fn press(approvals: &Approvals, link: &str) {
    let path = link.split_once("/postern").unwrap().1;
    let request = |method: &str| http::Request::builder().method(method).uri(format!("/postern{path}"));
    let open = request("GET").body(axum::body::Body::empty()).unwrap();
    let page = approvals.router().oneshot(open).await.unwrap();
    let cookie = page.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (status, headers) = (page.status(), page.headers().clone());
    let text = axum::body::to_bytes(page.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let form = super::browser::Seen { status, headers, text }.form();
    tokio::time::sleep(A_LOOK).await;
    let fields = form.fields.iter().chain(&form.button);
    let fields: Vec<_> = fields.map(|(name, value)| format!("{name}={value}")).collect();
    let press = request("POST")
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(axum::body::Body::from(fields.join("&")))
        .unwrap();
    assert_eq!(approvals.router().oneshot(press).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_at_one_gateway_reaches_who_waits_at_another() {
    let mut stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(1);
    stage.end().await;
    let data = stage.folder.path().join("data");
    let store = Sqlite::open(&data).unwrap();
    let keys = Arc::new(KeyRing::read(&data.join("keys")).unwrap());
    let stop = CancellationToken::new();
    let [one, other] = [approvals(&store, &keys, &stop).await, approvals(&store, &keys, &stop).await];
    let mut waits = approval_service_client::ApprovalServiceClient::new(ApprovalServiceServer::new(other));
    let request = AwaitResponseRequest { name, ..Default::default() };
    let mut stream = waits.await_response(request).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await.unwrap().unwrap().state(), ApprovalState::Pending);
    press(&one, &link).await;
    let told = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((told.state(), &*told.selected_option), (ApprovalState::Answered, "Reject"));
    stop.cancel();
    store.close().await.unwrap();
}
