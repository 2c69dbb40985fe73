//! When each watch is looked after: in the shortest interval of its triggers, sooner when nudged, later when its provider
//! fails or asks for quiet. One task, the clock, owns the times; looks run beside it, bounded for all and for each
//! connection, so that one broken connection slows no other.
//!
//! It learns of triggers from the store alone, so that whoever changes one need not tell it.

mod clock;
mod open;
mod waits;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_proto::event::v1::{Trigger, TriggerStatus};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::fares::Fares;
use super::poll::Poller;
use super::watch::WatchName;
use crate::connections::Connections;
use crate::store::{EventLog, Store};
use clock::Clock;

/// The interval of a trigger that names none.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
/// Nudges not yet seen. A nudge beyond is dropped: the interval stays as the fallback.
const MAX_NUDGES: usize = 1_024;
/// How many bytes the triggers of a watch may take in what a connector is asked: a message has at most 4 MiB. Well above
/// 10,000 triggers of the usual size.
const MAX_WATCH_BYTES: usize = 3_500_000;

/// The running schedule, as the rest of the gateway sees it.
#[derive(Clone)]
pub struct Schedule {
    nudges: mpsc::Sender<Nudge>,
    fares: Fares,
    open: OpenWatches,
}

/// The watches that are looked after, with a trigger of each; absent until all are known.
#[derive(Clone)]
struct OpenWatches(Arc<watch::Sender<Option<Arc<ByWatch>>>>);

/// A wish that a watch be looked after at once.
#[derive(Debug)]
enum Nudge {
    /// Its provider says that something happened. It may say so any number of times: looks keep a pace.
    Pushed(WatchName),
    /// A caller asks for it.
    Asked(WatchName),
}

/// A trigger of each watch.
pub type ByWatch = HashMap<WatchName, Arc<Trigger>>;

impl Schedule {
    /// Starts the schedule. It ends when `stop` is cancelled; looks in flight are then dropped, which loses nothing.
    pub fn start(
        connections: Arc<Connections>,
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (nudges, nudged) = mpsc::channel(MAX_NUDGES);
        let open = OpenWatches(Arc::new(watch::Sender::new(None)));
        let schedule = Self { nudges, fares: Fares::default(), open };
        let poller = Arc::new(Poller { connections, store, log });
        let clock = Clock::new(poller, schedule.fares.clone(), schedule.open.clone());
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

    /// Makes the watch of a trigger due now.
    pub(super) fn nudge_trigger(&self, trigger: &str) {
        if let Some(watch) = self.fares.watch_of(trigger) {
            let _ = self.nudges.try_send(Nudge::Asked(watch));
        }
    }

    /// How a trigger fares.
    pub(super) fn status(&self, trigger: &str) -> TriggerStatus {
        self.fares.status(trigger)
    }

    /// Whether a watch takes so many bytes of triggers more.
    pub(super) fn has_room(&self, watch: &WatchName, bytes: usize) -> bool {
        self.fares.watch(watch).bytes + bytes <= MAX_WATCH_BYTES
    }

    /// The watches that are looked after, as they come and go.
    #[must_use]
    pub fn watches(&self) -> watch::Receiver<Option<Arc<ByWatch>>> {
        self.open.0.subscribe()
    }

    /// Says until when a watch's provider pushes.
    pub fn pushed(&self, watch: &WatchName, until: Option<SystemTime>) {
        self.fares.pushed(watch, until);
    }
}

#[cfg(test)]
mod tests;
