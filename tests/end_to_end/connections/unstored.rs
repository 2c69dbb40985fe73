//! A new grant that the store does not take is not used, and not lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{Change, Entry, IsOver, Revision, Store, StoreError, Write};
use postern_proto::connection::v1::{Connection, ConnectionState};
use postern_proto::connector::v1::OpenConnection;
use prost::Message as _;
use tokio::sync::broadcast::Receiver;

use super::OFFICE;
use crate::edge::{Edge, Fake, outlook, reason};

/// A store on a disk that is full whenever a grant is written, so many times.
struct FullForGrants {
    store: Arc<Sqlite>,
    refusals: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Store for FullForGrants {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        let one_less = |left: usize| left.checked_sub(1);
        if write.key.starts_with("grants/")
            && self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
        {
            return Err(StoreError::Failed("no space left on device".to_owned()));
        }
        self.store.write(write).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.list(prefix, after, limit).await
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.records(after, limit).await
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        self.store.forget(is_over).await
    }

    fn watch(&self) -> Receiver<Change> {
        self.store.watch()
    }
}

/// An edge with the connection to the office, and how often its store is to refuse a grant.
async fn edge(fake: &Fake) -> (Edge, Arc<AtomicUsize>) {
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = refusals.clone();
    let edge =
        Edge::behind(fake, move |store| Arc::new(FullForGrants { store, refusals: counted.clone() })).await;
    edge.create("office", outlook()).await.unwrap();
    (edge, refusals)
}

/// The grant that a call went with.
async fn used(edge: &Edge) -> String {
    let opened = edge.office().await.unwrap().opened;
    String::from_utf8(OpenConnection::decode(&opened[..]).unwrap().grant.to_vec()).unwrap()
}

#[tokio::test]
async fn a_new_grant_is_stored_before_it_is_used_though_the_store_fails_at_first() {
    let fake = Fake::granting("outlook");
    let (edge, refusals) = edge(&fake).await;
    refusals.store(3, Ordering::SeqCst);
    assert_eq!(used(&edge).await, "grant-1");
    assert_eq!(refusals.load(Ordering::SeqCst), 0);
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1);
    assert!(edge.store.get("grants/office").await.unwrap().is_some());
}

#[tokio::test]
async fn a_new_grant_that_cannot_be_stored_is_not_used_and_not_lost() {
    let fake = Fake::granting("outlook");
    let (edge, refusals) = edge(&fake).await;
    assert_eq!(used(&edge).await, "grant-1");
    let stored = || async { edge.store.get("grants/office").await.unwrap().unwrap() };
    let (first, begun) = (stored().await, fake.state.begun.load(Ordering::SeqCst));
    // The provider rotates: from now on the first grant is worth nothing.
    fake.state.spent.store(1, Ordering::SeqCst);
    refusals.store(usize::MAX, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(reason(&edge.office().await.unwrap_err()), "STORAGE_UNAVAILABLE");
    }
    assert_eq!(stored().await, first);
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 2, "what it gave is kept: it is asked no more");
    assert_eq!(fake.state.begun.load(Ordering::SeqCst), begun + 2, "only the old one was tried");
    refusals.store(0, Ordering::SeqCst);
    assert_eq!(used(&edge).await, "grant-2");
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 2);
    assert_ne!(stored().await, first);
    assert_eq!(edge.get(OFFICE).await.unwrap().state(), ConnectionState::Ready);

    // Kept for what it was given for, and not beyond.
    fake.state.spent.store(2, Ordering::SeqCst);
    refusals.store(usize::MAX, Ordering::SeqCst);
    edge.office().await.unwrap_err();
    edge.update(Connection { name: OFFICE.into(), ..outlook() }, None).await.unwrap();
    refusals.store(0, Ordering::SeqCst);
    assert_eq!(used(&edge).await, "grant-4");
}
