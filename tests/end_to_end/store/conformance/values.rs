//! What every store promises of values.

use postern_gateway::store::{Expect, MAX_VALUE_BYTES, MAX_WRITES, NewEvent, StoreError};

use super::{Engine, Opened, delete, event, events, is_conflict, put, value};

pub(crate) async fn what_is_written_is_read(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    assert_eq!(store.get("connections/billing").await.unwrap(), None);
    let revision = store.write(put("connections/billing", "one", Expect::Any)).await.unwrap();
    let entry = store.get("connections/billing").await.unwrap().unwrap();
    assert_eq!(
        (entry.key.as_str(), &*entry.value, entry.revision),
        ("connections/billing", &b"one"[..], revision)
    );
    assert!(revision > 0);
    store.write(delete("connections/billing", Expect::Any)).await.unwrap();
    assert_eq!(store.get("connections/billing").await.unwrap(), None);
}

pub(crate) async fn a_key_that_is_there_is_not_made_again(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    let revision = store.write(put("a", "first", Expect::Absent)).await.unwrap();
    assert!(is_conflict(&store.write(put("a", "second", Expect::Absent)).await, "a"));
    assert!(is_conflict(&store.write(put("a", "second", Expect::Revision(revision + 1))).await, "a"));
    assert!(is_conflict(&store.write(put("b", "second", Expect::Revision(revision))).await, "b"));
    assert_eq!(value(&*store, "a").await.unwrap(), "first");
    store.write(put("a", "second", Expect::Revision(revision))).await.unwrap();
    assert_eq!(value(&*store, "a").await.unwrap(), "second");
    assert!(is_conflict(&store.write(delete("a", Expect::Revision(revision))).await, "a"));
    assert!(value(&*store, "a").await.is_some());
}

