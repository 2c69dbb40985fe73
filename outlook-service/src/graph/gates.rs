//! The gates of the mailboxes: Outlook works on four requests at once for an application and mailbox, takes so many in
//! ten minutes, and turns away more. When it asks for a pause the gate stays shut for all, since what is asked during a
//! pause prolongs it. All gates together let through what the connector may ask for at once. A gate outlasts the calls
//! that pass it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::failure::Failure;
use super::window::Window;
use crate::settings::LimitSettings;

/// How many gates are kept; beyond, those that nobody uses go.
const KEPT: usize = 10_000;
/// How many requests wait at a gate at most: at four at once and a tenth of a second each, those behind would wait for
/// half a minute.
const MOST_WAITING: usize = 1_000;
/// The longest pause that is kept to without asking again, whatever Graph says.
const MAX_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The time that an allowance of requests is for (Graph: throttling limits, Outlook service).
const REQUESTS_WINDOW: Duration = Duration::from_secs(10 * 60);
/// The time that an allowance of bytes uploaded is for.
const UPLOAD_WINDOW: Duration = Duration::from_secs(5 * 60);

/// How wide a gate is: it can be shared out evenly among any number up to 16. A request of a connection that lets four
/// through takes a fourth of it, so that connections that let through different numbers share the one gate of a mailbox.
const WIDTH: u32 = 720_720;

/// Gates by application and mailbox.
#[derive(Debug)]
pub(crate) struct Gates {
    limits: LimitSettings,
    everywhere: Arc<Semaphore>,
    gates: Mutex<HashMap<String, Arc<OfMailbox>>>,
}

/// The gate of an application and mailbox, as the requests of one connection pass it.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    of_mailbox: Arc<OfMailbox>,
    /// How much of its width a request takes.
    share: u32,
}

#[derive(Debug)]
struct OfMailbox {
    width: Semaphore,
    everywhere: Arc<Semaphore>,
    waiting: AtomicUsize,
    counted: Mutex<Counted>,
}

/// What keeps a gate shut.
#[derive(Debug)]
struct Counted {
    shut_until: Option<Instant>,
    requests: Window,
    upload: Window,
}

/// A place among the requests that run at once, given back when dropped.
pub(super) struct Place<'a> {
    _of_mailbox: SemaphorePermit<'a>,
    _everywhere: SemaphorePermit<'a>,
}

impl Gates {
    pub(crate) fn new(limits: LimitSettings) -> Self {
        let everywhere = Arc::new(Semaphore::new(limits.max_concurrent_requests as usize));
        Self { limits, everywhere, gates: Mutex::default() }
    }

    /// The gate of an application and mailbox, which lets `at_once` requests through.
    pub(crate) fn gate(&self, whose: &str, at_once: usize) -> Gate {
        let at_once = u32::try_from(at_once).unwrap_or(WIDTH).clamp(1, WIDTH);
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= KEPT {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.is_at_rest());
        }
        if gates.len() >= KEPT {
            // What they counted is lost: Graph counts too.
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let gate = || Arc::new(OfMailbox::new(&self.limits, Arc::clone(&self.everywhere)));
        let of_mailbox = Arc::clone(gates.entry(whose.to_owned()).or_insert_with(gate));
        Gate { of_mailbox, share: WIDTH / at_once }
    }
}

impl Gate {
    /// Waits for a place until `until`, and counts a request that uploads so many bytes.
    ///
    /// # Errors
    /// There was none in time, or the gate stays shut for longer.
    pub(super) async fn pass(&self, upload: u64, until: Instant) -> Result<Place<'_>, Failure> {
        let gate = &*self.of_mailbox;
        let _in_line = gate.stand_in_line()?;
        loop {
            // The mailbox's own place first: who waits for it takes nothing from other mailboxes meanwhile.
            let places = async {
                let of_mailbox = gate.width.acquire_many(self.share).await.ok()?;
                Some((of_mailbox, gate.everywhere.acquire().await.ok()?))
            };
            let taken = tokio::time::timeout_at(until, places).await;
            let Ok(Some((of_mailbox, everywhere))) = taken else { return Err(Failure::Busy) };
            let shut = match gate.lock().enter(upload) {
                Ok(()) => return Ok(Place { _of_mailbox: of_mailbox, _everywhere: everywhere }),
                Err(shut) => shut,
            };
            drop((of_mailbox, everywhere));
            let opens = Instant::now() + shut.retry_after().unwrap_or(MAX_PAUSE);
            if opens >= until {
                return Err(shut);
            }
            tokio::time::sleep_until(opens).await;
        }
    }

    /// Shuts the gate for a while.
    pub(super) fn shut(&self, pause: Duration) {
        let until = Instant::now() + pause.min(MAX_PAUSE);
        let mut counted = self.of_mailbox.lock();
        counted.shut_until = Some(counted.shut_until.map_or(until, |before| before.max(until)));
    }
}

impl OfMailbox {
    fn new(limits: &LimitSettings, everywhere: Arc<Semaphore>) -> Self {
        Self {
            width: Semaphore::new(WIDTH as usize),
            everywhere,
            waiting: AtomicUsize::new(0),
            counted: Mutex::new(Counted {
                shut_until: None,
                requests: Window::new(limits.max_requests_per_mailbox.into(), REQUESTS_WINDOW),
                upload: Window::new(limits.max_upload_per_mailbox, UPLOAD_WINDOW),
            }),
        }
    }

