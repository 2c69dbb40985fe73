//! What a server takes as one: commits that come near it are made, each beside its neighbours.

use std::time::Duration;

use futures_util::future::join_all;
use postern_gateway::store::{EventLog as _, Expect, MAX_WRITES, Store as _, StoreError};

use super::open;
use crate::store::conformance::{put, sized_event};
use crate::store::nats_server::NatsServer;

const A_MINUTE: Duration = Duration::from_secs(60);

fn writes(prefix: &str, count: usize) -> Vec<postern_gateway::store::Write> {
    (0..count).map(|number| put(&format!("{prefix}/{number}"), "value", Expect::Absent)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_commit_is_made_beside_many_small_ones() {
    let Some(server) = NatsServer::start().await else { return };
    let gateway = open(&server).await;
    for round in 0..5 {
        // While the first of them is written the others wait together, the large one behind nearly a group of small ones.
        let small = (0..8).map(|number| (format!("small{round}-{number}"), 60));
        let large = [(format!("large{round}"), MAX_WRITES)];
        let commits = small.chain(large).map(|(prefix, count)| {
            let gateway = gateway.clone();
            async move { gateway.append(Vec::new(), writes(&prefix, count)).await }
        });
        for made in tokio::time::timeout(A_MINUTE, join_all(commits)).await.unwrap() {
            made.unwrap();
        }
    }
    let all = gateway.list("", "", 10_000).await.unwrap().len();
    assert_eq!(all, 5 * (8 * 60 + MAX_WRITES));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_that_two_looks_tell_fits_beside_the_most_writes() {
    let Some(server) = NatsServer::start().await else { return };
    let gateway = open(&server).await;
    let events = (0..2_200).map(|number| sized_event(&number.to_string(), 60_000)).collect();
    let appended =
        tokio::time::timeout(A_MINUTE, gateway.append(events, writes("key", MAX_WRITES))).await.unwrap();
    assert_eq!(appended.unwrap().stored, 2_200);
    // On a busy machine the server may leave a client that has yet to read so much: it is back soon.
    let listed = async {
        loop {
            match gateway.list("", "", 1_000).await {
                Ok(listed) => return listed,
                Err(StoreError::Failed(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(A_MINUTE, listed).await.unwrap().len(), MAX_WRITES);
}
