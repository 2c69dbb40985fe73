//! The header of a message as it is written (RFC 5322, RFC 2047, RFC 2231): every field folded, so that no line is too
//! long, and what is not ASCII encoded.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::message::Mailbox;

/// The line length that folding aims at (RFC 5322, section 2.1.1).
const MAX_FOLDED_LINE: usize = 78;
/// The longest word that is left as it is in a text that people read.
pub(super) const MAX_READ_WORD_BYTES: usize = 60;
/// The longest word that is left as it is in a text that machines may read, such as a URL: with the name before it, it
/// fits a line of 998.
pub(super) const MAX_WORD_BYTES: usize = 900;
/// How many bytes go into one encoded word: with its frame it stays under 75 characters (RFC 2047, section 2).
const ENCODED_WORD_BYTES: usize = 42;
/// How many characters of an encoded parameter go on one line.
const PARAMETER_LINE_CHARS: usize = 54;

/// A header, as far as it is written. Every field ends with CRLF.
#[derive(Debug, Default)]
pub(super) struct Head(String);

impl Head {
    /// A header without fields yet.
    pub(super) fn new() -> Self {
        Self(String::with_capacity(1_024))
    }

    /// The text of all fields.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Adds a field whose value is written and folded already.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        let space = if value.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = write!(self.0, "{name}:{space}{value}\r\n");
    }

    /// Adds a field of text. ASCII stays legible where it folds; all else becomes encoded words (RFC 2047), and so does
    /// what would be taken for one.
    pub(super) fn text(&mut self, name: &str, text: &str, longest_word: usize) {
        let plain = text.is_ascii()
            && !text.contains("=?")
            && text == text.trim()
            && text.split(' ').all(|word| word.len() <= longest_word)
            // Folding leaves a run of spaces whole.
            && !text.contains(&" ".repeat(MAX_READ_WORD_BYTES));
        let value = if plain { folded(name.len() + 2, text) } else { encoded_words(text) };
        self.field(name, &value);
    }

    /// Adds a field that names mailboxes, where there are any.
    pub(super) fn mailboxes(&mut self, name: &str, mailboxes: &[Mailbox]) {
        let texts = mailboxes.iter().map(|mailbox| match &mailbox.name {
            Some(display) => format!("{} <{}>", phrase(display), mailbox.email),
            None => mailbox.email.to_string(),
        });
        self.list(name, ",", texts);
    }

    /// Adds a field of several items, folded between them, where there are any.
    pub(super) fn list(&mut self, name: &str, separator: &str, items: impl IntoIterator<Item = String>) {
        let (mut value, mut column) = (String::new(), name.len() + 2);
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                value.push_str(separator);
                column += separator.len();
                if column + 1 + item.len() > MAX_FOLDED_LINE {
                    value.push_str("\r\n");
                    column = 0;
                }
                value.push(' ');
                column += 1;
            }
            value.push_str(&item);
            // Encoded words may have folded by themselves: what counts is the last line.
            column = item.rfind('\n').map_or(column + item.len(), |end| item.len() - end);
        }
        if !value.is_empty() {
            self.field(name, &value);
        }
    }
}

/// The fields of a header: each name with its value, folds and all, without the line end after it. What has no colon
/// has an empty name.
pub(crate) fn fields(head: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let (field, next) = rest.split_at(field_end(rest)?);
        rest = next;
        let field = field.strip_suffix("\r\n").unwrap_or(field);
        Some(field.split_once(':').unwrap_or(("", field)))
    })
}

/// Where the first field ends: at the first line end that no folded line follows.
fn field_end(text: &str) -> Option<usize> {
    let mut lines = text.match_indices("\r\n").map(|(at, _)| at + 2);
    let end = lines.find(|end| !text[*end..].starts_with([' ', '\t']));
    end.or(Some(text.len())).filter(|end| *end > 0)
}

/// Plain text, folded at spaces.
fn folded(mut column: usize, text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len() + 8), text);
    while !rest.is_empty() {
        let spaces = rest.len() - rest.trim_start_matches(' ').len();
        let end = rest[spaces..].find(' ').map_or(rest.len(), |end| spaces + end);
        let (piece, next) = rest.split_at(end);
        if spaces > 0 && column + piece.len() > MAX_FOLDED_LINE {
            out.push_str("\r\n");
            column = 0;
        }
        out.push_str(piece);
        column += piece.len();
        rest = next;
    }
    out
}

