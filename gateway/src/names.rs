//! Resource names: `connections/{connection}`, `connections/{connection}/triggers/{trigger}`,
//! `subscriptions/{subscription}`, `outbox/{queued_email}`, `approvals/{approval}`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Error;

/// The longest id.
const MAX_ID: usize = 63;
/// The shortest id.
const MIN_ID: usize = 3;
/// The number that times are taken from, so that the newest sorts first: good until the year 2112.
const END_OF_TIME: u64 = 1 << 52;

/// Whether a text is an id: `[a-z][a-z0-9-]{2,62}`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (MIN_ID..=MAX_ID).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The id that a caller chose, or a new one with this prefix where it chose none.
///
/// # Errors
/// The field, where what it holds is no id.
pub fn chosen_or_new(field: &str, chosen: &str, prefix: &str) -> Result<String, Error> {
    if chosen.is_empty() {
        let alphabet = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let tail = (0..12).map(|_| char::from(alphabet[fastrand::usize(..alphabet.len())]));
        return Ok(prefix.chars().chain(['-']).chain(tail).collect());
    }
    if is_id(chosen) {
        return Ok(chosen.to_owned());
    }
    Err(Error::field(field, format!("{chosen:?} is not an id: expected [a-z][a-z0-9-]{{2,62}}")))
}

/// The name of what is made now: `begin`, such as `outbox/m`, and an ending by which the newest sorts first of those that
/// begin alike.
pub(crate) fn newest_first(begin: &str, now: SystemTime) -> String {
    let age = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = END_OF_TIME.saturating_sub(1 + u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    let tail: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
    format!("{begin}{left:013x}-{}", tail.to_ascii_lowercase())
}

/// Checks the name of a connection.
///
/// # Errors
/// The field, where what it holds is no such name.
pub fn connection(field: &str, name: &str) -> Result<(), Error> {
    within("connections", "connection", field, name)
}

/// Checks the name of a trigger and gives its connection's name.
///
/// # Errors
/// The field, where what it holds is no such name.
pub fn trigger<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    let parsed =
        name.rsplit_once("/triggers/").filter(|(parent, id)| is_id(id) && connection("", parent).is_ok());
    parsed.map(|(parent, _)| parent).ok_or_else(|| {
        let expected = "expected connections/{connection}/triggers/{trigger}";
        Error::field(field, format!("{name:?} is not a name: {expected}"))
    })
}

/// Checks the name of a subscription.
///
/// # Errors
/// The field, where what it holds is no such name.
pub fn subscription(field: &str, name: &str) -> Result<(), Error> {
    within("subscriptions", "subscription", field, name)
}

/// Checks the name of a queued mail.
///
/// # Errors
/// The field, where what it holds is no such name.
pub fn queued_email(field: &str, name: &str) -> Result<(), Error> {
    within("outbox", "queued_email", field, name)
}

/// Checks the name of an approval.
///
/// # Errors
/// The field, where what it holds is no such name.
pub fn approval(field: &str, name: &str) -> Result<(), Error> {
    within("approvals", "approval", field, name)
}

/// Checks the name of a resource that lies in a collection of its own.
fn within(collection: &str, resource: &str, field: &str, name: &str) -> Result<(), Error> {
    match name.split_once('/') {
        Some((first, id)) if first == collection && is_id(id) => Ok(()),
        _ => {
            let problem = format!("{name:?} is not a name: expected {collection}/{{{resource}}}");
            Err(Error::field(field, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        assert!(connection("name", "connections/billing-smtp").is_ok());
        for wrong in ["", "connections/", "connections/A12", "connections/ab", "billing", "connections/abc/x"]
        {
            assert!(connection("name", wrong).is_err(), "{wrong}");
        }
        assert_eq!(trigger("name", "connections/office/triggers/new-mail").unwrap(), "connections/office");
        for wrong in ["connections/office", "connections/office/triggers/", "connections/o/triggers/new-mail"]
        {
            assert!(trigger("name", wrong).is_err(), "{wrong}");
        }
        assert!(subscription("name", "subscriptions/billing").is_ok());
        for wrong in ["", "billing", "subscriptions/", "subscriptions/a/b", "connections/billing"] {
            assert!(subscription("name", wrong).is_err(), "{wrong}");
        }
        assert!(queued_email("name", "outbox/abc").is_ok());
        for wrong in ["", "outbox/", "outbox/A", "connections/abc", "outbox/abc/def"] {
            assert!(queued_email("name", wrong).is_err(), "{wrong}");
        }
        assert!(approval("name", "approvals/abc").is_ok());
        for wrong in ["", "approvals/", "approvals/A", "outbox/abc", "approvals/abc/def"] {
            assert!(approval("name", wrong).is_err(), "{wrong}");
        }
        assert!(is_id(&chosen_or_new("id", "", "connection").unwrap()));
    }

    #[test]
    fn what_is_made_later_sorts_first() {
        let times = [0, 1, 1_790_000_000_000_000, 1_790_000_000_000_001, 4_000_000_000_000_000];
        let named = times.map(|micros| newest_first("outbox/m", UNIX_EPOCH + Duration::from_micros(micros)));
        for pair in named.windows(2) {
            assert!(pair[1] < pair[0], "{pair:?}");
            queued_email("name", &pair[0]).unwrap();
        }
    }
}
