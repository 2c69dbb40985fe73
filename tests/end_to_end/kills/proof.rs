//! What must hold after each death, looked up in the database itself while no gateway is there, and what must hold at the
//! end. Ids are compared, not counts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::outbox::v1::QueuedEmailState;
use postern_sandbox::smtp::Delivery;
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};

use super::callers::Asked;
use super::readers::{InOrder, Stretch};

/// The log as it was when it was last looked at.
#[derive(Default)]
pub(super) struct Log {
    last: i64,
    ids: HashSet<String>,
    /// The same, as they lie in it.
    pub(super) order: Vec<String>,
    /// How often mail had been told of since it was looked at before.
    pub(super) growths: usize,
    /// How many queued mails have failed: each has an outcome that nobody knows.
    pub(super) failed: usize,
}

/// A row of the table of events, as far as it is looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct Batch {
    #[prost(message, repeated, tag = "2")]
    events: Vec<Kept>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Kept {
    #[prost(bytes = "bytes", tag = "6")]
    encoded: bytes::Bytes,
}

impl Log {
    /// Looks at what came: it goes on where the log ended, no id is there twice, and all that anybody was shown is there.
    pub(super) fn look(&mut self, data: &Path, shown: impl Iterator<Item = String>) {
        let path = data.join("postern.db");
        // Read only: what the dead gateway left is not to be tidied up before the next one finds it.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(path, flags).unwrap();
        let known = self.order.last().cloned();
        // The one where it ended and those after it.
        let sql = "SELECT sequence, batch FROM events WHERE sequence + count > ?1 ORDER BY sequence";
        let mut statement = database.prepare(sql).unwrap();
        let mut rows = statement.query([self.last]).unwrap();
        let (mut has_told, mut before) = (false, None);
        while let Some(row) = rows.next().unwrap() {
            let first: i64 = row.get(0).unwrap();
            let batch = Batch::decode(row.get_ref(1).unwrap().as_blob().unwrap()).unwrap();
            for (sequence, kept) in (first..).zip(batch.events) {
                let Event { id, r#type: what, .. } = Event::decode(kept.encoded).unwrap();
                if sequence <= self.last {
                    before = Some(id).filter(|_| sequence == self.last).or(before);
                    continue;
                }
                has_told |= what == "email.received";
                self.failed += usize::from(what == "email.failed");
                assert_eq!(sequence, self.last + 1, "a hole");
                assert!(self.ids.insert(id.clone()), "{id} is stored twice");
                self.order.push(id);
                self.last = sequence;
            }
        }
        assert_eq!(before, known, "the event where the log ended before is gone");
        self.growths += usize::from(has_told);
        for id in shown {
            assert!(self.ids.contains(&id), "{id} was shown, and is not there after the kill");
        }
    }
}

/// A mail by its subject, and its Message-ID.
fn mails(taken: &[Delivery]) -> Vec<(String, String)> {
    let read = |delivery: &Delivery| {
        let message = mail_parser::MessageParser::default().parse(&delivery.message[..]).unwrap();
        (message.subject().unwrap().to_owned(), format!("<{}>", message.message_id().unwrap()))
    };
    taken.iter().map(read).collect()
}

/// What the server took is what was asked for: nothing twice, and what was confirmed once. Gives the Message-IDs.
pub(super) fn mail(
    asked: &Asked,
    settled: &BTreeMap<String, QueuedEmailState>,
    taken: &[Delivery],
) -> BTreeSet<String> {
    let taken = mails(taken);
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for (subject, _) in &taken {
        *times.entry(subject).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let ids: HashMap<&str, &str> = taken.iter().map(|(subject, id)| (&**subject, &**id)).collect();
    for (request_id, message_id) in &asked.confirmed {
        assert_eq!(ids.get(&**request_id), Some(&&**message_id), "{request_id} was confirmed");
    }
    for request_id in asked.queued.keys() {
        match settled[request_id] {
            QueuedEmailState::Delivered => {
                assert!(times.contains_key(&**request_id), "{request_id} was lost")
            }
            // What happened to it is not known, and it was told so.
            QueuedEmailState::Failed => {}
            other => panic!("{request_id} is {other:?}"),
        }
    }
    for subject in times.keys().map(|subject| (*subject).to_owned()) {
        let known = asked.confirmed.contains_key(&subject) || asked.unknown.contains(&subject);
        assert!(known || asked.queued.contains_key(&subject), "{subject} was sent, and nobody was told");
    }
    taken.into_iter().map(|(_, id)| id).collect()
}

/// What the log tells is what happened: each mail came once and in order, each queued mail was settled once, as its state
/// says. Gives how many were settled with an outcome that nobody knows.
pub(super) fn events(
    stored: &[Event],
    received: &BTreeSet<String>,
    settled: &BTreeMap<String, QueuedEmailState>,
) -> usize {
    let mut ids = BTreeSet::new();
    let mut told = BTreeSet::new();
    let mut ends: BTreeMap<String, QueuedEmailState> = BTreeMap::new();
    let (mut unknown, mut latest) = (0, None);
    for event in stored {
        assert!(ids.insert(&event.id), "{} is stored twice", event.id);
        let end = match event.data.as_ref().and_then(|data| data.kind.as_ref()) {
            Some(Kind::NewEmail(email)) => {
                assert!(told.insert(email.internet_message_id.clone()), "a mail has two events");
                let time = event.time.map(|time| (time.seconds, time.nanos));
                assert!(time >= latest, "the trigger's order is not kept at {}", event.id);
                latest = time;
                continue;
            }
            Some(Kind::EmailDelivered(end)) => (end.request_id.clone(), QueuedEmailState::Delivered),
            Some(Kind::EmailFailed(end)) => {
                assert_eq!(end.failure.as_ref().unwrap().reason, "OUTCOME_UNKNOWN");
                unknown += 1;
                (end.request_id.clone(), QueuedEmailState::Failed)
            }
            _ => continue,
        };
        assert!(ends.insert(end.0.clone(), end.1).is_none(), "{} was settled twice", end.0);
    }
    assert_eq!(&told, received);
    assert_eq!(&ends, settled);
    unknown
}

/// Each stretch goes on in the order of the log, from what is committed: not before what was confirmed to be, nor after
/// what was asked to be.
pub(super) fn in_order(known: &InOrder, stored: &[Event]) {
    let places: HashMap<&str, usize> =
        stored.iter().zip(1..).map(|(event, place)| (&*event.id, place)).collect();
    let place = |id: &Option<String>| id.as_ref().map_or(0, |id| places[&**id]);
    let mut reached = 0;
    for Stretch { confirmed, asked, given } in &known.stretches {
        let given: Vec<_> = given.iter().map(|id| places[&**id]).collect();
        let Some(first) = given.first() else { continue };
        assert!(
            *first > place(confirmed),
            "what was confirmed came again: {first} after {}",
            place(confirmed)
        );
        assert!(*first <= place(asked) + 1, "passed over: {first} after {}", place(asked));
        assert!(given.windows(2).all(|pair| pair[1] == pair[0] + 1), "out of order: {given:?}");
        reached = reached.max(given[given.len() - 1]);
    }
    assert_eq!(reached, stored.len(), "the last events were not delivered");
}