pub(crate) async fn of_two_writers_at_one_revision_one_wins(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    let mut revision = store.write(put("lease", "free", Expect::Absent)).await.unwrap();
    for round in 0..50 {
        let writes = ["one", "two", "three"].map(|name| {
            let (store, value) = (store.clone(), format!("{name} {round}"));
            tokio::spawn(async move {
                store.write(put("lease", &value, Expect::Revision(revision))).await.map(|new| (new, value))
            })
        });
        let mut won = Vec::new();
        for write in writes {
            match write.await.unwrap() {
                Ok(winner) => won.push(winner),
                answer => assert!(is_conflict(&answer, "lease"), "{answer:?}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        assert!(won[0].0 > revision);
        revision = won[0].0;
        assert_eq!(value(&*store, "lease").await.unwrap(), won[0].1);
    }
}

pub(crate) async fn a_refused_write_leaves_its_neighbours_alone(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    store.write(put("taken", "first", Expect::Absent)).await.unwrap();
    let writes = (0..200).map(|number| {
        let store = store.clone();
        let refused = number % 3 == 0;
        let key = if refused { "taken".to_owned() } else { format!("free/{number}") };
        tokio::spawn(async move { (refused, store.write(put(&key, "new", Expect::Absent)).await) })
    });
    for write in writes.collect::<Vec<_>>() {
        let (refused, answer) = write.await.unwrap();
        assert_eq!(refused, is_conflict(&answer, "taken"), "{answer:?}");
        assert_eq!(refused, answer.is_err(), "{answer:?}");
    }
    assert_eq!(store.list("free/", "", 1_000).await.unwrap().len(), 133);
    assert_eq!(value(&*store, "taken").await.unwrap(), "first");
}

pub(crate) async fn revisions_grow_over_deletions(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    let first = store.write(put("a", "first", Expect::Absent)).await.unwrap();
    let deleted = store.write(delete("a", Expect::Revision(first))).await.unwrap();
    let second = store.write(put("a", "second", Expect::Absent)).await.unwrap();
    assert!(first < deleted && deleted < second);
    assert!(is_conflict(&store.write(put("a", "third", Expect::Revision(first))).await, "a"));
}

pub(crate) async fn a_list_pages_through_a_prefix_in_order(engine: &impl Engine) {
    let Opened { store, .. } = engine.open().await;
    let keys = [
        "connections/c",
        "connections/a",
        "connections/b-1",
        "connections",
        "connections0",
        "triggers/a",
        "b",
    ];
    for key in keys {
        store.write(put(key, key, Expect::Absent)).await.unwrap();
    }
    let list = async |prefix: &str, after: &str, limit| {
        let entries = store.list(prefix, after, limit).await.unwrap();
        entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert_eq!(list("connections/", "", 2).await, ["connections/a", "connections/b-1"]);
    assert_eq!(list("connections/", "connections/b-1", 2).await, ["connections/c"]);
    assert_eq!(list("connections/", "connections/b", 9).await, ["connections/b-1", "connections/c"]);
    assert_eq!(list("connections/", "connections/c", 2).await, [""; 0]);
    assert_eq!(list("connections/", "a", 1).await, ["connections/a"]);
    assert_eq!(list("", "triggers", 9).await, ["triggers/a"]);
    assert_eq!(list("", "", 9).await.len(), keys.len());
    assert_eq!(list("nothing/", "", 9).await, [""; 0]);
}

pub(crate) async fn watchers_see_each_change_once_and_in_order(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    store.write(put("before", "unseen", Expect::Any)).await.unwrap();
    let (mut one, mut two) = (store.watch(), store.watch());
    let mut expected = Vec::new();
    for number in 0..20 {
        let key = format!("key/{}", number % 5);
        let revision = store.write(put(&key, &number.to_string(), Expect::Any)).await.unwrap();
        expected.push((key, Some(revision)));
    }
    assert!(store.write(put("key/0", "refused", Expect::Absent)).await.is_err());
    store.write(delete("key/1", Expect::Any)).await.unwrap();
    expected.push(("key/1".to_owned(), None));
    // What is large and waited for by nobody is told to none.
    store.write(put("content/large", "untold", Expect::Absent)).await.unwrap();
    store.write(delete("content/large", Expect::Any)).await.unwrap();
    log.append(Vec::new(), vec![put("with-events", "seen", Expect::Absent)]).await.unwrap();
    for watcher in [&mut one, &mut two] {
        for (key, revision) in &expected {
            let change = watcher.recv().await.unwrap();
            assert_eq!((&change.key, change.value.map(|entry| entry.revision)), (key, *revision));
        }
        assert_eq!(watcher.recv().await.unwrap().key, "with-events");
        assert!(watcher.is_empty());
    }
}

pub(crate) async fn what_no_store_takes_is_refused(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    let refused = |answer: Result<u64, StoreError>| {
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}")
    };
    for key in ["", "/a", "a/", "a//b", "a b", "a/ü", &"k".repeat(600)] {
        refused(store.write(put(key, "value", Expect::Any)).await);
    }
    let large = "x".repeat(MAX_VALUE_BYTES);
    store.write(put("large", &large, Expect::Any)).await.unwrap();
    refused(store.write(put("large", &format!("{large}x"), Expect::Any)).await);
    let twice = vec![put("a", "1", Expect::Any), put("a", "2", Expect::Any)];
    refused(log.append(Vec::new(), twice).await.map(|appended| appended.last));
    let many: Vec<_> =
        (0..=MAX_WRITES).map(|number| put(&format!("many/{number}"), "1", Expect::Any)).collect();
    refused(log.append(Vec::new(), many).await.map(|appended| appended.last));
    assert_eq!(store.list("many/", "", 1).await.unwrap(), []);
    let event = NewEvent { encoded: vec![0; 70_000].into(), ..event("too-large") };
    refused(log.append(vec![event], Vec::new()).await.map(|appended| appended.last));
    assert_eq!(value(&*store, "a").await, None);
    assert_eq!(log.bounds().await.unwrap().last, 0);
}

pub(crate) async fn a_commit_of_the_most_writes_is_made_with_its_events(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    let key = |number: usize| format!("many/{number:03}");
    let writes = |value| (0..MAX_WRITES).map(|number| put(&key(number), value, Expect::Any)).collect();
    // As many events as a look tells at most.
    let appended = log.append(events("e", 10_000), writes("one")).await.unwrap();
    assert_eq!((appended.stored, appended.last), (10_000, 10_000));
    // The last one is there twice.
    let mut twice: Vec<_> = writes("two");
    twice[MAX_WRITES - 1].key = key(0);
    let refused = log.append(events("f", 1), twice).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let listed = store.list("many/", "", 1_000).await.unwrap();
    assert_eq!(listed.len(), MAX_WRITES);
    assert!(listed.iter().all(|entry| entry.value == "one") && log.bounds().await.unwrap().last == 10_000);
}
