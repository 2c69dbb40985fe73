//! Reading ahead for a stream that is far behind: while one stretch goes over the wire the next is read and framed. Only
//! so much is held so for all streams together, and not for long for one that has stopped reading.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::cursor::Cursor;
use super::stretch::{Next, Shelf, Stretches};
use crate::store::{Sequence, StoreError};

/// Stretches held so at once, of 64 KiB each: streams beyond read when they are asked.
const MOST: usize = 64;
/// How long a stretch is held for a stream that does not take it, which is read again if it is asked for after all.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many events a stream is behind at least: what is newer is mostly in memory, and found in less time than this takes.
const FAR: Sequence = 1_024;

/// The bound of all that is read ahead.
pub(super) struct Bound(Arc<Semaphore>);

impl Default for Bound {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// What is read ahead for one stream.
pub(super) struct Ahead {
    place: Cursor,
    wanted: Arc<Notify>,
    reading: JoinHandle<Option<Next>>,
}

impl Ahead {
    /// Begins to read what comes after a place, where that is worth it and within the bound.
    pub(super) fn begin(
        stretches: &Arc<Stretches>,
        shelf: &Arc<Shelf>,
        place: Cursor,
        last: Sequence,
    ) -> Option<Self> {
        if last.saturating_sub(place.sequence) < FAR || shelf.has(place.sequence) {
            return None;
        }
        let permit = stretches.ahead.0.clone().try_acquire_owned().ok()?;
        let (stretches, shelf) = (stretches.clone(), shelf.clone());
        let wanted = Arc::new(Notify::new());
        let asked = wanted.clone();
        let reading = tokio::spawn(async move {
            let _permit = permit;
            // What fails is read again by whoever asks, and told then.
            let next: Result<Next, StoreError> = stretches.after(&shelf, place, last).await;
            tokio::time::timeout(PATIENCE, asked.notified()).await.ok()?;
            next.ok()
        });
        Some(Self { place, wanted, reading })
    }

    /// What comes after a place, where it was read and is held still.
    pub(super) async fn take(self, place: Cursor) -> Option<Next> {
        // Where it is not wanted any more it is let go of at once, too.
        self.wanted.notify_one();
        if self.place != place {
            return None;
        }
        self.reading.await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::filter::Filter;
    use crate::events::new_event;
    use crate::store::sqlite::Sqlite;
    use crate::store::{EventLog as _, Retention};

    const START: Cursor = Cursor { epoch: 1, sequence: 0, fingerprint: 0 };
    const EVENTS: u64 = 2_000;

    async fn world() -> (tempfile::TempDir, Arc<Sqlite>, Arc<Stretches>) {
        let folder = tempfile::tempdir().unwrap();
        let log = Sqlite::open(folder.path()).unwrap();
        let event = |number: u64| {
            new_event("connections/shop", "email.received", None, &number.to_string(), None, None)
        };
        log.append((0..EVENTS).map(event).collect(), Vec::new()).await.unwrap();
        let stretches = Arc::new(Stretches::new(log.clone()));
        (folder, log, stretches)
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_what_comes_next() {
        let (_folder, log, stretches) = world().await;
        let shelf = stretches.shelf(Filter::default());
        let ahead = Ahead::begin(&stretches, &shelf, START, EVENTS).unwrap();
        while !shelf.has(0) {
            tokio::task::yield_now().await;
        }
        // It was read before it is asked for: the log has lost it since.
        log.trim(Retention { age: Duration::from_secs(3_600), bytes: 0 }).await.unwrap();
        let Some(Next::Stretch(stretch)) = ahead.take(START).await else { panic!("nothing was read") };
        assert!(stretch.to.sequence > 100 && stretch.framed.is_some());
        // Another place is not what was read.
        let ahead = Ahead::begin(&stretches, &shelf, stretch.to, EVENTS).unwrap();
        assert!(ahead.take(START).await.is_none());
    }

    #[tokio::test]
    async fn nothing_is_read_ahead_where_it_is_near_or_there_already() {
        let (_folder, _log, stretches) = world().await;
        let shelf = stretches.shelf(Filter::default());
        let near = Cursor { sequence: EVENTS - FAR + 1, ..START };
        assert!(Ahead::begin(&stretches, &shelf, near, EVENTS).is_none());
        stretches.after(&shelf, START, EVENTS).await.unwrap();
        assert!(Ahead::begin(&stretches, &shelf, START, EVENTS).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_stop_reading_hold_little_and_not_for_long() {
        let (_folder, _log, stretches) = world().await;
        let shelves: Vec<_> = (0..MOST).map(|_| stretches.shelf(Filter::default())).collect();
        let begin = |shelf: &Arc<Shelf>| Ahead::begin(&stretches, shelf, START, EVENTS);
        let stuck: Vec<_> = shelves.iter().map_while(begin).collect();
        assert_eq!(stuck.len(), MOST);
        assert!(begin(&stretches.shelf(Filter::default())).is_none());
        // All let go of what they hold: there is room again.
        let room = stretches.ahead.0.acquire_many(u32::try_from(MOST).unwrap());
        drop(tokio::time::timeout(Duration::from_secs(60), room).await.unwrap().unwrap());
        for stuck in stuck {
            assert!(stuck.take(START).await.is_none());
        }
    }
}
