//! How approvals lie in the store.
//!
//! - `approvals/{approval}`: the approval and what its pages need. Keys sort by time, the newest first.
//! - `approval-requests/{digest}`: which approval was asked for with a request id, for as long as it is kept.
//! - `approval-notices/{approval}`: an answer that is still to be posted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use postern_proto::approval::v1::{Approval, ApprovalState};
use prost::Message as _;
use prost_types::Timestamp;

use super::doubt::Doubt;
use crate::error::Error;
use crate::names;
use crate::requests::Requests;
use crate::store::{Entry, Expect, Revision, Store, Write};

/// Where approvals lie, which is how their names begin too.
pub(super) const APPROVALS: &str = "approvals/";
/// The requests that make them.
pub(super) const REQUESTS: Requests = Requests { prefix: "approval-requests/", resource: "question" };
/// Where answers lie that are still to be posted.
pub(super) const NOTICES: &str = "approval-notices/";
/// How long an approval is kept after it ended.
pub(super) const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// An approval as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    /// As callers see it, but for its etag.
    #[prost(message, optional, tag = "1")]
    pub(super) approval: Option<Approval>,
    /// Counts its changes.
    #[prost(uint64, tag = "2")]
    pub(super) edition: u64,
    /// Whether it asks to approve rather than to choose.
    #[prost(bool, tag = "3")]
    pub(super) approves: bool,
    /// Whether its options are the gateway's own, which are shown in the reader's language.
    #[prost(bool, tag = "4")]
    pub(super) own_options: bool,
    /// Whether the page asks once more.
    #[prost(bool, tag = "5")]
    pub(super) asks_twice: bool,
    /// The language of its pages. Empty: the reader's.
    #[prost(string, tag = "6")]
    pub(super) language: String,
    /// Who asks: as the question says, else the connection's account or name. Empty: neither is known.
    #[prost(string, tag = "7")]
    pub(super) from: String,
    /// Where the answer is posted, sealed for the approval's name. Empty: nowhere.
    #[prost(bytes = "bytes", tag = "8")]
    pub(super) notification_url: Bytes,
    /// The id within `approval-requests/`. Empty: it was asked for without a request id.
    #[prost(string, tag = "9")]
    pub(super) request: String,
    /// When it ended. Absent: it is pending.
    #[prost(message, optional, tag = "10")]
    pub(super) end_time: Option<Timestamp>,
    /// At whose links something acted as a program does.
    #[prost(message, repeated, tag = "11")]
    pub(super) doubts: Vec<Doubt>,
}

/// An answer that is still to be posted.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NoticeRecord {
    /// Where, sealed for the approval's name.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) url: Bytes,
    /// The body.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) body: Bytes,
    /// When it is tried next.
    #[prost(message, optional, tag = "3")]
    pub(super) due_time: Option<Timestamp>,
    /// When it is given up.
    #[prost(message, optional, tag = "4")]
    pub(super) give_up_time: Option<Timestamp>,
    /// How often it was tried.
    #[prost(uint32, tag = "5")]
    pub(super) tries: u32,
}

impl NoticeRecord {
    /// The write of it.
    pub(super) fn write(&self, key: String, expect: Expect) -> Write {
        Write { key, value: Some(self.encode_to_vec().into()), expect }
    }
}

impl Record {
    pub(super) fn approval(&self) -> &Approval {
        static NONE: std::sync::LazyLock<Approval> = std::sync::LazyLock::new(Approval::default);
        self.approval.as_ref().unwrap_or(&NONE)
    }

    pub(super) fn approval_mut(&mut self) -> &mut Approval {
        self.approval.get_or_insert_default()
    }

    pub(super) fn name(&self) -> &str {
        &self.approval().name
    }

    pub(super) fn state(&self) -> ApprovalState {
        self.approval().state()
    }

    /// When its links stop working.
    pub(super) fn expires(&self) -> SystemTime {
        time(self.approval().expire_time)
    }

    /// Whether it waits for answers at a time.
    pub(super) fn is_open(&self, now: SystemTime) -> bool {
        self.state() == ApprovalState::Pending && now < self.expires()
    }

    /// Turns it to a state in which nothing becomes of it any more.
    pub(super) fn end(&mut self, state: ApprovalState, now: SystemTime) {
        self.approval_mut().set_state(state);
        self.end_time = Some(now.into());
    }

    /// The approval as callers see it. One whose time is over is expired, whether or not that is written down yet.
    pub(super) fn shown(&self, now: SystemTime) -> Approval {
        let mut approval = Approval { etag: format!("\"{}\"", self.edition), ..self.approval().clone() };
        if approval.state() == ApprovalState::Pending && !self.is_open(now) {
            approval.set_state(ApprovalState::Expired);
        }
        approval
    }

    /// The write of it over what was read, as its next edition.
    pub(super) fn write(&mut self, expect: Expect) -> Write {
        self.edition += 1;
        Write { key: self.name().to_owned(), value: Some(self.value()), expect }
    }

    /// The value to store.
    pub(super) fn value(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}

/// An approval with its revision.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) revision: Revision,
}

impl Stored {
    /// The approval in an entry.
    ///
    /// # Errors
    /// RECORD_UNREADABLE: it is none.
    pub(super) fn decode(entry: &Entry) -> Result<Self, Error> {
        let record = Record::decode(entry.value.clone()).ok().filter(|record| record.approval.is_some());
        let record = record.ok_or_else(|| Error::unreadable(&entry.key))?;
        Ok(Self { record, revision: entry.revision })
    }

    /// Reads an approval.
    ///
    /// # Errors
    /// APPROVAL_NOT_FOUND; storage failed.
    pub(super) async fn read(store: &dyn Store, name: &str) -> Result<Self, Error> {
        let entry = store.get(name).await?;
        let entry = entry.ok_or_else(|| Error::NotFound("Approval", name.to_owned()))?;
        Self::decode(&entry)
    }

    /// The writes that remove it with what belongs to it.
    pub(super) fn removal(self) -> Vec<Write> {
        let key = self.record.name().to_owned();
        let mut writes = vec![Write { key, value: None, expect: Expect::Revision(self.revision) }];
        writes.extend(REQUESTS.removal(&self.record.request));
        writes
    }
}

/// A stored time; the beginning of time where there is none.
pub(super) fn time(time: Option<Timestamp>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(UNIX_EPOCH)
}

/// The key of the notice of an approval's answer.
pub(super) fn notice_key(name: &str) -> String {
    format!("{NOTICES}{}", id_of(name))
}

/// The id within an approval's name.
pub(super) fn id_of(name: &str) -> &str {
    name.strip_prefix(APPROVALS).unwrap_or(name)
}

/// The name of an approval that is made now: names sort by time, the newest first.
pub(super) fn new_name(now: SystemTime) -> String {
    names::newest_first(&format!("{APPROVALS}a"), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whose_time_is_over_is_shown_as_expired_before_that_is_written_down() {
        let now = SystemTime::now();
        let mut approval = Approval { expire_time: Some(now.into()), ..Default::default() };
        approval.set_state(ApprovalState::Pending);
        let record = Record { approval: Some(approval), ..Default::default() };
        let before = now - Duration::from_secs(1);
        assert_eq!(record.shown(before).state(), ApprovalState::Pending);
        assert_eq!(record.shown(now).state(), ApprovalState::Expired);
    }
}
