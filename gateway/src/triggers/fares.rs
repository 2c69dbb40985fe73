//! How watches and their triggers fare, as far as this process knows.

mod note;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use postern_proto::event::v1::TriggerStatus;
use prost::Message as _;
use tonic::Status;

use super::watch::WatchName;
use note::{Alone, Failed, Note};
pub(super) use note::{FARES, fare_key, noted};

/// How many triggers a note names that cannot catch up.
const MOST_NOTED: usize = 256;

/// How all fare; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Fares(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// In order, so that those of a connection lie together.
    watches: BTreeMap<WatchName, Fare>,
    triggers: HashMap<Arc<str>, Own>,
    /// The triggers whose looks alone fail, while they are to catch up: few.
    behind: HashMap<Box<str>, Failed>,
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
    /// Apart, for few fail.
    failed: Option<Box<Failed>>,
    /// Whether a note of it was left.
    is_noted: bool,
}

/// What a trigger has of its own.
#[derive(Debug, Clone)]
struct Own {
    watch: WatchName,
    last_event: Option<SystemTime>,
}

impl Known {
    /// The triggers of a watch whose looks alone fail.
    fn behind_of(&self, watch: &WatchName) -> impl Iterator<Item = (&str, &Failed)> {
        let is_of = |name: &str| self.triggers.get(name).is_some_and(|own| own.watch == *watch);
        self.behind.iter().map(|(name, failed)| (&**name, failed)).filter(move |(name, _)| is_of(name))
    }
}

impl Fares {
    /// How a trigger fares.
    pub(super) fn status(&self, trigger: &str) -> TriggerStatus {
        let known = self.lock();
        let Some(own) = known.triggers.get(trigger) else { return TriggerStatus::default() };
        let fare = known.watches.get(&own.watch).cloned().unwrap_or_default();
        let mut status = TriggerStatus {
            last_poll_time: fare.last_poll.map(Into::into),
            last_event_time: own.last_event.map(Into::into),
            next_poll_time: fare.next_poll.map(Into::into),
            push_expire_time: fare.pushed_until.filter(|until| *until > SystemTime::now()).map(Into::into),
            ..TriggerStatus::default()
        };
        let failed = [fare.failed.as_deref(), known.behind.get(trigger)].into_iter().flatten();
        if let Some(failed) = failed.max_by_key(|failed| failed.count) {
            failed.clone().show(&mut status);
        }
        status
    }

    /// How a watch fares.
    pub(super) fn watch(&self, watch: &WatchName) -> Fare {
        self.lock().watches.get(watch).cloned().unwrap_or_default()
    }

    /// Whether the last look of a watch failed.
    pub(super) fn is_failing(&self, watch: &WatchName) -> bool {
        self.lock().watches.get(watch).is_some_and(|fare| fare.failed.is_some())
    }

    /// The watches of a connection (its name) whose last look failed.
    pub(super) fn failing_of(&self, connection: &str) -> Vec<WatchName> {
        let id = connection.strip_prefix("connections/").unwrap_or(connection);
        let (from, known) = (format!("{id}/"), self.lock());
        let watches = known.watches.range::<str, _>((Bound::Included(from.as_str()), Bound::Unbounded));
        let watches = watches.take_while(|(watch, _)| watch.connection_id() == id);
        watches.filter(|(_, fare)| fare.failed.is_some()).map(|(watch, _)| watch.clone()).collect()
    }

    /// The watch that a trigger is looked after by.
    pub(super) fn watch_of(&self, trigger: &str) -> Option<WatchName> {
        self.lock().triggers.get(trigger).map(|own| own.watch.clone())
    }

