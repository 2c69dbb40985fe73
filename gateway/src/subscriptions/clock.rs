//! The wall clock as deadlines see it. They are stored as times, so that any gateway of a store keeps to them; a step of
//! the clock brings a redelivery early or late, and does no more harm.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A clock that can be set ahead of the machine's.
#[derive(Debug, Clone)]
pub struct Clock(watch::Sender<Duration>);

impl Default for Clock {
    fn default() -> Self {
        Self(watch::Sender::new(Duration::ZERO))
    }
}

impl Clock {
    /// Milliseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        let now = SystemTime::now() + *self.0.borrow();
        now.duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    }

    /// Sets it further ahead, and wakes those who wait for a time.
    pub fn step(&self, ahead: Duration) {
        self.0.send_modify(|offset| *offset += ahead);
    }

    /// Tells of steps.
    pub(super) fn steps(&self) -> watch::Receiver<Duration> {
        self.0.subscribe()
    }
}

/// A duration in milliseconds.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 as the contract has times.
pub(super) fn timestamp(milliseconds: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(milliseconds.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: milliseconds.div_euclid(1_000), nanos }
}
