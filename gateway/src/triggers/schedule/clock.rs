//! The clock: the one task that owns the times of all watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use postern_proto::event::v1::TriggerState;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;

use super::Nudge;
use super::feed::{Feed, Standing};
use super::lines::Lines;
use super::missed::Missed;
use super::notes::{self, NUDGES, Notes};
use super::open::{Member, Turn, Watch};
use super::waits::interval;
use crate::connections;
use crate::error::Error;
use crate::leases::Owned;
use crate::store::{Change, Commit, Entry, Expect, StoreError, Write};
use crate::triggers::fares::{FARES, Fares, fare_key};
use crate::triggers::folded::Folded;
use crate::triggers::poll::{Looked, Poller};
use crate::triggers::stored;
use crate::triggers::watch::WatchName;

/// After a start, the first looks are spread over this time, or the interval where that is shorter.
pub(super) const START_SPREAD: Duration = Duration::from_secs(5);
/// How far the first looks are apart on the whole, where there are so many that they take longer than their spread: all
/// else that a gateway does goes on meanwhile, and the looks after them keep their distance.
const FIRST_LOOKS_APART: Duration = Duration::from_millis(1);
/// The same for watches that come from another gateway: whoever saw to them may have been silent for seconds already.
const GAIN_SPREAD: Duration = Duration::from_secs(2);
/// How many records are read from the store at a time.
const PAGE: usize = 500;
/// The longest quiet that a provider gets: one that asks for more is asked once a day.
pub(super) const MAX_QUIET: Duration = Duration::from_secs(24 * 3_600);
/// How long to wait before the store is asked again after it failed.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// Within what time a trigger that comes to a watch is looked after: many that come together share a look.
const JOIN_PATIENCE: Duration = Duration::from_millis(250);

/// What a look's task gives back: the watch, and how it went.
pub(super) type Ended = (WatchName, Result<Looked, Error>);

/// The task that owns the times.
pub(super) struct Clock {
    pub(super) poller: Arc<Poller>,
    pub(super) fares: Fares,
    pub(super) feed: Arc<Feed>,
    pub(super) notes: Notes,
    pub(super) due: DelayQueue<WatchName>,
    pub(super) watches: HashMap<WatchName, Watch>,
    pub(super) looks: JoinSet<Ended>,
    pub(super) lines: Lines,
    /// Watches whose places are being removed, until they are.
    pub(super) ending: HashMap<WatchName, CancellationToken>,
    /// The watches that are this gateway's to look after.
    pub(super) owned: Owned,
    missed: Missed,
}

impl Clock {
    pub(super) fn new(poller: Arc<Poller>, fares: Fares, feed: Arc<Feed>) -> Self {
        Self {
            notes: Notes::new(poller.store.clone()),
            owned: *poller.leases.changes().borrow(),
            poller,
            fares,
            feed,
            due: DelayQueue::new(),
            watches: HashMap::new(),
            looks: JoinSet::new(),
            lines: Lines::default(),
            ending: HashMap::new(),
            missed: Missed::new(),
        }
    }

