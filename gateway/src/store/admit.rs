//! What every engine refuses, before it can hold up others.

use std::collections::HashSet;
use std::time::SystemTime;

use super::tail::milliseconds;
use super::{Commit, MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_WRITES, NewEvent, StoreError, Write};
use crate::events::record::MAX_EVENT_BYTES;

/// Refuses what no store takes.
///
/// # Errors
/// [`StoreError::Refused`], with what is wrong.
pub fn admit(Commit { events, writes, .. }: &Commit) -> Result<(), StoreError> {
    let refused = |problem: String| Err(StoreError::Refused(problem));
    events.iter().try_for_each(admit_event)?;
    if writes.len() > MAX_WRITES {
        return refused(format!("{} writes in one commit: expected at most {MAX_WRITES}", writes.len()));
    }
    let mut keys = HashSet::new();
    for Write { key, value, .. } in writes {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let segments = || key.split('/').all(|segment| !segment.is_empty() && segment.chars().all(allowed));
        if key.len() > MAX_KEY_BYTES || !segments() {
            return refused(format!("{key:?} is not a key: expected segments of [a-zA-Z0-9._-] joined by /"));
        }
        if value.as_ref().is_some_and(|value| value.len() > MAX_VALUE_BYTES) {
            return refused(format!(
                "the value of {key} is too large: expected at most {MAX_VALUE_BYTES} bytes"
            ));
        }
        if writes.len() > 1 && !keys.insert(key) {
            return refused(format!("{key} is written twice at once"));
        }
    }
    Ok(())
}

fn admit_event(event: &NewEvent) -> Result<(), StoreError> {
    let size = event.encoded.len();
    if size > MAX_EVENT_BYTES {
        let id = &event.id;
        return Err(StoreError::Refused(format!(
            "event {id} has {size} bytes: expected at most {MAX_EVENT_BYTES}"
        )));
    }
    Ok(())
}

/// Events of another log, with their times in milliseconds since 1970.
pub(super) fn recorded(events: Vec<(NewEvent, SystemTime)>) -> Result<Vec<(NewEvent, i64)>, StoreError> {
    events.iter().try_for_each(|(event, _)| admit_event(event))?;
    Ok(events.into_iter().map(|(event, time)| (event, milliseconds(time))).collect())
}
