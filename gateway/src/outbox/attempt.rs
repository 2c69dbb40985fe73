//! One attempt to hand a mail over: marked before, told after, each in one durable step. Where a mark is found without its
//! end, the attempt broke off with a gateway: the connector is asked how it ended, or nobody knows. Who begins an attempt
//! has the mail's lease; who ends it has begun it, and counts as alive, whoever has the lease by then.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_chassis::fault::Fault;
use postern_chassis::opened::REPEAT_METADATA;
use postern_proto::connector::v1::{SendEmailRequest, SendEmailResponse};
use postern_proto::outbox::v1::QueuedEmailState;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Code;
use tonic::metadata::MetadataValue;

use super::record::{Record, Stored};
use super::verdict::{self, Answer};
use super::{OutboxSettings, content, event};
use crate::connections::Connections;
use crate::error::Error;
use crate::leases::Leases;
use crate::pulse::PULSE;
use crate::store::{Commit, EventLog, Expect, Guard, NewEvent, Revision, Store, StoreError, Write};

/// How long a connector may take for a mail: a server may take ten minutes for the final dot alone (RFC 5321, section
/// 4.5.3.2.6), few take one; what takes longer is of unknown outcome.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long to wait before the store is asked again after it failed, the first time and the longest.
const STORE_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_STORE_PAUSE: Duration = Duration::from_secs(10);

/// What attempts are made with.
pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) connections: Arc<Connections>,
    pub(super) leases: Arc<Leases>,
    pub(super) settings: OutboxSettings,
}

/// Where an attempt leaves a mail.
pub(super) enum Ended {
    /// It is settled, or gone.
    Over,
    /// It waits as its record says.
    Waits(Box<Stored>),
    /// It is another gateway's to deliver.
    Elsewhere,
    /// Storage failed before anything was done, or another gateway is still at it.
    NotBegun,
}

/// How an attempt ended.
pub(super) struct Attempted {
    pub(super) ended: Ended,
    /// How long its connection is to be left alone.
    pub(super) quiet: Option<Duration>,
}

impl Attempted {
    fn early(ended: Ended) -> Self {
        Self { ended, quiet: None }
    }
}

impl Bench {
    /// Makes an attempt, if the mail is still as it was at a revision.
    pub(super) async fn attempt(&self, name: &str, revision: Revision) -> Attempted {
        let Some(guard) = self.leases.guard(name) else { return Attempted::early(Ended::Elsewhere) };
        let stored = match Stored::read(self.store.as_ref(), name).await {
            Ok(stored) => stored,
            Err(Error::Store(error)) => {
                tracing::warn!(%error, queued_email.name = name, "a queued mail could not be read");
                return Attempted::early(Ended::NotBegun);
            }
            // Gone, or nothing that can be read.
            Err(_) => return Attempted::early(Ended::Over),
        };
        if stored.record.is_settled() {
            return Attempted::early(Ended::Over);
        }
        if stored.revision != revision {
            return Attempted::early(Ended::Waits(Box::new(stored)));
        }
        match self.is_anothers(&stored.record).await {
            Ok(false) => {}
            Ok(true) => return Attempted::early(Ended::NotBegun),
            Err(error) => {
                tracing::warn!(%error, queued_email.name = name, "whose a queued mail is could not be read");
                return Attempted::early(Ended::NotBegun);
            }
        }
        let lease = guard.key.clone();
        match self.make(stored, guard).await {
            Ok(attempted) => attempted,
            Err(StoreError::Conflict { key }) if key == lease => Attempted::early(Ended::Elsewhere),
            // Somebody changed it before it was begun, or took it over: what they left is what holds.
            Err(StoreError::Conflict { .. }) => match Stored::read(self.store.as_ref(), name).await {
                Ok(stored) => Attempted::early(Ended::Waits(Box::new(stored))),
                Err(_) => Attempted::early(Ended::NotBegun),
            },
            Err(error) => {
                tracing::warn!(%error, queued_email.name = name, "an attempt could not be begun");
                Attempted::early(Ended::NotBegun)
            }
        }
    }

