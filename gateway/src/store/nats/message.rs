//! What the messages of the stream hold. A message is one key's value or its deletion, a chunk of events, or the bounds
//! of the log. All that a gateway remembers of them stands in their headers, so that a start reads headers alone.

use std::fmt::Write as _;

use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;

use super::chunk::Chunk;
use super::mirror::Head;
use crate::store::Sequence;

/// Which commit wrote a message: looked up where an answer was lost.
const COMMIT: &str = "Postern-Commit";
/// Marks the deletion of a key.
const DELETED: &str = "Postern-Deleted";
/// A chunk's numbers, and the ids of its events.
const CHUNK: &str = "Postern-Chunk";
const IDS: &str = "Postern-Ids";
/// The bounds of the log.
const HEAD: &str = "Postern-Head";

/// What remains of an id: ids are digests of 128 bits, others are made one.
pub(super) type Id = [u8; 16];

/// The subjects of one stream.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    keys: String,
    chunks: String,
    head: String,
    all: String,
}

impl Subjects {
    pub(super) fn new(stream: &str) -> Self {
        Self {
            keys: format!("{stream}.k."),
            chunks: format!("{stream}.e."),
            head: format!("{stream}.h"),
            all: format!("{stream}.>"),
        }
    }

    /// Of all that the stream takes.
    pub(super) fn all(&self) -> &str {
        &self.all
    }

    /// Of all chunks.
    pub(super) fn every_chunk(&self) -> String {
        format!("{}>", self.chunks)
    }

    /// Of a key: its segments are a subject's, and a dot within one is a colon there.
    pub(super) fn of_key(&self, key: &str) -> String {
        let mut subject = self.keys.clone();
        subject.extend(key.chars().map(|c| match c {
            '/' => '.',
            '.' => ':',
            c => c,
        }));
        subject
    }

    /// The key of a subject, where it is one of a key's.
    pub(super) fn key_of(&self, subject: &str) -> Option<String> {
        let key = subject.strip_prefix(&self.keys)?;
        let back = |c| match c {
            '.' => '/',
            ':' => '.',
            c => c,
        };
        Some(key.chars().map(back).collect())
    }

    fn of_chunk(&self, first: Sequence) -> String {
        format!("{}{first}", self.chunks)
    }
}

/// A message to write, as yet without what binds it to its commit.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) subject: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Bytes,
    /// What it will have done.
    pub(super) record: Record,
}

/// What a message does.
#[derive(Debug, Clone)]
pub(super) enum Record {
    /// A key has a value. `None`: only that it has one was read.
    Put(String, Option<Bytes>),
    /// A key has none.
    Delete(String),
    /// Events were appended.
    Chunk(Chunk),
    /// The log begins elsewhere.
    Head(Head),
}

/// How long the mark of a deletion stays. A gateway that follows the stream again within half of it misses none.
pub(super) const DELETED_FOR: std::time::Duration = std::time::Duration::from_secs(3_600);

impl Draft {
    pub(super) fn put(subjects: &Subjects, key: &str, value: &Bytes) -> Self {
        Self {
            subject: subjects.of_key(key),
            headers: Vec::new(),
            payload: value.clone(),
            record: Record::Put(key.to_owned(), Some(value.clone())),
        }
    }

    pub(super) fn delete(subjects: &Subjects, key: &str) -> Self {
        let until = format!("{}s", DELETED_FOR.as_secs());
        Self {
            subject: subjects.of_key(key),
            headers: vec![(DELETED, "1".to_owned()), ("Nats-TTL", until)],
            payload: Bytes::new(),
            record: Record::Delete(key.to_owned()),
        }
    }

    pub(super) fn chunk(subjects: &Subjects, chunk: Chunk) -> Self {
        let Chunk { first, recorded, before, bytes, .. } = chunk;
        let numbers = format!("1 {first} {recorded} {before} {bytes}");
        let ids = STANDARD_NO_PAD.encode(chunk.ids.as_flattened());
        Self {
            subject: subjects.of_chunk(first),
            headers: vec![(CHUNK, numbers), (IDS, ids)],
            payload: chunk.payload.clone(),
            record: Record::Chunk(chunk),
        }
    }

