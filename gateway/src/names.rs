//! Resource names: `connections/{connection}`, `connections/{connection}/triggers/{trigger}`,
//! `subscriptions/{subscription}`.

use crate::error::Error;

/// The longest id.
const MAX_ID: usize = 63;
/// The shortest id.
const MIN_ID: usize = 3;

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

/// Checks the name of a connection.
///
/// # Errors
/// The field, where what it holds is no such name.
pub fn connection(field: &str, name: &str) -> Result<(), Error> {
    match name.split_once('/') {
        Some(("connections", id)) if is_id(id) => Ok(()),
        _ => Err(Error::field(field, format!("{name:?} is not a name: expected connections/{{connection}}"))),
    }
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
    match name.split_once('/') {
        Some(("subscriptions", id)) if is_id(id) => Ok(()),
        _ => {
            let problem = format!("{name:?} is not a name: expected subscriptions/{{subscription}}");
            Err(Error::field(field, problem))
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert!(is_id(&chosen_or_new("id", "", "connection").unwrap()));
    }
}
