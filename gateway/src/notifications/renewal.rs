//! When the notification of each watch is made, renewed and ended. One task owns the times; steps run beside it, bounded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::Notifications;
use super::record::{NOTIFICATIONS, Record, Wanted};
use super::work::{Next, back_off};
use crate::leases::Owned;
use crate::store::Change;
use crate::triggers::schedule::{News, Standing};
use crate::triggers::{Folded, WatchName};

/// Steps at once: each is a call to a provider.
const MAX_STEPS: usize = 8;
/// After a start, the first steps are spread over this time.
const START_SPREAD: Duration = Duration::from_secs(2);
/// How many records are read at a time.
const PAGE: usize = 500;
/// The longest wait between two steps of a watch: what was missed is then seen.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// A watch whose notification is kept.
struct Kept {
    /// A trigger that watches it. `None`: it is looked after no more, and its notification is to end.
    trigger: Option<Folded>,
    turn: Turn,
    failures: u32,
}

/// What is being done for a watch.
enum Turn {
    Waiting(Key),
    /// A step is under way. `again`: another is wanted right after it.
    Stepping {
        again: bool,
    },
}

/// What a step was: `None`, an end.
type Ended = (WatchName, Option<Next>);

/// The task that owns the times.
pub(super) struct Renewal {
    notifications: Arc<Notifications>,
    due: DelayQueue<WatchName>,
    kept: HashMap<WatchName, Kept>,
    steps: JoinSet<Ended>,
}

impl Renewal {
    pub(super) fn new(notifications: Arc<Notifications>) -> Self {
        Self { notifications, due: DelayQueue::new(), kept: HashMap::new(), steps: JoinSet::new() }
    }

    pub(super) async fn run(mut self) {
        let notifications = self.notifications.clone();
        let mut changes = notifications.store.watch();
        notifications.schedule.follow();
        let mut spread = START_SPREAD;
        loop {
            tokio::select! {
                Some(due) = self.due.next(), if self.steps.len() < MAX_STEPS => self.step(&due.into_inner()),
                Some(Ok((watch, next))) = self.steps.join_next() => self.stepped(&watch, next),
                news = notifications.schedule.news() => self.take(news, &mut spread).await,
                change = changes.recv() => match change {
                    Ok(change) => self.hear(&change),
                    Err(RecvError::Lagged(_)) => {
                        let all: Vec<_> = self.kept.keys().cloned().collect();
                        all.iter().for_each(|watch| self.hasten(watch));
                    }
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    /// Takes what has become of watches.
    async fn take(&mut self, news: News, spread: &mut Duration) {
        for (watch, standing) in news.watches {
            match (standing, self.kept.get_mut(&watch)) {
                (Standing::Open(trigger), Some(kept)) => kept.trigger = Some(trigger),
                (Standing::Open(trigger), None) => {
                    let key = self.due.insert(watch.clone(), spread.mul_f64(fastrand::f64()));
                    let (trigger, turn) = (Some(trigger), Turn::Waiting(key));
                    self.kept.insert(watch, Kept { trigger, turn, failures: 0 });
                }
                (Standing::Ended, Some(kept)) => {
                    kept.trigger = None;
                    self.hasten(&watch);
                }
                // A step under way goes on to its end: what it agrees on is stored, or is another gateway's by then.
                (Standing::Lost, Some(_)) => {
                    if let Some(Kept { turn: Turn::Waiting(key), .. }) = self.kept.remove(&watch) {
                        self.due.try_remove(&key);
                    }
                }
                (Standing::Ended | Standing::Lost, None) => {}
            }
        }
        if let Some(owned) = news.complete {
            *spread = Duration::ZERO;
            self.end_forgotten(owned).await;
        }
    }

    /// Ends the notifications of watches that were looked after by a process before this one, and are no more.
    async fn end_forgotten(&mut self, owned: Owned) {
        let (mut after, mut forgotten) = (String::new(), HashSet::new());
        while let Ok(page) = self.notifications.store.list(NOTIFICATIONS, &after, PAGE).await {
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            let names =
                page.iter().filter_map(|entry| WatchName::parse(entry.key.strip_prefix(NOTIFICATIONS)?));
            let names = names.filter(|name| owned.owns(name.as_str()) && !self.kept.contains_key(name));
            forgotten.extend(names);
        }
        for watch in forgotten {
            let turn = Turn::Waiting(self.due.insert(watch.clone(), Duration::ZERO));
            self.kept.insert(watch, Kept { trigger: None, turn, failures: 0 });
        }
    }

    /// Takes a change of the store: what a provider wants is done at once, and what is gone is made again.
    fn hear(&mut self, change: &Change) {
        let Some(watch) = change.key.strip_prefix(NOTIFICATIONS).and_then(WatchName::parse) else { return };
        let record = change.value.as_ref().and_then(|entry| Record::decode(entry.value.clone()).ok());
        if record.is_none_or(|record| record.wanted() != Wanted::Nothing) {
            self.hasten(&watch);
        }
    }

    fn hasten(&mut self, watch: &WatchName) {
        match self.kept.get_mut(watch) {
            // A provider that fails is not asked the sooner for what it wants.
            Some(Kept { turn: Turn::Waiting(_), failures: 1.., trigger: Some(_) }) => {}
            Some(Kept { turn: Turn::Waiting(key), .. }) => self.due.reset(key, Duration::ZERO),
            Some(Kept { turn: Turn::Stepping { again }, .. }) => *again = true,
            None => {}
        }
    }

    fn step(&mut self, watch: &WatchName) {
        let Some(kept) = self.kept.get_mut(watch) else { return };
        kept.turn = Turn::Stepping { again: false };
        let trigger = kept.trigger.clone();
        let (watch, notifications) = (watch.clone(), self.notifications.clone());
        self.steps.spawn(async move {
            match trigger {
                Some(trigger) => {
                    let next = notifications.step(&watch, &trigger.unfold()).await;
                    (watch, Some(next))
                }
                None => {
                    notifications.end(&watch).await;
                    (watch, None)
                }
            }
        });
    }

    fn stepped(&mut self, watch: &WatchName, next: Option<Next>) {
        let Some(kept) = self.kept.get_mut(watch) else { return };
        let again = matches!(kept.turn, Turn::Stepping { again: true });
        let wait = match (next, &kept.trigger) {
            (None, None) => {
                self.kept.remove(watch);
                return;
            }
            // Ended, and wanted again meanwhile; or made, and wanted no more.
            (None, Some(_)) | (Some(_), None) => Duration::ZERO,
            (Some(Next::Well(wait)), Some(_)) => {
                kept.failures = 0;
                if again { Duration::ZERO } else { wait }
            }
            (Some(Next::Failed(asked)), Some(_)) => {
                kept.failures = kept.failures.saturating_add(1);
                asked.max(back_off(kept.failures))
            }
        };
        kept.turn = Turn::Waiting(self.due.insert(watch.clone(), wait.min(MAX_WAIT)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifications::record;

    #[test]
    fn a_records_key_leads_back_to_its_watch() {
        let watch = WatchName::new("connections/office", "inbox");
        let key = record::key(&watch);
        assert_eq!(key.strip_prefix(NOTIFICATIONS).and_then(WatchName::parse), Some(watch));
    }
}
