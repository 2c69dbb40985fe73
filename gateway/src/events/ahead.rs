//! Reading ahead for a stream that is far behind: while stretches go over the wire the next ones are read and framed,
//! several at once. Only so much is held so for all streams together, and not for long for one that has stopped reading.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::cursor::Cursor;
use super::stretch::{Shelf, Stretch, Stretches};
use crate::store::Sequence;

/// For how many streams is read ahead at once: others read when they are asked.
const MOST: usize = 64;
/// How many stretches are read at once, of 64 KiB each at most; and at how many that are left the next are.
const AT_ONCE: usize = 4;
const LOW: usize = 2;
/// How long stretches are held for a stream that does not take them, which are read again if it asks for them after all.
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
    shelved: Arc<Shelved>,
    reading: JoinHandle<()>,
}

/// What has been read and is not taken yet.
#[derive(Default)]
struct Shelved {
    stretches: Mutex<Read>,
    /// There is more, or no more will come.
    filled: Notify,
    taken: Notify,
}

#[derive(Default)]
struct Read {
    stretches: VecDeque<Arc<Stretch>>,
    is_over: bool,
}

impl Shelved {
    fn lock(&self) -> MutexGuard<'_, Read> {
        self.stretches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no more than so many are left; false where nobody takes any.
    async fn falls_to(&self, count: usize) -> bool {
        loop {
            let before = self.lock().stretches.len();
            if before <= count {
                return true;
            }
            let waited = tokio::time::timeout(PATIENCE, self.taken.notified()).await;
            if waited.is_err() && self.lock().stretches.len() == before {
                return false;
            }
        }
    }
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
        let shelved = Arc::new(Shelved::default());
        let filling = shelved.clone();
        let reading = tokio::spawn(async move {
            let _permit = permit;
            let mut place = place;
            while last.saturating_sub(place.sequence) >= FAR {
                // What fails is read again by whoever asks, and told then; gaps alike.
                let Ok(read) = stretches.some_after(&shelf, place, last, AT_ONCE).await else { break };
                let Some(end) = read.last().map(|stretch| stretch.to) else { break };
                place = end;
                filling.lock().stretches.extend(read);
                filling.filled.notify_one();
                if !filling.falls_to(LOW).await {
                    break;
                }
            }
            filling.falls_to(0).await;
            *filling.lock() = Read { stretches: VecDeque::new(), is_over: true };
            filling.filled.notify_one();
        });
        Some(Self { shelved, reading })
    }

    /// What comes after a place, where it was read and is held still.
    pub(super) async fn take(&self, place: Cursor) -> Option<Arc<Stretch>> {
        loop {
            {
                let mut read = self.shelved.lock();
                if let Some(stretch) = read.stretches.pop_front() {
                    self.shelved.taken.notify_one();
                    return Some(stretch).filter(|stretch| stretch.follows(place));
                }
                if read.is_over {
                    return None;
                }
            }
            self.shelved.filled.notified().await;
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.reading.abort();
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
    const EVENTS: u64 = 5_000;

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
    async fn what_was_read_ahead_is_what_comes_next_and_ends_near_the_end() {
        let (_folder, _log, stretches) = world().await;
        let shelf = stretches.shelf(Filter::default());
        let ahead = Ahead::begin(&stretches, &shelf, START, EVENTS).unwrap();
        let mut place = START;
        while let Some(stretch) = ahead.take(place).await {
            assert!(stretch.framed.is_some() && stretch.to.sequence > place.sequence);
            place = stretch.to;
        }
        assert!(place.sequence > EVENTS - FAR && place.sequence <= EVENTS);
    }

    #[tokio::test]
    async fn it_is_read_before_it_is_asked_for_and_another_place_is_not_what_was_read() {
        let (_folder, log, stretches) = world().await;
        let shelf = stretches.shelf(Filter::default());
        let ahead = Ahead::begin(&stretches, &shelf, START, EVENTS).unwrap();
        while !shelf.has(0) {
            tokio::task::yield_now().await;
        }
        log.trim(Retention { age: Duration::from_secs(3_600), bytes: 0 }).await.unwrap();
        assert!(ahead.take(START).await.is_some());
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
