//! Header fields of a mail to send: Graph writes nearly all itself, and takes a few of the sender's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_proto::mail::v1::{Email, Header};
use serde_json::{Value, json};

use super::people;

use crate::error::Problems;

/// How many header fields of one's own Graph takes.
const MAX_HEADERS: usize = 5;
/// The longest name of one.
const MAX_NAME: usize = 76;
/// The longest value of one, in bytes.
const MAX_VALUE: usize = 8 * 1024;
/// How many bytes of text an encoded word holds: at most 75 characters in all (RFC 2047, section 2).
const WORD: usize = 45;
/// What header fields begin with that Exchange writes itself, or drops.
const OF_EXCHANGE: [&str; 3] = ["x-ms-exchange-", "x-microsoft-antispam", "x-originat"];

/// Names the fields that Graph cannot take.
pub(super) fn refuse_others(path: &str, email: &Email, problems: &mut Problems) {
    let mut refuse = |given: bool, field: &str, problem: &str| {
        if given {
            problems.push((format!("{path}.{field}"), problem.to_owned()));
        }
    };
    let nothing = "cannot be sent by this connector: expected nothing";
    let answers = "cannot be sent by this connector: ReplyToEmail answers in a conversation";
    let body = "cannot be sent by this connector: a mail is text or HTML, in body";
    refuse(!email.text_body.is_empty(), "text_body", body);
    refuse(email.list_unsubscribe.is_some(), "list_unsubscribe", nothing);
    refuse(!email.in_reply_to.is_empty(), "in_reply_to", answers);
    refuse(!email.references.is_empty(), "references", answers);
    let invites = "cannot be sent by this connector: CalendarService.CreateEvent invites";
    refuse(email.calendar.is_some(), "calendar", invites);
}

/// Checks the header fields and writes them as Graph wants them.
pub(super) fn headers(path: &str, headers: &[Header], problems: &mut Problems) -> Vec<Value> {
    if headers.len() > MAX_HEADERS {
        problems.push((format!("{path}.headers"), format!("expected at most {MAX_HEADERS}")));
        return Vec::new();
    }
    for (index, Header { name, value }) in headers.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let good = name.chars().all(|c| c.is_ascii_graphic() && c != ':');
        if !good || name.len() > MAX_NAME || lower.len() < 3 || !lower.starts_with("x-") {
            let problem = format!(
                "expected a name that begins with x-, at most {MAX_NAME} visible ASCII characters without a colon"
            );
            problems.push((format!("{path}.headers[{index}].name"), problem));
        } else if OF_EXCHANGE.iter().any(|begin| lower.starts_with(begin)) {
            let problem = "is one that Exchange writes itself: expected another";
            problems.push((format!("{path}.headers[{index}].name"), problem.into()));
        }
        if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
            let problem = format!("expected at most {MAX_VALUE} bytes without control characters");
            problems.push((format!("{path}.headers[{index}].value"), problem));
        }
    }
    headers.iter().map(|Header { name, value }| json!({"name": name, "value": encoded(value)})).collect()
}

/// What is not ASCII as encoded words (RFC 2047).
fn encoded(value: &str) -> String {
    if value.is_ascii() {
        return value.to_owned();
    }
    let mut words = vec![String::new()];
    for character in value.chars() {
        match words.last_mut() {
            Some(word) if word.len() + character.len_utf8() <= WORD => word.push(character),
            _ => words.push(character.into()),
        }
    }
    let words = words.into_iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a receipt is asked for. Graph sends it to the sender, and to nobody else.
pub(super) fn receipt(
    path: &str,
    field: &str,
    texts: &[String],
    selves: &[&str],
    problems: &mut Problems,
) -> bool {
    let mut asked = false;
    for (index, text) in texts.iter().enumerate() {
        let one = people(path, field, std::slice::from_ref(text), &mut Problems::new());
        asked |= !one.is_empty();
        let own = |address: &str| selves.iter().any(|own| own.eq_ignore_ascii_case(address));
        let blank = text.trim().is_empty();
        if !blank && (one.is_empty() || !one.iter().all(|mailbox| own(&mailbox.address))) {
            let problem = if selves.is_empty() {
                "expected the sender's own address, named in from as well: Graph sends receipts to nobody else"
            } else {
                "expected the sender's own address: Graph sends receipts to nobody else"
            };
            problems.push((format!("{path}.{field}[{index}]"), problem.into()));
        }
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_ascii_become_encoded_words_between_characters() {
        assert_eq!(encoded("plain"), "plain");
        let text = "ü".repeat(40);
        let words = encoded(&text);
        let read: Vec<u8> = words
            .split(' ')
            .flat_map(|word| {
                assert!(word.len() <= 75, "{word}");
                STANDARD.decode(word.trim_start_matches("=?utf-8?B?").trim_end_matches("?=")).unwrap()
            })
            .collect();
        assert_eq!(String::from_utf8(read).unwrap(), text);
    }
}
