//! Reading, cancelling and retrying queued mails. Each change is one write over the revision that it was made of; where the
//! courier was faster, it is made of what that left.

use std::time::{Duration, SystemTime};

use postern_chassis::fault::Fault;
use postern_proto::outbox::v1::{
    ListQueuedEmailsRequest, ListQueuedEmailsResponse, QueuedEmail, QueuedEmailState,
};
use prost::Message as _;
use tonic::Code;

use super::Outbox;
use super::record::{OUTBOX, Record, Stored};
use crate::error::Error;
use crate::names;
use crate::page::Page;
use crate::store::{Expect, StoreError, Write};

/// How often a change that meets another one at the same time is tried.
const TRIES: usize = 5;
/// When to try again while a mail is being handed over.
const RETRY_SENDING: Duration = Duration::from_secs(5);
/// How many records are read from the store at a time, and for one page of a list at most.
const READ_AT_ONCE: usize = 200;
const MAX_READ: usize = 5_000;
/// The most bytes of a page.
const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

impl Outbox {
    pub(super) async fn get(&self, name: &str) -> Result<QueuedEmail, Error> {
        names::queued_email("name", name)?;
        Ok(Stored::read(self.store(), name).await?.record.shown())
    }

    pub(super) async fn list(
        &self,
        request: ListQueuedEmailsRequest,
    ) -> Result<ListQueuedEmailsResponse, Error> {
        if !request.connection.is_empty() {
            names::connection("connection", &request.connection)?;
        }
        for (at, state) in request.states.iter().enumerate() {
            let known = QueuedEmailState::try_from(*state);
            if known.is_err() || known == Ok(QueuedEmailState::Unspecified) {
                return Err(Error::field(format!("states[{at}]"), "is no state of a queued mail"));
            }
        }
        let states = format!("{:?}", request.states);
        let arguments = ["ListQueuedEmails", &request.connection, &states];
        let page = Page::read(request.page_size, &request.page_token, &arguments)?;
        let wanted = |email: &QueuedEmail| {
            (request.connection.is_empty() || email.connection == request.connection)
                && (request.states.is_empty() || request.states.contains(&email.state))
        };
        let (mut found, mut bytes, mut read, mut after) = (Vec::new(), 0, 0, page.after.clone());
        loop {
            let entries = self.store().list(OUTBOX, &after, READ_AT_ONCE).await?;
            for entry in &entries {
                let email = Stored::decode(entry).ok().map(|stored| stored.record.shown());
                if let Some(email) = email.filter(wanted) {
                    bytes += email.encoded_len();
                    if found.len() == page.size || (bytes > MAX_PAGE_BYTES && !found.is_empty()) {
                        let next_page_token = page.token(&after);
                        return Ok(ListQueuedEmailsResponse { queued_emails: found, next_page_token });
                    }
                    found.push(email);
                }
                after.clone_from(&entry.key);
            }
            read += entries.len();
            let is_last = entries.len() < READ_AT_ONCE;
            if is_last || read >= MAX_READ {
                let next_page_token = if is_last { String::new() } else { page.token(&after) };
                return Ok(ListQueuedEmailsResponse { queued_emails: found, next_page_token });
            }
        }
    }

    pub(super) async fn cancel(&self, name: &str) -> Result<QueuedEmail, Error> {
        use QueuedEmailState::{Cancelled, Delivered, Failed, Sending};
        self.change(name, |record| match record.state() {
            Cancelled => Ok(false),
            Delivered | Failed => {
                let message = format!("{name} is delivered or failed already");
                Err(Fault::new(Code::FailedPrecondition, "EMAIL_SETTLED", message).with("name", name).into())
            }
            Sending => Err(being_sent(name)),
            _ => {
                record.settle(Cancelled, SystemTime::now());
                Ok(true)
            }
        })
        .await
    }

    /// The writes that cancel those of some mails that wait, to be committed with what takes them back. One that is being
    /// handed over at this moment is left to it, as is one that is settled or gone.
    ///
    /// # Errors
    /// Storage failed.
    pub(crate) async fn withdrawal(
        &self,
        names: impl Iterator<Item = &str>,
    ) -> Result<Vec<Write>, StoreError> {
        use QueuedEmailState::{Cancelled, Sending};
        let mut writes = Vec::new();
        for name in names {
            let Stored { mut record, revision } = match Stored::read(self.store(), name).await {
                Ok(stored) => stored,
                Err(Error::Store(error)) => return Err(error),
                // Gone, or nothing that can be read.
                Err(_) => continue,
            };
            if !record.is_settled() && record.state() != Sending {
                record.settle(Cancelled, SystemTime::now());
                writes.push(record.write(Expect::Revision(revision)));
            }
        }
        Ok(writes)
    }

    pub(super) async fn retry(&self, name: &str) -> Result<QueuedEmail, Error> {
        use QueuedEmailState::{Delivered, Queued, Sending};
        let mut place = None;
        let retried = self
            .change(name, |record| {
                match record.state() {
                    Delivered => {
                        let message = format!("{name} is delivered to everybody who takes it");
                        let fault = Fault::new(Code::FailedPrecondition, "EMAIL_DELIVERED", message);
                        return Err(fault.with("name", name).into());
                    }
                    Sending => return Err(being_sent(name)),
                    _ => {}
                }
                if record.is_settled() && place.is_none() {
                    place = Some(self.tally.reserve(name, record.bytes)?);
                }
                let now = SystemTime::now();
                record.wait_until(now, Duration::ZERO);
                record.unreached = 0;
                let email = record.email_mut();
                email.set_state(Queued);
                (email.attempts, email.schedule_time, email.settle_time) = (0, None, None);
                email.expire_time = Some((now + self.bench.settings.give_up).into());
                Ok(true)
            })
            .await?;
        if let Some(place) = place {
            place.take();
        }
        Ok(retried)
    }

    /// Writes what `next` makes of a mail, unless it says that there is nothing to write.
    async fn change(
        &self,
        name: &str,
        mut next: impl FnMut(&mut Record) -> Result<bool, Error> + Send,
    ) -> Result<QueuedEmail, Error> {
        names::queued_email("name", name)?;
        for _ in 0..TRIES {
            let Stored { mut record, revision } = Stored::read(self.store(), name).await?;
            if !next(&mut record)? {
                return Ok(record.shown());
            }
            match self.store().write(record.write(Expect::Revision(revision))).await {
                Ok(_) => return Ok(record.shown()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: name.to_owned() }.into())
    }
}

fn being_sent(name: &str) -> Error {
    let message = format!("{name} is being handed over now");
    Fault::new(Code::FailedPrecondition, "EMAIL_BEING_SENT", message)
        .with("name", name)
        .retry_after(RETRY_SENDING)
        .into()
}
