//! How watches and their triggers fare, as far as this process knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use postern_chassis::fault::reason_of;
use postern_proto::event::v1::{PollFailure, TriggerStatus};
use tonic::Status;

use super::watch::WatchName;

/// How all fare; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Fares(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    watches: HashMap<WatchName, Fare>,
    triggers: HashMap<String, Own>,
}

/// How a watch fares.
#[derive(Debug, Clone, Default)]
pub(super) struct Fare {
    pub(super) last_poll: Option<SystemTime>,
    pub(super) next_poll: Option<SystemTime>,
    /// Until when its provider pushes.
    pub(super) pushed_until: Option<SystemTime>,
    /// How many bytes the triggers of the watch take in what its connector is asked.
    pub(super) bytes: usize,
    failed: Failed,
}

/// What a trigger has of its own.
#[derive(Debug, Clone)]
struct Own {
    watch: WatchName,
    last_event: Option<SystemTime>,
    /// Of its looks alone, while it catches up.
    failed: Failed,
}

/// Looks that failed in a row.
#[derive(Debug, Clone, Default)]
struct Failed {
    count: u32,
    last: Option<PollFailure>,
}

impl Failed {
    fn note(&mut self, status: &Status) -> u32 {
        self.count = self.count.saturating_add(1);
        let (code, reason) = (status.code() as i32, reason_of(status));
        self.last = Some(PollFailure { code, reason, message: status.message().to_owned() });
        self.count
    }
}

impl Fares {
    /// How a trigger fares.
    pub(super) fn status(&self, trigger: &str) -> TriggerStatus {
        let known = self.lock();
        let Some(own) = known.triggers.get(trigger) else { return TriggerStatus::default() };
        let fare = known.watches.get(&own.watch).cloned().unwrap_or_default();
        let failed = if own.failed.count > fare.failed.count { &own.failed } else { &fare.failed };
        TriggerStatus {
            last_poll_time: fare.last_poll.map(Into::into),
            last_event_time: own.last_event.map(Into::into),
            next_poll_time: fare.next_poll.map(Into::into),
            consecutive_failures: i32::try_from(failed.count).unwrap_or(i32::MAX),
            last_failure: failed.last.clone(),
            push_expire_time: fare.pushed_until.filter(|until| *until > SystemTime::now()).map(Into::into),
        }
    }

    /// How a watch fares.
    pub(super) fn watch(&self, watch: &WatchName) -> Fare {
        self.lock().watches.get(watch).cloned().unwrap_or_default()
    }

    /// Whether the last look of a watch failed.
    pub(super) fn is_failing(&self, watch: &WatchName) -> bool {
        self.lock().watches.get(watch).is_some_and(|fare| fare.failed.count > 0)
    }

    /// The watch that a trigger is looked after by.
    pub(super) fn watch_of(&self, trigger: &str) -> Option<WatchName> {
        self.lock().triggers.get(trigger).map(|own| own.watch.clone())
    }

    /// Changes what is known of a watch.
    pub(super) fn change(&self, watch: &WatchName, change: impl FnOnce(&mut Fare)) {
        change(self.lock().watches.entry(watch.clone()).or_default());
    }

    /// Says until when a watch's provider pushes. Nothing where the watch is none.
    pub(super) fn pushed(&self, watch: &WatchName, until: Option<SystemTime>) {
        if let Some(fare) = self.lock().watches.get_mut(watch) {
            fare.pushed_until = until;
        }
    }

    /// A trigger is looked after by a watch: as it now is.
    pub(super) fn take(&self, trigger: &str, watch: &WatchName) {
        let own = Own { watch: watch.clone(), last_event: None, failed: Failed::default() };
        self.lock().triggers.insert(trigger.to_owned(), own);
    }

    /// A trigger is looked after no more.
    pub(super) fn leave(&self, trigger: &str) {
        self.lock().triggers.remove(trigger);
    }

    /// A watch is none any more.
    pub(super) fn forget(&self, watch: &WatchName) {
        self.lock().watches.remove(watch);
    }

    /// A look succeeded, and these told of something.
    pub(super) fn succeeded(&self, watch: &WatchName, told: &[String], behind: &[String]) {
        let now = SystemTime::now();
        let mut known = self.lock();
        let fare = known.watches.entry(watch.clone()).or_default();
        (fare.last_poll, fare.failed) = (Some(now), Failed::default());
        for name in told {
            if let Some(own) = known.triggers.get_mut(name) {
                own.last_event = Some(now);
            }
        }
        if !behind.is_empty() {
            return;
        }
        for own in known.triggers.values_mut().filter(|own| own.failed.count > 0 && own.watch == *watch) {
            own.failed = Failed::default();
        }
    }

    /// A look failed. Gives how many have in a row.
    pub(super) fn failed(&self, watch: &WatchName, status: &Status) -> u32 {
        self.lock().watches.entry(watch.clone()).or_default().failed.note(status)
    }

    /// A look of triggers that are to catch up failed. Gives how many have in a row.
    pub(super) fn failed_alone(&self, triggers: &[String], status: &Status) -> u32 {
        let mut known = self.lock();
        let mut most = 1;
        for name in triggers {
            if let Some(own) = known.triggers.get_mut(name) {
                most = most.max(own.failed.note(status));
            }
        }
        most
    }

    /// How many looks of a watch, or of one of its triggers alone, have failed in a row.
    pub(super) fn failures(&self, watch: &WatchName) -> u32 {
        let known = self.lock();
        let together = known.watches.get(watch).map_or(0, |fare| fare.failed.count);
        let alone = known.triggers.values().filter(|own| own.failed.count > 0 && own.watch == *watch);
        alone.map(|own| own.failed.count).max().unwrap_or_default().max(together)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