/// A display name (RFC 5322, section 3.2.5): quoted where it is short ASCII, else in encoded words.
fn phrase(text: &str) -> String {
    if !text.is_ascii() || text.contains("=?") || text.len() > MAX_READ_WORD_BYTES {
        return encoded_words(text);
    }
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_')) {
        return text.to_owned();
    }
    quoted(text)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn encoded_words(text: &str) -> String {
    let words = pieces(text, ENCODED_WORD_BYTES, char::len_utf8);
    let words = words.iter().map(|word| format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(word)));
    words.collect::<Vec<_>>().join("\r\n ")
}

/// A parameter of a MIME field (RFC 2045, section 5.1), on lines of its own: quoted where it is short ASCII, else
/// encoded and continued (RFC 2231).
pub(super) fn parameter(name: &str, value: &str) -> String {
    if value.is_ascii() && value.len() <= MAX_READ_WORD_BYTES {
        return format!(";\r\n {name}={}", quoted(value));
    }
    let pieces = pieces(value, PARAMETER_LINE_CHARS, |c| if is_plain(c) { 1 } else { 3 * c.len_utf8() });
    let mut out = String::new();
    for (at, piece) in pieces.iter().enumerate() {
        let section = if pieces.len() == 1 { String::new() } else { format!("*{at}") };
        let charset = if at == 0 { "utf-8''" } else { "" };
        let _ = write!(out, ";\r\n {name}{section}*={charset}");
        for byte in piece.bytes() {
            let _ = if is_plain(char::from(byte)) {
                write!(out, "{}", char::from(byte))
            } else {
                write!(out, "%{byte:02X}")
            };
        }
    }
    out
}

/// Whether a character needs no encoding in a parameter.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')
}

/// Cuts a text into pieces of at most so much, each character costing what `cost` says.
fn pieces(text: &str, most: usize, cost: impl Fn(char) -> usize) -> Vec<&str> {
    let (mut pieces, mut start, mut spent) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        if spent + cost(c) > most {
            pieces.push(&text[start..at]);
            (start, spent) = (at, 0);
        }
        spent += cost(c);
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str) -> String {
        let mut head = Head::new();
        head.text(name, text, MAX_WORD_BYTES);
        head.into_text()
    }

    #[test]
    fn a_header_of_many_mailboxes_is_folded() {
        let list: Vec<Mailbox> = (0..500)
            .map(|number| format!("Nümber {number} <user{number}@example.org>").parse().unwrap())
            .collect();
        let mut head = Head::new();
        head.mailboxes("To", &list);
        head.mailboxes("Cc", &[]);
        let head = head.into_text();
        assert!(head.lines().all(|line| line.len() <= 120), "{head}");
        assert_eq!(head.matches("@example.org").count(), 500);
        assert_eq!(fields(&head).map(|(name, _)| name).collect::<Vec<_>>(), ["To"]);
    }

    #[test]
    fn text_folds_at_spaces_and_long_words_stay_whole() {
        assert_eq!(text("X-A", ""), "X-A:\r\n");
        assert_eq!(text("X-A", "plain"), "X-A: plain\r\n");
        let url = format!("see https://example.org/{} now", "x".repeat(700));
        let written = text("X-A", &url);
        assert_eq!(written.replace("\r\n ", " "), format!("X-A: {url}\r\n"));
        let words = text("X-A", "some words ".repeat(100).trim_end());
        assert!(words.lines().all(|line| line.len() <= MAX_FOLDED_LINE));
        assert_eq!(
            words.replace("\r\n ", " ").trim_end(),
            format!("X-A: {}", "some words ".repeat(100)).trim_end()
        );
        for encoded in [&"x".repeat(901), " a", "=?utf-8?Q?a?=", "ü"] {
            assert!(text("X-A", encoded).starts_with("X-A: =?utf-8?B?"));
        }
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

    #[test]
    fn a_parameter_is_quoted_encoded_or_continued() {
        assert_eq!(parameter("filename", r#"a "b".pdf"#), ";\r\n filename=\"a \\\"b\\\".pdf\"");
        assert_eq!(parameter("filename", "ü.pdf"), ";\r\n filename*=utf-8''%C3%BC.pdf");
        let long = parameter("filename", &"😀".repeat(255));
        assert!(long.contains("filename*0*=utf-8''%F0%9F") && long.contains("\r\n filename*63*=%F0"));
        assert!(long.lines().all(|line| line.len() <= MAX_FOLDED_LINE), "{long}");
    }

    #[test]
    fn fields_are_told_apart_with_their_folds() {
        let found: Vec<_> = fields("A: b\r\n c\r\nD:\r\n\te\r\nnone\r\nF:g").collect();
        assert_eq!(found, [("A", " b\r\n c"), ("D", "\r\n\te"), ("", "none"), ("F", "g")]);
        assert_eq!(fields("").count(), 0);
    }
}
