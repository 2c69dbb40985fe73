//! What a look tells, written: each mail fetched whole, and kept within the bound of an event.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use postern_chassis::digest;
use postern_proto::connector::v1::Occurrence;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{EventData, TriggerGap};
use postern_proto::mail::v1::ReceivedEmail;
use prost::Message as _;

use crate::error::Error;
use crate::graph::model::Message;
use crate::graph::{Mailbox, with_options};
use crate::mail::{attachments, shape};
use crate::poll::bound;
use crate::times;

/// Bytes of the digest that tells a gap from others.
const GAP_BYTES: usize = 16;
/// The most that all events of an answer take, once each trigger has its own copy.
const MAX_EVENTS: usize = 64 * 1024 * 1024;
/// However many are told, a mail keeps so much.
const MIN_DATA: usize = 4 * 1024;
/// What the fields around the data take at most: tags, lengths, names, keys.
const AROUND: usize = 64;
/// How many mails are fetched at once. The mailbox's gate has the last word.
const AT_ONCE: usize = 4;
/// How many attachments an event lists at most.
const MAX_ATTACHMENTS: usize = 50;

/// What is told, not yet written.
pub(super) enum Told {
    /// A mail that came.
    Email {
        /// What the round of changes says of it, with its immutable id.
        known: Box<Message>,
        /// When it was received.
        received: Option<Timestamp>,
        /// Whom it is told to without its attachments.
        plain: Vec<String>,
        /// Whom it is told to with its attachments.
        with_files: Vec<String>,
    },
    /// Something may have been missed.
    Gap {
        /// The triggers' names.
        triggers: Vec<String>,
        /// What tells this gap from others.
        key: String,
        /// Since when.
        from: Timestamp,
    },
}

impl Told {
    /// How many events it comes to.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Email { plain, with_files, .. } => plain.len() + with_files.len(),
            Self::Gap { triggers, .. } => triggers.len(),
        }
    }

    /// How many occurrences it comes to.
    pub(super) fn occurrences(&self) -> usize {
        match self {
            Self::Email { plain, with_files, .. } => {
                usize::from(!plain.is_empty()) + usize::from(!with_files.is_empty())
            }
            Self::Gap { .. } => 1,
        }
    }
}

/// A gap since a time, whose key comes from the cursor that was lost.
pub(super) fn gap(triggers: Vec<String>, cursor: &[u8], from: Timestamp) -> Told {
    let key = format!("gap:{}", digest::hex(&digest::of(cursor)[..GAP_BYTES]));
    Told::Gap { triggers, key, from }
}

/// What writing needs to know.
#[derive(Clone, Copy)]
struct Writing<'a> {
    mailbox: &'a Mailbox,
    /// The most that the data of an occurrence may take.
    bound: usize,
    /// Whether a mail that cannot be read is told of by what is known of it.
    last_try: bool,
}

/// Writes what is told, in order. A mail that is gone meanwhile is left out; one that cannot be read is, at the last
/// try, told of by what the round of changes said.
///
/// # Errors
/// What Graph answered.
pub(super) async fn write(
    mailbox: &Mailbox,
    told: Vec<Told>,
    last_try: bool,
) -> Result<Vec<Occurrence>, Error> {
    let count: usize = told.iter().map(Told::count).sum();
    let occurrences: usize = told.iter().map(Told::occurrences).sum();
    let bound = (MAX_EVENTS / count.max(1)).max(MIN_DATA).min(bound(occurrences));
    let writing = Writing { mailbox, bound, last_try };
    let written = stream::iter(told.into_iter().map(|told| one(writing, told))).buffered(AT_ONCE);
    Ok(written.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
}

async fn one(writing: Writing<'_>, told: Told) -> Result<Vec<Occurrence>, Error> {
    match told {
        Told::Gap { triggers, key, from } => {
            let gap = TriggerGap {
                from: Some(times::to_proto(from)),
                to: Some(times::to_proto(Timestamp::now())),
                reason: "PROVIDER_RESYNC".to_owned(),
            };
            let data = EventData { kind: Some(Kind::TriggerGap(gap)) };
            let time = Some(times::to_proto(from));
            Ok(vec![Occurrence { triggers, key, r#type: "trigger.gap".to_owned(), time, data: Some(data) }])
        }
        Told::Email { known, received, plain, with_files } => {
            let id = known.id.clone();
            let Some(email) = fetch(writing, *known).await? else { return Ok(Vec::new()) };
            let occurrence = |triggers: Vec<String>, email: ReceivedEmail| Occurrence {
                triggers,
                key: format!("email:{id}"),
                r#type: "email.received".to_owned(),
                time: received.map(times::to_proto),
                data: Some(EventData { kind: Some(Kind::NewEmail(email)) }),
            };
            let mut written = Vec::with_capacity(2);
            if !with_files.is_empty() {
                let full = add_files(writing, email.clone()).await;
                let full = or_known(writing, full, || email.clone())?;
                written.push(occurrence(with_files, full));
            }
            if !plain.is_empty() {
                written.push(occurrence(plain, email));
            }
            Ok(written)
        }
    }
}

/// What was read; at the last try what is known, where the failure is of this one item: the page that named it was read
/// a moment ago.
fn or_known<T>(writing: Writing<'_>, read: Result<T, Error>, known: impl FnOnce() -> T) -> Result<T, Error> {
    match read {
        Err(Error::Graph(failure)) if writing.last_try && failure.is_of_item() => {
            tracing::warn!(
                status = failure.status(),
                "a mail cannot be read: told of by what is known of it"
            );
            Ok(known())
        }
        read => read,
    }
}

/// A mail without its attachments. None: it is gone.
async fn fetch(writing: Writing<'_>, known: Message) -> Result<Option<ReceivedEmail>, Error> {
    let mailbox = writing.mailbox;
    let url = with_options(mailbox.url(&["messages", &known.id]), &[("$select", shape::SELECT)]);
    let mut email = match mailbox.get::<Message>(url, None).await {
        Ok(read) => shape::received(read.value),
        Err(failure) if failure.is_gone() => return Ok(None),
        Err(failure) => or_known(writing, Err(failure.into()), || ReceivedEmail {
            body_truncated: true,
            ..shape::received(known)
        })?,
    };
    fit(&mut email, writing.bound);
    Ok(Some(email))
}

/// The mail with its attachments, and the content of those that fit.
async fn add_files(writing: Writing<'_>, mut email: ReceivedEmail) -> Result<ReceivedEmail, Error> {
    let Writing { mailbox, bound, .. } = writing;
    if !email.has_attachment {
        return Ok(email);
    }
    let mut files = attachments::list(mailbox, &email.id).await?;
    files.truncate(MAX_ATTACHMENTS);
    email.has_attachment = !files.is_empty();
    email.attachments = attachments::shown(&files);
    fit(&mut email, bound);
    files.truncate(email.attachments.len());
    let room = bound.saturating_sub(AROUND + email.encoded_len());
    attachments::fetch(mailbox, &email.id, &files, &mut email.attachments, room).await?;
    Ok(email)
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
    use crate::poll::MAX_DATA;
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
        let key = |cursor: &[u8]| match gap(vec!["t".into()], cursor, Timestamp::UNIX_EPOCH) {
            Told::Gap { key, .. } => key,
            Told::Email { .. } => String::new(),
        };
        assert_eq!(key(b"a"), key(b"a"));
        assert_ne!(key(b"a"), key(b"b"));
    }
}
