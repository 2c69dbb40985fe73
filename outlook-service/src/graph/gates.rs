//! The gates of the mailboxes: Outlook works on four requests at once for an application and mailbox, and turns away
//! more. When it asks for a pause the gate stays shut for all, since what is asked during a pause prolongs it. A gate
//! outlasts the calls that pass it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::failure::Failure;

/// How many gates are kept; beyond, those that nobody uses go.
const KEPT: usize = 10_000;
/// The longest pause that is kept to without asking again, whatever Graph says.
const MAX_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Gates by application and mailbox.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<(String, usize), Arc<Gate>>>);

/// The gate of an application and mailbox.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Semaphore,
    shut_until: Mutex<Option<Instant>>,
}

impl Gates {
    /// The gate of an application and mailbox, which lets `at_once` requests through.
    pub(crate) fn gate(&self, whose: &str, at_once: usize) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= KEPT {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.pause().is_some());
        }
        let key = (whose.to_owned(), at_once);
        Arc::clone(gates.entry(key).or_insert_with(|| Arc::new(Gate::new(at_once))))
    }
}

impl Gate {
    pub(super) fn new(at_once: usize) -> Self {
        Self { places: Semaphore::new(at_once), shut_until: Mutex::new(None) }
    }

    /// Waits for a place until `until`.
    ///
    /// # Errors
    /// There was none in time, or the gate is shut.
    pub(super) async fn pass(&self, until: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        let permit = tokio::time::timeout_at(until, self.places.acquire()).await;
        let Ok(Ok(permit)) = permit else { return Err(Failure::Busy) };
        match self.pause() {
            Some(left) => Err(Failure::Paused { left }),
            None => Ok(permit),
        }
    }

    /// Shuts the gate for a while.
    pub(super) fn shut(&self, pause: Duration) {
        let until = Instant::now() + pause.min(MAX_PAUSE);
        let mut shut_until = self.shut_until.lock().unwrap_or_else(PoisonError::into_inner);
        *shut_until = Some(shut_until.map_or(until, |before| before.max(until)));
    }

    /// How long the gate stays shut. None: it is open.
    fn pause(&self) -> Option<Duration> {
        let shut_until = *self.shut_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = shut_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_is_shared_by_those_who_name_the_same_mailbox() {
        let gates = Gates::default();
        let (a, b) = (gates.gate("a", 1), gates.gate("b", 1));
        let soon = || Instant::now() + Duration::from_secs(1);
        let held = a.pass(soon()).await.unwrap();
        let at_once = Instant::now();
        assert!(matches!(gates.gate("a", 1).pass(at_once).await, Err(Failure::Busy)));
        assert!(b.pass(soon()).await.is_ok());
        drop(held);
        assert!(gates.gate("a", 1).pass(soon()).await.is_ok());
    }

    #[tokio::test]
    async fn a_gate_stays_shut_as_long_as_graph_asks_for() {
        let gate = Gate::new(1);
        let soon = || Instant::now() + Duration::from_secs(1);
        gate.shut(Duration::from_millis(80));
        gate.shut(Duration::from_millis(1));
        let Err(Failure::Paused { left }) = gate.pass(soon()).await else { panic!("the gate is open") };
        tokio::time::sleep(left).await;
        assert!(gate.pass(soon()).await.is_ok());
        gate.shut(Duration::from_secs(1_000_000));
        assert!(matches!(gate.pass(soon()).await, Err(Failure::Paused { left }) if left <= MAX_PAUSE));
    }
}
