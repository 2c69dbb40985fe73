//! HTTP/2 flow control is the only pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{
    Appended, Bounds, Commit, EventLog, Retention, Sequence, StoreError, StoredEvent,
};
use postern_proto::event::v1::SubscribeRequest;
use postern_proto::event::v1::subscribe_response::Kind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::world::{Subscriber, World, serve_log};
use crate::store::conformance::sized_event;

/// A log that counts the bytes read from it.
struct Counted {
    log: Arc<Sqlite>,
    read: AtomicUsize,
}

#[tonic::async_trait]
impl EventLog for Counted {
    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        self.log.commit(commit).await
    }

    async fn read(
        &self,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let found = self.log.read(after, events, bytes).await?;
        self.read.fetch_add(found.iter().map(|event| event.encoded.len()).sum(), Ordering::Relaxed);
        Ok(found)
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        self.log.bounds().await
    }

    fn seen(&self) -> Bounds {
        self.log.seen()
    }

    async fn place_at(&self, time: SystemTime) -> Result<Sequence, StoreError> {
        self.log.place_at(time).await
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.log.tail()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        self.log.trim(retention).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_does_not_read_holds_little_and_slows_nobody() {
    /// What the buffers between the two ends hold: the client's windows, the server's send buffer and one batch.
    const ON_THE_WAY: usize = 4 * 1024 * 1024;
    let world = World::start().await;
    let counted = Arc::new(Counted { log: world.sqlite.clone(), read: AtomicUsize::new(0) });
    let (address, _serving) = serve_log(counted.clone(), CancellationToken::new()).await;
    let mut idle = Subscriber::start(address, SubscribeRequest::default()).await;
    assert!(matches!(idle.next().await, Kind::Opened(_)));
    let mut eager = world.opened(SubscribeRequest::default()).await;

    let appending = async {
        for round in 0..50 {
            let new = (0..32).map(|number| sized_event(&format!("{round}-{number}"), 16_000));
            world.append(new.collect()).await;
        }
    };
    let (got, ()) = tokio::join!(eager.events(1_600), appending);
    let all: usize = got.iter().map(prost::Message::encoded_len).sum();
    let read = counted.read.load(Ordering::Relaxed);
    assert!(all > 5 * ON_THE_WAY);
    assert!(read < ON_THE_WAY, "{read} bytes of {all} were read for who does not read");

    // It reads on as soon as it wants to, from disk what memory no longer holds, and has lost nothing.
    let late = idle.events(1_600).await;
    assert!(got.iter().map(|event| &event.id).eq(late.iter().map(|event| &event.id)));
}
