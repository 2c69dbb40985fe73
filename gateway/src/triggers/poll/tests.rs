//! What a look writes of very many places.

use super::*;
use crate::connectors::Connectors;
use crate::seal::KeyRing;
use crate::store::Expect;
use crate::store::sqlite::Sqlite;

/// A poller over a store that nobody else uses.
async fn poller(folder: &std::path::Path) -> Poller {
    let store = Sqlite::open(folder).unwrap();
    let connectors = Arc::new(Connectors::new(Vec::new(), None).unwrap());
    let keys = KeyRing::read_or_make(&folder.join("keys")).unwrap();
    let connections = Arc::new(Connections::new(store.clone(), store.clone(), connectors, keys));
    let leases = Leases::start(store.clone(), String::new()).await.unwrap();
    Poller { connections, leases, store: store.clone(), log: store }
}

#[tokio::test]
async fn the_place_of_who_tells_is_written_or_guarded_and_a_change_of_it_undoes_the_look() {
    let folder = tempfile::tempdir().unwrap();
    let poller = poller(folder.path()).await;
    let names: Vec<_> =
        (0..MAX_WRITES + 50).map(|number| format!("connections/office/triggers/mail-{number:03}")).collect();
    for some in names.chunks(MAX_WRITES) {
        let with_watch = stored::At::<Place>::default();
        let writes = some.iter().map(|name| with_watch.replaced(stored::place_key(name), &with_watch.value));
        poller.log.append(Vec::new(), writes.collect()).await.unwrap();
    }
    let member = |name: &String| {
        let trigger = Trigger { name: name.clone(), ..Trigger::default() };
        Member { trigger: Arc::new(trigger), place: None }
    };
    let members: Vec<_> = names.iter().map(member).collect();
    let places = async || {
        let told = names.iter().cloned().collect();
        poller.places(&members, &told, |_| None).await.unwrap()
    };
    // Beside the place of the watch.
    let Places { writes, guards, times } = places().await;
    assert_eq!((writes.len(), guards.len(), times.len()), (MAX_WRITES - 1, 51, 51));
    for (guard, time) in guards.iter().zip(&times) {
        assert_eq!((&guard.key, Expect::Revision(guard.revision)), (&time.key, time.expect));
    }
    // The last one is changed between the reading of its place and the commit.
    let changed = names.last().unwrap();
    poller.store.write(stored::alone_at(changed, Bytes::new())).await.unwrap();
    let refused = poller.log.commit(Commit { events: Vec::new(), writes, guards }).await;
    let key = stored::place_key(changed);
    assert!(matches!(&refused, Err(StoreError::Conflict { key: at }) if *at == key), "{refused:?}");
    // What it wrote since stays; of the others it is written when they told.
    poller.write_times(times).await;
    let place = async |name: &str| stored::read_place(poller.store.as_ref(), name).await.unwrap().value;
    assert_eq!(place(changed).await, Place { alone: Some(Bytes::new()), last_event_time: None });
    let before = place(&names[names.len() - 2]).await;
    assert!(before.alone.is_none() && before.last_event_time.is_some());
}
