//! All events that were ever stored, read the moment they were: what retention has passed since stays here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use postern_gateway::store::{Appended, EventLog as _};
use postern_proto::connection::v1::ConnectionState;
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_tests::memory::{Disk, Memory};
use prost::Message as _;

use crate::weather::lock;

/// What was stored.
#[derive(Default)]
pub(crate) struct Written {
    /// The ids of events: the first one's place is 1.
    pub(crate) ids: Vec<String>,
    /// The places of the ids.
    pub(crate) places: BTreeMap<String, u64>,
    /// The subjects of what came, as they lie in the log, by trigger.
    pub(crate) came: BTreeMap<String, Vec<String>>,
    /// The gaps that triggers told of, by trigger.
    pub(crate) trigger_gaps: BTreeMap<String, usize>,
    /// How often each request's mail was told to be delivered.
    pub(crate) delivered: BTreeMap<String, usize>,
    /// Why each was told to have failed.
    pub(crate) failed: BTreeMap<String, Vec<String>>,
    /// How often it was told that somebody has to sign in.
    pub(crate) sign_ins: usize,
    /// Retention has passed everything up to here.
    pub(crate) removed: u64,
    /// What lies in the log twice.
    pub(crate) doubled: BTreeSet<String>,
    /// What was stored again when retention had passed it: what a trigger told that caught up is told again by its watch,
    /// and known by its id for as long as it is kept.
    pub(crate) stored_again: BTreeSet<String>,
}

/// The journal of a run.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Written>);

impl Journal {
    pub(crate) fn read(&self) -> MutexGuard<'_, Written> {
        lock(&self.0)
    }

    /// Takes in what a commit has appended.
    pub(crate) async fn note(&self, disk: &Arc<Disk>, made: &Appended) {
        if made.stored == 0 {
            return;
        }
        let before = made.last - made.stored as u64;
        let stored = Memory::open(disk.clone()).read(before, made.stored, usize::MAX).await;
        let mut written = lock(&self.0);
        for event in stored.into_iter().flatten() {
            if let Ok(event) = Event::decode(event.encoded) {
                written.take(event);
            }
        }
    }

    /// Takes in what retention has left.
    pub(crate) async fn trimmed(&self, disk: &Arc<Disk>) {
        if let Ok(bounds) = Memory::open(disk.clone()).bounds().await {
            lock(&self.0).removed = bounds.first - 1;
        }
    }
}

impl Written {
    /// The place of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.ids.len() as u64
    }

    fn take(&mut self, event: Event) {
        self.ids.push(event.id.clone());
        match self.places.insert(event.id.clone(), self.last()) {
            Some(before) if before <= self.removed => {
                self.stored_again.insert(event.id);
                return;
            }
            Some(_) => {
                self.doubled.insert(event.id);
            }
            None => {}
        }
        match event.data.and_then(|data| data.kind) {
            Some(Kind::NewEmail(email)) => self.came.entry(event.source).or_default().push(email.subject),
            Some(Kind::TriggerGap(_)) => *self.trigger_gaps.entry(event.source).or_default() += 1,
            Some(Kind::EmailDelivered(told)) => *self.delivered.entry(told.request_id).or_default() += 1,
            Some(Kind::EmailFailed(told)) => {
                let reason = told.failure.map(|failure| failure.reason).unwrap_or_default();
                self.failed.entry(told.request_id).or_default().push(reason);
            }
            Some(Kind::ConnectionStateChanged(changed)) => {
                self.sign_ins += usize::from(changed.state() == ConnectionState::NeedsSignIn);
            }
            _ => {}
        }
    }
}
