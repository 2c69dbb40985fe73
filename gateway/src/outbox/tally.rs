//! How much waits: what a new mail's place is judged by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_chassis::fault::Fault;
use tonic::Code;

use super::OutboxSettings;

/// When to try again where the outbox is full: mails are handed over in about that time.
const RETRY_FULL: Duration = Duration::from_secs(30);

/// The mails that wait, with their bytes. Clones are the same one.
#[derive(Clone)]
pub(super) struct Tally {
    waiting: Arc<Mutex<Waiting>>,
    max_emails: usize,
    max_bytes: u64,
}

#[derive(Default)]
struct Waiting {
    emails: HashMap<Arc<str>, Kept>,
    bytes: u64,
}

struct Kept {
    bytes: u64,
    /// Whether it was seen in the store: before that it is only reserved.
    seen: bool,
}

impl Tally {
    pub(super) fn new(settings: &OutboxSettings) -> Self {
        let waiting = Arc::default();
        Self { waiting, max_emails: settings.max_emails, max_bytes: settings.max_bytes }
    }

    /// Takes a place for a mail that is about to be stored.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED (OUTBOX_FULL).
    pub(super) fn reserve(&self, name: &str, bytes: u64) -> Result<Place, Fault> {
        let mut waiting = self.waiting();
        if waiting.emails.len() >= self.max_emails || waiting.bytes.saturating_add(bytes) > self.max_bytes {
            let message = "as many mails wait in the outbox as it is set up to keep";
            return Err(Fault::new(Code::ResourceExhausted, "OUTBOX_FULL", message).retry_after(RETRY_FULL));
        }
        let name: Arc<str> = name.into();
        waiting.put(name.clone(), bytes, false);
        Ok(Place { tally: self.clone(), name: Some(name) })
    }

    /// Notes a mail that waits.
    pub(super) fn seen(&self, name: Arc<str>, bytes: u64) {
        self.waiting().put(name, bytes, true);
    }

    /// Notes a mail that waits no more.
    pub(super) fn gone(&self, name: &str) {
        self.waiting().remove(name);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, name: Arc<str>, bytes: u64, seen: bool) {
        let before = self.emails.insert(name, Kept { bytes, seen }).map_or(0, |kept| kept.bytes);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(bytes);
    }

    fn remove(&mut self, name: &str) {
        if let Some(kept) = self.emails.remove(name) {
            self.bytes = self.bytes.saturating_sub(kept.bytes);
        }
    }
}

/// A place that is free again once this is dropped, unless it was taken.
pub(super) struct Place {
    tally: Tally,
    name: Option<Arc<str>>,
}

impl Place {
    /// Keeps the place: the mail is stored.
    pub(super) fn take(mut self) {
        self.name = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            let mut waiting = self.tally.waiting();
            // Whoever saw it in the store knows better.
            if waiting.emails.get(&name).is_some_and(|kept| !kept.seen) {
                waiting.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_free_again_where_nothing_was_stored() {
        let hour = Duration::from_secs(3_600);
        let settings =
            OutboxSettings { back_off: hour, give_up: hour, keep: hour, max_emails: 2, max_bytes: 100 };
        let tally = Tally::new(&settings);
        assert!(tally.reserve("outbox/a", 101).is_err(), "too many bytes");
        tally.reserve("outbox/a", 60).unwrap().take();
        assert!(tally.reserve("outbox/b", 60).is_err());
        drop(tally.reserve("outbox/b", 40).unwrap());
        let second = tally.reserve("outbox/c", 40).unwrap();
        assert!(tally.reserve("outbox/d", 0).is_err(), "too many mails");
        tally.seen("outbox/c".into(), 40);
        drop(second);
        assert!(tally.reserve("outbox/d", 0).is_err(), "what was seen stays");
        tally.gone("outbox/a");
        tally.reserve("outbox/d", 60).unwrap();
    }
}