    /// Whether another gateway, which lives, is handing a mail over: it had the mail's lease when it began.
    async fn is_anothers(&self, record: &Record) -> Result<bool, StoreError> {
        let is_sent = record.state() == QueuedEmailState::Sending && !record.sender.is_empty();
        Ok(is_sent && record.sender != self.leases.id() && self.leases.is_live(&record.sender).await?)
    }

    async fn make(&self, stored: Stored, lease: Guard) -> Result<Attempted, StoreError> {
        let Stored { mut record, mut revision } = stored;
        let mut guards = vec![lease];
        let was_begun = record.state() == QueuedEmailState::Sending;
        // Until its connector says otherwise, it may be able to tell how an attempt ended.
        let (mut is_repeatable, mut answer) = (true, None);
        match self.prepare(&record).await {
            Err(error) => {
                if !was_begun {
                    count(&mut record);
                }
                record.in_doubt = was_begun;
                answer = Some(Answer::of(Err(error)));
            }
            Ok((repeatable, _)) if was_begun && !repeatable => {
                (is_repeatable, answer) = (false, Some(Answer::lost()));
            }
            Ok((repeatable, request)) => {
                is_repeatable = repeatable;
                if !was_begun {
                    count(&mut record);
                    (record.asked, record.ask_time) = (0, None);
                    let email = record.email_mut();
                    email.set_state(QueuedEmailState::Sending);
                    email.next_attempt_time = None;
                }
                // Whoever had begun it before cannot end it any more.
                self.leases.id().clone_into(&mut record.sender);
                revision = self.put(&record, revision, &[], &[], &guards).await?;
                // From here on the mark is what keeps others out.
                guards.clear();
                record.in_doubt = was_begun;
                let begun = Instant::now();
                let sent = self.send(&record, request, is_repeatable).await;
                PULSE.latency(begun.elapsed());
                answer = answer.or(Some(Answer::of(sent)));
            }
        }
        let answer = answer.unwrap_or_else(Answer::lost);
        let quiet = answer.quiet();
        verdict::apply(&mut record, answer, is_repeatable, &self.settings, SystemTime::now());
        record.sender.clear();
        tell(&record);
        match record.state() {
            QueuedEmailState::Delivered => PULSE.sent(),
            _ => PULSE.failed(),
        }
        let events = event::of(&record).into_iter().collect::<Vec<_>>();
        // A mail that failed may be tried anew by a caller; one that is delivered is not.
        let removals = match record.state() {
            QueuedEmailState::Delivered => record.without_content(),
            _ => Vec::new(),
        };
        let revision = self.put_at_last(&record, revision, &events, &removals, &guards).await?;
        let ended = match record.is_settled() {
            true => Ended::Over,
            false => Ended::Waits(Box::new(Stored { record, revision })),
        };
        Ok(Attempted { ended, quiet })
    }

    /// What an attempt needs: whether its connector can tell how one ended, and what to send.
    async fn prepare(&self, record: &Record) -> Result<(bool, SendEmailRequest), Error> {
        let kind = self.connections.kind(record.connection()).await?;
        let connector = self.connections.connectors().for_kind(&kind)?;
        if !connector.description().sends_email {
            return Err(super::cannot_send(record.connection()));
        }
        let is_repeatable = connector.description().send_is_repeatable;
        if record.state() == QueuedEmailState::Sending && !is_repeatable {
            return Ok((false, SendEmailRequest::default()));
        }
        self.connections.open(record.connection()).await?;
        let request = content::read(self.store.as_ref(), &self.connections, record).await?;
        Ok((is_repeatable, request))
    }

    async fn send(
        &self,
        record: &Record,
        request: SendEmailRequest,
        is_repeatable: bool,
    ) -> Result<SendEmailResponse, Error> {
        let request_id = match is_repeatable {
            // What an attempt that was refused may have left behind is not taken for what this one left.
            true => format!("{}.{}", record.name(), record.tries),
            // The same mail over all attempts, so that whoever gets it twice can tell.
            false => record.name().to_owned(),
        };
        let request = SendEmailRequest { request_id, only_to: record.left.clone(), ..request };
        let is_repeat = record.in_doubt;
        let call = move |mut connector: super::ConnectorClient, mut request: tonic::Request<_>| async move {
            if is_repeat {
                request.metadata_mut().insert(REPEAT_METADATA, MetadataValue::from_static("1"));
            }
            connector.send_email(request).await
        };
        self.connections.call(record.connection(), PATIENCE, request, call).await
    }

