//! What must hold at the end of a run.

use std::collections::{BTreeMap, BTreeSet};

use postern_gateway::store::{EventLog as _, Store as _};
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_tests::memory::Memory;
use prost::Message as _;

use crate::callers::{CONNECTION, Known};
use crate::readers::Way;
use crate::weather::lock;
use crate::world::{TRIGGERS, World};

/// More than a run makes.
const ALL: usize = 1_000_000;

impl World {
    fn events(&self) -> Vec<Event> {
        let log = Memory::open(self.disk.clone());
        let stored = self.outside.on(async { log.read(0, ALL, usize::MAX).await });
        let stored = stored.and_then(Result::ok).unwrap_or_default();
        stored.into_iter().filter_map(|event| Event::decode(event.encoded).ok()).collect()
    }

    /// The keys of things that came, of a trigger, as they lie in the log.
    fn told(events: &[Event], trigger: &str) -> Vec<String> {
        let name = format!("{CONNECTION}/triggers/{trigger}");
        let own = events.iter().filter(|event| event.source == name);
        let subject = |event: &Event| match event.data.as_ref()?.kind.as_ref()? {
            Kind::NewEmail(email) => Some(email.subject.clone()),
            _ => None,
        };
        own.filter_map(subject).collect()
    }

    /// What is not settled yet.
    pub(crate) fn open_ends(&self) -> Vec<String> {
        let mut open = Vec::new();
        let events = self.events();
        for (trigger, folder) in TRIGGERS {
            let came = lock(&self.provider.folders).get(folder).copied().unwrap_or(0);
            let told = Self::told(&events, trigger).len();
            if told < came {
                open.push(format!("trigger {trigger} told {told} of {came}"));
            }
        }
        let (delivered, failed) = settled(&events);
        for caller in self.callers() {
            if !caller.is_at_rest() {
                open.push(format!("{} waits: {:?}", caller.name, lock(&caller.changes)));
            }
            for (id, known) in lock(&caller.changes).iter().filter(|_| caller.queues) {
                // Where it is not known whether it was queued, it may not have been.
                let is_told = delivered.contains_key(id) || failed.contains_key(id);
                if !is_told && *known != Known::Unknown {
                    open.push(format!("{id} is neither delivered nor failed"));
                }
            }
        }
        let last = events.len() as u64;
        for reader in self.readers() {
            let book = lock(&reader.book);
            let done = match reader.way {
                Way::Follows => book.read.last().copied().unwrap_or(0),
                Way::Commits => book.confirmed,
                Way::Acks => book.acks() as u64,
            };
            if done < last {
                open.push(format!("{} is done with {done} of {last}", reader.name));
            }
        }
        let owned = self
            .gateways()
            .into_iter()
            .map(|gateway| gateway.map(|gateway| *gateway.leases.changes().borrow()));
        let owned: Vec<_> = owned.collect();
        for duty in 0..64 {
            let name = format!("duty-{duty}");
            let owners = owned.iter().flatten().filter(|owned| owned.owns(&name)).count();
            if owners != 1 || owned.contains(&None) {
                open.push(format!("{name} has {owners} owners"));
                break;
            }
        }
        open
    }

    /// What must not be, whatever came before.
    pub(crate) fn check(&self) {
        let events = self.events();
        let wrong = |line| self.weather.wrong(line);
        for (trigger, folder) in TRIGGERS {
            let came = lock(&self.provider.folders).get(folder).copied().unwrap_or(0);
            let told = Self::told(&events, trigger);
            let expected: Vec<_> = (0..came).map(|number| number.to_string()).collect();
            if told != expected {
                wrong(format!("trigger {trigger} told {told:?} of {came}"));
            }
        }
        let ids: BTreeSet<_> = events.iter().map(|event| &event.id).collect();
        if ids.len() != events.len() {
            wrong("an id is in the log twice".to_owned());
        }
        let (delivered, failed) = settled(&events);
        for caller in self.callers() {
            for (id, known) in lock(&caller.changes).iter() {
                let count = lock(&self.provider.taken).get(id).copied().unwrap_or(0);
                if count > 1 {
                    wrong(format!("{id} was done {count} times"));
                }
                if !caller.queues {
                    let fits = match known {
                        Known::Done => count == 1,
                        Known::Failed(_) => count == 0,
                        Known::Asked | Known::Unknown => true,
                    };
                    if !fits {
                        wrong(format!("{id} was done {count} times and told {known:?}"));
                    }
                    continue;
                }
                let (good, bad) = (delivered.get(id), failed.get(id));
                let fits = match (good, bad) {
                    (Some(1), None) => count == 1,
                    (None, Some(reasons)) => match &reasons[..] {
                        [reason] => reason == "OUTCOME_UNKNOWN" || count == 0,
                        _ => false,
                    },
                    (None, None) => *known == Known::Unknown && count == 0,
                    _ => false,
                };
                if !fits {
                    wrong(format!("{id} was done {count} times, delivered {good:?}, failed {bad:?}"));
                }
            }
        }
        for reader in self.readers().filter(|reader| reader.way == Way::Follows) {
            let read = &lock(&reader.book).read;
            if !read.iter().copied().eq(1..=events.len() as u64) {
                wrong(format!("{} read {read:?} of {}", reader.name, events.len()));
            }
        }
        let store = Memory::open(self.disk.clone());
        let leases = self.outside.on(async { store.list("leases/", "", 100).await }).and_then(Result::ok);
        let count = leases.map_or(0, |leases| leases.len());
        if count != 64 {
            wrong(format!("there are {count} leases"));
        }
    }
}

/// How often each request's mail was told to be delivered, and why each was told to have failed.
fn settled(events: &[Event]) -> (BTreeMap<String, usize>, BTreeMap<String, Vec<String>>) {
    let (mut delivered, mut failed) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
    for event in events {
        match event.data.as_ref().and_then(|data| data.kind.clone()) {
            Some(Kind::EmailDelivered(told)) => *delivered.entry(told.request_id).or_insert(0) += 1,
            Some(Kind::EmailFailed(told)) => {
                let reason = told.failure.map(|failure| failure.reason).unwrap_or_default();
                failed.entry(told.request_id).or_default().push(reason);
            }
            _ => {}
        }
    }
    (delivered, failed)
}
