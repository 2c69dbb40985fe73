//! Keeps the log within its retention.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::store::{EventLog, Retention};

/// How often what retention has passed is removed: the log may be past its bounds for this long.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Trims the log at once and then each [`INTERVAL`], until `stop` is cancelled. A failure is logged and tried again at
/// the next turn.
pub async fn run(log: Arc<dyn EventLog>, retention: Retention, stop: CancellationToken) {
    every(INTERVAL, log, retention, stop).await;
}

async fn every(interval: Duration, log: Arc<dyn EventLog>, retention: Retention, stop: CancellationToken) {
    let mut turns = tokio::time::interval(interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        match log.trim(retention).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(events.removed = removed, "retention has passed events"),
            Err(error) => tracing::warn!(%error, "the log was not trimmed"),
        }
    }
}
