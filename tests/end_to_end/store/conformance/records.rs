//! What every store promises of records.

use std::collections::BTreeMap;

use bytes::Bytes;
use postern_gateway::store::{Commit, Expect, Guard, Store, StoreError};
use tokio::task::JoinSet;

use super::{Engine, Opened, delete, event, put};

/// The keys of all records with their values, by key, read so many at a time.
async fn records(store: &dyn Store, at_once: usize) -> BTreeMap<String, Bytes> {
    let (mut found, mut after) = (BTreeMap::new(), None);
    loop {
        let page = store.records(after.as_ref(), at_once).await.unwrap();
        assert!(page.len() <= at_once);
        let Some(last) = page.last() else { return found };
        after = Some(last.clone());
        for entry in page {
            assert_eq!(store.get(&entry.key).await.unwrap().as_ref(), Some(&entry));
            assert!(found.insert(entry.key, entry.value).is_none(), "given twice");
        }
    }
}

fn expected(values: &[(&str, &str)]) -> BTreeMap<String, Bytes> {
    values.iter().map(|(key, value)| ((*key).to_owned(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}

pub(crate) async fn records_are_kept_apart_and_told_to_no_watcher(engine: &impl Engine) {
    let Opened { store, log, .. } = engine.open().await;
    let mut watcher = store.watch();
    let conflict = |answer: Result<u64, StoreError>| {
        assert!(matches!(answer, Err(StoreError::Conflict { .. })), "{answer:?}")
    };
    assert_eq!(store.get("ledger/a").await.unwrap(), None);
    let begun = store.write(put("ledger/a", "begun", Expect::Absent)).await.unwrap();
    conflict(store.write(put("ledger/a", "again", Expect::Absent)).await);
    conflict(store.write(put("ledger/b", "none", Expect::Revision(begun))).await);
    let ended = store.write(put("ledger/a", "ended", Expect::Revision(begun))).await.unwrap();
    assert!(ended > begun);
    conflict(store.write(put("ledger/a", "late", Expect::Revision(begun))).await);
    let entry = store.get("ledger/a").await.unwrap().unwrap();
    assert_eq!((&*entry.value, entry.revision), (&b"ended"[..], ended));

    // Deleted it is free again, and no revision of before holds.
    let other = store.write(put("ledger/b", "begun", Expect::Absent)).await.unwrap();
    let gone = store.write(delete("ledger/b", Expect::Revision(other))).await.unwrap();
    assert_eq!(store.get("ledger/b").await.unwrap(), None);
    for revision in [other, gone] {
        conflict(store.write(put("ledger/b", "late", Expect::Revision(revision))).await);
    }
    store.write(put("ledger/b", "anew", Expect::Absent)).await.unwrap();

    // With other values and with events, all or nothing.
    let value = || put("value", "1", Expect::Absent);
    let refused = log.append(vec![event("e")], vec![value(), put("ledger/a", "2", Expect::Absent)]).await;
    assert!(matches!(refused, Err(StoreError::Conflict { key }) if key == "ledger/a"));
    assert_eq!(store.get("value").await.unwrap(), None);
    log.append(vec![event("e")], vec![value(), put("ledger/c", "2", Expect::Absent)]).await.unwrap();
    let guarded = |revision| Commit {
        writes: vec![put("ledger/d", "3", Expect::Absent)],
        guards: vec![Guard { key: "ledger/a".to_owned(), revision }],
        ..Commit::default()
    };
    assert!(log.commit(guarded(begun)).await.is_err());
    log.commit(guarded(ended)).await.unwrap();

    let all = expected(&[("ledger/a", "ended"), ("ledger/b", "anew"), ("ledger/c", "2"), ("ledger/d", "3")]);
    for at_once in [1, 3, 100] {
        assert_eq!(records(&*store, at_once).await, all);
    }
    let listed = store.list("", "", 9).await.unwrap();
    assert_eq!(listed.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["value"]);
    assert_eq!(watcher.recv().await.unwrap().key, "value");
    assert!(watcher.is_empty());
}

pub(crate) async fn records_outlast_a_reopening(engine: &impl Engine) {
    let opened = engine.open().await;
    let count = 500;
    let key = |number: usize| format!("ledger/{number}");
    let mut writing = JoinSet::new();
    for number in 0..count {
        let store = opened.store.clone();
        writing.spawn(async move {
            let begun = store.write(put(&key(number), "begun", Expect::Absent)).await.unwrap();
            match number % 3 {
                0 => store.write(put(&key(number), &"x".repeat(number), Expect::Revision(begun))).await,
                1 => store.write(delete(&key(number), Expect::Revision(begun))).await,
                _ => Ok(begun),
            }
        });
    }
    while let Some(written) = writing.join_next().await {
        written.unwrap().unwrap();
    }
    opened.close.await;
    let Opened { store, .. } = engine.open().await;
    let kept = records(&*store, 64).await;
    assert_eq!(kept.len(), count - count.div_ceil(3));
    for number in 0..count {
        let value = match number % 3 {
            0 => Some("x".repeat(number)),
            1 => None,
            _ => Some("begun".to_owned()),
        };
        assert_eq!(kept.get(&key(number)).cloned(), value.map(Bytes::from), "{number}");
        let free = store.write(put(&key(number), "anew", Expect::Absent)).await;
        assert_eq!(free.is_ok(), number % 3 == 1, "{number}");
    }
}

pub(crate) async fn records_that_are_over_are_forgotten(engine: &impl Engine) {
    let opened = engine.open().await;
    let store = opened.store.clone();
    for number in 0..300 {
        let first = store.write(put(&format!("ledger/{number}"), "old", Expect::Absent)).await.unwrap();
        if number == 7 {
            store.write(delete("ledger/7", Expect::Revision(first))).await.unwrap();
        }
    }
    // One of the old is written again, and lasts as long as the new.
    store.write(put("ledger/150", "new", Expect::Any)).await.unwrap();
    store.write(put("ledger/new", "new", Expect::Absent)).await.unwrap();
    store.write(put("other", "old", Expect::Absent)).await.unwrap();
    store.forget(&|record| &*record.value == b"old").await.unwrap();
    let left = expected(&[("ledger/150", "new"), ("ledger/new", "new")]);
    assert_eq!(records(&*store, 100).await, left);
    assert_eq!(store.get("ledger/3").await.unwrap(), None);
    assert!(store.get("other").await.unwrap().is_some());
    store.write(put("ledger/3", "anew", Expect::Absent)).await.unwrap();
    assert!(store.write(put("ledger/150", "anew", Expect::Absent)).await.is_err());
    opened.close.await;

    let Opened { store, .. } = engine.open().await;
    assert_eq!(store.get("ledger/3").await.unwrap().unwrap().value, "anew");
    assert_eq!(store.get("ledger/299").await.unwrap(), None);
    store.forget(&|_| true).await.unwrap();
    assert_eq!(store.get("ledger/150").await.unwrap(), None);
}
