//! When each watch is looked after: in the shortest interval of its triggers, sooner when nudged, later when its provider
//! fails or asks for quiet. One task, the clock, owns the times; looks run beside it, bounded for all and for each
//! connection, so that one broken connection slows no other.
//!
//! It learns of triggers from the store alone, so that whoever changes one need not tell it.

mod clock;
mod feed;
mod lines;
mod missed;
mod notes;
mod open;
mod turns;
mod waits;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_proto::event::v1::TriggerStatus;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fares::Fares;
use super::poll::Poller;
use super::watch::WatchName;
use crate::connections::Connections;
use crate::leases::Leases;
use crate::store::{EventLog, Store};
use clock::Clock;
use feed::Feed;
pub use feed::{News, Standing};

/// The interval of a trigger that names none.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
/// Nudges not yet seen. A nudge beyond is dropped: the interval stays as the fallback.
const MAX_NUDGES: usize = 1_024;
/// How many bytes the triggers of a watch may take in what a connector is asked: a message has at most 4 MiB. Well above
/// 10,000 triggers of the usual size.
pub(super) const MAX_WATCH_BYTES: usize = 3_500_000;

/// The running schedule, as the rest of the gateway sees it.
#[derive(Clone)]
pub struct Schedule {
    nudges: mpsc::Sender<Nudge>,
    fares: Fares,
    feed: Arc<Feed>,
    leases: Arc<Leases>,
}

/// A wish that a watch be looked after at once.
#[derive(Debug)]
enum Nudge {
    /// Its provider says that something happened. It may say so any number of times: looks keep a pace.
    Pushed(WatchName),
    /// A caller asks for it.
    Asked(WatchName),
}

impl Nudge {
    /// What is to be looked after.
    fn watch(&self) -> &WatchName {
        match self {
            Self::Pushed(watch) | Self::Asked(watch) => watch,
        }
    }
}

impl Schedule {
    /// Starts the schedule of what is owned by `leases`. It ends when `stop` is cancelled; looks in flight are then dropped, which loses nothing.
    pub fn start(
        connections: Arc<Connections>,
        leases: Arc<Leases>,
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (nudges, nudged) = mpsc::channel(MAX_NUDGES);
        let (fares, feed) = (Fares::default(), Arc::new(Feed::default()));
        let schedule = Self { nudges, fares, feed, leases: leases.clone() };
        let poller = Arc::new(Poller { connections, leases, store, log });
        let clock = Clock::new(poller, schedule.fares.clone(), schedule.feed.clone());
        let running = tokio::spawn(async move {
            tokio::select! {
                () = clock.run(nudged) => {}
                () = stop.cancelled() => {}
            }
        });
        (schedule, running)
    }

    /// Makes a watch due whose provider says that something happened. Best effort: a nudge is never needed for an event to
    /// be told.
    pub fn pushed_to(&self, watch: WatchName) {
        let _ = self.nudges.try_send(Nudge::Pushed(watch));
    }

    /// Makes a watch due now for which a caller asks.
    pub(super) fn nudge(&self, watch: WatchName) {
        let _ = self.nudges.try_send(Nudge::Asked(watch));
    }

    /// Whether it is this gateway that looks after a watch.
    pub(super) fn looks_after(&self, watch: &WatchName) -> bool {
        self.leases.leads(watch.as_str())
    }

    /// How a trigger fares, where it is looked after here.
    pub(super) fn status(&self, trigger: &str) -> TriggerStatus {
        self.fares.status(trigger)
    }

    /// How many bytes the triggers take of a watch that is looked after here.
    pub(super) fn bytes(&self, watch: &WatchName) -> usize {
        self.fares.watch(watch).bytes
    }

    /// Begins to follow the watches that are looked after here: all of them are news. For one follower.
    pub fn follow(&self) {
        self.feed.follow();
    }

    /// What has become of watches, once there is something new.
    pub async fn news(&self) -> News {
        self.feed.next().await
    }

    /// The leases that say what is looked after here.
    #[must_use]
    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// Says until when a watch's provider pushes.
    pub fn pushed(&self, watch: &WatchName, until: Option<SystemTime>) {
        self.fares.pushed(watch, until);
    }
}

#[cfg(test)]
mod tests;
