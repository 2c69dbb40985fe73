//! Stores of gateways on a cluster of three nats-servers, one of which dies, or is cut off from the others and still takes
//! its clients: all go on in time, and what was acknowledged to any of them holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postern_gateway::store::nats::{Nats, NatsSettings};
use postern_gateway::store::{EventLog as _, Expect, Store as _, StoreError};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cluster::{Cluster, NOWHERE, SERVERS};
use crate::client::Relay;
use crate::store::conformance::{event, id_of, put, whole_log};
use crate::store::nats_server::of_stream;
use crate::world::until;

/// How long a gateway may stand still for a server that is cut off: a vote on a leader takes the others up to ten seconds.
const BOUND: Duration = Duration::from_secs(15);
/// As who writes first at the server that is cut off, if not the leader: one more a time that this is tried, where a busy
/// machine took longer than the bound.
const NEWCOMERS: [&str; 3] = ["e", "f", "g"];

/// A gateway's store, which writes all the time.
struct Writer {
    store: Arc<Nats>,
    /// Its ways to the servers.
    doors: Vec<Relay>,
    count: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
    writing: JoinHandle<Vec<String>>,
}

impl Writer {
    /// One that has found a certain server, and knows the others.
    async fn at(cluster: &Cluster, server: usize, name: &'static str) -> Self {
        let mut doors = Vec::new();
        for other in 0..SERVERS {
            doors.push(Relay::before(if other == server { cluster.address(other) } else { NOWHERE }).await);
        }
        let servers: Vec<_> = doors.iter().map(|door| format!("nats://{}", door.address())).collect();
        let settings = NatsSettings { replicas: SERVERS, ..of_stream("postern") };
        let store = Nats::open(&servers.join(",").parse().unwrap(), &settings).await.unwrap();
        for (other, door) in doors.iter().enumerate() {
            door.lead_to(cluster.address(other));
        }
        let (count, done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let writing = tokio::spawn(write(store.clone(), name, count.clone(), done.clone()));
        Self { store, doors, count, done, writing }
    }

    /// Waits until something that it wrote from now on is acknowledged.
    async fn goes_on(&self) -> Duration {
        let (begun, before) = (Instant::now(), self.count.load(Ordering::SeqCst));
        // The first may have been made before.
        while self.count.load(Ordering::SeqCst) < before + 2 {
            assert!(begun.elapsed() < 4 * BOUND, "it stands still");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

/// Gives what was acknowledged. Whatever was not is not tried again.
async fn write(store: Arc<Nats>, name: &str, count: Arc<AtomicUsize>, done: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if done.load(Ordering::SeqCst) {
            break;
        }
        let new = event(&format!("{name}-{number}"));
        let key = put(&format!("keys/{}", new.id), "value", Expect::Absent);
        match store.append(vec![new.clone()], vec![key]).await {
            Ok(appended) => {
                assert_eq!(appended.stored, 1);
                acknowledged.push(new.id);
                count.fetch_add(1, Ordering::SeqCst);
            }
            Err(StoreError::Failed(_) | StoreError::Unknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    acknowledged
}

/// Waits until all go on, and gives how long the last one took.
async fn longest(writers: &[Writer]) -> Duration {
    let took = futures_util::future::join_all(writers.iter().map(Writer::goes_on)).await;
    println!("they went on after {took:?}");
    took.into_iter().max().unwrap()
}

async fn all_go_on(writers: &[Writer], within: Duration) {
    let took = longest(writers).await;
    assert!(took < within, "{took:?}");
}

/// Cuts a server off until all go on, and joins it again. Gives how long they stood still.
async fn cut_off(cluster: &Cluster, writers: &[Writer], server: usize) -> Duration {
    cluster.cut_off(server);
    let took = longest(writers).await;
    cluster.join(server);
    all_go_on(writers, 2 * BOUND).await;
    took
}

/// Two at the leader, one at each of the others.
async fn writers(cluster: &Cluster) -> Vec<Writer> {
    let first = Writer::at(cluster, 0, "first").await;
    let leader = cluster.leader("postern").await;
    let mut writers = vec![first, Writer::at(cluster, leader, "a").await];
    for (server, name) in [(leader, "b"), (leader + 1, "c"), (leader + 2, "d")] {
        writers.push(Writer::at(cluster, server % SERVERS, name).await);
    }
    all_go_on(&writers, 4 * BOUND).await;
    writers
}

/// Ends the writers. What was acknowledged to any of them is seen by all, once, and in the same order.
async fn check(writers: Vec<Writer>) {
    let (mut acknowledged, mut stores) = (Vec::new(), Vec::new());
    for writer in writers {
        writer.done.store(true, Ordering::SeqCst);
        acknowledged.extend(writer.writing.await.unwrap());
        stores.push((writer.store, writer.doors));
    }
    let mut logs = Vec::new();
    for (store, _) in &stores {
        // Servers that were away may not answer at once.
        until("the log is bounded", || async { store.bounds().await.ok() }).await;
        let log = whole_log(&**store).await;
        assert!(log.iter().zip(1..).all(|(event, place)| event.sequence == place), "a hole");
        let keys = until("keys are listed", || async { store.list("keys/", "", 100_000).await.ok() }).await;
        assert_eq!(keys.len(), log.len(), "all or nothing");
        logs.push(log.iter().map(id_of).collect::<Vec<_>>());
    }
    assert!(logs.iter().all(|log| *log == logs[0]));
    let ids: HashSet<_> = logs[0].iter().collect();
    assert_eq!(ids.len(), logs[0].len(), "an event is there twice");
    let lost: Vec<_> = acknowledged.iter().filter(|id| !ids.contains(*id)).collect();
    assert!(lost.is_empty(), "{lost:?} were lost");
    println!("{} were acknowledged", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_leave_a_server_that_is_cut_off_and_keep_what_they_acknowledged() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut writers = writers(&cluster).await;
    let mut took = Vec::new();
    while took.iter().all(|took| *took >= BOUND) {
        assert!(took.len() < NEWCOMERS.len(), "{took:?}");
        let leader = cluster.leader("postern").await;
        took.push(cut_off(&cluster, &writers, leader).await);
    }
    // One that does not lead, and whoever is at it now.
    let mut took = Vec::new();
    while took.iter().all(|took| *took >= BOUND) {
        let name = NEWCOMERS.get(took.len()).unwrap_or_else(|| panic!("{took:?}"));
        let follower = (cluster.leader("postern").await + 1) % SERVERS;
        writers.push(Writer::at(&cluster, follower, name).await);
        all_go_on(&writers, 2 * BOUND).await;
        took.push(cut_off(&cluster, &writers, follower).await);
    }
    check(writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_server_may_die_and_come_back_and_what_was_acknowledged_holds() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let writers = writers(&cluster).await;
    // The leader first.
    let first = cluster.leader("postern").await;
    for server in (first..first + SERVERS).map(|server| server % SERVERS) {
        cluster.kill(server);
        all_go_on(&writers, 2 * BOUND).await;
        cluster.start_again(server).await;
        cluster.is_whole("postern").await;
    }
    all_go_on(&writers, BOUND).await;
    check(writers).await;
}
