//! Queueing: a mail is checked, sealed and stored in one durable step. Parts of the gateway that send by themselves make
//! that step their own: they take the writes and commit them with others.

use std::time::{Duration, SystemTime};

use postern_chassis::fault::reason_of;
use postern_proto::connector::v1::SendEmailRequest;
use postern_proto::mail::v1::Email;
use postern_proto::outbox::v1::{QueueEmailRequest, QueuedEmail, QueuedEmailState};
use prost::Message as _;
use secrecy::zeroize::Zeroizing;
use tonic::{Code, Status};

use super::record::{REQUESTS, Record, Stored, new_name};
use super::tally::Place;
use super::{Outbox, cannot_send, content};
use crate::error::Error;
use crate::names;
use crate::requests::Known;
use crate::store::{Commit, Expect, StoreError, Write};

/// The largest mail, encoded.
const MAX_EMAIL_BYTES: usize = 3 * 1024 * 1024;
/// How far ahead a mail may be scheduled.
const MAX_AHEAD: Duration = Duration::from_secs(366 * 86_400);
/// The longest address of a mailbox (RFC 5321, section 4.5.3.1).
const MAX_MAILBOX: usize = 320;
/// How much of a mail's head is shown: so many of its recipients, so many bytes of them, so many characters.
const SHOWN_TO: usize = 20;
const SHOWN_TO_BYTES: usize = 8 * 1024;
const SHOWN_FROM: usize = 1_000;
const SHOWN_SUBJECT: usize = 2_000;

/// A mail to queue.
#[derive(Debug, Clone, Default)]
pub struct NewMail {
    /// `connections/{connection}`.
    pub connection: String,
    /// What events name it by. Empty: nothing.
    pub request_id: String,
    /// The mail.
    pub email: Email,
    /// Not before this time.
    pub schedule_time: Option<SystemTime>,
    /// Whose mailbox sends. Empty: the connection's.
    pub mailbox: String,
}

/// A mail that is queued once its writes are durable. Its place in the outbox is kept until this is dropped: call
/// [`Prepared::stored`] once they are.
pub struct Prepared {
    /// What to write, all in one commit. The courier hears of it from the store: nobody need be told.
    pub writes: Vec<Write>,
    record: Record,
    place: Place,
}

impl Prepared {
    /// `outbox/{queued_email}`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.record.name()
    }

    /// Says that the writes are durable. Gives the mail.
    #[must_use]
    pub fn stored(self) -> QueuedEmail {
        self.place.take();
        self.record.shown()
    }

    /// Has a request id stand for the mail from now on.
    fn known_by(&mut self, known: &Known) {
        self.record.request.clone_from(&known.id);
        let own = self.record.write(Expect::Absent);
        for write in self.writes.iter_mut().filter(|write| write.key == own.key) {
            write.value.clone_from(&own.value);
        }
        self.writes.push(REQUESTS.write(known, self.name()));
    }
}

impl Outbox {
    /// Checks a mail and makes the writes that queue it.
    ///
    /// # Errors
    /// FIELD_INVALID, by the paths of `QueueEmailRequest`; CONNECTION_NOT_FOUND; CONNECTION_CANNOT_SEND;
    /// CONNECTOR_MISSING; OUTBOX_FULL.
    pub async fn prepare(&self, mail: NewMail) -> Result<Prepared, Error> {
        check(&mail)?;
        self.check_connection(&mail.connection).await?;
        let now = SystemTime::now();
        let schedule = mail.schedule_time.filter(|time| *time > now);
        if schedule.is_some_and(|time| time.duration_since(now).unwrap_or_default() > MAX_AHEAD) {
            return Err(Error::field("schedule_time", "is over a year ahead: expected at most a year"));
        }
        let (due, name) = (schedule.unwrap_or(now), new_name(now));
        let mut email = QueuedEmail {
            name: name.clone(),
            connection: mail.connection,
            request_id: mail.request_id,
            create_time: Some(now.into()),
            schedule_time: schedule.map(Into::into),
            next_attempt_time: Some(due.into()),
            expire_time: Some((due + self.bench.settings.give_up).into()),
            from: first(&mail.email.from, SHOWN_FROM),
            to: shown(&mail.email.to),
            subject: first(&mail.email.subject, SHOWN_SUBJECT),
            ..QueuedEmail::default()
        };
        email.set_state(QueuedEmailState::Queued);
        let content =
            SendEmailRequest { email: Some(mail.email), mailbox: mail.mailbox, ..Default::default() };
        let content = Zeroizing::new(content.encode_to_vec());
        let place = self.tally.reserve(&name, content.len() as u64)?;
        let mut writes = content::writes(&self.bench.connections, &name, &content)?;
        let pieces = u32::try_from(writes.len()).unwrap_or(u32::MAX);
        let record = Record::new(email, pieces, content.len() as u64, String::new());
        writes.push(record.write(Expect::Absent));
        Ok(Prepared { writes, record, place })
    }

