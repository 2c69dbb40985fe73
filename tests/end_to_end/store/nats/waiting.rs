//! Starts before NATS: what passes is waited for, as long as the settings say.

use std::time::Duration;

use clap::Parser as _;
use postern_gateway::serve::{Listeners, serve};
use postern_gateway::settings::Settings;
use postern_gateway::store::nats::{Nats, NatsSettings};
use postern_gateway::store::{Expect, Store as _};
use tokio_util::sync::CancellationToken;

use super::open;
use crate::several::cluster::{Cluster, SERVERS};
use crate::store::conformance::put;
use crate::store::nats_server::{NatsServer, of_stream};
use crate::world::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_a_server_that_is_not_there_yet() {
    let Some(mut server) = NatsServer::start().await else { return };
    open(&server).await.write(put("a", "before", Expect::Absent)).await.unwrap();
    server.kill();
    let servers = server.servers();
    let opening = tokio::spawn(async move { Nats::open(&servers, &of_stream("postern")).await });
    // Long enough for a start that does not wait.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!opening.is_finished());
    server.run().await;
    let opened = tokio::time::timeout(PATIENCE, opening).await.unwrap().unwrap().unwrap();
    assert_eq!(&*opened.get("a").await.unwrap().unwrap().value, b"before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_servers_that_can_agree_on_a_leader_and_says_so_where_they_never_do() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let servers = cluster.addresses().parse().unwrap();
    let settings = NatsSettings { replicas: SERVERS, ..of_stream("postern") };
    let first = Nats::open(&servers, &settings).await.unwrap();
    first.write(put("a", "before", Expect::Absent)).await.unwrap();
    first.close().await.unwrap();
    cluster.kill(0);
    cluster.kill(1);
    let impatient = NatsSettings { wait: Duration::from_secs(1), ..settings.clone() };
    let Err(refused) = Nats::open(&servers, &impatient).await else {
        panic!("it was opened by one of three")
    };
    assert!(refused.to_string().contains("waited for 1s"), "{refused}");
    let opening = tokio::spawn(async move { Nats::open(&servers, &settings).await });
    cluster.start_again(0).await;
    let opened = tokio::time::timeout(2 * PATIENCE, opening).await.unwrap().unwrap().unwrap();
    assert_eq!(&*opened.get("a").await.unwrap().unwrap().value, b"before");
}

#[tokio::test]
async fn a_gateway_that_waits_for_its_store_stops_when_asked_to() {
    let free = || tokio::net::TcpListener::bind("127.0.0.1:0");
    let settings = Settings::parse_from(["gateway", "--store", "nats://127.0.0.1:1"]);
    let (listeners, stop) = (Listeners::from(free().await.unwrap()), CancellationToken::new());
    let serving = tokio::spawn(serve(listeners, settings, stop.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!serving.is_finished());
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
}
