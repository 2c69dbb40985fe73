//! Who a mail is from and for: the header fields that name them, and the envelope.

use std::collections::HashSet;

use lettre::message::Mailbox;
use postern_proto::mail::v1::Email;

use super::fields::Problems;
use super::head::Head;
use crate::connection::Connection;
use crate::mailbox;

/// The most recipients of one mail. A server must take 100 (RFC 5321, section 4.5.3.1.8) and may take more.
pub(super) const MAX_RECIPIENTS: usize = 1_000;

/// Who goes on the envelope.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) sender: String,
    /// In the order of To, Cc, Bcc, each once.
    pub(super) recipients: Vec<String>,
}

/// Who a mail is from and for.
pub(super) struct People {
    from: Mailbox,
    sender: Option<Mailbox>,
    reply_to: Vec<Mailbox>,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    read_receipt_to: Vec<Mailbox>,
    delivery_receipt_to: Vec<Mailbox>,
    recipients: Vec<String>,
}

impl People {
    /// Reads them off a mail.
    pub(super) fn of(email: &Email, connection: &Connection, problems: &mut Problems) -> Option<Self> {
        let from = match (email.from.trim(), &connection.default_from) {
            ("", Some(default)) => Some(default.clone()),
            ("", None) => {
                problems.add("email.from", "is needed: the connection has no default_from");
                None
            }
            (from, _) => problems.keep("email.from", mailbox::single(from)),
        };
        let mut lists = |name: &str, strings: &[String]| -> Vec<Mailbox> {
            let lists = strings.iter().enumerate().map(|(at, string)| {
                problems.keep(&format!("email.{name}[{at}]"), mailbox::list(string)).unwrap_or_default()
            });
            lists.flatten().collect()
        };
        let (to, cc, bcc) = (lists("to", &email.to), lists("cc", &email.cc), lists("bcc", &email.bcc));
        let reply_to = lists("reply_to", &email.reply_to);
        let read_receipt_to = lists("read_receipt_to", &email.read_receipt_to);
        let delivery_receipt_to = lists("delivery_receipt_to", &email.delivery_receipt_to);
        let sender = Some(email.sender.trim()).filter(|sender| !sender.is_empty());
        let sender = sender.and_then(|sender| problems.keep("email.sender", mailbox::single(sender)));
        for (name, list) in [
            ("reply_to", &reply_to),
            ("read_receipt_to", &read_receipt_to),
            ("delivery_receipt_to", &delivery_receipt_to),
        ] {
            if list.len() > MAX_RECIPIENTS {
                problems.add(format!("email.{name}"), format!("names more than {MAX_RECIPIENTS}"));
            }
        }
        let recipients = once_each(to.iter().chain(&cc).chain(&bcc));
        if recipients.is_empty() && problems.is_empty() {
            problems.add("email.to", "names nobody, nor do email.cc and email.bcc: expected a recipient");
        }
        if recipients.len() > MAX_RECIPIENTS {
            problems.add("email.to", format!("with email.cc and email.bcc names more than {MAX_RECIPIENTS}"));
        }
        let from = from?;
        Some(Self { from, sender, reply_to, to, cc, read_receipt_to, delivery_receipt_to, recipients })
    }

    /// The domain that the mail is from.
    pub(super) fn domain(&self) -> &str {
        self.from.email.domain()
    }

    /// Whether an address of theirs is outside ASCII, in the envelope or in a header.
    pub(super) fn need_utf8(&self) -> bool {
        let lists = [&self.reply_to, &self.to, &self.cc, &self.read_receipt_to, &self.delivery_receipt_to];
        let named = lists.into_iter().flatten().chain(&self.sender).chain([&self.from]);
        let is_ascii = |mailbox: &Mailbox| {
            let address: &str = mailbox.email.as_ref();
            address.is_ascii()
        };
        !named.into_iter().all(is_ascii) || !self.recipients.iter().all(|to| to.is_ascii())
    }

    /// Writes the header fields that name them. Bcc is in the envelope only.
    pub(super) fn write(&self, head: &mut Head) {
        head.mailboxes("From", std::slice::from_ref(&self.from));
        head.mailboxes("Sender", self.sender.as_slice());
        head.mailboxes("Reply-To", &self.reply_to);
        head.mailboxes("To", &self.to);
        head.mailboxes("Cc", &self.cc);
        head.mailboxes("Disposition-Notification-To", &self.read_receipt_to);
        head.mailboxes("Return-Receipt-To", &self.delivery_receipt_to);
    }

    /// The envelope: from who hands the mail in, where that is not who it is from.
    pub(super) fn into_envelope(self) -> Envelope {
        let sender = self.sender.unwrap_or(self.from).email.to_string();
        Envelope { sender, recipients: self.recipients }
    }
}

/// Each address once, at its first place. Local parts are told apart by case, domains are not.
pub(super) fn once_each<'a>(mailboxes: impl Iterator<Item = &'a Mailbox>) -> Vec<String> {
    let mut seen = HashSet::new();
    let addresses = mailboxes.map(|mailbox| &mailbox.email);
    let fresh = addresses.filter(|address| {
        seen.insert(format!("{}@{}", address.user(), address.domain().to_ascii_lowercase()))
    });
    fresh.map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_named_twice_is_there_once() {
        let mailboxes =
            mailbox::list("b@example.org, a@EXAMPLE.org, B <b@Example.Org>, a@example.org, A@example.org");
        assert_eq!(once_each(mailboxes.unwrap().iter()), ["b@example.org", "a@EXAMPLE.org", "A@example.org"]);
    }
}
