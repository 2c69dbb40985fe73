//! Removes queued mails that are settled: those whose time is over, and the oldest where they are too many.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::attempt::Bench;
use super::record::{OUTBOX, Stored};
use crate::error::Error;
use crate::store::{Commit, StoreError};

/// How often it is swept, at most and at least.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3_600);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// How many records are read from the store at a time.
const PAGE: usize = 200;

/// Sweeps from time to time, until `stop` is cancelled.
pub(super) async fn run(bench: Arc<Bench>, stop: CancellationToken) {
    let interval = (bench.settings.keep / 8).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        if let Err(error) = sweep(&bench, SystemTime::now()).await {
            tracing::warn!(%error, "the outbox could not be swept");
        }
    }
}

async fn sweep(bench: &Bench, now: SystemTime) -> Result<(), StoreError> {
    // Those that stay, by the time at which they were settled, the oldest on top.
    let mut kept: BinaryHeap<(std::cmp::Reverse<SystemTime>, u64, String)> = BinaryHeap::new();
    let (mut bytes, mut after) = (0_u64, String::new());
    loop {
        let page = bench.store.list(OUTBOX, &after, PAGE).await?;
        for stored in page.iter().flat_map(Stored::decode).filter(|it| it.record.is_settled()) {
            let settled = stored.record.email().settle_time.and_then(|time| SystemTime::try_from(time).ok());
            let settled = settled.unwrap_or(UNIX_EPOCH);
            if now.duration_since(settled).is_ok_and(|age| age >= bench.settings.keep) {
                remove(bench, stored).await?;
                continue;
            }
            let size = if stored.record.pieces == 0 { 0 } else { stored.record.bytes };
            bytes = bytes.saturating_add(size);
            kept.push((std::cmp::Reverse(settled), size, stored.record.name().to_owned()));
            while kept.len() > bench.settings.max_emails || bytes > bench.settings.max_bytes {
                let Some((_, size, name)) = kept.pop() else { break };
                bytes = bytes.saturating_sub(size);
                match Stored::read(bench.store.as_ref(), &name).await {
                    Ok(stored) if stored.record.is_settled() => remove(bench, stored).await?,
                    Err(Error::Store(error)) => return Err(error),
                    _ => {}
                }
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after.clone_from(&last.key),
            _ => return Ok(()),
        }
    }
}

/// Removes a mail with all that belongs to it, unless it has changed or is another gateway's.
async fn remove(bench: &Bench, stored: Stored) -> Result<(), StoreError> {
    let Some(guard) = bench.leases.guard(stored.record.name()) else { return Ok(()) };
    let commit = Commit { writes: stored.removal(), guards: vec![guard], ..Commit::default() };
    match bench.log.commit(commit).await {
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
