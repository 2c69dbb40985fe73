//! What is shared of the log, and that nobody misses any of it by that.

use super::*;
use crate::events::new_event;
use crate::store::sqlite::Sqlite;
use crate::store::{Appended, Bounds, Commit, Retention};
use postern_proto::event::v1::{ConnectionStateChanged, EventData, event_data};

const START: Cursor = Cursor { epoch: 1, sequence: 0, fingerprint: 0 };

async fn log_of(events: usize) -> (tempfile::TempDir, Stretches) {
    let folder = tempfile::tempdir().unwrap();
    let log = Sqlite::open(folder.path()).unwrap();
    append(&*log, 0..events).await;
    (folder, Stretches::new(log))
}

async fn append(log: &dyn EventLog, numbers: std::ops::Range<usize>) {
    let event = |number: usize| {
        new_event("connections/shop", "email.received", None, &number.to_string(), None, None)
    };
    log.append(numbers.map(event).collect(), Vec::new()).await.unwrap();
}

async fn stretch(stretches: &Stretches, shelf: &Shelf, place: Cursor, last: Sequence) -> Arc<Stretch> {
    match stretches.after(shelf, place, last).await.unwrap() {
        Next::Stretch(stretch) => stretch,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_is_at_the_same_place_is_given_the_same_bytes() {
    let (_folder, stretches) = log_of(300).await;
    let (one, other) = (stretches.shelf(Filter::default()), stretches.shelf(Filter::default()));
    let first = stretch(&stretches, &one, START, 300).await;
    let second = stretch(&stretches, &one, first.to, 300).await;
    for (place, expected) in [(START, &first), (first.to, &second)] {
        let shared = stretch(&stretches, &other, place, 300).await;
        assert_eq!(shared.framed.as_ref().unwrap().as_ptr(), expected.framed.as_ref().unwrap().as_ptr());
    }
    assert_eq!(second.to.sequence, 300);
}

#[tokio::test]
async fn a_stretch_ends_at_the_beat_whatever_the_log_has_since() {
    let (_folder, stretches) = log_of(10).await;
    let shelf = stretches.shelf(Filter::default());
    let first = stretch(&stretches, &shelf, START, 4).await;
    assert_eq!(first.to.sequence, 4);
    assert_eq!(stretch(&stretches, &shelf, first.to, 10).await.to.sequence, 10);
}

#[tokio::test]
async fn who_comes_from_elsewhere_falls_in_with_the_others() {
    let (_folder, stretches) = log_of(40).await;
    let shelf = stretches.shelf(Filter::default());
    let others = stretch(&stretches, &shelf, Cursor { sequence: 20, ..START }, 40).await;
    let own = stretch(&stretches, &shelf, Cursor { sequence: 3, ..START }, 40).await;
    assert_eq!(own.to.sequence, 20);
    let joined = stretch(&stretches, &shelf, own.to, 40).await;
    assert!(Arc::ptr_eq(&joined, &others));
}

/// A log of which the read after one place waits.
struct Slow {
    log: Arc<Sqlite>,
    place: Sequence,
    may_read: tokio::sync::Notify,
}

#[tonic::async_trait]
impl EventLog for Slow {
    async fn read(
        &self,
        place: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if place == self.place {
            self.may_read.notified().await;
        }
        self.log.read(place, events, bytes).await
    }

    async fn commit(&self, commit: Commit) -> Result<Appended, StoreError> {
        self.log.commit(commit).await
    }

    async fn bounds(&self) -> Result<Bounds, StoreError> {
        self.log.bounds().await
    }

    fn seen(&self) -> Bounds {
        self.log.seen()
    }

    async fn place_at(&self, time: std::time::SystemTime) -> Result<Sequence, StoreError> {
        self.log.place_at(time).await
    }

    fn tail(&self) -> tokio::sync::watch::Receiver<Sequence> {
        self.log.tail()
    }

    async fn trim(&self, retention: Retention) -> Result<u64, StoreError> {
        self.log.trim(retention).await
    }
}

#[tokio::test]
async fn of_two_that_read_ahead_at_once_neither_misses_what_the_others_stretches_end_before() {
    let folder = tempfile::tempdir().unwrap();
    let log = Sqlite::open(folder.path()).unwrap();
    // Of a size of which what is read at once is no whole number of stretches.
    let event = |number: usize| {
        let changed = ConnectionStateChanged { reason: "x".repeat(870), ..Default::default() };
        let kind = Some(event_data::Kind::ConnectionStateChanged(changed));
        let key = number.to_string();
        new_event("connections/shop", "email.received", None, &key, None, Some(EventData { kind }))
    };
    log.append((0..500).map(event).collect(), Vec::new()).await.unwrap();
    let alone = Stretches::new(log.clone());
    let first = stretch(&alone, &alone.shelf(Filter::default()), START, 500).await.to;
    let second = stretch(&alone, &alone.shelf(Filter::default()), first, 500).await.to;

    let may_read = tokio::sync::Notify::new();
    let slow = Arc::new(Slow { log, place: second.sequence, may_read });
    let stretches = Stretches::new(slow.clone());
    let shelf = stretches.shelf(Filter::default());
    // The one reads while the other, who was a stretch behind, has its events and shelves them.
    let (one, other) = tokio::join!(stretches.some_after(&shelf, second, 500, 4), async {
        let read = stretches.some_after(&shelf, first, 500, 4).await.unwrap();
        slow.may_read.notify_one();
        read
    });
    assert!(other.last().unwrap().count < other[0].count, "the size must leave a short one");
    for (mut place, read) in [(second, one.unwrap()), (first, other)] {
        for stretch in read {
            assert!(stretch.follows(place));
            place = stretch.to;
            assert_eq!(stretch.count as u64, place.sequence - stretch.from);
        }
        let shelved = stretch(&stretches, &shelf, place, 500).await;
        assert_eq!(shelved.count as u64, shelved.to.sequence - place.sequence);
    }
}

#[tokio::test]
async fn shelves_keep_to_their_bounds_and_end_with_their_streams() {
    let (_folder, stretches) = log_of(0).await;
    let filter = |number: usize| {
        let types = vec![format!("email{number}")];
        let wish = postern_proto::event::v1::EventFilter { types, ..Default::default() };
        Filter::parse(wish, &mut Vec::new())
    };
    let shelves: Vec<_> = (0..SHELVES + 2).map(|number| stretches.shelf(filter(number))).collect();
    assert_eq!(shelves.iter().filter(|shelf| shelf.bound > 0).count(), SHELVES);
    assert!(locked(&stretches.shelves).len() <= SHELVES);
    drop(shelves);
    drop(stretches.shelf(filter(0)));
    let shelf = stretches.shelf(filter(1));
    assert_eq!((locked(&stretches.shelves).len(), shelf.bound), (1, SHELVED_BYTES));

    let mut place = START;
    for number in 0..3 * SHELVED_BYTES as u64 / 65_536 {
        let to = Cursor { sequence: number + 1, ..START };
        let framed = Some(Bytes::from(vec![0; 65_536]));
        place = shelf.keep(Stretch { from: place.sequence, to, framed, count: 1 }).to;
        assert!(locked(&shelf.kept).bytes <= SHELVED_BYTES);
    }
    assert!(shelf.find(place.sequence - 1).is_ok());
    assert!(shelf.find(0).is_err());
}
