//! The relaxed form of header fields and bodies (RFC 6376, sections 3.4.2 and 3.4.4): runs of blanks are one, blanks at
//! the end of a line and empty lines at the end of a body are none.

use memchr::memchr;
use ring::digest::{Context, SHA256};

/// A field in the relaxed form, without a line end.
pub(super) fn relaxed(name: &str, value: &str) -> String {
    let mut out = String::with_capacity(name.len() + value.len() + 1);
    out.push_str(&name.trim_end().to_ascii_lowercase());
    out.push(':');
    let words = value.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// The hash of a body in the relaxed form, read piece by piece.
pub(super) struct BodyHash {
    context: Context,
    /// The line so far, without its line end.
    line: Vec<u8>,
    /// Empty lines that count only if another line follows.
    empty: usize,
}

impl Default for BodyHash {
    fn default() -> Self {
        Self { context: Context::new(&SHA256), line: Vec::new(), empty: 0 }
    }
}

impl BodyHash {
    /// Reads on.
    pub(super) fn read(&mut self, mut text: &[u8]) {
        while let Some(at) = memchr(b'\n', text) {
            let line = text[..at].strip_suffix(b"\r").unwrap_or(&text[..at]);
            if self.line.is_empty() {
                self.take(line);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(&text[..at]);
                self.take(whole.strip_suffix(b"\r").unwrap_or(&whole));
                whole.clear();
                self.line = whole;
            }
            text = &text[at + 1..];
        }
        self.line.extend_from_slice(text);
    }

    /// Takes a line.
    fn take(&mut self, line: &[u8]) {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let Some(last) = line.iter().rposition(|byte| !blank(byte)) else {
            self.empty += 1;
            return;
        };
        for _ in 0..std::mem::take(&mut self.empty) {
            self.context.update(b"\r\n");
        }
        let mut rest = &line[..=last];
        while let Some(at) = rest.iter().position(blank) {
            let run = rest[at..].iter().take_while(|byte| blank(byte)).count();
            self.context.update(&rest[..at]);
            self.context.update(b" ");
            rest = &rest[at + run..];
        }
        self.context.update(rest);
        self.context.update(b"\r\n");
    }

    /// Ends the body.
    pub(super) fn end(mut self) -> [u8; 32] {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.take(&line);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(self.context.finish().as_ref());
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::digest::digest;

    #[test]
    fn a_field_is_relaxed_as_the_rfc_says() {
        // The examples of RFC 6376, section 3.4.5.
        assert_eq!(relaxed("A", " X"), "a:X");
        assert_eq!(relaxed("B ", " Y\t\r\n\tZ  "), "b:Y Z");
    }

    #[test]
    fn a_body_is_relaxed_as_the_rfc_says_whatever_its_pieces() {
        for (body, form) in [
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("", ""),
            ("\r\n\r\n", ""),
            (" \t\r\n", ""),
            ("a\r\n\r\n\r\nb", "a\r\n\r\n\r\nb\r\n"),
            ("\r\n \r\na\r\n", "\r\n\r\na\r\n"),
        ] {
            for size in 1..=body.len().max(1) {
                let mut hash = BodyHash::default();
                body.as_bytes().chunks(size).for_each(|piece| hash.read(piece));
                assert_eq!(hash.end(), digest(&SHA256, form.as_bytes()).as_ref(), "{body:?} by {size}");
            }
        }
    }
}
