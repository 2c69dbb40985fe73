//! Several gateways on one stream.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postern_gateway::store::nats::Nats;
use postern_gateway::store::{
    Commit, EventLog as _, Expect, Guard, MAX_VALUE_BYTES, Retention, Store as _, StoreError, Write,
};

use super::open;
use crate::store::conformance::{event, events, id_of, put, sized_event, whole_log};
use crate::store::nats_server::NatsServer;

const A_MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_writes_the_other_reads_at_once() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (open(&server).await, open(&server).await);
    let mut watching = two.watch();
    for number in 0..100 {
        let (key, value) = (format!("keys/{number}"), number.to_string());
        let revision = one.write(put(&key, &value, Expect::Absent)).await.unwrap();
        let entry = two.get(&key).await.unwrap().unwrap();
        assert_eq!((&*entry.value, entry.revision), (value.as_bytes(), revision));
        assert_eq!(two.list("keys/", "", 1_000).await.unwrap().len(), number + 1);
        assert_eq!(watching.recv().await.unwrap().value, Some(entry));
        // It need not have seen what it replaces.
        two.write(put(&key, "two", Expect::Revision(revision))).await.unwrap();
        let late = one.write(put(&key, "late", Expect::Revision(revision))).await;
        assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
        watching.recv().await.unwrap();
    }
    one.write(Write { key: "keys/7".to_owned(), value: None, expect: Expect::Any }).await.unwrap();
    assert_eq!(two.get("keys/7").await.unwrap(), None);
    assert_eq!(two.list("keys/", "", 1_000).await.unwrap().len(), 99);
    assert_eq!(watching.recv().await.unwrap().value, None);
    assert!(two.write(put("keys/7", "again", Expect::Absent)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_appends_the_other_streams_and_does_not_store_again() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (open(&server).await, open(&server).await);
    let mut tail = two.tail();
    one.append(events("e", 10), Vec::new()).await.unwrap();
    tokio::time::timeout(A_MINUTE, tail.wait_for(|last| *last == 10)).await.unwrap().unwrap();
    assert_eq!(two.read(0, 100, 1 << 20).await.unwrap(), one.read(0, 100, 1 << 20).await.unwrap());
    let again = two.append(events("e", 11), Vec::new()).await.unwrap();
    assert_eq!((again.stored, again.last), (1, 11));
    // Asked of the gateway that has not appended last: nothing acknowledged is beyond the bounds.
    for place in 12..40 {
        let (appends, asks) = if place % 2 == 0 { (&one, &two) } else { (&two, &one) };
        appends.append(vec![event(&format!("more{place}"))], Vec::new()).await.unwrap();
        assert_eq!(asks.bounds().await.unwrap().last, place);
    }
    let all = Retention { age: A_MINUTE, bytes: 0 };
    assert_eq!(one.trim(all).await.unwrap(), 39);
    let bounds = two.bounds().await.unwrap();
    assert_eq!((bounds.first, bounds.last), (40, 39));
    assert_eq!(two.append(events("e", 1), Vec::new()).await.unwrap().stored, 1);
    assert_eq!(one.bounds().await.unwrap().last, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_write_at_once_lose_nothing_and_double_nothing() {
    let Some(server) = NatsServer::start().await else { return };
    let gateways = [open(&server).await, open(&server).await, open(&server).await];
    gateways[0].write(put("count", "0", Expect::Absent)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..12 {
        let gateway = gateways[task % 3].clone();
        tasks.spawn(async move {
            for number in 0..25 {
                // Each event is appended by two tasks, of two gateways.
                gateway.append(vec![event(&format!("{}-{number}", task / 2))], Vec::new()).await.unwrap();
                add_one(&gateway).await;
            }
        });
    }
    tokio::time::timeout(A_MINUTE, tasks.join_all()).await.unwrap();
    for gateway in &gateways {
        assert_eq!(&*gateway.get("count").await.unwrap().unwrap().value, b"300");
        assert_eq!(gateway.bounds().await.unwrap().last, 150);
        let all = whole_log(&**gateway).await;
        assert!(all.iter().zip(1..).all(|(event, place)| event.sequence == place));
        assert_eq!(all.iter().map(id_of).collect::<HashSet<_>>().len(), 150);
    }
}

/// Adds one to a number that others add to as well.
async fn add_one(gateway: &Nats) {
    loop {
        let entry = gateway.get("count").await.unwrap().unwrap();
        let number: u32 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
        match gateway.write(put("count", &(number + 1).to_string(), Expect::Revision(entry.revision))).await {
            Ok(_) => return,
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_another_gateway_took_refuses_whoever_had_it() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (open(&server).await, open(&server).await);
    let revision = one.write(put("lease", "one", Expect::Absent)).await.unwrap();
    let guarded = |key: &str| Commit {
        events: vec![event(key)],
        writes: vec![put(key, "made", Expect::Absent)],
        guards: vec![Guard { key: "lease".to_owned(), revision }],
    };
    one.commit(guarded("before")).await.unwrap();
    two.write(put("lease", "two", Expect::Revision(revision))).await.unwrap();
    let refused = one.commit(guarded("after")).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!((one.get("after").await.unwrap(), one.bounds().await.unwrap().last), (None, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_values_and_large_ones_are_listed_whole() {
    let Some(server) = NatsServer::start().await else { return };
    let gateway = open(&server).await;
    for page in 0..3 {
        let writes =
            (0..300).map(|number| put(&format!("small/{page}-{number:03}"), "value", Expect::Absent));
        gateway.append(Vec::new(), writes.collect()).await.unwrap();
    }
    let large = Bytes::from(vec![7; MAX_VALUE_BYTES]);
    for number in 10..22 {
        let (key, value) = (format!("large/{number}"), Some(large.clone()));
        gateway.write(Write { key, value, expect: Expect::Absent }).await.unwrap();
    }
    let other = open(&server).await;
    let small = other.list("small/", "", 10_000).await.unwrap();
    assert!(small.len() == 900 && small.is_sorted_by(|one, two| one.key < two.key));
    let found = other.list("large/", "large/10", 10_000).await.unwrap();
    assert!(found.len() == 11 && found.iter().all(|entry| entry.value == large));
    let too_many = (0..1_000).map(|number| put(&format!("more/{number}"), "value", Expect::Absent)).collect();
    let refused = gateway.append(Vec::new(), too_many).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_comes_later_reads_all_there_was() {
    let Some(server) = NatsServer::start().await else { return };
    let gateway = open(&server).await;
    let new: Vec<_> = (0..12_000).map(|number| sized_event(&format!("e{number}"), 500)).collect();
    let mut rest = &new[..];
    while !rest.is_empty() {
        let (group, after) = rest.split_at(rest.len().min(1 + rest.len() % 700));
        gateway.append(group.to_vec(), Vec::new()).await.unwrap();
        rest = after;
    }
    let later = open(&server).await;
    let all = whole_log(&*later).await;
    assert_eq!(
        all.iter().map(id_of).collect::<Vec<_>>(),
        new.iter().map(|event| event.id.clone()).collect::<Vec<_>>()
    );
    // Many who read at once from everywhere.
    let reads = (0..64).map(|reader| {
        let later = later.clone();
        tokio::spawn(async move {
            let after = reader * 187;
            let found = later.read(after, 100, 1 << 20).await.unwrap();
            assert!(found.iter().zip(after + 1..).all(|(event, place)| event.sequence == place));
            found.len()
        })
    });
    for read in reads.collect::<Vec<_>>() {
        assert!(read.await.unwrap() > 0);
    }
    let half: u64 = all[6_000..].iter().map(|event| event.encoded.len() as u64).sum();
    assert_eq!(gateway.trim(Retention { age: A_MINUTE, bytes: half }).await.unwrap(), 6_000);
    let third = open(&server).await;
    assert_eq!(third.bounds().await.unwrap(), gateway.bounds().await.unwrap());
    assert_eq!(whole_log(&*third).await, all[6_000..]);
    assert_eq!(third.append(vec![event("e0")], Vec::new()).await.unwrap().stored, 1);
    let _: Arc<Nats> = third;
}
