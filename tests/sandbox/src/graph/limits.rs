//! What a mailbox bears, and how long its Sent Items take.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The limits of all mailboxes.
#[derive(Debug)]
pub struct Limits(Mutex<Set>);

#[derive(Debug, Clone, Copy)]
struct Set {
    max_message: usize,
    sent_delay: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        // What an Exchange Online mailbox sends unless its administrator says otherwise.
        Self(Mutex::new(Set { max_message: 35 * 1024 * 1024, sent_delay: None }))
    }
}

impl Limits {
    /// How many bytes a message may have with its attachments.
    pub fn set_max_message(&self, bytes: usize) {
        self.lock().max_message = bytes;
    }

    /// How long the copy of a sent message takes to Sent Items; until then it is nowhere. Absent: no time.
    pub fn set_sent_delay(&self, delay: Option<Duration>) {
        self.lock().sent_delay = delay;
    }

    pub(super) fn max_message(&self) -> usize {
        self.lock().max_message
    }

    pub(super) fn sent_delay(&self) -> Option<Duration> {
        self.lock().sent_delay
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
