//! Writing messages as one: all or none, and only where the stream still ends where the writer saw it end. That one
//! condition holds all others: what the writer knew when it checked them is what there was when it wrote.

use std::time::Duration;

use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::{HeaderMap, Request};
use tokio::time::Instant;

use super::link::{ANSWER_TIMEOUT, BROKEN, Link};
use super::message::{self, Draft};
use crate::store::StoreError;

/// The most messages that a server takes as one.
pub(super) const MAX_MESSAGES: usize = 1_000;
/// How long a write is tried while the stream has no leader or cannot be reached, and how long it is found out what
/// became of one whose answer was lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

const EXPECTED_LAST: &str = "Nats-Expected-Last-Sequence";
const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// The server's refusals that are told apart.
const WRONG_LAST: [u64; 2] = [10_071, 10_164];
/// It has no leader, lost part of it on the way, or has too many at once: a repeat may do.
const FOR_NOW: [u64; 5] = [10_008, 10_009, 10_176, 10_210, 10_211];

/// Its disk failed.
const STORE_FAILED: u64 = 10_077;

/// What became of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// All of it is there; the place of its last message.
    Done(u64),
    /// Nothing of it is: the stream ends elsewhere. Or so says one who was a leader until just now, while the one that is
    /// has made it: what comes behind that place tells, by its commit's name.
    Moved,
}

/// What one try came to.
enum Tried {
    Done(u64),
    Moved,
    /// Nothing was written, which may be otherwise at another time.
    NotNow(String),
    /// Nothing was written, for a reason of its own.
    Refused(String),
    /// No answer: it may be there, or come yet.
    Lost(String),
}

/// A name for all tries of one commit.
pub(super) fn commit_name() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Writes messages right behind the place `after`, under the name of their commit.
///
/// # Errors
/// [`StoreError::Failed`] where nothing was written, [`StoreError::Unknown`] where that cannot be found out.
pub(super) async fn write(
    link: &Link,
    after: u64,
    drafts: &[Draft],
    commit: &str,
) -> Result<Written, StoreError> {
    link.waits();
    let written = try_to_write(link, after, drafts, commit).await;
    // A leader that is cut off refuses too: by what it could pass on to nobody.
    if matches!(written, Ok(Written::Done(_))) {
        link.wrote();
    }
    written
}

