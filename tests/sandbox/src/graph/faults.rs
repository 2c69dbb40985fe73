//! What is to go wrong, on demand or at random, and how long things take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends before the request is looked at.
    Cut,
    /// The request is done, then the connection ends before the answer.
    CutAfter,
    /// Of a range that is uploaded so many bytes are taken, then the connection ends.
    CutWithin(usize),
    /// The request is done, then the connection ends when so many bytes of the answer's body went out.
    CutAt(usize),
    /// The request is done, and the connection ends when this many bytes of the answer are written, its head included.
    CutInAnswer(u64),
    /// The request is never answered, and the connection stays open.
    Stall,
    /// This answer is given instead.
    Answer {
        /// The status.
        status: u16,
        /// Header fields.
        headers: Vec<(String, String)>,
        /// The body, sent as it is.
        body: String,
    },
}

impl Fault {
    /// An answer with this status and body.
    #[must_use]
    pub fn answer(status: u16, body: &str) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.to_owned() }
    }

    /// An answer with an error of Graph's shape.
    #[must_use]
    pub fn refuse(status: u16, code: &str, retry_after: Option<&str>) -> Self {
        Self::Answer {
            status,
            headers: retry_after
                .map(|value| ("retry-after".to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
            body: serde_json::json!({"error": {"code": code, "message": "on demand"}}).to_string(),
        }
    }
}

impl Fault {
    /// Whether it follows a request that is done.
    pub(super) fn comes_after(&self) -> bool {
        matches!(self, Self::CutAfter | Self::CutAt(_) | Self::CutInAnswer(_))
    }
}

impl Random {
    fn draw(&mut self) -> Option<Fault> {
        if self.dice.f64() >= self.share {
            return None;
        }
        let fault = self.faults.get(self.dice.usize(..self.faults.len().max(1))).cloned();
        self.shown += u64::from(fault.is_some());
        fault
    }
}

/// A fault that waits for a request.
#[derive(Debug)]
struct Planned {
    method: Option<Method>,
    within: String,
    times: usize,
    fault: Fault,
}

/// How long a request is worked on.
#[derive(Debug, Clone, Copy)]
enum Delay {
    Always(Duration),
    /// Log-normal: the median, and the standard deviation of the logarithm.
    Spread(Duration, f64),
}

/// The faults that wait to be shown.
#[derive(Debug)]
pub struct Faults {
    planned: Mutex<Vec<Planned>>,
    delay: Mutex<Option<Delay>>,
    random: Mutex<Option<Random>>,
    delta_generation: AtomicU64,
    /// How often the delta tokens of a mailbox alone were forgotten, by its address.
    forgotten: Mutex<HashMap<String, u64>>,
    refuses_seen: AtomicBool,
}

/// Faults that come unasked.
#[derive(Debug)]
struct Random {
    share: f64,
    faults: Vec<Fault>,
    dice: fastrand::Rng,
    shown: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            planned: Mutex::default(),
            delay: Mutex::default(),
            random: Mutex::default(),
            forgotten: Mutex::default(),
            // A Graph that takes another's place must not take the delta tokens that the other gave for its own: their
            // places would pass over what is new here.
            delta_generation: AtomicU64::new(fastrand::u64(..)),
            refuses_seen: AtomicBool::new(false),
        }
    }
}

impl Faults {
    /// Shows a fault at the next `times` requests of this method (absent: any) whose path and query hold `within`.
    pub fn plan(&self, method: Option<Method>, within: &str, times: usize, fault: Fault) {
        lock(&self.planned).push(Planned { method, within: within.to_owned(), times, fault });
    }

    /// Forgets the faults that still wait to be shown.
    pub fn forget(&self) {
        lock(&self.planned).clear();
    }

    /// Shows one of these faults at a share of all requests to Graph from now on, by dice that fall as `seed` has them fall.
    pub fn show_at_random(&self, share: f64, faults: Vec<Fault>, seed: u64) {
        let dice = fastrand::Rng::with_seed(seed);
        *lock(&self.random) = Some(Random { share, faults, dice, shown: 0 });
    }

    /// Shows none at random any more. Gives how many were shown.
    pub fn end_random(&self) -> u64 {
        lock(&self.random).take().map(|random| random.shown).unwrap_or_default()
    }

    /// How long each request to Graph is worked on. Absent: no longer than it takes.
    pub fn set_delay(&self, delay: Option<Duration>) {
        *lock(&self.delay) = delay.map(Delay::Always);
    }

    /// How long requests to Graph are worked on: log-normal about a median, `spread` being the standard deviation of the
    /// logarithm.
    pub fn set_spread_delay(&self, median: Duration, spread: f64) {
        *lock(&self.delay) = Some(Delay::Spread(median, spread));
    }

    /// From now on an event whose `transactionId` was seen before is a conflict, rather than the event that has it.
    pub fn refuse_seen_transactions(&self) {
        self.refuses_seen.store(true, Ordering::Relaxed);
    }

    pub(super) fn refuses_seen_transactions(&self) -> bool {
        self.refuses_seen.load(Ordering::Relaxed)
    }

    /// Whether every planned fault was shown.
    #[must_use]
    pub fn all_shown(&self) -> bool {
        lock(&self.planned).is_empty()
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        match (*lock(&self.delay))? {
            Delay::Always(delay) => Some(delay),
            Delay::Spread(median, spread) => {
                // Box and Muller's way to a normal number.
                let (radius, angle) =
                    (-2.0 * (1.0 - fastrand::f64()).ln(), std::f64::consts::TAU * fastrand::f64());
                Some(median.mul_f64((radius.sqrt() * angle.cos() * spread).exp()))
            }
        }
    }

    pub(super) fn take(&self, method: &Method, target: &str) -> Option<Fault> {
        let planned = self.take_if(method, target, |fault| !fault.comes_after());
        // What the identity platform answers is another matter: it has faults of its own.
        let drawn = || target.starts_with("/v1.0/").then(|| lock(&self.random).as_mut()?.draw()).flatten();
        planned.or_else(drawn)
    }

    pub(super) fn take_after(&self, method: &Method, target: &str) -> Option<Fault> {
        self.take_if(method, target, Fault::comes_after)
    }

    fn take_if(&self, method: &Method, target: &str, kind: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut planned = lock(&self.planned);
        let position = planned.iter().position(|plan| {
            plan.method.as_ref().is_none_or(|planned| planned == method)
                && target.contains(&plan.within)
                && kind(&plan.fault)
        })?;
        let plan = planned.get_mut(position)?;
        let fault = plan.fault.clone();
        plan.times = plan.times.saturating_sub(1);
        if plan.times == 0 {
            planned.remove(position);
        }
        Some(fault)
    }

    pub(super) fn next_delta_generation(&self) {
        self.delta_generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn forget_delta_tokens_of(&self, address: &str) {
        *lock(&self.forgotten).entry(address.to_lowercase()).or_default() += 1;
    }

    pub(super) fn delta_generation(&self) -> u64 {
        self.delta_generation.load(Ordering::Relaxed)
    }

    /// The generation of the tokens of a mailbox.
    pub(super) fn delta_generation_of(&self, address: &str) -> u64 {
        let own = lock(&self.forgotten).get(&address.to_lowercase()).copied().unwrap_or_default();
        self.delta_generation().wrapping_add(own << 32)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
