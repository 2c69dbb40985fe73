//! When all triggers are read anew, after changes of the store were missed. While very many looks are made at once, changes
//! are missed as long as it reads: it rests for several times as long as a reading took.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How long after changes were missed it is, at least.
const PATIENCE: Duration = Duration::from_millis(100);
/// For how many times as long as the last reading took there is none.
const SHARE: u32 = 10;

/// When it is to be, and when it was last.
pub(super) struct Missed {
    at: Option<Instant>,
    ended: Instant,
    took: Duration,
}

impl Missed {
    pub(super) fn new() -> Self {
        Self { at: None, ended: Instant::now(), took: Duration::ZERO }
    }

    /// Changes were missed.
    pub(super) fn note(&mut self) {
        let at = (Instant::now() + PATIENCE).max(self.ended + self.took * SHARE);
        self.at.get_or_insert(at);
    }

    /// Waits until all are to be read: for ever where nothing was missed.
    pub(super) async fn due(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }

    /// All were read, in the time since a moment.
    pub(super) fn read(&mut self, begun: Instant) {
        *self = Self { at: None, ended: Instant::now(), took: begun.elapsed() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rests_ten_times_as_long_as_it_reads() {
        let mut missed = Missed::new();
        assert!(tokio::time::timeout(Duration::from_secs(3_600), missed.due()).await.is_err());
        missed.note();
        let begun = Instant::now();
        missed.due().await;
        assert_eq!(begun.elapsed(), PATIENCE);
        tokio::time::advance(Duration::from_secs(2)).await;
        missed.read(begun + PATIENCE);
        let ended = Instant::now();
        missed.note();
        missed.note();
        missed.due().await;
        assert_eq!(ended.elapsed(), Duration::from_secs(20));
    }
}
