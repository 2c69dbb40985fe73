//! The turns of a watch: when the next look is due, and what one that ended says of it.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use postern_chassis::fault::{Fault, reason_of, retry_after_of};
use tokio::task::{Id, JoinError};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::Nudge;
use super::clock::{Clock, Ended, MAX_QUIET};
use super::open::{Turn, Watch};
use super::waits::{PUSHED_BACK_OFF, back_off, early};
use crate::error::Error;
use crate::store::StoreError;
use crate::triggers::fares::fare_key;
use crate::triggers::poll::Looked;
use crate::triggers::watch::WatchName;

/// How long to wait after a look whose place was written by somebody else meanwhile.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

impl Clock {
    /// Takes a wish for a look.
    pub(super) fn nudged(&mut self, nudge: &Nudge) {
        if !self.watches.contains_key(nudge.watch()) {
            // Nobody watches it, or another gateway looks after it.
            if !self.owned.owns(nudge.watch().as_str()) {
                self.notes.pass_on(nudge);
            }
            return;
        }
        match nudge {
            Nudge::Asked(watch) => self.hasten(watch, Duration::ZERO),
            Nudge::Pushed(watch) => {
                let Some(pace) = self.watches.get(watch).map(Watch::pace) else { return };
                let patience = if self.fares.is_failing(watch) { PUSHED_BACK_OFF } else { Duration::ZERO };
                self.hasten(watch, pace.max(patience));
            }
        }
    }

    /// Makes a watch due within a time, or as soon as its provider has had the quiet that it asked for.
    pub(super) fn hasten(&mut self, watch: &WatchName, within: Duration) {
        let Some(open) = self.watches.get_mut(watch) else { return };
        let at = (Instant::now() + within).max(open.quiet_until);
        match &mut open.turn {
            Turn::Waiting(key) => {
                if self.due.deadline(key) > at {
                    self.due.reset_at(key, at);
                    let within = at.saturating_duration_since(Instant::now());
                    self.fares.change(watch, |fare| fare.next_poll = Some(SystemTime::now() + within));
                }
            }
            // A look that has not begun yet sees all that there is by then.
            Turn::InLine => {}
            Turn::Looking { again, .. } => *again = Some(again.map_or(at, |sooner| sooner.min(at))),
        }
    }

    /// Puts a watch that is due in line.
    pub(super) fn is_due(&mut self, watch: WatchName) {
        let Some(open) = self.watches.get_mut(&watch) else { return };
        open.turn = Turn::InLine;
        self.lines.join(watch);
        self.look_in_turn();
    }

    /// Starts the looks that there is room for.
    fn look_in_turn(&mut self) {
        // Some have left meanwhile.
        while let Some(watch) = self
            .lines
            .next(|watch| self.watches.get(watch).is_some_and(|open| matches!(open.turn, Turn::InLine)))
        {
            self.look(&watch);
        }
    }

    /// Starts a look of a watch.
    fn look(&mut self, watch: &WatchName) {
        let Some(open) = self.watches.get_mut(watch) else { return };
        open.begin();
        let (sought, ending) = (open.sought(), self.ending.get(watch).cloned());
        let (poller, name) = (self.poller.clone(), watch.clone());
        let failed = self.fares.failures(watch);
        let look = self.looks.spawn(async move {
            if let Some(ending) = ending {
                ending.cancelled().await;
            }
            let looked = AssertUnwindSafe(poller.look(&name, &sought, failed)).catch_unwind().await;
            let broken = |_| Err(Fault::new(Code::Internal, "INTERNAL", "a look broke off").into());
            (name, looked.unwrap_or_else(broken))
        });
        self.lines.begun(look.id(), watch);
        open.turn = Turn::Looking { look, again: None };
    }

    /// Takes the end of a look, and starts those that it has made room for.
    pub(super) fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        self.lines.ended(ended.as_ref().map_or_else(JoinError::id, |(look, _)| *look));
        match ended {
            Ok((look, (watch, looked))) => self.looked(look, &watch, looked),
            // Its watch has ended.
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a look ended unexpectedly"),
        }
        self.look_in_turn();
    }

    /// Says when the next look is due, after one that ended.
    pub(super) fn looked(&mut self, look: Id, watch: &WatchName, looked: Result<Looked, Error>) {
        let Some(open) = self.watches.get(watch) else { return };
        let again = match &open.turn {
            Turn::Looking { look: current, again } if current.id() == look => *again,
            _ => return,
        };
        let interval = open.interval();
        // How long the provider asks to be left alone, and how long to wait where it does not.
        let (asked, wait) = match looked {
            Ok(looked) => {
                let (behind, failure) = looked.behind.unzip();
                let behind = behind.unwrap_or_default();
                self.fares.succeeded(watch, &looked.told, &behind);
                let wait = if looked.more { Duration::ZERO } else { early(interval) };
                let asked = looked.retry_after.unwrap_or_default();
                match failure.map(Status::from) {
                    None => (asked, wait),
                    Some(status) => {
                        let failures = self.fares.failed_alone(&behind, &status);
                        (asked.max(told_failure(watch, &status)), back_off(interval, failures).min(interval))
                    }
                }
            }
            // Somebody else wrote the place: read it anew.
            Err(Error::Store(StoreError::Conflict { .. })) => (CONFLICT_PAUSE, CONFLICT_PAUSE),
            Err(error) => {
                let status = error.into();
                let failures = self.fares.failed(watch, &status);
                (told_failure(watch, &status), back_off(interval, failures))
            }
        };
        self.note_fare(watch);
        let (asked, now) = (asked.min(MAX_QUIET), Instant::now());
        let again = again.map(|at| at.saturating_duration_since(now));
        let wait = asked.max(again.map_or(wait, |again| again.min(wait)));
        let key = self.due.insert_at(watch.clone(), Instant::now() + wait);
        self.fares.change(watch, |fare| fare.next_poll = Some(SystemTime::now() + wait));
        if let Some(open) = self.watches.get_mut(watch) {
            (open.turn, open.quiet_until) = (Turn::Waiting(key), now + asked);
        }
    }

    /// Leaves a note of how a watch fares, for whoever asks another gateway. None for one that is well: that is what is
    /// taken to be so where there is none.
    fn note_fare(&mut self, watch: &WatchName) {
        if self.poller.store.is_shared()
            && let Some(note) = self.fares.note(watch)
        {
            self.notes.put(fare_key(watch), note);
        }
    }
}

/// Logs a failure. Gives how long the provider asks to be left alone.
fn told_failure(watch: &WatchName, status: &Status) -> Duration {
    tracing::warn!(watch.name = %watch, code = ?status.code(), reason = reason_of(status), "a look failed");
    retry_after_of(status).unwrap_or_default()
}
