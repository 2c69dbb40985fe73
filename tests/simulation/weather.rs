//! What goes wrong, by chance, and what is written down of a run: its trace, how much it was, and what should not have
//! happened.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use postern_gateway::store::Retention;

/// The lock of what one thread alone uses.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is counted of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counted {
    Crashes,
    /// Of gateways in good order, of copies of the connector, cuts, stalls, steps of clocks, revocations, lost cursors.
    Faults,
    Calls,
    Events,
    Deliveries,
    Gaps,
    SimulatedSeconds,
}

/// What each of them is called.
pub(crate) const COUNTED: [&str; 7] =
    ["crashes", "other faults", "calls", "events", "deliveries", "gaps", "simulated seconds"];

/// How much a run was, as [`COUNTED`] calls it.
pub(crate) type Counts = [u64; COUNTED.len()];

/// What a run has besides crashes and losses: half of all runs have each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Climate {
    /// The log keeps little.
    pub(crate) retention: Option<Retention>,
    /// The provider forgets cursors.
    pub(crate) forgets: bool,
    /// A user has to sign in, whose grants wear out and are revoked.
    pub(crate) signs_in: bool,
}

/// The weather of a run: all that is left to chance asks it.
pub(crate) struct Weather {
    rng: Mutex<Rng>,
    pub(crate) climate: Climate,
    is_calm: AtomicBool,
    has_begun: AtomicBool,
    is_told: bool,
    trace: Mutex<(u64, u64)>,
    counts: Mutex<Counts>,
    wrongs: Mutex<Vec<String>>,
}

impl Weather {
    pub(crate) fn new(seed: u64, is_told: bool) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let age = Duration::from_secs(rng.u64(2..30));
        let retention = Retention { age, bytes: rng.u64(300..5_000) };
        let climate =
            Climate { retention: rng.bool().then_some(retention), forgets: rng.bool(), signs_in: rng.bool() };
        Arc::new(Self {
            rng: Mutex::new(rng),
            climate,
            is_calm: AtomicBool::new(true),
            has_begun: AtomicBool::new(false),
            is_told,
            trace: Mutex::new((0xcbf2_9ce4_8422_2325, 0)),
            counts: Mutex::default(),
            wrongs: Mutex::default(),
        })
    }

    /// Whether something happens now that does so in so many of a thousand cases. In calm weather nothing does.
    pub(crate) fn strikes(&self, of_thousand: u32) -> bool {
        let drawn = lock(&self.rng).u32(..1_000);
        drawn < of_thousand && !self.is_calm.load(Ordering::Relaxed)
    }

    /// A number below another.
    pub(crate) fn below(&self, end: usize) -> usize {
        lock(&self.rng).usize(..end.max(1))
    }

    /// A time below another, in milliseconds.
    pub(crate) fn within(&self, end: u64) -> Duration {
        Duration::from_millis(lock(&self.rng).u64(..end.max(1)))
    }

    pub(crate) fn calm(&self, is_calm: bool) {
        self.is_calm.store(is_calm, Ordering::Relaxed);
        self.has_begun.fetch_or(!is_calm, Ordering::Relaxed);
    }

    /// Whether it has been bad: before, what readers are to read from its beginning is made.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// How long something takes: mostly little, sometimes far too long.
    pub(crate) async fn wait(&self, usual: u64, longest: u64) {
        let end = if self.strikes(15) { longest } else { usual };
        tokio::time::sleep(self.within(end)).await;
    }

    /// Counts something.
    pub(crate) fn count(&self, what: Counted, more: usize) {
        lock(&self.counts)[what as usize] += more as u64;
    }

    /// Writes down what happened.
    pub(crate) fn trace(&self, line: impl Display) {
        let line = line.to_string();
        let mut trace = lock(&self.trace);
        for byte in line.bytes().chain([0]) {
            trace.0 = (trace.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        trace.1 += 1;
        if self.is_told {
            println!("{line}");
        }
    }

    /// Writes down a fault, and counts it.
    pub(crate) fn fault(&self, line: impl Display) {
        self.count(Counted::Faults, 1);
        self.trace(line);
    }

    /// Writes down what must not happen.
    pub(crate) fn wrong(&self, line: String) {
        self.trace(&line);
        lock(&self.wrongs).push(line);
    }

    /// What happened in one number, how much it was, and what of it must not.
    pub(crate) fn told(&self) -> (u64, u64, Vec<String>) {
        let (hash, count) = *lock(&self.trace);
        (hash, count, lock(&self.wrongs).clone())
    }

    pub(crate) fn counts(&self) -> Counts {
        *lock(&self.counts)
    }
}