    /// The triggers that are looked after.
    pub(super) fn triggers(&self) -> HashSet<Arc<str>> {
        self.lock().triggers.keys().cloned().collect()
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
    pub(super) fn take(&self, trigger: &Arc<str>, watch: &WatchName) {
        let mut known = self.lock();
        known.behind.remove(&**trigger);
        known.triggers.insert(trigger.clone(), Own { watch: watch.clone(), last_event: None });
    }

    /// A trigger is looked after no more. Gives the watch that it was looked after by.
    pub(super) fn leave(&self, trigger: &str) -> Option<WatchName> {
        let mut known = self.lock();
        known.behind.remove(trigger);
        known.triggers.remove(trigger).map(|own| own.watch)
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
        (fare.last_poll, fare.failed) = (Some(now), None);
        for name in told {
            if let Some(own) = known.triggers.get_mut(name.as_str()) {
                own.last_event = Some(now);
            }
        }
        if behind.is_empty() && !known.behind.is_empty() {
            let well: Vec<Box<str>> = known.behind_of(watch).map(|(name, _)| name.into()).collect();
            for name in well {
                known.behind.remove(&name);
            }
        }
    }

    /// A look failed. Gives how many have in a row.
    pub(super) fn failed(&self, watch: &WatchName, status: &Status) -> u32 {
        self.lock().watches.entry(watch.clone()).or_default().failed.get_or_insert_default().add(status)
    }

    /// A look of triggers that are to catch up failed. Gives how many have in a row.
    pub(super) fn failed_alone(&self, triggers: &[String], status: &Status) -> u32 {
        let mut known = self.lock();
        let mut most = 1;
        for name in triggers {
            if known.triggers.contains_key(name.as_str()) {
                most = most.max(known.behind.entry(name.as_str().into()).or_default().add(status));
            }
        }
        most
    }

    /// How many looks of a watch, or of one of its triggers alone, have failed in a row.
    pub(super) fn failures(&self, watch: &WatchName) -> u32 {
        let known = self.lock();
        let together = known.watches.get(watch).and_then(|fare| fare.failed.as_deref());
        let all = known.behind_of(watch).map(|(_, failed)| failed).chain(together);
        all.map(|failed| failed.count).max().unwrap_or_default()
    }

    /// The note to leave of a watch for other gateways, if one is: `Some(None)` removes the one that was left.
    pub(super) fn note(&self, watch: &WatchName) -> Option<Option<Bytes>> {
        let mut known = self.lock();
        let behind = known.behind_of(watch).take(MOST_NOTED);
        let alone: Vec<_> = behind
            .map(|(trigger, failed)| Alone { trigger: trigger.to_owned(), failed: Some(failed.clone()) })
            .collect();
        let fare = known.watches.get_mut(watch)?;
        let together = fare.failed.as_deref().cloned();
        let is_well = together.is_none() && alone.is_empty();
        let was_noted = std::mem::replace(&mut fare.is_noted, !is_well);
        if is_well {
            return was_noted.then_some(None);
        }
        Some(Some(Note { together, alone }.encode_to_vec().into()))
    }

    /// Takes the note of a watch that another gateway looked after before.
    pub(super) fn restore(&self, watch: &WatchName, note: Bytes) {
        if let Some(fare) = self.lock().watches.get_mut(watch) {
            (fare.failed, fare.is_noted) = (Note::read(note).together.map(Box::new), true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_fail_of_a_connection_are_found_among_those_of_others() {
        let (fares, status) = (Fares::default(), Status::unavailable("down"));
        let names = ["a", "a-b", "a0", "ab", "b"];
        let watches = names.map(|id| WatchName::new(&format!("connections/{id}"), "inbox"));
        for watch in &watches {
            fares.failed(watch, &status);
        }
        fares.change(&WatchName::new("connections/a", "well"), |fare| fare.bytes = 1);
        assert_eq!(fares.failing_of("connections/a"), watches[..1]);
        assert_eq!(fares.failing_of("connections/a-b"), watches[1..2]);
        fares.succeeded(&watches[0], &[], &[]);
        assert!(fares.failing_of("connections/a").is_empty());
    }
}
