//! Problems with fields, and the text that goes into header fields.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::message::Mailbox;
use lettre::message::header::{HeaderName, HeaderValue};

use crate::error::Error;

/// The longest word that is left as it is in a header: longer ones could make a line that cannot fold.
const MAX_WORD_BYTES: usize = 60;
/// The line length that folding aims at (RFC 5322, section 2.1.1).
const MAX_FOLDED_LINE: usize = 78;
/// How many bytes go into one encoded word: with its frame it stays under 75 characters (RFC 2047, section 2).
const ENCODED_WORD_BYTES: usize = 42;

/// The most problems told at once: they travel in trailers, which are bounded.
const MAX_PROBLEMS: usize = 20;

/// What is wrong with a request, by field: the first twenty problems.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<(String, String)>);

impl Problems {
    /// Adds one.
    pub(crate) fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push((path.into(), problem.into()));
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all of another's.
    pub(crate) fn append(&mut self, other: Self) {
        other.0.into_iter().for_each(|(path, problem)| self.add(path, problem));
    }

    /// All of them as one error.
    pub(crate) fn into_error(self) -> Error {
        Error::Fields(self.0)
    }
}

/// Checks text that goes into a header field: no control characters, not too long.
pub(super) fn check_text(path: &str, text: &str, max_chars: usize, problems: &mut Problems) {
    if text.chars().any(char::is_control) {
        problems.add(path, "holds a control character");
    }
    if text.chars().count() > max_chars {
        problems.add(path, format!("is longer than {max_chars} characters"));
    }
}

/// The Subject header. Plain ASCII stays legible; all else becomes encoded words (RFC 2047), and so does what would be
/// taken for one.
pub(super) fn subject(text: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Subject");
    let plain = text.is_ascii()
        && !text.contains("=?")
        && text == text.trim()
        && text.split(' ').all(|word| word.len() <= MAX_WORD_BYTES)
        // Folding leaves a run of spaces whole.
        && !text.contains(&" ".repeat(MAX_WORD_BYTES));
    if plain {
        return HeaderValue::new(name, text.to_owned());
    }
    let encoded = encoded_words(text);
    HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), encoded)
}

/// A header that names mailboxes, folded between them.
pub(super) fn mailboxes(name: &'static str, mailboxes: &[Mailbox]) -> HeaderValue {
    let (mut encoded, mut column) = (String::new(), name.len() + 2);
    for (at, mailbox) in mailboxes.iter().enumerate() {
        let text = match &mailbox.name {
            Some(display) => format!("{} <{}>", phrase(display), mailbox.email),
            None => mailbox.email.to_string(),
        };
        if at > 0 {
            encoded.push(',');
            column += 1;
            if column + 1 + text.len() > MAX_FOLDED_LINE {
                encoded.push_str("\r\n");
                column = 0;
            }
            encoded.push(' ');
            column += 1;
        }
        encoded.push_str(&text);
        // Encoded words may have folded by themselves: what counts is the last line.
        column = text.rfind('\n').map_or(column + text.len(), |end| text.len() - end);
    }
    let addresses: Vec<_> = mailboxes.iter().map(|mailbox| mailbox.email.to_string()).collect();
    HeaderValue::dangerous_new_pre_encoded(
        HeaderName::new_from_ascii_str(name),
        addresses.join(", "),
        encoded,
    )
}

/// A display name (RFC 5322, section 3.2.5): quoted where it is short ASCII, else in encoded words.
fn phrase(text: &str) -> String {
    if !text.is_ascii() || text.contains("=?") || text.len() > MAX_WORD_BYTES {
        return encoded_words(text);
    }
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_')) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn encoded_words(text: &str) -> String {
    let (mut words, mut start, mut end) = (Vec::new(), 0, 0);
    for c in text.chars() {
        if end + c.len_utf8() - start > ENCODED_WORD_BYTES {
            words.push(&text[start..end]);
            start = end;
        }
        end += c.len_utf8();
    }
    words.push(&text[start..end]);
    let words = words.iter().map(|word| format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(word)));
    words.collect::<Vec<_>>().join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_many_mailboxes_is_folded() {
        let list: Vec<Mailbox> = (0..500)
            .map(|number| format!("Nümber {number} <user{number}@example.org>").parse().unwrap())
            .collect();
        let headers = format!(
            "{}",
            lettre::message::Message::builder()
                .raw_header(mailboxes("To", &list))
                .from("a@example.org".parse().unwrap())
                .body(String::new())
                .unwrap()
                .headers()
        );
        assert!(headers.lines().all(|line| line.len() <= 120), "{headers}");
        assert_eq!(headers.matches("@example.org").count(), 501);
    }

    #[test]
    fn encoded_words_stay_short_and_cut_no_character() {
        let text = "ü😀".repeat(50);
        let encoded = encoded_words(&text);
        let decoded: String = encoded
            .split("\r\n ")
            .map(|word| {
                assert!(word.len() <= 75);
                let inner = word.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap();
                String::from_utf8(BASE64_STANDARD.decode(inner).unwrap()).unwrap()
            })
            .collect();
        assert_eq!(decoded, text);
    }
}
