//! What must hold at the end of a run.

use postern_gateway::store::{EventLog as _, Store as _};
use postern_proto::event::v1::Event;
use postern_tests::memory::Memory;
use prost::Message as _;

use crate::callers::{CONNECTION, Known};
use crate::readers::Way;
use crate::weather::lock;
use crate::world::{TRIGGERS, World};

/// More than a run makes.
const ALL: usize = 1_000_000;
/// Into how many parts the duties of gateways fall.
const PARTS: usize = 64;

impl World {
    /// Whether all is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.open_ends().next().is_none()
    }

    /// What is not settled yet, the cheapest to find first.
    pub(crate) fn open_ends(&self) -> impl Iterator<Item = String> {
        let ways: [fn(&Self) -> Vec<String>; 4] =
            [Self::who_waits, Self::untold, Self::unread, Self::without_owner];
        ways.into_iter().flat_map(|way| way(self))
    }

    fn who_waits(&self) -> Vec<String> {
        let waiting = self.callers().filter(|caller| !caller.is_at_rest());
        waiting.map(|caller| format!("{} waits: {:?}", caller.name, lock(&caller.changes))).collect()
    }

    fn untold(&self) -> Vec<String> {
        let (mut open, written) = (Vec::new(), self.journal.read());
        for (trigger, folder) in TRIGGERS {
            let came = lock(&self.provider.folders).get(folder).copied().unwrap_or(0);
            let told = written.came.get(&source(trigger)).map_or(0, Vec::len);
            if told < came {
                open.push(format!("trigger {trigger} told {told} of {came}"));
            }
        }
        for caller in self.callers().filter(|caller| caller.queues) {
            for (id, known) in lock(&caller.changes).iter() {
                // Where it is not known whether it was queued, it may not have been.
                let is_told = written.delivered.contains_key(id) || written.failed.contains_key(id);
                if !is_told && *known != Known::Unknown {
                    open.push(format!("{id} is neither delivered nor failed"));
                }
            }
        }
        open
    }

    fn unread(&self) -> Vec<String> {
        let last = self.journal.read().last();
        let open = self.readers().filter_map(|reader| {
            let book = lock(&reader.book);
            let done = match reader.way {
                Way::Follows => book.at,
                Way::Commits => book.confirmed,
                Way::Acks => book.open(&self.journal).map_or(last, |place| place - 1),
            };
            (done < last).then(|| format!("{} is done with {done} of {last}", reader.name))
        });
        open.collect()
    }

    fn without_owner(&self) -> Vec<String> {
        let gateways = self.gateways().into_iter();
        let owned = gateways.map(|gateway| gateway.map(|gateway| *gateway.leases.changes().borrow()));
        let owned: Vec<_> = owned.collect();
        let open = (0..PARTS).filter_map(|duty| {
            let name = format!("duty-{duty}");
            let owners = owned.iter().flatten().filter(|owned| owned.owns(&name)).count();
            (owners != 1 || owned.contains(&None)).then(|| format!("{name} has {owners} owners"))
        });
        let open: Vec<_> = open.take(1).collect();
        let leases = self.leases();
        // A gateway may tell that something is its own before all leases are taken.
        if leases == PARTS { open } else { vec![format!("there are {leases} leases")] }
    }

    fn leases(&self) -> usize {
        let store = Memory::open(self.disk.clone());
        let leases = self.outside.on(async { store.list("leases/", "", ALL).await });
        leases.and_then(Result::ok).map_or(0, |leases| leases.len())
    }

    /// What must not be, whatever came before.
    pub(crate) fn check(&self) {
        let wrong = |line| self.weather.wrong(line);
        let written = self.journal.read();
        for (trigger, folder) in TRIGGERS {
            let came = lock(&self.provider.folders).get(folder).copied().unwrap_or(0);
            let told = written.came.get(&source(trigger)).cloned().unwrap_or_default();
            if !told.iter().cloned().eq((0..came).map(|number| number.to_string())) {
                wrong(format!("trigger {trigger} told {told:?} of {came}"));
            }
        }
        for trigger in &self.gaps_due {
            if !written.trigger_gaps.contains_key(trigger) {
                wrong(format!("{trigger} lost its cursor and did not say so"));
            }
        }
        if !written.doubled.is_empty() {
            wrong(format!("in the log twice: {:?}", written.doubled));
        }
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
                let (good, bad) = (written.delivered.get(id), written.failed.get(id));
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
        let revoked = *lock(&self.provider.account.revoked);
        if written.sign_ins > revoked {
            wrong(format!(
                "somebody had to sign in {} times, for {revoked} times that it was over",
                written.sign_ins
            ));
        }
        let store = Memory::open(self.disk.clone());
        let events = self.outside.on(async { store.read(0, ALL, usize::MAX).await }).and_then(Result::ok);
        let events = events.unwrap_or_default();
        let kept = events.into_iter().filter_map(|event| Some(Event::decode(event.encoded).ok()?.id));
        let removed = usize::try_from(written.removed).unwrap_or(usize::MAX);
        if !kept.eq(written.ids.iter().skip(removed).cloned()) {
            wrong("the log does not hold what was stored".to_owned());
        }
    }
}

/// Whose events a trigger's are.
fn source(trigger: &str) -> String {
    format!("{CONNECTION}/triggers/{trigger}")
}
