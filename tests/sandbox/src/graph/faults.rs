//! What is to go wrong, on demand, and the gate that every mailbox has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

/// How many requests Outlook works on at once for a mailbox.
const MOST_AT_ONCE: usize = 4;

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends before the request is looked at.
    Cut,
    /// The request is done, then the connection ends before the answer.
    CutAfter,
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

/// A fault that waits for a request.
#[derive(Debug)]
struct Planned {
    method: Option<Method>,
    within: String,
    times: usize,
    fault: Fault,
}

/// The faults that wait to be shown.
#[derive(Debug)]
pub struct Faults {
    planned: Mutex<Vec<Planned>>,
    delay: Mutex<Option<Duration>>,
    in_work: Arc<Mutex<HashMap<String, usize>>>,
    most_at_once: AtomicUsize,
    delta_generation: AtomicU64,
    refuses_seen: AtomicBool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            planned: Mutex::default(),
            delay: Mutex::default(),
            in_work: Arc::default(),
            most_at_once: AtomicUsize::default(),
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

    /// How long each request to Graph is worked on. Absent: no longer than it takes.
    pub fn set_delay(&self, delay: Option<Duration>) {
        *lock(&self.delay) = delay;
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
        *lock(&self.delay)
    }

    pub(super) fn take(&self, method: &Method, target: &str) -> Option<Fault> {
        self.take_if(method, target, |fault| !matches!(fault, Fault::CutAfter))
    }

    pub(super) fn take_after(&self, method: &Method, target: &str) -> Option<Fault> {
        self.take_if(method, target, |fault| matches!(fault, Fault::CutAfter))
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

    /// Enters a mailbox's gate; nothing where too many are in work.
    pub(super) fn enter(&self, mailbox: &str) -> Option<InWork> {
        let mut in_work = lock(&self.in_work);
        let count = in_work.entry(mailbox.to_owned()).or_default();
        if *count == MOST_AT_ONCE {
            self.most_at_once.fetch_max(MOST_AT_ONCE + 1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        self.most_at_once.fetch_max(*count, Ordering::Relaxed);
        Some(InWork { all: Arc::clone(&self.in_work), mailbox: mailbox.to_owned() })
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::Relaxed)
    }

    pub(super) fn next_delta_generation(&self) {
        self.delta_generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn delta_generation(&self) -> u64 {
        self.delta_generation.load(Ordering::Relaxed)
    }
}

/// A request in work; it leaves the gate when dropped.
pub(super) struct InWork {
    all: Arc<Mutex<HashMap<String, usize>>>,
    mailbox: String,
}

impl Drop for InWork {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.all).get_mut(&self.mailbox) {
            *count = count.saturating_sub(1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
