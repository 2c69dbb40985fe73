//! Doubt: a link at which something acted as a program does counts a button no more for a while. What asks instead is a
//! list to choose from, which a person reads and a program that sends what it finds leaves as it is.
//!
//! It lies in the approval's record, so that a new visit, another link to the same recipient and another gateway know it.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use super::Inner;
use super::link::Link;
use super::record::{Record, Stored, time};
use crate::error::Error;
use crate::store::{Commit, Expect, StoreError, Write};

/// How long a doubt lasts: what looks through mails does so when they come, and sometimes once more within the day.
const LASTS: Duration = Duration::from_secs(24 * 3_600);
/// How much of it must be over before it is written down again: whoever goes on acting so writes no faster.
const WRITTEN_AGAIN: Duration = Duration::from_secs(3_600);
/// How often noting is tried that meets another change.
const TRIES: usize = 10;

/// A doubt about what is at the links to a recipient.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Doubt {
    /// The recipient's place in the approval.
    #[prost(uint32, tag = "1")]
    pub(super) recipient: u32,
    /// Until when it lasts.
    #[prost(message, optional, tag = "2")]
    pub(super) until: Option<Timestamp>,
}

impl Doubt {
    fn left(&self, now: SystemTime) -> Option<Duration> {
        time(self.until).duration_since(now).ok().filter(|left| !left.is_zero())
    }
}

impl Record {
    /// Whether there is a doubt about what is at the links to a recipient.
    pub(super) fn is_in_doubt(&self, recipient: usize, now: SystemTime) -> bool {
        self.doubt_left(recipient, now).is_some()
    }

    fn doubt_left(&self, recipient: usize, now: SystemTime) -> Option<Duration> {
        let of = self.doubts.iter().filter(|doubt| usize::try_from(doubt.recipient) == Ok(recipient));
        of.filter_map(|doubt| doubt.left(now)).max()
    }

    /// Notes one, in place of those that are over. `false`: there is nothing new to write down.
    fn doubt(&mut self, recipient: usize, now: SystemTime) -> bool {
        let known = recipient < self.approval().recipients.len();
        let left = self.doubt_left(recipient, now);
        let (Ok(recipient), true) = (u32::try_from(recipient), known) else { return false };
        if left.is_some_and(|left| left + WRITTEN_AGAIN > LASTS) {
            return false;
        }
        self.doubts.retain(|doubt| doubt.recipient != recipient && doubt.left(now).is_some());
        self.doubts.push(Doubt { recipient, until: Some((now + LASTS).into()) });
        true
    }
}

impl Inner {
    /// Notes that something at a link acted as a program does. The approval itself does not change by it.
    ///
    /// # Errors
    /// APPROVAL_NOT_FOUND; storage failed.
    pub(super) async fn doubt(&self, link: &Link) -> Result<(), Error> {
        for _ in 0..TRIES {
            let Stored { mut record, revision } = Stored::read(self.store.as_ref(), &link.name).await?;
            if !record.doubt(link.recipient, SystemTime::now()) {
                return Ok(());
            }
            let value = Some(record.value());
            let write = Write { key: link.name.clone(), value, expect: Expect::Revision(revision) };
            match self.log.commit(Commit { writes: vec![write], ..Commit::default() }).await {
                Ok(_) => {
                    tracing::info!(approval.name = link.name, "a program was at a link");
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: link.name.clone() }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::approval::v1::{Approval, ApprovalRecipient};

    #[test]
    fn a_doubt_is_of_one_recipient_ends_and_is_not_written_down_all_the_time() {
        let recipients = vec![ApprovalRecipient::default(); 2];
        let approval = Approval { recipients, ..Approval::default() };
        let mut record = Record { approval: Some(approval), ..Record::default() };
        let now = SystemTime::now();
        assert!(record.doubt(1, now) && record.is_in_doubt(1, now) && !record.is_in_doubt(0, now));
        assert!(!record.doubt(1, now + WRITTEN_AGAIN / 2), "it was written down just now");
        assert!(record.doubt(1, now + WRITTEN_AGAIN * 2) && record.doubts.len() == 1);
        let over = now + WRITTEN_AGAIN * 2 + LASTS;
        assert!(record.is_in_doubt(1, over - Duration::from_secs(1)) && !record.is_in_doubt(1, over));
        assert!(record.doubt(0, over) && record.doubts.len() == 1, "what is over goes");
        assert!(!record.doubt(2, over), "nobody's");
    }
}