    pub(super) fn head(subjects: &Subjects, head: Head) -> Self {
        let mut numbers = "1".to_owned();
        for number in [head.first, head.last, head.before, head.total] {
            // Writing to a String cannot fail.
            let _ = write!(numbers, " {number}");
        }
        let _ = write!(numbers, " {} {}", head.recorded, head.trimmed);
        Self {
            subject: subjects.head.clone(),
            headers: vec![(HEAD, numbers)],
            payload: Bytes::new(),
            record: Record::Head(head),
        }
    }

    /// Its headers within a commit.
    pub(super) fn headers(&self, commit: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COMMIT, commit);
        for (name, value) in &self.headers {
            headers.insert(*name, value.as_str());
        }
        headers
    }
}

/// The commit that wrote a message.
pub(super) fn commit_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(COMMIT).map(async_nats::HeaderValue::as_str)
}

/// Whether a message of a key is its deletion.
pub(super) fn is_deletion(headers: &HeaderMap) -> bool {
    headers.get(DELETED).is_some()
}

/// Reads a message. `None`: it is none of ours. The payload is left out where only headers were asked for.
pub(super) fn read(
    subjects: &Subjects,
    subject: &str,
    headers: &HeaderMap,
    payload: Option<Bytes>,
) -> Option<Record> {
    if let Some(key) = subjects.key_of(subject) {
        return Some(if is_deletion(headers) { Record::Delete(key) } else { Record::Put(key, payload) });
    }
    let numbers = |name| -> Option<Vec<u64>> {
        let text: &str = headers.get(name)?.as_str();
        let (version, rest) = text.split_once(' ')?;
        (version == "1").then(|| rest.split(' ').map_while(|number| number.parse().ok()).collect())
    };
    if subject == subjects.head {
        let [first, last, before, total, recorded, trimmed] = numbers(HEAD)?.try_into().ok()?;
        let (recorded, trimmed) = (recorded.cast_signed(), trimmed.cast_signed());
        return Some(Record::Head(Head { first, last, before, total, recorded, trimmed }));
    }
    let [first, recorded, before, bytes] = numbers(CHUNK)?.try_into().ok()?;
    let ids = STANDARD_NO_PAD.decode(headers.get(IDS)?.as_str()).ok()?;
    let (ids, rest) = ids.as_chunks::<16>();
    rest.is_empty().then(|| {
        let (ids, payload) = (ids.to_vec(), payload.unwrap_or_default());
        Record::Chunk(Chunk { first, recorded: recorded.cast_signed(), before, bytes, ids, payload })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(draft: &Draft) -> Record {
        let subjects = Subjects::new("postern");
        read(&subjects, &draft.subject, &draft.headers("c"), Some(draft.payload.clone())).unwrap()
    }

    #[test]
    fn each_message_is_read_as_it_was_written() {
        let subjects = Subjects::new("postern");
        let put = Draft::put(&subjects, "connections/a.b_c-D/x", &Bytes::from_static(b"value"));
        assert!(!put.subject.contains("..") && !put.subject.contains('/'), "{}", put.subject);
        let Record::Put(key, Some(value)) = again(&put) else { panic!("{put:?}") };
        assert_eq!((key.as_str(), &*value), ("connections/a.b_c-D/x", &b"value"[..]));
        let Record::Delete(key) = again(&Draft::delete(&subjects, "a/b")) else { panic!() };
        assert_eq!(key, "a/b");
        let head = Head { first: 7, last: 9, before: 100, total: 130, recorded: 5, trimmed: 4 };
        let Record::Head(read) = again(&Draft::head(&subjects, head)) else { panic!() };
        assert_eq!(read, head);
        let (ids, payload) = (vec![[1; 16], [255; 16]], Bytes::from_static(b"events"));
        let chunk = Chunk { first: 3, recorded: 1_700_000_000_000, before: 9, bytes: 6, ids, payload };
        let Record::Chunk(read) = again(&Draft::chunk(&subjects, chunk.clone())) else { panic!() };
        assert_eq!(read, chunk);
    }

    #[test]
    fn what_others_publish_there_is_none_of_ours() {
        let subjects = Subjects::new("postern");
        let headers = HeaderMap::new();
        for subject in ["postern.e.1", "postern.h", "postern.x", "other.k.a"] {
            assert!(read(&subjects, subject, &headers, None).is_none(), "{subject}");
        }
    }
}