    pub(super) async fn run(mut self, mut nudged: mpsc::Receiver<Nudge>) {
        let feed = self.feed.clone();
        let mut owned = self.poller.leases.changes();
        self.owned = *owned.borrow_and_update();
        let mut changes = self.poller.store.watch();
        self.take_owned(START_SPREAD).await;
        loop {
            tokio::select! {
                Some(due) = self.due.next() => self.is_due(due.into_inner()),
                Some(ended) = self.looks.join_next_with_id() => self.ended(ended),
                Some(nudge) = nudged.recv() => self.nudged(&nudge),
                Some(()) = self.notes.next() => {}
                () = feed.begun.notified() => self.tell_all(),
                Ok(()) = owned.changed() => {
                    let now = *owned.borrow_and_update();
                    self.turn_over(now).await;
                }
                change = changes.recv() => match change {
                    Ok(change) => self.hear(&change),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::debug!(missed, "changes of the store came too fast: all triggers are read anew");
                        self.missed.note();
                    }
                    Err(RecvError::Closed) => return,
                },
                () = self.missed.due() => self.read_anew().await,
            }
        }
    }

    /// Reads what was missed.
    async fn read_anew(&mut self) {
        let begun = Instant::now();
        // Which of them are alone may have been missed too: where nothing says so, a look asks again.
        for watch in self.watches.values_mut() {
            watch.members.iter_mut().for_each(|member| member.alone = true);
        }
        self.take_all(START_SPREAD).await;
        self.missed.read(begun);
    }

    /// Leaves what is no longer this gateway's, and takes what has become its own.
    pub(super) async fn turn_over(&mut self, now: Owned) {
        let before = std::mem::replace(&mut self.owned, now);
        let lost: Vec<_> = self.watches.keys().filter(|watch| !now.owns(watch.as_str())).cloned().collect();
        for watch in lost {
            let Some(open) = self.watches.remove(&watch) else { continue };
            open.members.iter().for_each(|member| drop(self.fares.leave(member.trigger.name())));
            self.close(&watch, open.turn);
            self.feed.tell(&watch, || Standing::Lost);
        }
        if !now.gained(before).is_empty() {
            self.take_owned(GAIN_SPREAD).await;
        }
    }

    /// Takes all that is owned, and clears away what a death between two steps left.
    async fn take_owned(&mut self, spread: Duration) {
        self.take_all(spread).await;
        self.take_fares().await;
        self.sweep().await;
        self.feed.complete(self.owned);
    }

    /// Tells a new follower of all that is open.
    fn tell_all(&self) {
        for (watch, open) in &self.watches {
            if let Some(member) = open.members.first() {
                self.feed.tell(watch, || Standing::Open(member.trigger.clone()));
            }
        }
        self.feed.complete(self.owned);
    }

    /// Takes a change of the store.
    pub(super) fn hear(&mut self, change: &Change) {
        if change.key.starts_with(stored::TRIGGERS) {
            match &change.value {
                Some(entry) => {
                    if let Some(opened) = self.take(entry) {
                        self.plan(&opened, Duration::ZERO);
                    }
                }
                None => self.leave(&stored::name_of(&change.key)),
            }
        } else if change.value.as_ref().is_some_and(connections::is_ready) {
            self.mended(&change.key);
        } else if change.key.starts_with(stored::PLACES)
            && let Some(entry) = &change.value
        {
            self.take_place(entry);
        } else if change.key.starts_with(NUDGES)
            && let Some(entry) = &change.value
            && let Some(nudge) = notes::nudge(&change.key, &entry.value)
            // Whoever passes it on hears of it too.
            && self.watches.contains_key(nudge.watch())
        {
            self.nudged(&nudge);
        }
    }

    /// Takes whether a trigger is alone.
    fn take_place(&mut self, entry: &Entry) {
        let name = stored::name_of(&entry.key);
        let watch = self.fares.watch_of(&name);
        let open = watch.and_then(|watch| self.watches.get_mut(&watch));
        if let Some(member) = open.and_then(|open| open.get_mut(&name)) {
            member.alone = stored::is_alone(entry);
        }
    }

    /// Makes the watches of a connection due that failed: it was changed, and may work now.
    fn mended(&mut self, connection: &str) {
        for watch in self.fares.failing_of(connection) {
            self.hasten(&watch, Duration::ZERO);
        }
    }

    /// Reads all triggers anew: at the start, when some have come from another gateway, and when changes were missed.
    pub(super) async fn take_all(&mut self, spread: Duration) {
        let (mut unseen, mut opened) = (self.fares.triggers(), Vec::new());
        let mut after = String::new();
        loop {
            let page = self.page(stored::TRIGGERS, &after).await;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for entry in &page {
                if !unseen.is_empty() {
                    unseen.remove(stored::name_of(&entry.key).as_str());
                }
                opened.extend(self.take(entry));
            }
        }
        unseen.iter().for_each(|name| self.leave(name));
        let count = u32::try_from(opened.len()).unwrap_or(u32::MAX);
        let spread = spread.max(FIRST_LOOKS_APART.saturating_mul(count));
        opened.iter().for_each(|watch| self.plan(watch, spread));
        // So that a look need not ask for the place of each that is known to go with its watch.
        let mut after = String::new();
        loop {
            let page = self.page(stored::PLACES, &after).await;
            let Some(last) = page.last() else { return };
            after.clone_from(&last.key);
            page.iter().for_each(|entry| self.take_place(entry));
        }
    }

    /// Takes how watches fare that another gateway looked after.
    async fn take_fares(&mut self) {
        let mut after = String::new();
        while self.poller.store.is_shared() {
            let page = self.page(FARES, &after).await;
            let Some(last) = page.last() else { return };
            after.clone_from(&last.key);
            for entry in page {
                let watch = entry.key.strip_prefix(FARES).and_then(WatchName::parse);
                if let Some(watch) = watch.filter(|watch| self.watches.contains_key(watch)) {
                    self.fares.restore(&watch, entry.value);
                }
            }
        }
    }

    /// Removes the places of watches that nobody is with: what a death between two steps left.
    async fn sweep(&mut self) {
        let mut after = String::new();
        loop {
            let page = self.page(stored::POLLS, &after).await;
            let Some(last) = page.last() else { return };
            after.clone_from(&last.key);
            for entry in &page {
                let name = entry.key.strip_prefix(stored::POLLS).and_then(WatchName::parse);
                // What has become its own since is not open yet.
                let is_stray =
                    |name: &WatchName| self.owned.owns(name.as_str()) && !self.watches.contains_key(name);
                let Some(name) = name.filter(is_stray) else { continue };
                if let Some(guard) = self.poller.leases.guard(name.as_str()) {
                    let (key, expect) = (entry.key.clone(), Expect::Revision(entry.revision));
                    let writes = vec![Write { key, value: None, expect }];
                    let commit = Commit { writes, guards: vec![guard], ..Commit::default() };
                    let _ = self.poller.log.commit(commit).await;
                }
            }
        }
    }

    async fn page(&self, prefix: &str, after: &str) -> Vec<Entry> {
        loop {
            match self.poller.store.list(prefix, after, PAGE).await {
                Ok(page) => return page,
                Err(error) => {
                    tracing::error!(%error, prefix, "records cannot be read");
                    tokio::time::sleep(STORE_PATIENCE).await;
                }
            }
        }
    }

    /// Takes a trigger as it now is. Gives the watch that it opens: when that is due is to be planned.
    pub(super) fn take(&mut self, entry: &Entry) -> Option<WatchName> {
        let Some(found) = stored::decode(entry) else {
            tracing::error!(key = entry.key, "a trigger's record does not decode");
            return None;
        };
        let (watch, trigger) = (found.watch(), found.trigger);
        let current = self.fares.watch_of(&trigger.name);
        if trigger.state() == TriggerState::Paused || current.is_some_and(|current| current != watch) {
            self.leave(&trigger.name);
        }
        if trigger.state() == TriggerState::Paused || !self.owned.owns(watch.as_str()) {
            return None;
        }
        // One name for all that share it.
        let watch = self.watches.get_key_value(&watch).map(|(watch, _)| watch.clone()).unwrap_or(watch);
        let known = self.watches.get(&watch).and_then(|open| open.get(&trigger.name));
        if known.is_some_and(|known| known.trigger.revision() == entry.revision) {
            return None;
        }
        let is_new = known.is_none_or(|known| known.trigger.unfold().kind != trigger.kind);
        let name = known.map_or_else(|| trigger.name.as_str().into(), |known| known.trigger.name().clone());
        if is_new {
            self.fares.take(&name, &watch);
        }
        let interval = interval(&trigger);
        let member = Member { trigger: Folded::new(name, entry), interval, alone: true };
        if let Some(open) = self.watches.get_mut(&watch) {
            open.put(member);
            let bytes = open.bytes;
            self.fares.change(&watch, |fare| fare.bytes = bytes);
            let within = if is_new { JOIN_PATIENCE } else { interval };
            self.hasten(&watch, within.min(interval));
            return None;
        }
        let mut open = Watch::new(Turn::InLine);
        self.feed.tell(&watch, || Standing::Open(member.trigger.clone()));
        open.put(member);
        self.fares.change(&watch, |fare| fare.bytes = open.bytes);
        self.watches.insert(watch.clone(), open);
        Some(watch)
    }

    /// Makes a watch due that was opened: at any time within `spread`, and within its interval.
    pub(super) fn plan(&mut self, watch: &WatchName, spread: Duration) {
        let Some(open) = self.watches.get_mut(watch) else { return };
        // Opened twice over since.
        if matches!(open.turn, Turn::Waiting(_)) {
            return;
        }
        let wait = spread.min(open.interval()).mul_f64(fastrand::f64());
        open.turn = Turn::Waiting(self.due.insert(watch.clone(), wait));
        self.fares.change(watch, |fare| fare.next_poll = Some(SystemTime::now() + wait));
    }

    /// A trigger that was deleted or paused, or watches something else now, leaves its watch; with the last one it ends.
    pub(super) fn leave(&mut self, name: &str) {
        let Some(watch) = self.fares.leave(name) else { return };
        let Some(open) = self.watches.get_mut(&watch) else { return };
        open.remove(name);
        if !open.members.is_empty() {
            // A look in flight asks for it yet; what it tells finds the trigger's place changed, and is dropped.
            let bytes = open.bytes;
            return self.fares.change(&watch, |fare| fare.bytes = bytes);
        }
        if let Some(open) = self.watches.remove(&watch) {
            self.close(&watch, open.turn);
        }
        self.feed.tell(&watch, || Standing::Ended);
        self.end(watch);
    }

    /// Ends the turn of a watch that is open no more.
    fn close(&mut self, watch: &WatchName, turn: Turn) {
        match turn {
            Turn::Waiting(key) => drop(self.due.try_remove(&key)),
            Turn::InLine => {}
            Turn::Looking { look, .. } => look.abort(),
        }
        self.fares.forget(watch);
    }

    /// Removes the place of a watch that nobody goes by any more. Looks of one of that name wait until it is done: a
    /// removal that came late would take the place that they have written, and who goes by it would begin anew.
    fn end(&mut self, watch: WatchName) {
        if self.poller.store.is_shared() {
            self.notes.put(fare_key(&watch), None);
            self.notes.put(notes::nudge_key(&watch), None);
        }
        let (poller, ended) = (self.poller.clone(), CancellationToken::new());
        self.ending.retain(|_, ended| !ended.is_cancelled());
        let before = self.ending.insert(watch.clone(), ended.clone());
        tokio::spawn(async move {
            let _ended = ended.drop_guard();
            if let Some(before) = before {
                before.cancelled().await;
            }
            // Where it has become another gateway's, that one clears it away.
            let Some(hold) = poller.leases.hold(watch.as_str()) else { return Ok(()) };
            let reached = stored::read_reached(poller.store.as_ref(), &watch).await?;
            let (key, expect) = (stored::reached_key(&watch), Expect::Revision(reached.revision));
            if reached.revision != 0 {
                let writes = vec![Write { key, value: None, expect }];
                let commit = Commit { writes, guards: vec![hold.guard()], ..Commit::default() };
                poller.log.commit(commit).await?;
            }
            Ok::<(), StoreError>(())
        });
    }
}
