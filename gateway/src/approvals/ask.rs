//! Asking: the approval and the mails that ask are stored in one durable step.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postern_chassis::fault::Fault;
use postern_proto::approval::v1::{Approval, ApprovalRecipient, ApprovalState};
use postern_proto::mail::v1::{Email, Importance};
use prost::Message as _;
use std::sync::atomic::Ordering;
use tonic::Code;

use super::language::{self, Language};
use super::letter::{Choice, Letter};
use super::question::Asked;
use super::record::{REQUESTS, Record, Stored, new_name};
use super::{Approvals, Inner};
use crate::error::Error;
use crate::notifications::PublicUrl;
use crate::outbox::NewMail;
use crate::requests::Known;
use crate::store::{Commit, Expect, StoreError};

/// The most bytes of all mails of a question: so much is held in memory and stored at once.
const MAX_MAILS_BYTES: usize = 64 * 1024 * 1024;
/// The most bytes of one, as the outbox has it.
const MAX_MAIL_BYTES: usize = 3 * 1024 * 1024;
/// When to try again where too many are pending.
const RETRY_FULL: Duration = Duration::from_secs(60);

/// A question that was asked, and where its answer goes.
pub(super) struct Sent {
    pub(super) approval: Approval,
    pub(super) notification_url: String,
}

impl Approvals {
    /// Asks, once for a request id of a caller. `encoded` is the whole request, by which a repeat is known.
    pub(super) async fn ask(&self, caller: &str, asked: Asked, encoded: Vec<u8>) -> Result<Sent, Error> {
        let inner = &*self.0;
        let url = inner.public_url.as_ref().ok_or_else(|| {
            let message = "the gateway has no public URL that links could lead to";
            Error::from(Fault::new(Code::FailedPrecondition, "PUBLIC_URL_MISSING", message))
        })?;
        let notification_url = asked.question.notification_url.clone();
        let kind = if asked.approves { "approval" } else { "options" };
        let parts = [caller, kind, &asked.connection, &asked.request_id];
        let known = (!asked.request_id.is_empty()).then(|| Known::by(&inner.digests, parts, encoded));
        if let Some(known) = &known
            && let Some(approval) = inner.asked_before(known).await?
        {
            return Ok(Sent { approval, notification_url });
        }
        let checked = inner.notices.check(&notification_url).await;
        checked.map_err(|problem| Error::field("question.notification_url", problem))?;
        if inner.pending.load(Ordering::Relaxed) >= inner.settings.max_pending {
            let message = "as many approvals are pending as the gateway keeps";
            let full = Fault::new(Code::ResourceExhausted, "APPROVALS_FULL", message);
            return Err(full.retry_after(RETRY_FULL).into());
        }
        let stored = inner.store_question(asked, url, known.clone()).await;
        let approval = match stored {
            // The same request came by another way, and was faster.
            Err(Error::Store(StoreError::Conflict { key })) => {
                let before = match &known {
                    Some(known) => inner.asked_before(known).await?,
                    None => None,
                };
                before.ok_or(StoreError::Conflict { key })?
            }
            stored => stored?,
        };
        tracing::info!(
            approval.name = approval.name,
            connection.name = approval.connection,
            "people are asked"
        );
        Ok(Sent { approval, notification_url })
    }
}

impl Inner {
    async fn asked_before(&self, known: &Known) -> Result<Option<Approval>, Error> {
        let store = self.store.as_ref();
        let Some(name) = REQUESTS.before(store, known).await? else { return Ok(None) };
        Ok(Some(Stored::read(store, &name).await?.record.shown(SystemTime::now())))
    }

    /// Stores a question with its mails.
    async fn store_question(
        &self,
        asked: Asked,
        url: &PublicUrl,
        known: Option<Known>,
    ) -> Result<Approval, Error> {
        let now = SystemTime::now();
        let mut record = self.record(&asked, now)?;
        if record.from.is_empty() {
            record.from = self.connections.sender(&asked.connection).await?;
        }
        let takes_text = self.takes_text(&asked.connection).await?;
        let emails = self.emails(&asked, &record, url, takes_text)?;
        let mut prepared = Vec::with_capacity(emails.len());
        for (recipient, email) in emails.into_iter().enumerate() {
            let mail = NewMail {
                connection: asked.connection.clone(),
                request_id: asked.request_id.clone(),
                email,
                schedule_time: None,
                mailbox: asked.question.mailbox.clone(),
            };
            let mail = self.outbox.prepare(mail).await.map_err(in_question)?;
            if let Some(known) = record.approval_mut().recipients.get_mut(recipient) {
                mail.name().clone_into(&mut known.queued_email);
            }
            prepared.push(mail);
        }
        let mut writes = Vec::new();
        if let Some(known) = known {
            writes.push(REQUESTS.write(&known, record.name()));
            record.request = known.id;
        }
        writes.push(record.write(Expect::Absent));
        writes.extend(prepared.iter_mut().flat_map(|mail| std::mem::take(&mut mail.writes)));
        self.log.commit(Commit { writes, ..Commit::default() }).await?;
        for mail in prepared {
            let _ = mail.stored();
        }
        Ok(record.shown(now))
    }

