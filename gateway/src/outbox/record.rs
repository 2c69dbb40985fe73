//! How queued mails lie in the store.
//!
//! - `outbox/{mail}`: what is known of it. Keys sort by time, the newest first.
//! - `content/outbox/{mail}/{n}`: what is to be sent, sealed, in pieces.
//! - `outbox-requests/{digest}`: which mail was queued with a request id, for as long as the mail is kept.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_proto::outbox::v1::{QueuedEmail, QueuedEmailState};
use prost::Message as _;

use crate::error::Error;
use crate::names;
use crate::requests::Requests;
use crate::store::{CONTENT, Entry, Expect, Revision, Store, Write};

/// Where mails lie, which is how their names begin too.
pub(super) const OUTBOX: &str = "outbox/";
/// The requests that make them.
pub(super) const REQUESTS: Requests = Requests { prefix: "outbox-requests/", resource: "mail" };

/// A mail as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    /// As callers see it.
    #[prost(message, optional, tag = "1")]
    pub(super) email: Option<QueuedEmail>,
    /// In how many pieces its content lies. 0: it is gone.
    #[prost(uint32, tag = "2")]
    pub(super) pieces: u32,
    /// How many bytes its content has.
    #[prost(uint64, tag = "3")]
    pub(super) bytes: u64,
    /// Who is still to be sent it. Empty: everybody.
    #[prost(string, repeated, tag = "4")]
    pub(super) left: Vec<String>,
    /// Whether nobody knows how its last attempt ended, and its connector is to be asked.
    #[prost(bool, tag = "5")]
    pub(super) in_doubt: bool,
    /// The id within `outbox-requests/`. Empty: it was queued without a request id.
    #[prost(string, tag = "6")]
    pub(super) request: String,
    /// How often it was tried, also before it was made due anew: names each attempt.
    #[prost(uint32, tag = "7")]
    pub(super) tries: u32,
    /// How long the wait is that ends at its `next_attempt_time`, in milliseconds: a clock that was set back makes it no
    /// longer.
    #[prost(uint64, tag = "8")]
    pub(super) wait: u64,
    /// How often its connector was asked how the last attempt ended.
    #[prost(uint32, tag = "9")]
    pub(super) asked: u32,
    /// When it is asked so next.
    #[prost(message, optional, tag = "10")]
    pub(super) ask_time: Option<prost_types::Timestamp>,
    /// The gateway that hands it over: as long as that lives, it alone says how the attempt ended.
    #[prost(string, tag = "11")]
    pub(super) sender: String,
    /// How many of its attempts reached no connector: its provider has not refused it as often.
    #[prost(uint32, tag = "12")]
    pub(super) unreached: u32,
}

impl Record {
    pub(super) fn new(email: QueuedEmail, pieces: u32, bytes: u64, request: String) -> Self {
        Self { email: Some(email), pieces, bytes, request, ..Self::default() }
    }

    /// The mail, with all that is known of it.
    pub(super) fn email(&self) -> &QueuedEmail {
        static NONE: std::sync::LazyLock<QueuedEmail> = std::sync::LazyLock::new(QueuedEmail::default);
        self.email.as_ref().unwrap_or(&NONE)
    }

    pub(super) fn email_mut(&mut self) -> &mut QueuedEmail {
        self.email.get_or_insert_default()
    }

    pub(super) fn name(&self) -> &str {
        &self.email().name
    }

    pub(super) fn connection(&self) -> &str {
        &self.email().connection
    }

    pub(super) fn state(&self) -> QueuedEmailState {
        self.email().state()
    }

    /// Whether nothing becomes of it any more by itself.
    pub(super) fn is_settled(&self) -> bool {
        use QueuedEmailState::{Cancelled, Delivered, Failed};
        matches!(self.state(), Delivered | Failed | Cancelled)
    }

    /// When something is to be done next.
    pub(super) fn due(&self) -> SystemTime {
        let due = match self.state() {
            QueuedEmailState::Sending => self.ask_time,
            _ => self.email().next_attempt_time,
        };
        due.and_then(|due| SystemTime::try_from(due).ok()).unwrap_or(UNIX_EPOCH)
    }

