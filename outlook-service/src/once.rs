//! What makes the making of an item safe to repeat: an id that is always the same for the same wish, which the item
//! bears in a named property of our own where Graph has no place for it.

use postern_chassis::digest;
use prost::Message;
use serde_json::{Value, json};

use crate::error::Problems;

/// The longest request id.
const MAX_REQUEST_ID: usize = 128;
/// Bytes of the digest in a mark.
const MARK_BYTES: usize = 12;

/// What is wrong with a request id.
pub(crate) fn check(id: &str, problems: &mut Problems) {
    if id.len() > MAX_REQUEST_ID || !id.chars().all(|c| c.is_ascii_graphic()) {
        let problem = format!("expected at most {MAX_REQUEST_ID} visible ASCII characters");
        problems.push(("request_id".to_owned(), problem));
    }
}

/// The id of a wish: a GUID of the request id and all else that is asked, so that two callers who chose the same request
/// id for different things do not get each other's. A random one without a request id.
pub(crate) fn guid(request_id: &str, request: &impl Message) -> String {
    let mut bytes = [0; 16];
    if request_id.is_empty() {
        fastrand::fill(&mut bytes);
    } else {
        let wish = digest::of_parts([request_id.as_bytes(), &request.encode_to_vec()]);
        bytes.copy_from_slice(&wish[..16]);
    }
    // Version 8, made as one likes, and the variant (RFC 9562, section 5.8).
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let [a, b, c, d, e] = [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| digest::hex(&bytes[part]));
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// What tells a sending from all others, in words: the request id, and what is asked in short. Without a request id,
/// nothing that comes again.
pub(crate) fn mark(request_id: &str, asked: &impl Message) -> String {
    if request_id.is_empty() {
        return format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    }
    let asked = digest::of(&asked.encode_to_vec());
    format!("{request_id} {}", digest::hex(&asked[..MARK_BYTES]))
}

/// The properties of an item that bears a value under a name (Graph: `singleValueExtendedProperties`).
pub(crate) fn property(name: &str, value: &str) -> Value {
    json!([{"id": name, "value": value}])
}

/// The condition that holds for items that bear a value under a name.
pub(crate) fn bearing(name: &str, value: &str) -> String {
    let value = value.replace('\'', "''");
    format!("singleValueExtendedProperties/Any(ep: ep/id eq '{name}' and ep/value eq '{value}')")
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::outlook::v1::CreateContactRequest;

    #[test]
    fn a_mark_is_that_of_its_request_and_of_no_other() {
        let asked = |table: &str| CreateContactRequest { table: table.into(), ..Default::default() };
        assert!(mark("a", &asked("1")).starts_with("a "));
        assert_eq!(mark("a", &asked("1")), mark("a", &asked("1")));
        assert_ne!(mark("a", &asked("1")), mark("a", &asked("2")));
        assert_ne!(mark("", &asked("1")), mark("", &asked("1")));
        let mut problems = Vec::new();
        check("a b", &mut problems);
        check(&"a".repeat(129), &mut problems);
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn the_same_wish_has_the_same_id_and_no_other_has_it() {
        let wish = |connection: &str, table: &str| CreateContactRequest {
            connection: connection.into(),
            table: table.into(),
            ..CreateContactRequest::default()
        };
        let id = guid("1", &wish("connections/a", "x"));
        assert_eq!(id, "ea33725d-adc4-8c8b-8aba-a492ef6b1dbc", "items that are there bear it");
        assert_eq!(id, guid("1", &wish("connections/a", "x")));
        for other in [
            guid("1", &wish("connections/b", "x")),
            guid("2", &wish("connections/a", "x")),
            guid("1", &wish("connections/a", "y")),
            guid("", &wish("connections/a", "x")),
        ] {
            assert_ne!(id, other);
        }
        assert_ne!(guid("", &wish("", "")), guid("", &wish("", "")));
    }
}
