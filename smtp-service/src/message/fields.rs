//! Problems with fields, and the text that goes into header fields.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::message::header::{HeaderName, HeaderValue};

use crate::error::Error;

/// The longest word that is left as it is in a header: longer ones could make a line that cannot fold.
const MAX_WORD_BYTES: usize = 60;
/// How many bytes go into one encoded word: with its frame it stays under 75 characters (RFC 2047, section 2).
const ENCODED_WORD_BYTES: usize = 42;

/// What is wrong with a request, by field.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<(String, String)>);

impl Problems {
    /// Adds one.
    pub(crate) fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.0.push((path.into(), problem.into()));
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all of another's.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
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
        && text.split(' ').all(|word| word.len() <= MAX_WORD_BYTES);
    if plain {
        return HeaderValue::new(name, text.to_owned());
    }
    let encoded = encoded_words(text);
    HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), encoded)
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
