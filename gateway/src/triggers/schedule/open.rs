//! A watch that is looked after: who is told by it, whose turn it is, and how soon a look may follow another.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::time::delay_queue::Key;

use super::{DEFAULT_INTERVAL, waits};
use crate::triggers::folded::Folded;
use crate::triggers::poll::{Sought, asked_bytes};

/// A watch that is looked after.
pub(super) struct Watch {
    /// By name. Mostly one: a list of one is smaller than a map.
    pub(super) members: Vec<Member>,
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
    pub(super) trigger: Folded,
    pub(super) interval: Duration,
    /// Whether it may be alone: not known to go with its watch.
    pub(super) alone: bool,
}

/// Whose turn it is.
pub(super) enum Turn {
    /// The queue's: it will be due.
    Waiting(Key),
    /// It is due, and looked after as soon as there is room for its look.
    InLine,
    /// A look's, which this ends. `again`: it was nudged meanwhile, and another look is wanted by then: what happened
    /// may not have been there to be seen by this one.
    Looking { look: AbortHandle, again: Option<Instant> },
}

impl Watch {
    pub(super) fn new(turn: Turn) -> Self {
        let now = Instant::now();
        Self { members: Vec::new(), turn, bytes: 0, quiet_until: now, paced_until: now }
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.members.binary_search_by(|member| (**member.trigger.name()).cmp(name))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Member> {
        self.members.get(self.place(name).ok()?)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Member> {
        let place = self.place(name).ok()?;
        self.members.get_mut(place)
    }

    pub(super) fn put(&mut self, member: Member) {
        self.bytes += asked_bytes(&member.trigger.unfold());
        match self.place(member.trigger.name()) {
            Ok(place) => {
                let before = std::mem::replace(&mut self.members[place], member);
                self.bytes -= asked_bytes(&before.trigger.unfold());
            }
            Err(place) => {
                // A list's first growth is for several, and most stay with one.
                if self.members.is_empty() {
                    self.members.reserve_exact(1);
                }
                self.members.insert(place, member);
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Ok(place) = self.place(name) {
            self.bytes -= asked_bytes(&self.members.remove(place).trigger.unfold());
        }
    }

    /// Whom a look is for, by name.
    pub(super) fn sought(&self) -> Vec<Sought> {
        self.members.iter().map(|member| (member.trigger.clone(), member.alone)).collect()
    }

    /// The shortest of its triggers' intervals.
    pub(super) fn interval(&self) -> Duration {
        let intervals = self.members.iter().map(|member| member.interval);
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
