//! A mail as it goes over the wire: the envelope and the message (RFC 5322, MIME), made from what the caller gave.
//! Everything is checked here, before any server is asked; each problem names its field.

mod fields;
mod parts;
mod reports;
mod wire;

use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue, MessageId};
use lettre::message::{Mailbox, Message, MessageBuilder};
use postern_proto::mail::v1::{Email, Importance};
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use ring::digest::{Context, SHA256};

use crate::connection::Connection;
use crate::error::Error;
use crate::mailbox;
pub(crate) use crate::message::fields::Problems;
use crate::message::fields::{check_text, mailboxes, subject};
pub(crate) use crate::message::reports::Reports;

/// The longest request id.
const MAX_REQUEST_ID_BYTES: usize = 128;
/// The most recipients of one mail. A server must take 100 (RFC 5321, section 4.5.3.1.8) and may take more.
const MAX_RECIPIENTS: usize = 1_000;
/// How many characters a subject may have.
const MAX_SUBJECT_CHARS: usize = 2_000;

/// A mail, ready to be handed over.
pub(crate) struct Mail {
    sender: String,
    recipients: Vec<String>,
    message_id: String,
    /// The message with its dots doubled and the final dot at its end.
    wire: Vec<u8>,
    size: u64,
    eight_bit: bool,
    utf8: bool,
    reports: Option<Reports>,
}

impl Mail {
    /// Makes the mail of a request.
    ///
    /// # Errors
    /// Every field that is wrong, or a message that is over the connection's limit.
    pub(crate) fn compose(request: &SendEmailRequest, connection: &Connection) -> Result<Self, Error> {
        let mut problems = Problems::default();
        check_request_id(&request.request_id, &mut problems);
        let email = match &request.content {
            Some(Content::Email(email)) => email,
            Some(Content::Raw(_)) => {
                problems.add("raw", "is not served yet");
                return Err(problems.into_error());
            }
            None => {
                problems.add("email", "is needed");
                return Err(problems.into_error());
            }
        };
        let people = People::of(email, connection, &mut problems);
        check_text("email.subject", &email.subject, MAX_SUBJECT_CHARS, &mut problems);
        if Importance::try_from(email.importance).is_err() {
            problems.add("email.importance", "is no importance");
        }
        let attachments = parts::attachments(&email.attachments, &mut problems);
        let (Some(people), true) = (people, problems.is_empty()) else {
            return Err(problems.into_error());
        };

        let message_id = message_id(connection.name(), &request.request_id, people.from.email.domain());
        let eight_bit = attachments.iter().any(|attachment| attachment.eight_bit);
        let builder = people.headers(headers(email, &message_id))?;
        let message = parts::assemble(builder, email, attachments).map_err(unwritable)?.formatted();
        let size = message.len() as u64;
        let limit = connection.max_message_bytes;
        if size > limit {
            return Err(Error::TooLarge { size, limit, whose: "the connection" });
        }
        let wire = wire::stuffed(message).map_err(unwritable)?;
        let (sender, utf8) = (people.from.email.to_string(), people.need_utf8());
        let reports = Reports::of(request);
        Ok(Self { sender, recipients: people.envelope, message_id, wire, size, eight_bit, utf8, reports })
    }

    /// The envelope's sender.
    pub(crate) fn sender(&self) -> &str {
        &self.sender
    }

    /// The envelope's recipients, in the order of To, Cc, Bcc, each once.
    pub(crate) fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// The Message-ID, with its angle brackets.
    pub(crate) fn message_id(&self) -> &str {
        &self.message_id
    }

    /// What is sent after DATA, to the final dot's line end.
    pub(crate) fn on_the_wire(&self) -> &[u8] {
        &self.wire
    }

    /// The message's size in bytes as RFC 1870 counts it: without doubled dots and the final dot.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// What the server is asked to report of delivery. None: its habit.
    pub(crate) fn reports(&self) -> Option<&Reports> {
        self.reports.as_ref()
    }

    /// Whether an address is outside ASCII, in the envelope or in a header, so that the server must offer SMTPUTF8.
    pub(crate) fn needs_utf8(&self) -> bool {
        self.utf8
    }

    /// Whether the message has octets outside ASCII in a body.
    pub(crate) fn is_eight_bit(&self) -> bool {
        self.eight_bit
    }
}

/// Who a mail is from and for.
struct People {
    from: Mailbox,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    reply_to: Vec<Mailbox>,
    envelope: Vec<String>,
}

