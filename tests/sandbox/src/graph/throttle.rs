//! What every mailbox bears: four requests at once, so many in a while, so many bytes uploaded in a while. The while and
//! the number are set by whoever tests, for nobody waits ten minutes to see them pass.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::refusal::{self, Refusal};

/// How many requests Outlook works on at once for a mailbox.
const MOST_AT_ONCE: usize = 4;

/// So much in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How much.
    pub most: u64,
    /// In how long.
    pub within: Duration,
}

/// The throttling of all mailboxes.
#[derive(Debug, Default)]
pub struct Throttle {
    in_work: Arc<Mutex<HashMap<String, usize>>>,
    most_at_once: AtomicUsize,
    turned_away: AtomicUsize,
    counted: Mutex<Counted>,
}

/// What is counted of each mailbox, where an allowance is set.
#[derive(Debug, Default)]
struct Counted {
    requests: Option<Allowance>,
    upload: Option<Allowance>,
    used: HashMap<(String, Kind), VecDeque<(Instant, u64)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Requests,
    Upload,
}

impl Throttle {
    /// How many requests a mailbox gets. Absent: any number.
    pub fn allow_requests(&self, allowance: Option<Allowance>) {
        lock(&self.counted).requests = allowance;
    }

    /// How many bytes a mailbox takes. Absent: any number.
    pub fn allow_upload(&self, allowance: Option<Allowance>) {
        lock(&self.counted).upload = allowance;
    }

    /// How many requests at most were in work at once for a mailbox. Five: more came, and were turned away.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::Relaxed)
    }

    /// How many requests were turned away.
    #[must_use]
    pub fn turned_away(&self) -> usize {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Enters a mailbox with a request that uploads so many bytes.
    pub(super) fn enter(&self, mailbox: &str, upload: u64) -> Result<InWork, Refusal> {
        let entered = self.try_enter(mailbox, upload);
        if entered.is_err() {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    fn try_enter(&self, mailbox: &str, upload: u64) -> Result<InWork, Refusal> {
        let now = Instant::now();
        let mut counted = lock(&self.counted);
        let (requests, uploads) = (counted.requests, counted.upload);
        // What is asked while it is throttled counts as well.
        counted.take(mailbox, Kind::Requests, requests, 1, now).map_err(|wait| {
            refusal::throttled("Application is over its RequestRate limit.", wait.as_secs_f64())
        })?;
        counted.take(mailbox, Kind::Upload, uploads, upload, now).map_err(|wait| {
            refusal::throttled("Application is over its IncomingBytes limit.", wait.as_secs_f64())
        })?;
        drop(counted);
        let mut in_work = lock(&self.in_work);
        let count = in_work.entry(mailbox.to_owned()).or_default();
        self.most_at_once.fetch_max(*count + 1, Ordering::Relaxed);
        if *count == MOST_AT_ONCE {
            return Err(refusal::throttled("Application is over its MailboxConcurrency limit.", 0.128));
        }
        *count += 1;
        Ok(InWork { all: Arc::clone(&self.in_work), mailbox: mailbox.to_owned() })
    }
}

impl Counted {
    fn take(
        &mut self,
        mailbox: &str,
        kind: Kind,
        allowance: Option<Allowance>,
        amount: u64,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(allowance) = allowance else { return Ok(()) };
        let used = self.used.entry((mailbox.to_owned(), kind)).or_default();
        while used.front().is_some_and(|(at, _)| now.duration_since(*at) >= allowance.within) {
            used.pop_front();
        }
        let sum: u64 = used.iter().map(|(_, amount)| amount).sum();
        used.push_back((now, amount));
        match used.front() {
            Some((first, _)) if sum + amount > allowance.most && amount > 0 => {
                Err(allowance.within - now.duration_since(*first))
            }
            _ => Ok(()),
        }
    }
}

/// A request in work; it leaves the mailbox when dropped.
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