async fn try_to_write(
    link: &Link,
    after: u64,
    drafts: &[Draft],
    commit: &str,
) -> Result<Written, StoreError> {
    let until = Instant::now() + PATIENCE;
    let mut lost = None;
    loop {
        let problem = match send(link, after, drafts, commit).await {
            Tried::Done(last) => return Ok(Written::Done(last)),
            Tried::Moved if lost.is_none() => return Ok(Written::Moved),
            Tried::Moved => match find(link, after, drafts.len(), commit).await {
                Ok(written) => return written,
                Err(error) => error.to_string(),
            },
            // Where an earlier try may have come through, a refusal of a later one says nothing about it.
            Tried::Refused(problem) if lost.is_none() => return Err(StoreError::Failed(problem)),
            Tried::NotNow(problem) | Tried::Refused(problem) => problem,
            Tried::Lost(problem) => {
                // A repeat finds out: at most one of the two can be right behind that place.
                tracing::warn!(problem, "an answer of NATS was lost: finding out");
                lost = Some(());
                problem
            }
        };
        if Instant::now() >= until {
            return Err(match lost {
                Some(()) => StoreError::Unknown(problem),
                None => StoreError::Failed(problem),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Sends the messages once. All tries of one commit carry its name, each try is a batch of its own.
async fn send(link: &Link, after: u64, drafts: &[Draft], commit: &str) -> Tried {
    let batch = format!("{commit}{:08x}", fastrand::u32(..));
    let mut answer = None;
    for (place, draft) in drafts.iter().enumerate() {
        let mut headers = draft.headers(commit);
        if place == 0 {
            headers.insert(EXPECTED_LAST, after.to_string());
        }
        if drafts.len() > 1 {
            headers.insert(BATCH_ID, batch.as_str());
            headers.insert(BATCH_SEQUENCE, (place + 1).to_string());
        }
        if place + 1 < drafts.len() {
            let sent =
                link.client.publish_with_headers(draft.subject.clone(), headers, draft.payload.clone());
            match tokio::time::timeout(ANSWER_TIMEOUT, sent).await {
                Ok(Ok(())) => {}
                // Its end is never sent, so it never is.
                Ok(Err(error)) => return Tried::Refused(format!("NATS: it was not sent: {error}")),
                Err(_) => return Tried::NotNow("NATS: it could not be sent in time".to_owned()),
            }
        } else {
            if drafts.len() > 1 {
                headers.insert(BATCH_COMMIT, "1");
            }
            answer = Some(link.unbroken(ask(link, draft, headers)).await);
        }
    }
    match answer {
        None => Tried::Refused("there is nothing to write".to_owned()),
        Some(None) => Tried::Lost(format!("NATS: no answer to a write: {BROKEN}")),
        Some(Some(Ok(answer))) => read(&answer, &link.name, drafts.len() > 1),
        Some(Some(Err(error))) => match error.kind() {
            RequestErrorKind::NoResponders => {
                Tried::NotNow("NATS: the stream has no leader for now".to_owned())
            }
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                Tried::Refused(format!("NATS: it was not sent: {error}"))
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                Tried::Lost(format!("NATS: no answer to a write: {error}"))
            }
        },
    }
}

async fn ask(link: &Link, draft: &Draft, headers: HeaderMap) -> Result<async_nats::Message, RequestError> {
    let request =
        Request::new().headers(headers).payload(draft.payload.clone()).timeout(Some(ANSWER_TIMEOUT));
    link.client.send_request(draft.subject.clone(), request).await
}

/// Reads the server's answer to the last message.
fn read(answer: &async_nats::Message, stream: &str, is_batch: bool) -> Tried {
    let Ok(said) = serde_json::from_slice::<serde_json::Value>(&answer.payload) else {
        return Tried::Lost("NATS: an answer to a write that is none".to_owned());
    };
    let error = &said["error"];
    if error.is_null() {
        return match said["seq"].as_u64() {
            Some(last) if said["stream"] == stream => Tried::Done(last),
            _ => Tried::Lost("NATS: another stream takes what is for this one".to_owned()),
        };
    }
    let code = error["err_code"].as_u64().unwrap_or(0);
    let problem = format!("NATS: {} ({code})", error["description"].as_str().unwrap_or("refused"));
    match code {
        code if WRONG_LAST.contains(&code) => Tried::Moved,
        code if FOR_NOW.contains(&code) => Tried::NotNow(problem),
        // Part of it may be stored, and the rest when the server starts again.
        STORE_FAILED if is_batch => Tried::Lost(problem),
        _ => Tried::Refused(problem),
    }
}

/// Finds out whether a commit stands right behind a place. Its messages may have been replaced by later ones.
///
/// # Errors
/// It cannot be found out now, such as while a write waits for the stream's other servers.
async fn find(
    link: &Link,
    after: u64,
    count: usize,
    commit: &str,
) -> Result<Result<Written, StoreError>, StoreError> {
    let last = after + count as u64;
    for place in after + 1..=last {
        if let Some(message) = link.message(place).await? {
            let is_ours = message::commit_of(&message.headers) == Some(commit);
            return Ok(Ok(if is_ours { Written::Done(last) } else { Written::Moved }));
        }
    }
    // The leader refuses by what it has passed on, which counts once most servers have it.
    if link.last().await? < last {
        return Err(StoreError::Failed("NATS: a write before it is not settled yet".to_owned()));
    }
    Ok(Err(StoreError::Unknown(
        "NATS: no answer to a write, and what was written was replaced since".to_owned(),
    )))
}