impl People {
    fn of(email: &Email, connection: &Connection, problems: &mut Problems) -> Option<Self> {
        let from = match (email.from.trim(), &connection.default_from) {
            ("", Some(default)) => Some(default.clone()),
            ("", None) => {
                problems.add("email.from", "is needed: the connection has no default_from");
                None
            }
            (from, _) => mailbox::single(from).map_err(|problem| problems.add("email.from", problem)).ok(),
        };
        let mut lists = |name: &str, strings: &[String]| -> Vec<Mailbox> {
            let lists = strings.iter().enumerate().map(|(at, string)| {
                let list = mailbox::list(string);
                list.map_err(|problem| problems.add(format!("email.{name}[{at}]"), problem))
                    .unwrap_or_default()
            });
            lists.flatten().collect()
        };
        let (to, cc, bcc) = (lists("to", &email.to), lists("cc", &email.cc), lists("bcc", &email.bcc));
        let reply_to = lists("reply_to", &email.reply_to);
        let envelope = once_each(to.iter().chain(&cc).chain(&bcc));
        if envelope.is_empty() && problems.is_empty() {
            problems.add("email.to", "names nobody, nor do email.cc and email.bcc: expected a recipient");
        }
        if envelope.len() > MAX_RECIPIENTS {
            problems.add("email.to", format!("with email.cc and email.bcc names more than {MAX_RECIPIENTS}"));
        }
        Some(Self { from: from?, to, cc, reply_to, envelope })
    }

    /// Whether an address of theirs is outside ASCII.
    fn need_utf8(&self) -> bool {
        let replies = self.reply_to.iter().any(|mailbox| !mailbox.email.to_string().is_ascii());
        replies || !self.from.email.to_string().is_ascii() || self.envelope.iter().any(|to| !to.is_ascii())
    }

    /// The headers that name people. Bcc is in the envelope only.
    fn headers(&self, builder: MessageBuilder) -> Result<MessageBuilder, Error> {
        // The builder insists on an envelope; ours is kept apart.
        let sender = self.from.email.clone();
        let envelope = Envelope::new(Some(sender.clone()), vec![sender]).map_err(unwritable)?;
        let mut builder =
            builder.envelope(envelope).raw_header(mailboxes("From", std::slice::from_ref(&self.from)));
        for (name, list) in [("To", &self.to), ("Cc", &self.cc), ("Reply-To", &self.reply_to)] {
            if !list.is_empty() {
                builder = builder.raw_header(mailboxes(name, list));
            }
        }
        Ok(builder)
    }
}

/// The headers that name nobody.
fn headers(email: &Email, message_id: &str) -> MessageBuilder {
    let builder = Message::builder()
        .date_now()
        .header(MessageId::from(message_id.to_owned()))
        .raw_header(subject(&email.subject));
    let words = match email.importance() {
        Importance::Unspecified => return builder,
        Importance::Low => ("low", "5"),
        Importance::Normal => ("normal", "3"),
        Importance::High => ("high", "1"),
    };
    // Importance is the standard's word (RFC 2156); X-Priority is what many mail programs look at.
    let header = |name, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
    builder.raw_header(header("Importance", words.0)).raw_header(header("X-Priority", words.1))
}

/// Each address once, at its first place. Local parts are told apart by case, domains are not.
fn once_each<'a>(mailboxes: impl Iterator<Item = &'a Mailbox>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let addresses = mailboxes.map(|mailbox| &mailbox.email);
    let fresh = addresses.filter(|address| {
        seen.insert(format!("{}@{}", address.user(), address.domain().to_ascii_lowercase()))
    });
    fresh.map(ToString::to_string).collect()
}

fn check_request_id(id: &str, problems: &mut Problems) {
    if id.len() > MAX_REQUEST_ID_BYTES || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = format!("expected at most {MAX_REQUEST_ID_BYTES} visible ASCII characters");
        problems.add("request_id", problem);
    }
}

/// A Message-ID: the same for the same request of the same connection, new where the request has no id.
fn message_id(connection: &str, request_id: &str, domain: &str) -> String {
    if request_id.is_empty() {
        return format!("<{:032x}@{domain}>", fastrand::u128(..));
    }
    let mut context = Context::new(&SHA256);
    for part in [connection, request_id] {
        // Lengths, so that no two pairs run together to the same text.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("<{hex}@{domain}>")
}

/// The error for a message that passed all checks and still cannot be written.
fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::field("email", format!("cannot be written as a message: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_the_same_for_the_same_request_only() {
        let id = message_id("connections/a", "1", "example.org");
        assert_eq!(id, message_id("connections/a", "1", "example.org"));
        assert_ne!(id, message_id("connections/b", "1", "example.org"));
        assert_ne!(message_id("ab", "c", "d"), message_id("a", "bc", "d"));
        assert_ne!(message_id("a", "", "d"), message_id("a", "", "d"));
        assert!(id.starts_with('<') && id.ends_with("@example.org>"));
    }

    #[test]
    fn an_address_named_twice_is_there_once() {
        let mailboxes =
            mailbox::list("b@example.org, a@EXAMPLE.org, B <b@Example.Org>, a@example.org, A@example.org");
        assert_eq!(once_each(mailboxes.unwrap().iter()), ["b@example.org", "a@EXAMPLE.org", "A@example.org"]);
    }
}
