//! A watch that is looked after: who is told by it, whose turn it is, and how soon a look may follow another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postern_proto::event::v1::Trigger;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::time::delay_queue::Key;

use super::waits::interval;
use super::{DEFAULT_INTERVAL, waits};
use crate::triggers::poll::{Sought, asked_bytes};

/// A watch that is looked after.
pub(super) struct Watch {
    pub(super) members: HashMap<String, Member>,
    pub(super) turn: Turn,
    /// How many bytes its triggers take in what its connector is asked.
    pub(super) bytes: usize,
    /// Until when its provider has asked to be left alone: no look begins before, whoever asks for one.
    pub(super) quiet_until: Instant,
    /// When the looks made so far would have ended at the pace of [`waits::GAP`]: ahead of now while they come faster.
    paced_until: Instant,
}

/// A trigger of a watch.
pub(super) struct Member {
    pub(super) trigger: Arc<Trigger>,
    /// Whether it may be alone: not known to go with its watch.
    pub(super) alone: bool,
}

/// Whose turn it is.
pub(super) enum Turn {
    /// The queue's: it will be due.
    Waiting(Key),
    /// A look's, which this ends. `again`: it was nudged meanwhile, and another look is wanted by then: what happened
    /// may not have been there to be seen by this one.
    Looking { look: AbortHandle, again: Option<Instant> },
}

impl Watch {
    pub(super) fn new(turn: Turn) -> Self {
        let now = Instant::now();
        Self { members: HashMap::new(), turn, bytes: 0, quiet_until: now, paced_until: now }
    }

    pub(super) fn put(&mut self, member: Member) {
        self.bytes += asked_bytes(&member.trigger);
        let before = self.members.insert(member.trigger.name.clone(), member);
        self.bytes -= before.map_or(0, |before| asked_bytes(&before.trigger));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.bytes -= self.members.remove(name).map_or(0, |member| asked_bytes(&member.trigger));
    }

    /// Whom a look is for, by name.
    pub(super) fn sought(&self) -> Vec<Sought> {
        let sought = self.members.values().map(|member| (member.trigger.clone(), member.alone));
        let mut sought: Vec<_> = sought.collect();
        sought.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        sought
    }

    /// The shortest of its triggers' intervals.
    pub(super) fn interval(&self) -> Duration {
        let intervals = self.members.values().map(|member| interval(&member.trigger));
        intervals.min().unwrap_or(DEFAULT_INTERVAL)
    }

    /// A look begins.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        // However many came before it, such as those of a long list: a push waits for four gaps at most.
        let most = now + waits::GAP * (waits::BURST + 4);
        self.paced_until = (self.paced_until.max(now) + waits::GAP).min(most);
    }

    /// How long a look that its provider's push asks for is to wait: so that a flood of pushes is a look each
    /// [`waits::GAP`], and what comes after a quiet time is told at once.
    pub(super) fn pace(&self) -> Duration {
        self.paced_until.saturating_duration_since(Instant::now() + waits::GAP * waits::BURST)
    }
}
