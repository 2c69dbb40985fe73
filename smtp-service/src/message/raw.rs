//! A message that is already written: read as far as it takes to send it (RFC 5322), and otherwise left as it is.

use std::borrow::Cow;

use bytes::Bytes;
use lettre::message::Mailbox;
use memchr::{memchr2, memmem};
use postern_proto::smtp::v1::RawEmail;

use super::fields::Problems;
use super::head::fields;
use super::letter::{Letter, Segment};
use super::people::{Envelope, MAX_RECIPIENTS, once_each};
use super::{Written, date_now, ids};
use crate::error::Error;
use crate::mailbox;

/// The longest header taken: a thousand recipients with long names fit several times.
const MAX_HEAD_BYTES: usize = 1024 * 1024;

/// The fields that stand once at most (RFC 5322, section 3.6).
const SINGLE: [&str; 11] = [
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
];

/// Makes a mail of a written message. The connection's name and the id make its Message-ID, where it has none.
pub(super) fn written(
    raw: &RawEmail,
    connection: &str,
    id: &str,
    mut problems: Problems,
) -> Result<Written, Error> {
    if raw.mime.is_empty() {
        problems.add("raw.mime", "is needed");
        return Err(problems.into_error());
    }
    let mime = with_crlf(&raw.mime);
    let Some(Split { head, body }) = problems.keep("raw.mime", split(&mime)) else {
        return Err(problems.into_error());
    };
    let head = Given { head: &head };
    problems.keep("raw.mime", head.check());
    let sender = sender(raw, &head, &mut problems);
    let recipients = recipients(raw, &head, &mut problems);
    let own_id = head.first("Message-ID").map(one_line);
    if own_id.as_ref().is_some_and(|id| !is_id(id)) {
        problems.add("raw.mime", "has a Message-ID that is none: expected one such as <id@host>");
    }
    let (Some(sender), true) = (sender, problems.is_empty()) else {
        return Err(problems.into_error());
    };

    let mut text = String::with_capacity(head.head.len() + 128);
    if head.first("Date").is_none() {
        text.push_str(&format!("Date: {}\r\n", date_now()));
    }
    let message_id = own_id.unwrap_or_else(|| {
        let made = ids::message_id(connection, id, sender.email.domain());
        text.push_str(&format!("Message-ID: {made}\r\n"));
        made
    });
    for (name, value) in fields(head.head) {
        if !name.eq_ignore_ascii_case("Bcc") && !name.eq_ignore_ascii_case("Resent-Bcc") {
            text.push_str(&format!("{name}:{value}\r\n"));
        }
    }
    let envelope = Envelope { sender: sender.email.to_string(), recipients };
    let utf8 = !text.is_ascii()
        || !envelope.sender.is_ascii()
        || !envelope.recipients.iter().all(|to| to.is_ascii());
    let eight_bit = !body.is_ascii();
    let body = if body.is_empty() { Vec::new() } else { vec![Segment::Text(body)] };
    let letter = Letter::new(text, body).map_err(|problem| Error::field("raw.mime", problem.to_string()))?;
    Ok(Written { letter, envelope, message_id, eight_bit, utf8 })
}

/// The message with every line end, CR, LF or CRLF, as CRLF. Where they are so already, nothing is copied.
fn with_crlf(mime: &Bytes) -> Bytes {
    let (mut out, mut rest, mut whole): (Vec<u8>, &[u8], bool) = (Vec::new(), mime, true);
    while let Some(at) = memchr2(b'\r', b'\n', rest) {
        let crlf = rest[at..].starts_with(b"\r\n");
        if whole && !crlf {
            // The first that is not: all before it is as it should be.
            out.reserve(mime.len() + mime.len() / 32);
            out.extend_from_slice(&mime[..mime.len() - rest.len()]);
            whole = false;
        }
        let end = at + if crlf { 2 } else { 1 };
        if !whole {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(b"\r\n");
        }
        rest = &rest[end..];
    }
    if whole {
        return mime.clone();
    }
    out.extend_from_slice(rest);
    out.into()
}

/// A message's header, each field with its line end, and its body.
struct Split {
    head: String,
    body: Bytes,
}

fn split(mime: &Bytes) -> Result<Split, String> {
    let (head, body) = match memmem::find(mime, b"\r\n\r\n") {
        Some(at) => (mime.slice(..at + 2), mime.slice(at + 4..)),
        None => (mime.clone(), Bytes::new()),
    };
    if head.len() > MAX_HEAD_BYTES {
        return Err("has a header of more than 1 MiB".to_owned());
    }
    let head = std::str::from_utf8(&head).map_err(|_| "has a header that is neither ASCII nor UTF-8")?;
    let line_end = if head.ends_with("\r\n") { "" } else { "\r\n" };
    Ok(Split { head: format!("{head}{line_end}"), body })
}

/// The header that was given.
struct Given<'a> {
    head: &'a str,
}