    /// Queues a mail for a caller: once for a request id, for as long as the mail is kept.
    pub(super) async fn queue(&self, caller: &str, request: QueueEmailRequest) -> Result<QueuedEmail, Error> {
        let parts = [caller, &request.connection, &request.request_id];
        let known = (!request.request_id.is_empty())
            .then(|| Known::by(&self.digests, parts, request.encode_to_vec()));
        if let Some(known) = &known
            && let Some(queued) = self.queued_before(known).await?
        {
            return Ok(queued);
        }
        let schedule_time = request.schedule_time.map(SystemTime::try_from).transpose();
        let schedule_time = schedule_time
            .map_err(|_| Error::field("schedule_time", "is no time: expected a time of this age"))?;
        let email = request.email.ok_or_else(|| Error::field("email", "is absent: expected a mail"))?;
        let mut prepared = self
            .prepare(NewMail {
                connection: request.connection,
                request_id: request.request_id,
                email,
                schedule_time,
                mailbox: request.mailbox,
            })
            .await?;
        if let Some(known) = &known {
            prepared.known_by(known);
        }
        let writes = std::mem::take(&mut prepared.writes);
        match self.bench.log.commit(Commit { writes, ..Commit::default() }).await {
            Ok(_) => Ok(prepared.stored()),
            // The same request came by another way, and was faster.
            Err(StoreError::Conflict { key }) => {
                let before = match &known {
                    Some(known) => self.queued_before(known).await?,
                    None => None,
                };
                before.ok_or_else(|| StoreError::Conflict { key }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn queued_before(&self, known: &Known) -> Result<Option<QueuedEmail>, Error> {
        let Some(name) = REQUESTS.before(self.store(), known).await? else { return Ok(None) };
        Ok(Some(Stored::read(self.store(), &name).await?.record.shown()))
    }

    /// Refuses connections that cannot send. One whose connector is not reached yet may.
    async fn check_connection(&self, name: &str) -> Result<(), Error> {
        let kind = self.bench.connections.kind(name).await?;
        match self.bench.connections.connectors().for_kind(&kind) {
            Ok(connector) if connector.description().sends_email => Ok(()),
            Ok(_) => Err(cannot_send(name)),
            Err(fault) if fault.code() == Code::Unavailable => {
                tracing::debug!(
                    connection.name = name,
                    reason = reason_of(&Status::from(fault)),
                    "queued unseen"
                );
                Ok(())
            }
            Err(fault) => Err(fault.into()),
        }
    }
}

/// Checks what the gateway itself can judge. What the mail says is its connector's to judge, at the first attempt.
fn check(mail: &NewMail) -> Result<(), Error> {
    names::connection("connection", &mail.connection)?;
    let size = mail.email.encoded_len();
    if size > MAX_EMAIL_BYTES {
        let problem = format!("has {size} bytes: expected at most {MAX_EMAIL_BYTES} (3 MiB)");
        return Err(Error::field("email", problem));
    }
    let lists = [&mail.email.to, &mail.email.cc, &mail.email.bcc];
    if lists.into_iter().flatten().all(|to| to.trim().is_empty()) {
        let problem = "names nobody, nor do email.cc and email.bcc: expected a recipient";
        return Err(Error::field("email.to", problem));
    }
    if mail.mailbox.len() > MAX_MAILBOX || mail.mailbox.chars().any(char::is_control) {
        return Err(Error::field("mailbox", "is no address: expected an address"));
    }
    Ok(())
}

fn first(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

fn shown(to: &[String]) -> Vec<String> {
    let mut left = SHOWN_TO_BYTES;
    let fitting = to.iter().take(SHOWN_TO).take_while(|to| {
        let fits = to.len() <= left;
        left = left.saturating_sub(to.len());
        fits
    });
    fitting.cloned().collect()
}
