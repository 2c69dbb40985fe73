//! Moving a store: into NATS, out of it, and what is refused.

use std::time::Duration;

use postern_gateway::store::engine::{Engine, Place};
use postern_gateway::store::migrate::{MigrateError, Moved, migrate};
use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog, Expect, Retention, Store, StoredEvent};
use postern_proto::event::v1::Event;
use prost::Message as _;

use crate::outside;
use crate::store::conformance::{events, put, whole_log};
use crate::store::nats_server::{NatsServer, of_stream};

async fn moved(from: &Place, to: &Place) -> Result<Moved, MigrateError> {
    migrate(from, to, &of_stream("postern"), |_| {}).await
}

/// Fills a store: values and records, some written twice, some deleted, and events of several times, of which the first are gone.
async fn fill(store: &dyn Store, log: &dyn EventLog) {
    for number in 0..450 {
        let key = format!("connections/c-{number}");
        store.write(put(&key, "first", Expect::Absent)).await.unwrap();
        if number % 3 == 0 {
            store.write(put(&key, &format!("second {number}"), Expect::Any)).await.unwrap();
        }
    }
    for number in 0..450 {
        let key = format!("ledger/{number}");
        let begun = store.write(put(&key, "begun", Expect::Absent)).await.unwrap();
        if number % 3 == 0 {
            store.write(put(&key, &format!("ended {number}"), Expect::Revision(begun))).await.unwrap();
        }
    }
    for group in 0..30 {
        log.append(events(&format!("{group}-"), 50), Vec::new()).await.unwrap();
    }
    let kept: u64 = whole_log(log).await[100..].iter().map(|event| event.encoded.len() as u64).sum();
    log.trim(Retention { age: Duration::from_secs(3_600), bytes: kept }).await.unwrap();
}

/// What must be the same: values, and events but for their places.
async fn all_of(store: &dyn Store, log: &dyn EventLog) -> (Vec<(String, bytes::Bytes)>, Vec<Event>) {
    let mut values = store.list("", "", 10_000).await.unwrap();
    values.extend(store.records(None, 10_000).await.unwrap());
    values.sort_by(|one, other| one.key.cmp(&other.key));
    let bare = |stored: &StoredEvent| Event {
        cursor: bytes::Bytes::new(),
        ..Event::decode(stored.encoded.clone()).unwrap()
    };
    let events = whole_log(log).await.iter().map(bare).collect();
    (values.into_iter().map(|entry| (entry.key, entry.value)).collect(), events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_into_nats_and_back_with_all_it_holds() {
    let Some(server) = NatsServer::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (folder.path().join("first"), folder.path().join("last"));
    let sqlite = Sqlite::open(&first).unwrap();
    fill(&*sqlite, &*sqlite).await;
    let (before, epoch) = (all_of(&*sqlite, &*sqlite).await, sqlite.bounds().await.unwrap().epoch);
    sqlite.close().await.unwrap();

    let (first, nats, last) = (Place::Folder(first), Place::Nats(server.servers()), Place::Folder(last));
    let all = Moved { values: 900, events: 1_400 };
    assert_eq!(moved(&first, &nats).await.unwrap(), all);
    assert_eq!(moved(&nats, &last).await.unwrap(), all);
    for place in [nats, last] {
        let engine = Engine::open(&place, &of_stream("postern")).await.unwrap();
        assert_eq!(all_of(&*engine.store(), &*engine.log()).await, before);
        let bounds = engine.log().bounds().await.unwrap();
        assert_eq!((bounds.first, bounds.last), (1, 1_400));
        assert_ne!(bounds.epoch, epoch, "old cursors would mean other events");
        // Ids are known there: what comes again is not stored again.
        assert_eq!(engine.log().append(events("29-", 51), Vec::new()).await.unwrap().stored, 1);
        engine.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_moved_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| Place::Folder(folder.path().join(name));
    let problem = async |from: &Place, to: &Place| moved(from, to).await.unwrap_err().to_string();
    let (source, target) = (place("source"), place("target"));
    assert!(problem(&source, &target).await.contains("no store is there"));
    assert!(!folder.path().join("source").exists() && !folder.path().join("target").exists());

    let sqlite = Sqlite::open(&folder.path().join("source")).unwrap();
    sqlite.write(put("a", "value", Expect::Absent)).await.unwrap();
    assert!(problem(&source, &target).await.contains("another process uses it"));
    sqlite.close().await.unwrap();
    assert!(problem(&source, &source).await.contains("expected another"));

    assert_eq!(moved(&source, &target).await.unwrap(), Moved { values: 1, events: 0 });
    assert!(problem(&source, &target).await.contains("it is not empty"));

    // A copy that broke off: neither a gateway nor another copy takes it for whole.
    let half = Sqlite::open(&folder.path().join("half")).unwrap();
    half.write(put("migration/unfinished", "1", Expect::Absent)).await.unwrap();
    half.close().await.unwrap();
    assert!(problem(&source, &place("half")).await.contains("a copy that was not finished"));
    let opened = Engine::open(&place("half"), &of_stream("postern")).await;
    assert!(opened.is_err_and(|error| error.to_string().contains("a copy that was not finished")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_a_gateway_is_at_work_on_is_not_moved() {
    let Some(server) = NatsServer::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (Place::Nats(server.servers()), Place::Folder(folder.path().to_owned()));
    let at_work = Engine::open(&from, &of_stream("postern")).await.unwrap();
    let store = at_work.store();
    store.write(put("gateways/one", "0", Expect::Absent)).await.unwrap();
    // An idle one: all that it writes is that it lives.
    let beating = tokio::spawn(async move {
        for beat in 1.. {
            tokio::time::sleep(Duration::from_secs(2)).await;
            store.write(put("gateways/one", &beat.to_string(), Expect::Any)).await.unwrap();
        }
    });
    let refused = moved(&from, &to).await.unwrap_err().to_string();
    assert!(refused.contains("it changed meanwhile: expected all gateways on it to be stopped"), "{refused}");
    // Nobody takes what was copied for whole.
    assert!(Engine::open(&to, &of_stream("postern")).await.is_err());
    beating.abort();
    let again = Place::Folder(folder.path().join("again"));
    assert_eq!(moved(&from, &again).await.unwrap(), Moved { values: 1, events: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_copies_and_says_how_much() {
    let Some(server) = NatsServer::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(folder.path()).unwrap();
    sqlite.append(events("e", 7), vec![put("a", "value", Expect::Absent)]).await.unwrap();
    sqlite.close().await.unwrap();
    let to = server.servers().to_string();
    let run = async |from: &str, to: &str| {
        let mut command = tokio::process::Command::new(outside::program("gateway"));
        command.args(["migrate", "--from", from, "--to", to]).output().await.unwrap()
    };
    let from = folder.path().to_str().unwrap();
    let copied = run(from, &to).await;
    let said = String::from_utf8_lossy(&copied.stdout).into_owned();
    assert!(copied.status.success() && said.contains("copied 1 values and 7 events"), "{copied:?}");
    let again = run(from, &to).await;
    let said = String::from_utf8_lossy(&again.stderr).into_owned() + &String::from_utf8_lossy(&again.stdout);
    assert!(!again.status.success() && said.contains("it is not empty"), "{said}");
}