impl Given<'_> {
    /// The values of all fields of this name, folds and all.
    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        fields(self.head).filter(move |(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Whether it is well-formed. The message that is told names no value.
    fn check(&self) -> Result<(), String> {
        let lines = || self.head.split("\r\n");
        if self.head.starts_with([' ', '\t', '\r']) {
            return Err("does not begin with a header field".to_owned());
        }
        let fields_only = self.head.strip_suffix("\r\n").unwrap_or(self.head);
        if fields_only.split("\r\n").any(|line| line.trim_matches([' ', '\t']).is_empty()) {
            return Err("has a line of blanks in its header".to_owned());
        }
        for (at, (name, value)) in fields(self.head).enumerate() {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!(
                    "has no well-formed header field at place {}: expected name: value",
                    at + 1
                ));
            }
            if value.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t')) {
                return Err(format!("has a control character in the header field at place {}", at + 1));
            }
        }
        for name in SINGLE {
            if self.all(name).count() > 1 {
                return Err(format!("has more than one field {name}"));
            }
        }
        if self.first("From").is_none() {
            return Err("has no field From".to_owned());
        }
        if lines().any(|line| line.len() > super::lines::MAX_LINE_BYTES) {
            return Err("has a header line of more than 998 octets".to_owned());
        }
        Ok(())
    }

    /// The mailboxes of a field.
    fn mailboxes(&self, name: &str) -> Result<Vec<Mailbox>, String> {
        let lists = self.all(name).map(|value| mailbox::in_header(&unfolded(value)));
        let lists =
            lists.collect::<Result<Vec<_>, _>>().map_err(|problem| format!("its field {name} {problem}"))?;
        Ok(lists.concat())
    }
}

fn sender(raw: &RawEmail, head: &Given<'_>, problems: &mut Problems) -> Option<Mailbox> {
    if !raw.from.trim().is_empty() {
        return problems.keep("raw.from", mailbox::single(raw.from.trim()));
    }
    let name = if head.first("Sender").is_some() { "Sender" } else { "From" };
    let mut named = problems.keep("raw.mime", head.mailboxes(name))?;
    match (named.pop(), named.is_empty()) {
        (Some(only), true) => Some(only),
        _ => {
            problems.add("raw.from", format!("is needed: {name} of the message does not name one mailbox"));
            None
        }
    }
}

fn recipients(raw: &RawEmail, head: &Given<'_>, problems: &mut Problems) -> Vec<String> {
    let mailboxes: Vec<Mailbox> = if raw.to.is_empty() {
        let fields = ["To", "Cc", "Bcc"].into_iter();
        fields.filter_map(|name| problems.keep("raw.mime", head.mailboxes(name))).flatten().collect()
    } else {
        let lists = raw.to.iter().enumerate();
        lists
            .filter_map(|(at, list)| problems.keep(&format!("raw.to[{at}]"), mailbox::list(list)))
            .flatten()
            .collect()
    };
    let recipients = once_each(mailboxes.iter());
    if recipients.is_empty() && problems.is_empty() {
        problems.add("raw.to", "names nobody, nor do To, Cc and Bcc of the message: expected a recipient");
    }
    if recipients.len() > MAX_RECIPIENTS {
        problems.add("raw.to", format!("expected at most {MAX_RECIPIENTS} recipients"));
    }
    recipients
}

/// A value on one line.
fn unfolded(value: &str) -> Cow<'_, str> {
    if value.contains("\r\n") { value.replace("\r\n", "").into() } else { value.into() }
}

fn one_line(value: &str) -> String {
    unfolded(value).trim().to_owned()
}

fn is_id(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inner.is_some_and(|id| {
        !id.is_empty() && id.chars().all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_crlf_and_nothing_is_copied_where_they_are() {
        let made = |text: &'static str| with_crlf(&Bytes::from_static(text.as_bytes()));
        assert_eq!(made("a\nb\r\nc\rd\r\r\n\n"), "a\r\nb\r\nc\r\nd\r\n\r\n\r\n");
        assert_eq!(made("a\r\nb\nc"), "a\r\nb\r\nc");
        let right = Bytes::from_static(b"a\r\nb\r\n");
        assert_eq!(with_crlf(&right).as_ptr(), right.as_ptr());
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let check = |head: &str| Given { head }.check();
        assert_eq!(check("From: a@b\r\nTo: b@c,\r\n\td@e\r\nX:\r\n y\r\n"), Ok(()));
        for wrong in [
            " From: a@b\r\n",
            "From: a@b\r\nno field\r\n",
            "From bo Mon: 1\r\nFrom: a@b\r\n",
            "From : a@b\r\n",
            "From: a@b\r\n: x\r\n",
            "From: a@b\r\n \r\nTo: x@y\r\n",
            "From: a@b\r\nFrom: c@d\r\n",
            "From: a@b\r\nto: c@d\r\nTO: c@d\r\n",
            "To: a@b\r\n",
            "From: a\u{1}@b\r\n",
            "Frö: a@b\r\n",
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
