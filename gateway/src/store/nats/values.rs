//! Reading values. Which keys there are the mirror knows; their values are asked for, many at once, and one that is
//! older than the mirror knows is asked for again where it cannot be.

use std::collections::HashMap;
use std::ops::Bound;

use super::events::direct;
use super::link::Link;
use super::message;
use super::mirror::Mirror;
use crate::store::{Entry, RECORDS, Revision, StoreError};

/// Values asked for at once, and about how many bytes of them.
const AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;
/// The headers that tell what an answer is.
const SUBJECT: &str = "Nats-Subject";
const SEQUENCE: &str = "Nats-Sequence";

/// The value of a key, by the stream's leader.
pub(super) async fn get(link: &Link, key: &str) -> Result<Option<Entry>, StoreError> {
    if key.is_empty() || key.contains([' ', '*', '>', ':']) {
        // None that a write takes, and perhaps none that NATS can be asked for.
        return Ok(None);
    }
    let message = link.last_of(&link.subjects.of_key(key)).await?;
    let message = message.filter(|message| !message::is_deletion(&message.headers));
    Ok(message.map(|message| Entry {
        key: key.to_owned(),
        value: message.payload,
        revision: message.sequence,
    }))
}

/// The values whose keys begin with `prefix` and come after `after`, at most `limit`.
pub(super) async fn list(
    link: &Link,
    mirror: &Mirror,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let mut found = Vec::new();
    let mut after = after.to_owned();
    while found.len() < limit {
        let keys = keys(mirror, prefix, &after, AT_ONCE.min(limit - found.len()));
        let Some((last, _)) = keys.last() else { break };
        after.clone_from(last);
        let mut values = at_once(link, &keys).await?;
        for (key, revision) in keys {
            match values.remove(&key).filter(|(at_least, _)| *at_least >= revision) {
                Some((_, entry)) => found.extend(entry),
                // Left out for its size, or the server that answered lags behind the others.
                None => found.extend(get(link, &key).await?),
            }
        }
    }
    Ok(found)
}

fn keys(mirror: &Mirror, prefix: &str, after: &str, limit: usize) -> Vec<(String, Revision)> {
    let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
    let state = mirror.state();
    let range = state.keys.range::<str, _>((from, Bound::Unbounded));
    let within = range.take_while(|(key, _)| key.starts_with(prefix));
    let within = within.filter(|(key, _)| prefix.starts_with(RECORDS) || !key.starts_with(RECORDS));
    within.take(limit).map(|(key, revision)| (key.clone(), *revision)).collect()
}

/// The last messages of keys: their revisions, and their values where they are no deletions.
async fn at_once(
    link: &Link,
    keys: &[(String, Revision)],
) -> Result<HashMap<String, (Revision, Option<Entry>)>, StoreError> {
    let subjects: Vec<_> = keys.iter().map(|(key, _)| link.subjects.of_key(key)).collect();
    let request = serde_json::json!({ "multi_last": subjects, "max_bytes": BYTES_AT_ONCE });
    let mut values = HashMap::new();
    for message in direct(link, &request).await? {
        let Some(headers) = message.headers else { continue };
        let text = |name| headers.get(name).map(async_nats::HeaderValue::as_str);
        let key = text(SUBJECT).and_then(|subject| link.subjects.key_of(subject));
        let revision = text(SEQUENCE).and_then(|number| number.parse().ok());
        let (Some(key), Some(revision)) = (key, revision) else { continue };
        let entry = (!message::is_deletion(&headers)).then(|| Entry {
            key: key.clone(),
            value: message.payload,
            revision,
        });
        values.insert(key, (revision, entry));
    }
    Ok(values)
}
