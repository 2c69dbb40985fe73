//! The pace of a connection: messages at least an interval apart, each taking its turn in the order they came.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// Turns, an interval apart.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// When the next turn begins.
    next: Mutex<Instant>,
}

impl Pace {
    /// A pace whose first turn is now.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    /// Waits for the next turn.
    ///
    /// # Errors
    /// The time until a turn could be had, where that is after `end`: no turn is taken, and nothing is waited for.
    pub(crate) async fn turn(&self, end: Instant) -> Result<(), Duration> {
        tokio::time::sleep_until(self.take(Instant::now(), end)?).await;
        Ok(())
    }

    /// Takes the next turn and says when it begins; or, where that is after `end`, how long it is until then.
    fn take(&self, now: Instant, end: Instant) -> Result<Instant, Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        if turn > end {
            return Err(turn - now);
        }
        *next = turn + self.interval;
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_an_interval_apart_and_none_is_taken_beyond_the_end() {
        let pace = Pace::new(Duration::from_millis(100));
        let start = Instant::now();
        let end = start + Duration::from_millis(250);
        for turn in 0..3 {
            assert_eq!(pace.take(start, end), Ok(start + Duration::from_millis(100 * turn)));
        }
        assert_eq!(pace.take(start, end), Err(Duration::from_millis(300)));
        // Time that nobody used is not saved up.
        let later = start + Duration::from_secs(10);
        assert_eq!(pace.take(later, later), Ok(later));
        assert_eq!(pace.take(later, later), Err(Duration::from_millis(100)));
    }
}
