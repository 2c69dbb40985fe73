//! What a look tells, written: each mail fetched whole, and kept within the bound of an event.

use std::fmt::Write as _;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use postern_proto::connector::v1::Occurrence;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{EventData, TriggerGap};
use postern_proto::mail::v1::ReceivedEmail;
use prost::Message as _;

use crate::error::Error;
use crate::graph::model::Message;
use crate::graph::{Mailbox, with_options};
use crate::mail::{attachments, shape};
use crate::times;

/// The most that an occurrence's data may take.
const MAX_DATA: usize = 60 * 1024;
/// The most that all occurrences of an answer take: a gRPC message is bounded by 4 MiB.
const MAX_ALL: usize = 3_000_000;
/// What the fields around the data take at most: tags, lengths, names, keys.
const AROUND: usize = 64;
/// How many mails are fetched at once. The mailbox's gate has the last word.
const AT_ONCE: usize = 4;
/// How many attachments an event lists at most.
const MAX_ATTACHMENTS: usize = 50;

/// What is told to a trigger, not yet written.
pub(super) struct Told {
    trigger: String,
    what: What,
}

enum What {
    Email { id: String, received: Option<Timestamp>, with_files: bool },
    Gap { key: String, from: Timestamp },
}

impl Told {
    /// A mail that came.
    pub(super) fn email(trigger: &str, id: String, received: Option<Timestamp>, with_files: bool) -> Self {
        Self { trigger: trigger.to_owned(), what: What::Email { id, received, with_files } }
    }
}

/// A gap since a time, whose key comes from the cursor that was lost.
pub(super) fn gap(trigger: &str, cursor: &[u8], from: Timestamp) -> Told {
    let digest = ring::digest::digest(&ring::digest::SHA256, cursor);
    let mut key = "gap:".to_owned();
    for byte in digest.as_ref().iter().take(16) {
        let _ = write!(key, "{byte:02x}");
    }
    Told { trigger: trigger.to_owned(), what: What::Gap { key, from } }
}

/// Writes what is told, in order. A mail that is gone meanwhile is left out.
///
/// # Errors
/// What Graph answered.
pub(super) async fn write(mailbox: &Mailbox, told: Vec<Told>) -> Result<Vec<Occurrence>, Error> {
    let bound = (MAX_ALL / told.len().max(1)).min(MAX_DATA);
    let one = |told| one(mailbox, told, bound);
    let mut written = stream::iter(told.into_iter().map(one)).buffered(AT_ONCE);
    let mut occurrences = Vec::new();
    while let Some(occurrence) = written.next().await {
        occurrences.extend(occurrence?);
    }
    Ok(occurrences)
}

async fn one(mailbox: &Mailbox, told: Told, bound: usize) -> Result<Option<Occurrence>, Error> {
    let trigger = told.trigger;
    match told.what {
        What::Gap { key, from } => {
            let gap = TriggerGap {
                from: Some(times::to_proto(from)),
                to: Some(times::to_proto(Timestamp::now())),
                reason: "PROVIDER_RESYNC".to_owned(),
            };
            let data = EventData { kind: Some(Kind::TriggerGap(gap)) };
            let time = Some(times::to_proto(from));
            Ok(Some(Occurrence { trigger, key, r#type: "trigger.gap".to_owned(), time, data: Some(data) }))
        }
        What::Email { id, received, with_files } => {
            let Some(email) = email(mailbox, &id, with_files, bound).await? else { return Ok(None) };
            Ok(Some(Occurrence {
                trigger,
                key: format!("email:{id}"),
                r#type: "email.received".to_owned(),
                time: received.map(times::to_proto),
                data: Some(EventData { kind: Some(Kind::NewEmail(email)) }),
            }))
        }
    }
}

async fn email(
    mailbox: &Mailbox,
    id: &str,
    with_files: bool,
    bound: usize,
) -> Result<Option<ReceivedEmail>, Error> {
    let url = with_options(mailbox.url(&["messages", id]), &[("$select", shape::SELECT)]);
    let message: Message = match mailbox.get(url, None).await {
        Ok(read) => read.value,
        Err(failure) if failure.status() == Some(404) => return Ok(None),
        Err(failure) => return Err(failure.into()),
    };
    let mut email = shape::received(message);
    if with_files && email.has_attachment {
        email.attachments = attachments::list(mailbox, id).await?;
        email.has_attachment = !email.attachments.is_empty();
        email.attachments.truncate(MAX_ATTACHMENTS);
    }
    fit(&mut email, bound);
    let room = bound.saturating_sub(AROUND + email.encoded_len());
    attachments::fetch(mailbox, id, &mut email.attachments, room).await?;
    Ok(Some(email))
}

/// Cuts a mail to a bound: first its body, then, where headers alone pass it, the lists of recipients and the rest.
fn fit(email: &mut ReceivedEmail, bound: usize) {
    let bound = bound.saturating_sub(AROUND);
    for shrink in 0..5 {
        let size = email.encoded_len();
        if size <= bound {
            return;
        }
        match shrink {
            0 => shape::cut_body(email, size - bound),
            1 => email.attachments.clear(),
            2 => email.bcc.clear(),
            3 => email.cc.truncate(10),
            _ => email.to.truncate(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::mail::v1::Mailbox as Person;

    #[test]
    fn a_mail_is_cut_to_its_bound_whatever_makes_it_large() {
        let people = vec![Person { address: "a".repeat(300), name: "b".repeat(300) }; 200];
        let mut email = ReceivedEmail { body: "ü".repeat(100_000), ..ReceivedEmail::default() };
        fit(&mut email, MAX_DATA);
        assert!(email.encoded_len() <= MAX_DATA && email.encoded_len() > MAX_DATA - 100);
        assert!(email.body_truncated);
        let mut email = ReceivedEmail { to: people.clone(), cc: people, ..ReceivedEmail::default() };
        fit(&mut email, MAX_DATA);
        assert!(email.encoded_len() <= MAX_DATA);
        assert!(!email.to.is_empty());
    }

    #[test]
    fn the_same_lost_cursor_gives_the_same_key() {
        let key = |cursor: &[u8]| match gap("t", cursor, Timestamp::UNIX_EPOCH).what {
            What::Gap { key, .. } => key,
            What::Email { .. } => String::new(),
        };
        assert_eq!(key(b"a"), key(b"a"));
        assert_ne!(key(b"a"), key(b"b"));
    }
}