    fn stand_in_line(&self) -> Result<InLine<'_>, Failure> {
        let in_line = InLine(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            return Err(Failure::Busy);
        }
        Ok(in_line)
    }

    /// Whether it holds nothing worth keeping.
    fn is_at_rest(&self) -> bool {
        let (mut counted, now) = (self.lock(), Instant::now());
        counted.pause(now).is_none() && counted.requests.is_empty(now) && counted.upload.is_empty(now)
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn enter(&mut self, upload: u64) -> Result<(), Failure> {
        let now = Instant::now();
        if let Some(left) = self.pause(now) {
            return Err(Failure::Paused { left });
        }
        let upload_left = if upload == 0 { None } else { self.upload.wait(upload, now) };
        if let Some(left) = self.requests.wait(1, now).max(upload_left) {
            return Err(Failure::Spent { left });
        }
        self.requests.take(1, now);
        if upload > 0 {
            self.upload.take(upload, now);
        }
        Ok(())
    }

    /// How long the gate stays shut. None: it is open.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let left = self.shut_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// Somebody who waits at a gate or is through, until dropped.
struct InLine<'a>(&'a AtomicUsize);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn a_gate_is_shared_by_those_who_name_the_same_mailbox() {
        let gates = Gates::new(LimitSettings::default());
        let (a, b) = (gates.gate("a", 1), gates.gate("b", 1));
        let held = a.pass(0, soon()).await;
        assert!(held.is_ok());
        assert!(matches!(gates.gate("a", 1).pass(0, Instant::now()).await, Err(Failure::Busy)));
        assert!(b.pass(0, soon()).await.is_ok());
        drop(held);
        assert!(gates.gate("a", 1).pass(0, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn connections_that_let_through_different_numbers_share_the_gate_of_a_mailbox() {
        let gates = Gates::new(LimitSettings::default());
        let (two, four) = (gates.gate("a", 2), gates.gate("a", 4));
        let held = two.pass(0, soon()).await;
        let (third, fourth) = (four.pass(0, soon()).await, four.pass(0, soon()).await);
        assert!(held.is_ok() && third.is_ok() && fourth.is_ok());
        assert!(matches!(four.pass(0, Instant::now()).await, Err(Failure::Busy)), "a half and two fourths");
        drop((held, third, fourth));
        two.shut(Duration::from_secs(60));
        assert!(matches!(four.pass(0, soon()).await, Err(Failure::Paused { .. })), "a pause is for all");
        for at_once in 1..=16 {
            assert_eq!(WIDTH % at_once, 0, "{at_once} take the whole width");
        }
    }

    #[tokio::test]
    async fn all_gates_together_let_through_what_the_settings_say() {
        let gates = Gates::new(LimitSettings { max_concurrent_requests: 2, ..LimitSettings::default() });
        let (a, b) = (gates.gate("a", 4), gates.gate("b", 4));
        let first = a.pass(0, soon()).await;
        let second = b.pass(0, soon()).await;
        assert!(first.is_ok() && second.is_ok());
        assert!(matches!(b.pass(0, Instant::now()).await, Err(Failure::Busy)));
        drop(first);
        assert!(b.pass(0, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn a_pause_is_waited_for_where_there_is_time_and_told_where_there_is_none() {
        let gate = Gates::new(LimitSettings::default()).gate("a", 1);
        gate.shut(Duration::from_millis(80));
        gate.shut(Duration::from_millis(1));
        let begun = Instant::now();
        assert!(gate.pass(0, soon()).await.is_ok());
        assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
        gate.shut(Duration::from_secs(1_000_000));
        assert!(matches!(gate.pass(0, soon()).await, Err(Failure::Paused { left }) if left <= MAX_PAUSE));
    }

    #[tokio::test]
    async fn what_outlook_would_turn_away_is_not_asked_for() {
        let limits = LimitSettings {
            max_requests_per_mailbox: 3,
            max_upload_per_mailbox: 100,
            ..LimitSettings::default()
        };
        let gate = Gates::new(limits).gate("a", 4);
        assert!(gate.pass(60, soon()).await.is_ok());
        let Err(Failure::Spent { left }) = gate.pass(60, soon()).await else { panic!("the upload passes") };
        assert!(left > UPLOAD_WINDOW / 2 && left < UPLOAD_WINDOW * 2, "{left:?}");
        assert!(gate.pass(40, soon()).await.is_ok());
        assert!(gate.pass(0, soon()).await.is_ok());
        let Err(Failure::Spent { left }) = gate.pass(0, soon()).await else { panic!("the request passes") };
        assert!(left > REQUESTS_WINDOW / 2 && left < REQUESTS_WINDOW * 2, "{left:?}");
    }

    #[tokio::test]
    async fn no_more_than_a_thousand_wait_at_a_gate() {
        let gate = Gates::new(LimitSettings::default()).gate("a", 1);
        let held = gate.pass(0, soon()).await;
        assert!(held.is_ok());
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..MOST_WAITING {
            let gate = gate.clone();
            waiting.spawn(async move { gate.pass(0, soon()).await.is_ok() });
        }
        while gate.of_mailbox.waiting.load(Ordering::Relaxed) < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        assert!(matches!(gate.pass(0, soon()).await, Err(Failure::Busy)), "one more is sent away at once");
        waiting.shutdown().await;
        drop(held);
        assert!(gate.pass(0, soon()).await.is_ok());
    }

    #[test]
    fn gates_that_nobody_uses_go_when_there_are_too_many() {
        let gates = Gates::new(LimitSettings::default());
        let kept = gates.gate("kept", 1);
        for number in 0..KEPT + 10 {
            gates.gate(&number.to_string(), 1);
        }
        assert!(gates.gates.lock().unwrap().len() <= KEPT);
        assert!(Arc::ptr_eq(&kept.of_mailbox, &gates.gate("kept", 1).of_mailbox));
    }
}
