//! Servers that die and connections that break.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postern_gateway::store::nats::Nats;
use postern_gateway::store::{EventLog as _, Expect, Store as _, StoreError, Write};

use super::open;
use crate::client::Relay;
use crate::store::conformance::{event, id_of, put, whole_log};
use crate::store::nats_server::{NatsServer, of_stream};

/// Kills of the server, each in the midst of writes.
const ROUNDS: usize = 4;
const A_MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_of_the_server_exactly_once() {
    let Some(mut server) = NatsServer::start().await else { return };
    let gateway = open(&server).await;
    let count = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (gateway, count) = (gateway.clone(), count.clone());
        tasks.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let new = event(&format!("{task}-{number}"));
                let key = format!("keys/{}", new.id);
                let write = put(&key, "value", Expect::Absent);
                // Whether it is known or not: none is tried twice.
                match gateway.append(vec![new.clone()], vec![write]).await {
                    Ok(appended) => {
                        assert_eq!(appended.stored, 1);
                        acknowledged.push((new.id, key));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(StoreError::Failed(_) | StoreError::Unknown(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                if count.load(Ordering::Relaxed) >= (ROUNDS + 1) * 100 {
                    break;
                }
            }
            acknowledged
        });
    }
    for round in 1..=ROUNDS {
        while count.load(Ordering::Relaxed) < round * 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill();
        server.run().await;
    }
    let acknowledged = tokio::time::timeout(2 * A_MINUTE, tasks.join_all()).await.unwrap().concat();
    assert!(acknowledged.len() >= (ROUNDS + 1) * 100);
    for gateway in [gateway, open(&server).await] {
        gateway.bounds().await.unwrap();
        let all = whole_log(&*gateway).await;
        let ids: HashSet<_> = all.iter().map(id_of).collect();
        assert_eq!(ids.len(), all.len(), "an event is there twice");
        assert!(all.iter().zip(1..).all(|(event, place)| event.sequence == place), "a hole");
        let keys: HashSet<_> =
            gateway.list("keys/", "", 100_000).await.unwrap().into_iter().map(|entry| entry.key).collect();
        for (id, key) in &acknowledged {
            assert!(ids.contains(id) && keys.contains(key), "{id} was lost");
        }
        // All or nothing: what was not acknowledged is there with both or with none.
        assert!(ids.iter().all(|id| keys.contains(&format!("keys/{id}"))) && ids.len() == keys.len());
    }
}

async fn through(relay: &Relay) -> Arc<Nats> {
    let servers = format!("nats://{}", relay.address()).parse().unwrap();
    Nats::open(&servers, &of_stream("postern")).await.unwrap()
}

/// A port that nobody listens on.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_learn_what_changed_while_their_gateway_was_cut_off() {
    let Some(server) = NatsServer::start().await else { return };
    let relay = Relay::before(server.address()).await;
    let (near, far) = (open(&server).await, through(&relay).await);
    near.write(put("gone", "before", Expect::Absent)).await.unwrap();
    near.write(put("kept", "before", Expect::Absent)).await.unwrap();
    far.list("", "", 10).await.unwrap();
    let (mut watching, mut tail) = (far.watch(), far.tail());
    relay.lead_to(NOWHERE);
    relay.cut();
    let unreached = tokio::time::timeout(A_MINUTE, far.get("kept")).await.unwrap();
    assert!(matches!(unreached, Err(StoreError::Failed(_))), "{unreached:?}");
    near.write(Write { key: "gone".to_owned(), value: None, expect: Expect::Any }).await.unwrap();
    near.write(put("kept", "between", Expect::Any)).await.unwrap();
    near.write(put("kept", "after", Expect::Any)).await.unwrap();
    near.append(vec![event("meanwhile")], vec![put("new", "after", Expect::Absent)]).await.unwrap();
    relay.lead_to(server.address());
    let mut told = Vec::new();
    while told.len() < 3 {
        let change = tokio::time::timeout(A_MINUTE, watching.recv()).await.unwrap().unwrap();
        told.push((change.key, change.value.map(|entry| entry.value)));
    }
    let after = || Some("after".into());
    assert_eq!(told, [("gone".to_owned(), None), ("kept".to_owned(), after()), ("new".to_owned(), after())]);
    tokio::time::timeout(A_MINUTE, tail.wait_for(|last| *last == 1)).await.unwrap().unwrap();
    assert_eq!(id_of(&far.read(0, 1, 1).await.unwrap()[0]), event("meanwhile").id);
    assert_eq!(far.list("", "", 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_made_once_and_answered() {
    let Some(server) = NatsServer::start().await else { return };
    let relay = Relay::before(server.address()).await;
    let (near, far) = (open(&server).await, through(&relay).await);
    for round in 0..5_u64 {
        // What is under way goes nowhere, or its answer does.
        let commits: Vec<_> = (0..20)
            .map(|number| {
                let (far, key) = (far.clone(), format!("{round}-{number}"));
                let write = put(&format!("keys/{key}"), "value", Expect::Absent);
                tokio::spawn(async move { far.append(vec![event(&key)], vec![write]).await })
            })
            .collect();
        if round % 2 == 0 {
            relay.fall_silent();
        }
        tokio::task::yield_now().await;
        relay.cut();
        for commit in commits {
            assert_eq!(tokio::time::timeout(A_MINUTE, commit).await.unwrap().unwrap().unwrap().stored, 1);
        }
    }
    assert_eq!(near.bounds().await.unwrap().last, 100);
    assert_eq!(near.list("keys/", "", 1_000).await.unwrap().len(), 100);
    assert_eq!(whole_log(&*near).await, whole_log(&*far).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_fails_writes_in_time_and_says_so() {
    let Some(mut server) = NatsServer::start().await else { return };
    let gateway = open(&server).await;
    gateway.write(put("a", "before", Expect::Absent)).await.unwrap();
    server.kill();
    let failed =
        tokio::time::timeout(A_MINUTE, gateway.write(put("a", "during", Expect::Any))).await.unwrap();
    assert!(matches!(failed, Err(StoreError::Failed(_) | StoreError::Unknown(_))), "{failed:?}");
    server.run().await;
    let after = async {
        while gateway.write(put("a", "after", Expect::Any)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(A_MINUTE, after).await.unwrap();
    assert_eq!(&*gateway.get("a").await.unwrap().unwrap().value, b"after");
}