    /// The record of a question, its mails not yet named.
    fn record(&self, asked: &Asked, now: SystemTime) -> Result<Record, Error> {
        let question = &asked.question;
        let name = new_name(now);
        let address = |address: &String| ApprovalRecipient { address: address.clone(), ..Default::default() };
        let mut approval = Approval {
            name: name.clone(),
            connection: asked.connection.clone(),
            options: asked.options.clone(),
            create_time: Some(now.into()),
            expire_time: Some((now + asked.expire_after.unwrap_or(self.settings.expiry)).into()),
            subject: subject(asked).to_owned(),
            policy: asked.policy,
            recipients: asked.recipients.iter().map(|recipient| address(&recipient.address)).collect(),
            ..Approval::default()
        };
        approval.set_state(ApprovalState::Pending);
        let notification_url = match question.notification_url.as_str() {
            "" => Bytes::new(),
            url => self.connections.seal(&name, url.as_bytes())?,
        };
        Ok(Record {
            approval: Some(approval),
            approves: asked.approves,
            own_options: asked.own_options,
            asks_twice: question.show_html_confirmation_dialog,
            language: question.language.clone(),
            from: question.from.clone(),
            notification_url,
            ..Record::default()
        })
    }

    /// Whether a connection's connector takes a text beside HTML. One that is not reached yet is not asked for it.
    async fn takes_text(&self, connection: &str) -> Result<bool, Error> {
        let kind = self.connections.kind(connection).await?;
        let connector = self.connections.connectors().for_kind(&kind);
        Ok(connector.is_ok_and(|connector| connector.description().sends_text_body))
    }

    /// The mails that ask, in the order of the recipients.
    fn emails(
        &self,
        asked: &Asked,
        record: &Record,
        url: &PublicUrl,
        takes_text: bool,
    ) -> Result<Vec<Email>, Error> {
        let (question, language) = (&asked.question, language_of(asked));
        let key = |part: &str| format!("mail.{part}.{}", if asked.approves { "approve" } else { "choose" });
        let line = |given: &str, part: &str| match given {
            "" => language.say(&key(part)).to_owned(),
            given => given.to_owned(),
        };
        let until = language.time(record.expires());
        let letter = Letter {
            language,
            subject: &record.approval().subject,
            header: &line(&question.header_text, "header"),
            selection: &line(&question.selection_text, "selection"),
            body: &question.body,
            is_html: question.is_html,
            until: &until,
            from: &question.from,
            importance: Importance::try_from(question.importance).unwrap_or_default(),
            attachments: &question.attachments,
            text_only: question.hide_html_message,
            takes_text,
        };
        let (mut emails, mut bytes) = (Vec::with_capacity(asked.recipients.len()), 0);
        for (recipient, mailbox) in (0..=u8::MAX).zip(&asked.recipients) {
            let choices = (0..=u8::MAX).zip(&asked.options).map(|(option, _)| Choice {
                label: language.option(record, option.into()),
                url: format!("{url}/approvals/{}", self.links.token(record.name(), recipient, option)),
            });
            let email = letter.to(&mailbox.written, &choices.collect::<Vec<_>>())?;
            let size = email.encoded_len();
            bytes += size;
            if size > MAX_MAIL_BYTES {
                let problem = format!("makes a mail of {size} bytes: expected at most {MAX_MAIL_BYTES}");
                return Err(Error::field("question", problem));
            }
            if bytes > MAX_MAILS_BYTES {
                let problem = format!("makes mails of more than {MAX_MAILS_BYTES} bytes to all recipients");
                return Err(Error::field("question", problem));
            }
            emails.push(email);
        }
        Ok(emails)
    }
}

/// The language of the mail.
fn language_of(asked: &Asked) -> &'static Language {
    language::of(&asked.question.language)
}

fn subject(asked: &Asked) -> &str {
    match asked.question.subject.as_str() {
        "" if asked.approves => language_of(asked).say("mail.subject.approve"),
        "" => language_of(asked).say("mail.subject.choose"),
        given => given,
    }
}

/// The outbox's errors by the paths of the question.
fn in_question(error: Error) -> Error {
    let path = |field: String| match field.strip_prefix("email.") {
        Some(rest) => format!("question.{rest}"),
        None if field == "email" || field == "mailbox" => format!("question.{field}"),
        None => field,
    };
    match error {
        Error::Fields(fields) => {
            Error::Fields(fields.into_iter().map(|(field, problem)| (path(field), problem)).collect())
        }
        other => other,
    }
}