    /// Writes a mail over a revision, together with events and other writes. Gives its new revision. Where it is not known
    /// whether that took place, it is found out, however long that takes: an attempt is neither made nor told on a guess.
    async fn put(
        &self,
        record: &Record,
        revision: Revision,
        events: &[NewEvent],
        writes: &[Write],
        guards: &[Guard],
    ) -> Result<Revision, StoreError> {
        let mut writes = writes.to_vec();
        writes.push(record.write(Expect::Revision(revision)));
        let (mut pause, mut is_lost) = (STORE_PAUSE, false);
        loop {
            let (events, writes) = (events.to_vec(), writes.clone());
            match self.log.commit(Commit { events, writes, guards: guards.to_vec() }).await {
                Ok(_) => break,
                // A repeat conflicts with the first, where that did take place.
                Err(StoreError::Conflict { .. }) if is_lost => break,
                Err(StoreError::Unknown(problem)) => {
                    tracing::error!(problem, "whether a queued mail was written is not known yet");
                    is_lost = true;
                }
                Err(StoreError::Failed(problem)) if is_lost => {
                    tracing::error!(problem, "whether a queued mail was written is not known yet");
                }
                Err(error) => return Err(error),
            }
            rest(&mut pause).await;
        }
        let now = loop {
            match self.store.get(record.name()).await {
                Ok(now) => break now,
                Err(error) => tracing::error!(%error, "a queued mail could not be read after it was written"),
            }
            rest(&mut pause).await;
        };
        let own = now.filter(|entry| entry.value == record.encode_to_vec());
        // Overwritten already: whoever did so is heard of.
        own.map(|entry| entry.revision).ok_or_else(|| StoreError::Conflict { key: record.name().to_owned() })
    }

    /// The same for what an attempt came to, which is known here alone: tried until the store takes it.
    async fn put_at_last(
        &self,
        record: &Record,
        revision: Revision,
        events: &[NewEvent],
        writes: &[Write],
        guards: &[Guard],
    ) -> Result<Revision, StoreError> {
        let mut pause = STORE_PAUSE;
        loop {
            match self.put(record, revision, events, writes, guards).await {
                Err(StoreError::Failed(problem)) => {
                    tracing::error!(problem, "what became of a queued mail could not be written down yet");
                }
                ended => return ended,
            }
            rest(&mut pause).await;
        }
    }
}

/// Waits for the store to be better.
async fn rest(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (2 * *pause).min(LONGEST_STORE_PAUSE);
}

/// Counts an attempt.
fn count(record: &mut Record) {
    record.tries = record.tries.saturating_add(1);
    let email = record.email_mut();
    email.attempts = email.attempts.saturating_add(1);
}

/// Logs where an attempt left a mail, without what it says or whom it is for.
fn tell(record: &Record) {
    let email = record.email();
    let failure = email.last_failure.as_ref().filter(|_| record.state() != QueuedEmailState::Delivered);
    let reason = failure.map(|failure| failure.reason.as_str());
    let (name, connection, state) = (record.name(), record.connection(), record.state().as_str_name());
    match failure {
        None => {
            tracing::debug!(queued_email.name = name, connection.name = connection, "a mail was delivered")
        }
        Some(_) => tracing::warn!(
            queued_email.name = name,
            connection.name = connection,
            attempts = email.attempts,
            state,
            reason,
            "a queued mail was not handed over"
        ),
    }
}

/// The error of a connection whose connector sends no mail.
pub(super) fn cannot_send(connection: &str) -> Error {
    let message = format!("connections of the kind of {connection} send no mail");
    Fault::new(Code::FailedPrecondition, "CONNECTION_CANNOT_SEND", message)
        .with("connection", connection)
        .into()
}