    /// How long it takes at most until it is due, whatever clocks say. `None`: it is due at a time that was asked for.
    pub(super) fn longest_wait(&self) -> Option<Duration> {
        match self.state() {
            QueuedEmailState::Queued if self.email().schedule_time.is_some() => None,
            _ => Some(Duration::from_millis(self.wait)),
        }
    }

    /// Has it wait until a time, at most for so long.
    pub(super) fn wait_until(&mut self, due: SystemTime, wait: Duration) {
        self.wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.email_mut().next_attempt_time = Some(due.into());
    }

    /// Turns it to a state in which nothing becomes of it any more.
    pub(super) fn settle(&mut self, state: QueuedEmailState, now: SystemTime) {
        (self.in_doubt, self.ask_time, self.wait) = (false, None, 0);
        let email = self.email_mut();
        email.set_state(state);
        (email.next_attempt_time, email.expire_time) = (None, None);
        email.settle_time = Some(now.into());
    }

    /// The mail as callers see it.
    pub(super) fn shown(&self) -> QueuedEmail {
        let mut email = self.email().clone();
        if email.state() != QueuedEmailState::Delivered {
            email.internet_message_id.clear();
            email.message_id.clear();
        }
        email
    }

    /// The write of it.
    pub(super) fn write(&self, expect: Expect) -> Write {
        Write { key: self.name().to_owned(), value: Some(self.encode_to_vec().into()), expect }
    }

    /// The writes that remove its content.
    pub(super) fn without_content(&mut self) -> Vec<Write> {
        let pieces = std::mem::take(&mut self.pieces);
        let keys = (0..pieces).map(|piece| content_key(self.name(), piece));
        keys.map(|key| Write { key, value: None, expect: Expect::Any }).collect()
    }
}

/// A mail with its revision.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) revision: Revision,
}

impl Stored {
    /// The mail in an entry.
    ///
    /// # Errors
    /// RECORD_UNREADABLE: it is none.
    pub(super) fn decode(entry: &Entry) -> Result<Self, Error> {
        let record = Record::decode(entry.value.clone()).ok().filter(|record| record.email.is_some());
        let record = record.ok_or_else(|| Error::unreadable(&entry.key))?;
        Ok(Self { record, revision: entry.revision })
    }

    /// Reads a mail.
    ///
    /// # Errors
    /// QUEUED_EMAIL_NOT_FOUND; storage failed.
    pub(super) async fn read(store: &dyn Store, name: &str) -> Result<Self, Error> {
        let entry = store.get(name).await?;
        let entry = entry.ok_or_else(|| Error::NotFound("QueuedEmail", name.to_owned()))?;
        Self::decode(&entry)
    }

    /// The writes that remove it with all that belongs to it.
    pub(super) fn removal(mut self) -> Vec<Write> {
        let mut writes = self.record.without_content();
        let key = self.record.name().to_owned();
        writes.push(Write { key, value: None, expect: Expect::Revision(self.revision) });
        writes.extend(REQUESTS.removal(&self.record.request));
        writes
    }
}

/// The key of a piece of a mail's content.
pub(super) fn content_key(name: &str, piece: u32) -> String {
    format!("{CONTENT}{name}/{piece}")
}

/// The name of a mail that is queued now: names sort by time, the newest first.
pub(super) fn new_name(now: SystemTime) -> String {
    names::newest_first(&format!("{OUTBOX}m"), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_only_in_part_is_not_shown_as_delivered() {
        let email = QueuedEmail { internet_message_id: "<a@b>".into(), ..Default::default() };
        let mut record = Record::new(email, 2, 10, String::new());
        assert!(record.shown().internet_message_id.is_empty());
        record.settle(QueuedEmailState::Delivered, SystemTime::now());
        assert_eq!(record.shown().internet_message_id, "<a@b>");
        assert!(record.is_settled());
    }
}
