//! Answers and ends: each is a compare-and-set of the approval, with its event and the notice of it in the same commit.

use std::time::SystemTime;

use postern_chassis::fault::Fault;
use postern_proto::approval::v1::{Approval, ApprovalState};
use tonic::Code;

use super::link::Link;
use super::notice;
use super::policy::{Verdict, judge};
use super::record::{NoticeRecord, Record, Stored, notice_key};
use super::{Inner, event};
use crate::error::Error;
use crate::names;
use crate::store::{Commit, Expect, Guard, StoreError, Write};

/// How often a change is tried that meets another one: as many as may answer at the same time.
const TRIES: usize = 100;

/// What became of an answer.
pub(super) enum Answered {
    /// It counts.
    Taken(Box<Record>),
    /// It does not: the recipient has answered before, or the approval has ended.
    Late(Box<Record>),
}

impl Inner {
    /// Takes the answer of a link.
    ///
    /// # Errors
    /// APPROVAL_NOT_FOUND; storage failed.
    pub(super) async fn answer(&self, link: &Link) -> Result<Answered, Error> {
        for _ in 0..TRIES {
            let Stored { mut record, revision } = Stored::read(self.store.as_ref(), &link.name).await?;
            let now = SystemTime::now();
            if !may_answer(&record, link.recipient, now) {
                return Ok(Answered::Late(Box::new(record)));
            }
            take(&mut record, link, now)?;
            let mut writes = vec![record.write(Expect::Revision(revision))];
            let approval = record.shown(now);
            writes.extend(self.notice_of(&record, &approval, now));
            let events = vec![event::responded(approval, link.recipient)];
            match self.log.commit(Commit { events, writes, guards: Vec::new() }).await {
                Ok(_) => {
                    let (name, state) = (record.name(), record.state().as_str_name());
                    tracing::info!(approval.name = name, state, "an approval was answered");
                    return Ok(Answered::Taken(Box::new(record)));
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: link.name.clone() }.into())
    }

    /// The write of the notice of an answer that decided. `None`: it did not, or nobody wants one.
    fn notice_of(&self, record: &Record, approval: &Approval, now: SystemTime) -> Option<Write> {
        if approval.state() != ApprovalState::Answered || record.notification_url.is_empty() {
            return None;
        }
        let notice = NoticeRecord {
            url: record.notification_url.clone(),
            body: notice::body(approval).into(),
            due_time: Some(now.into()),
            give_up_time: Some((now + self.settings.notification_give_up).into()),
            tries: 0,
        };
        Some(notice.write(notice_key(record.name()), Expect::Absent))
    }

    /// Cancels an approval that is pending.
    ///
    /// # Errors
    /// APPROVAL_NOT_FOUND; APPROVAL_ENDED; storage failed.
    pub(super) async fn cancel(&self, name: &str) -> Result<Approval, Error> {
        names::approval("name", name)?;
        for _ in 0..TRIES {
            let stored = Stored::read(self.store.as_ref(), name).await?;
            let now = SystemTime::now();
            if stored.record.state() == ApprovalState::Cancelled {
                return Ok(stored.record.shown(now));
            }
            if !stored.record.is_open(now) {
                let message = format!("{name} was answered or has expired");
                let ended = Fault::new(Code::FailedPrecondition, "APPROVAL_ENDED", message);
                return Err(ended.with("name", name).into());
            }
            match self.end(stored, ApprovalState::Cancelled, now, Vec::new()).await {
                Ok(approval) => return Ok(approval),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: name.to_owned() }.into())
    }

    /// Ends an approval without an answer, and takes back those of its mails that nobody was sent yet.
    ///
    /// # Errors
    /// A conflict where it has changed, or one of its mails; storage failed.
    pub(super) async fn end(
        &self,
        Stored { mut record, revision }: Stored,
        state: ApprovalState,
        now: SystemTime,
        guards: Vec<Guard>,
    ) -> Result<Approval, StoreError> {
        record.end(state, now);
        let mails = record.approval().recipients.iter().map(|recipient| recipient.queued_email.as_str());
        let mut writes = self.outbox.withdrawal(mails.filter(|mail| !mail.is_empty())).await?;
        writes.push(record.write(Expect::Revision(revision)));
        let approval = record.shown(now);
        let events = vec![event::ended(approval.clone())];
        self.log.commit(Commit { events, writes, guards }).await?;
        tracing::info!(approval.name = approval.name, state = state.as_str_name(), "an approval ended");
        Ok(approval)
    }
}

/// Whether a recipient's answer would count.
pub(super) fn may_answer(record: &Record, recipient: usize, now: SystemTime) -> bool {
    let known = record.approval().recipients.get(recipient);
    record.is_open(now) && known.is_some_and(|known| known.selected_option.is_empty())
}

/// Writes an answer into the record, and what it comes to.
fn take(record: &mut Record, link: &Link, now: SystemTime) -> Result<(), Error> {
    let approval = record.approval_mut();
    let missing = || Error::NotFound("Approval", link.name.clone());
    let option = approval.options.get(link.option).cloned().ok_or_else(missing)?;
    let recipient = approval.recipients.get_mut(link.recipient).ok_or_else(missing)?;
    recipient.selected_option = option;
    recipient.respond_time = Some(now.into());
    let responder = recipient.address.clone();
    let places = |text: &String| approval.options.iter().position(|option| option == text);
    let answers: Vec<_> = approval.recipients.iter().map(|it| places(&it.selected_option)).collect();
    let verdict = judge(approval.policy.as_ref(), approval.options.len(), &answers);
    let option = match verdict {
        Verdict::Open => return Ok(()),
        Verdict::Decided(option) => approval.options.get(option).cloned(),
        Verdict::Undecidable => None,
    };
    approval.selected_option = option.unwrap_or_default();
    approval.responder = responder;
    approval.respond_time = Some(now.into());
    record.end(ApprovalState::Answered, now);
    Ok(())
}
