//! A mail as it goes over the wire: the envelope and the message (RFC 5322, MIME), made from what the caller gave.
//! Everything is checked here, before any server is asked; each problem names its field.

mod attachments;
mod calendar;
mod content;
mod extra;
mod fields;
mod head;
mod ids;
mod letter;
mod lines;
mod people;
mod raw;
mod reports;
mod text;
mod tree;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::TimeZone;
use postern_proto::connector::v1 as connector;
use postern_proto::mail::v1::{Email, Importance};
use postern_proto::smtp::v1::send_email_request::Content as Sent;
use postern_proto::smtp::v1::{
    CheckEmailRequest, CheckEmailResponse, DeliveryReports, RawEmail, SendEmailRequest, check_email_request,
};

use crate::connection::Connection;
use crate::error::Error;
pub(crate) use crate::message::attachments::MAX_ATTACHMENTS;
use crate::message::calendar::Invitation;
use crate::message::extra::Leaving;
pub(crate) use crate::message::fields::Problems;
use crate::message::fields::check_text;
pub(crate) use crate::message::head::fields;
use crate::message::head::{Head, MAX_READ_WORD_BYTES};
use crate::message::ids::Thread;
use crate::message::letter::Chunks;
pub(crate) use crate::message::letter::Letter;
use crate::message::people::{Envelope, People};
pub(crate) use crate::message::reports::Reports;
pub(crate) use crate::message::text::quoted_size;

/// The longest request id.
pub(crate) const MAX_REQUEST_ID_BYTES: usize = 128;
/// How many characters a subject may have.
const MAX_SUBJECT_CHARS: usize = 2_000;
/// How much of a message is shown to who asks what would be sent.
const MAX_SHOWN_BYTES: usize = 3 * 1024 * 1024;

/// A mail, ready to be handed over.
pub(crate) struct Mail {
    written: Written,
    reports: Reports,
}

/// A message that is written, and its envelope.
struct Written {
    letter: Letter,
    envelope: Envelope,
    /// With its angle brackets.
    message_id: String,
    /// Whether it has octets outside ASCII in a body.
    eight_bit: bool,
    /// Whether an address, or a header, is outside ASCII.
    utf8: bool,
}

/// What a mail is made of, whichever call it came with.
pub(crate) struct Draft<'a> {
    /// The id that the Message-ID and the boundaries are derived from. Empty: there is none.
    pub(crate) id: &'a str,
    /// The id's field in the request.
    pub(crate) id_field: &'static str,
    /// What to send.
    pub(crate) source: Option<Source<'a>>,
    /// What the server is asked to report.
    pub(crate) reports: Option<&'a DeliveryReports>,
}

/// What to send.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// A mail by its fields.
    Email(&'a Email),
    /// A message that is written.
    Raw(&'a RawEmail),
}

impl<'a> From<&'a SendEmailRequest> for Draft<'a> {
    fn from(request: &'a SendEmailRequest) -> Self {
        let source = request.content.as_ref().map(|content| match content {
            Sent::Email(email) => Source::Email(email),
            Sent::Raw(raw) => Source::Raw(raw),
        });
        let reports = request.delivery_reports.as_ref();
        Self { id: &request.request_id, id_field: "request_id", source, reports }
    }
}

impl<'a> From<&'a connector::SendEmailRequest> for Draft<'a> {
    fn from(request: &'a connector::SendEmailRequest) -> Self {
        let source = request.email.as_ref().map(Source::Email);
        Self { id: &request.request_id, id_field: "request_id", source, reports: None }
    }
}

impl<'a> From<&'a CheckEmailRequest> for Draft<'a> {
    fn from(request: &'a CheckEmailRequest) -> Self {
        let source = request.content.as_ref().map(|content| match content {
            check_email_request::Content::Email(email) => Source::Email(email),
            check_email_request::Content::Raw(raw) => Source::Raw(raw),
        });
        Self { id: &request.mail_id, id_field: "mail_id", source, reports: None }
    }
}

impl Mail {
    /// Makes the mail of a draft, signed where the connection says so.
    ///
    /// # Errors
    /// Every field that is wrong, or a message that is over the connection's limit.
    pub(crate) async fn compose(draft: impl Into<Draft<'_>>, connection: &Connection) -> Result<Self, Error> {
        let (mut written, reports) = write(draft.into(), connection)?;
        let limit = connection.max_message_bytes;
        let fits = |written: &Written| {
            let size = written.letter.size();
            if size > limit { Err(Error::TooLarge { size, limit, whose: "the connection" }) } else { Ok(()) }
        };
        fits(&written)?;
        if let Some(dkim) = &connection.dkim {
            let signature = dkim.signature(&written.letter, Timestamp::now()).await?;
            written.letter.put_on_top(&signature);
            fits(&written)?;
        }
        Ok(Self { written, reports })
    }

    /// The envelope's sender.
    pub(crate) fn sender(&self) -> &str {
        &self.written.envelope.sender
    }

    /// The envelope's recipients, in the order of To, Cc, Bcc, each once.
    pub(crate) fn recipients(&self) -> &[String] {
        &self.written.envelope.recipients
    }

    /// The Message-ID, with its angle brackets.
    pub(crate) fn message_id(&self) -> &str {
        &self.written.message_id
    }

