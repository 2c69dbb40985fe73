//! The pace of a connection: messages at least an interval apart, each taking its turn in the order they came; and
//! pauses before a server that failed or refused is asked again, longer each time. Both are of one connection: no other
//! feels them.

use std::sync::PoisonError;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// The first pause after a failure; each further one doubles it, up to the most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MOST_PAUSE: Duration = Duration::from_secs(30);

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

/// Pauses after failures. While there are failures, attempts take turns, a pause apart.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<Option<Failing>>);

#[derive(Debug)]
struct Failing {
    failures: u32,
    /// When the next attempt may begin.
    next: Instant,
    last: Error,
}

impl Pauses {
    /// Waits until an attempt may begin: at once where the last one worked.
    ///
    /// # Errors
    /// [`Error::Slowed`] where that is after `end`: nothing is waited for.
    pub(crate) async fn turn(&self, end: Instant) -> Result<(), Error> {
        tokio::time::sleep_until(self.take(Instant::now(), end)?).await;
        Ok(())
    }

    fn take(&self, now: Instant, end: Instant) -> Result<Instant, Error> {
        let mut failing = self.failing();
        let Some(failing) = &mut *failing else { return Ok(now) };
        let turn = failing.next.max(now);
        if turn > end {
            return Err(Error::Slowed { wait: turn - now, last: Box::new(failing.last.clone()) });
        }
        failing.next = turn + pause(failing.failures);
        Ok(turn)
    }

    /// Notes what became of an attempt that ended now.
    pub(crate) fn note(&self, now: Instant, failure: Option<&Error>) {
        let mut failing = self.failing();
        let Some(failure) = failure else {
            *failing = None;
            return;
        };
        let failures = failing.as_ref().map_or(0, |before| before.failures).saturating_add(1);
        let planned = failing.as_ref().map(|before| before.next);
        let next = now + pause(failures).mul_f64(0.75 + fastrand::f64() / 2.0);
        let next = planned.map_or(next, |planned| planned.max(next));
        *failing = Some(Failing { failures, next, last: failure.clone() });
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MOST_PAUSE)
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

    #[test]
    fn pauses_grow_with_each_failure_and_end_with_the_first_success() {
        let pauses = Pauses::default();
        let failure = Error::Busy(Duration::ZERO);
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            let turn = pauses.take(now, now + Duration::from_secs(3_600)).unwrap();
            waits.push(turn - now);
            now = turn;
            pauses.note(now, Some(&failure));
        }
        assert_eq!(waits[0], Duration::ZERO);
        assert!((180..320).contains(&waits[1].as_millis()), "{waits:?}");
        assert!(waits[2] > waits[1] && waits[5] > 4 * waits[2], "{waits:?}");
        assert!(waits.iter().all(|wait| *wait < 2 * MOST_PAUSE), "{waits:?}");
        assert!(matches!(pauses.take(now, now), Err(Error::Slowed { .. })));
        pauses.note(now, None);
        assert_eq!(pauses.take(now, now).ok(), Some(now));
    }

    #[test]
    fn those_who_come_in_a_pause_take_turns_after_it() {
        let pauses = Pauses::default();
        let now = Instant::now();
        pauses.note(now, Some(&Error::Busy(Duration::ZERO)));
        let end = now + Duration::from_secs(1);
        let turns: Vec<_> = std::iter::from_fn(|| pauses.take(now, end).ok()).collect();
        assert!((3..6).contains(&turns.len()), "{turns:?}");
        assert!(turns.windows(2).all(|two| two[1] - two[0] == FIRST_PAUSE));
    }
}
