//! Keeps the log within its retention.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::leases::Leases;
use crate::store::{EventLog, Retention};

/// The duty that one gateway has for all.
const DUTY: &str = "retention";

/// How often what retention has passed is removed: the log may be past its bounds for this long.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// A step of the clock ahead of the time that passes: more than drift and a slow turn explain.
const STEP: Duration = Duration::from_secs(300);
/// How long no event goes for its age after such a step. A clock that was set wrong is mended meanwhile; one that was set
/// right, or a machine that slept, loses nothing by it but an hour's room.
const DOUBT: Duration = Duration::from_secs(3_600);

/// Whether the clock is to be believed when it says that events are old.
struct Trust {
    /// What the clock and the time that passes showed at the last turn.
    seen: (SystemTime, Instant),
    doubted_until: Option<Instant>,
}

impl Trust {
    fn new(clock: SystemTime, passed: Instant) -> Self {
        Self { seen: (clock, passed), doubted_until: None }
    }

    /// Takes in what both show now. A step back does no harm: events stay longer.
    fn believes(&mut self, clock: SystemTime, passed: Instant) -> bool {
        let (clock_before, passed_before) = std::mem::replace(&mut self.seen, (clock, passed));
        let by_clock = clock.duration_since(clock_before).unwrap_or_default();
        if by_clock > passed.duration_since(passed_before) + STEP {
            tracing::warn!(
                step_s = by_clock.as_secs(),
                "the clock was set ahead: for an hour no event is removed for its age"
            );
            self.doubted_until = Some(passed + DOUBT);
        }
        self.doubted_until.is_none_or(|until| passed >= until)
    }
}

/// Trims the log at once and then each [`INTERVAL`], as [`every`] does.
pub async fn run(log: Arc<dyn EventLog>, retention: Retention, leases: Arc<Leases>, stop: CancellationToken) {
    every(INTERVAL, log, retention, leases, stop).await;
}

/// Trims the log at once and then each `interval`, until `stop` is cancelled, while this is the gateway to do it. A
/// failure is logged and tried again at the next turn.
pub async fn every(
    interval: Duration,
    log: Arc<dyn EventLog>,
    retention: Retention,
    leases: Arc<Leases>,
    stop: CancellationToken,
) {
    let mut turns = tokio::time::interval(interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trust = Trust::new(SystemTime::now(), Instant::now());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        let believed = trust.believes(SystemTime::now(), Instant::now());
        if !leases.leads(DUTY) {
            continue;
        }
        let age = if believed { retention.age } else { Duration::MAX };
        match log.trim(Retention { age, ..retention }).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(events.removed = removed, "retention has passed events"),
            Err(error) => tracing::warn!(%error, "the log was not trimmed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::new_event;
    use crate::store::sqlite::Sqlite;

    #[test]
    fn a_clock_that_was_set_ahead_is_not_believed_for_an_hour_and_a_step_back_does_no_harm() {
        let (wall, steady) = (SystemTime::now(), Instant::now());
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let year = minutes(365 * 24 * 60);
        let mut trust = Trust::new(wall, steady);
        assert!(trust.believes(wall + minutes(1), steady + minutes(1)));
        // A turn that came late is no step.
        assert!(trust.believes(wall + minutes(40), steady + minutes(40)));
        // Ahead, and mended after a while.
        assert!(!trust.believes(wall + year, steady + minutes(41)));
        assert!(!trust.believes(wall + year + minutes(1), steady + minutes(42)));
        assert!(!trust.believes(wall + minutes(43), steady + minutes(43)));
        assert!(trust.believes(wall + minutes(102), steady + minutes(102)));
        // Ahead, and that is how it stays.
        assert!(!trust.believes(wall + year, steady + minutes(103)));
        assert!(trust.believes(wall + year + minutes(60), steady + minutes(163)));
        assert!(trust.believes(wall, steady + minutes(164)));
    }

    #[tokio::test]
    async fn the_log_is_trimmed_at_each_turn_until_the_stop() {
        let folder = tempfile::tempdir().unwrap();
        let log = Sqlite::open(folder.path()).unwrap();
        let stop = CancellationToken::new();
        let nothing = Retention { age: Duration::from_secs(3_600), bytes: 0 };
        let leases = Leases::start(log.clone(), String::new()).await.unwrap();
        let turn = Duration::from_millis(1);
        let running = tokio::spawn(every(turn, log.clone(), nothing, leases.clone(), stop.clone()));
        for place in 1..=3 {
            let event =
                new_event("connections/office", "email.received", None, &format!("{place}"), None, None);
            log.append(vec![event], Vec::new()).await.unwrap();
            let gone = async {
                while log.bounds().await.unwrap().first <= place {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
        }
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    }
}