    /// What is sent after DATA, to the final dot's line end. It can be read again for another try.
    pub(crate) fn wire(&self) -> Chunks<'_> {
        self.written.letter.wire()
    }

    /// The message's size in bytes as RFC 1870 counts it: without doubled dots and the final dot.
    pub(crate) fn size(&self) -> u64 {
        self.written.letter.size()
    }

    /// Whether an address is outside ASCII, in the envelope or in a header, so that the server must offer SMTPUTF8.
    pub(crate) fn needs_utf8(&self) -> bool {
        self.written.utf8
    }

    /// Whether the message has octets outside ASCII in a body.
    pub(crate) fn is_eight_bit(&self) -> bool {
        self.written.eight_bit
    }

    /// What the server is asked to report of delivery.
    pub(crate) fn reports(&self) -> &Reports {
        &self.reports
    }

    /// What would be sent, for who asks.
    pub(crate) fn shown(&self) -> CheckEmailResponse {
        let (mut mime, mut chunks) = (Vec::new(), self.written.letter.message());
        while let Some((chunk, _)) = chunks.next_chunk() {
            let room = MAX_SHOWN_BYTES - mime.len();
            mime.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if mime.len() == MAX_SHOWN_BYTES {
                break;
            }
        }
        CheckEmailResponse {
            mime_truncated: (mime.len() as u64) < self.size(),
            mime: mime.into(),
            size: i64::try_from(self.size()).unwrap_or(i64::MAX),
            envelope_from: self.sender().to_owned(),
            envelope_to: self.recipients().to_vec(),
            message_id: self.message_id().to_owned(),
            needs_eight_bit: self.is_eight_bit(),
            needs_smtputf8: self.needs_utf8(),
        }
    }
}

/// Checks an id that a caller gave a mail.
///
/// # Errors
/// What was expected.
pub(crate) fn check_request_id(id: &str) -> Result<(), String> {
    if id.len() > MAX_REQUEST_ID_BYTES || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("expected at most {MAX_REQUEST_ID_BYTES} visible ASCII characters"));
    }
    Ok(())
}

fn write(draft: Draft<'_>, connection: &Connection) -> Result<(Written, Reports), Error> {
    let mut problems = Problems::default();
    problems.keep(draft.id_field, check_request_id(draft.id));
    let wants_receipt =
        matches!(draft.source, Some(Source::Email(email)) if !email.delivery_receipt_to.is_empty());
    let reports = Reports::of(draft.reports, wants_receipt, draft.id, &mut problems);
    let written = match draft.source {
        Some(Source::Email(email)) => by_fields(email, draft.id, connection, problems)?,
        Some(Source::Raw(raw)) => raw::written(raw, connection.name(), draft.id, problems)?,
        None => {
            problems.add("email", "is needed");
            return Err(problems.into_error());
        }
    };
    Ok((written, reports))
}

/// Writes a mail that was given by its fields.
fn by_fields(
    email: &Email,
    id: &str,
    connection: &Connection,
    mut problems: Problems,
) -> Result<Written, Error> {
    let people = People::of(email, connection, &mut problems);
    check_text("email.subject", &email.subject, MAX_SUBJECT_CHARS, &mut problems);
    if Importance::try_from(email.importance).is_err() {
        problems.add("email.importance", "is no importance");
    }
    if !email.text_body.is_empty() && !email.is_html {
        problems
            .add("email.text_body", "is given without email.is_html: a text needs no other text beside it");
    }
    let thread = Thread::of(&email.in_reply_to, &email.references, &mut problems);
    let leaving = email.list_unsubscribe.as_ref().map(|given| Leaving::of(given, &mut problems));
    let extra = extra::fields(&email.headers, &mut problems);
    let invitation = email.calendar.as_ref().and_then(|given| Invitation::of(given, &mut problems));
    let pieces = attachments::pieces(&email.attachments, &mut problems);
    let (Some(people), true) = (people, problems.is_empty()) else {
        return Err(problems.into_error());
    };

    let message_id = ids::message_id(connection.name(), id, people.domain());
    let eight_bit = pieces.iter().any(|piece| piece.eight_bit);
    let utf8 = people.need_utf8();
    let mut head = Head::new();
    head.field("Date", &date_now());
    people.write(&mut head);
    head.text("Subject", &email.subject, MAX_READ_WORD_BYTES);
    head.field("Message-ID", &message_id);
    thread.write(&mut head);
    write_importance(email.importance(), &mut head);
    if let Some(leaving) = leaving {
        leaving.write(&mut head);
    }
    extra::write(extra, &mut head);
    let letter = tree::write(head, tree::of(email, invitation, pieces), &message_id);
    let letter = letter
        .map_err(|problem| Error::field("email", format!("cannot be written as a message: {problem}")))?;
    Ok(Written { letter, envelope: people.into_envelope(), message_id, eight_bit, utf8 })
}

fn write_importance(importance: Importance, head: &mut Head) {
    let (word, number) = match importance {
        Importance::Unspecified => return,
        Importance::Low => ("low", "5"),
        Importance::Normal => ("normal", "3"),
        Importance::High => ("high", "1"),
    };
    // Importance is the standard's word (RFC 2156); X-Priority is what many mail programs look at.
    head.field("Importance", word);
    head.field("X-Priority", number);
}

/// The time of now as a Date field has it (RFC 5322, section 3.3).
fn date_now() -> String {
    let now = Timestamp::now();
    // It fails for years over 9999 only.
    DateTimePrinter::new().zoned_to_string(&now.to_zoned(TimeZone::UTC)).unwrap_or_default()
}
