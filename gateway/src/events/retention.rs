//! Keeps the log within its retention.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::leases::Leases;
use crate::store::{EventLog, Retention};

/// The duty that one gateway has for all.
const DUTY: &str = "retention";

/// How often what retention has passed is removed: the log may be past its bounds for this long.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Trims the log at once and then each [`INTERVAL`], until `stop` is cancelled, while this is the gateway to do it. A
/// failure is logged and tried again at the next turn.
pub async fn run(log: Arc<dyn EventLog>, retention: Retention, leases: Arc<Leases>, stop: CancellationToken) {
    every(INTERVAL, log, retention, leases, stop).await;
}

async fn every(
    interval: Duration,
    log: Arc<dyn EventLog>,
    retention: Retention,
    leases: Arc<Leases>,
    stop: CancellationToken,
) {
    let mut turns = tokio::time::interval(interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        if !leases.leads(DUTY) {
            continue;
        }
        match log.trim(retention).await {
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
