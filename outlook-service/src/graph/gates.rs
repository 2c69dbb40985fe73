//! The gates of the mailboxes: Outlook works on four requests at once for an application and mailbox, and turns away
//! more. A gate outlasts the calls that pass it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// How many gates are kept; beyond, those that nobody uses go.
const KEPT: usize = 10_000;

/// Gates by application and mailbox.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<(String, usize), Arc<Semaphore>>>);

impl Gates {
    /// The gate of an application and mailbox, which lets `at_once` requests through.
    pub(crate) fn gate(&self, whose: &str, at_once: usize) -> Arc<Semaphore> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= KEPT {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let key = (whose.to_owned(), at_once);
        Arc::clone(gates.entry(key).or_insert_with(|| Arc::new(Semaphore::new(at_once))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_shared_by_those_who_name_the_same_mailbox() {
        let gates = Gates::default();
        let held = gates.gate("a", 2);
        let _permit = held.try_acquire().unwrap();
        assert_eq!(gates.gate("a", 2).available_permits(), 1);
        assert_eq!(gates.gate("b", 2).available_permits(), 2);
    }
}
