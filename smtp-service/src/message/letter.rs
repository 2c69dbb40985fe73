//! A message as it travels, without standing in memory as a whole: its header, and its body as texts that are there and
//! contents that are encoded while they are sent. It can be read any number of times, chunk by chunk.

mod chunks;

use bytes::Bytes;

use super::lines::{Lines, Problem};
pub(crate) use chunks::Chunks;

/// How many bytes of content make one line of base64 (RFC 2045, section 6.8).
const BASE64_LINE_BYTES: usize = 57;

/// A message (RFC 5322): every line ends with CRLF, none is too long.
#[derive(Debug)]
pub(crate) struct Letter {
    head: String,
    body: Vec<Segment>,
    size: u64,
    /// Whether a line begins with a dot.
    dotted: bool,
}

/// A stretch of a body.
#[derive(Debug)]
pub(super) enum Segment {
    /// Bytes that travel as they are.
    Text(Bytes),
    /// Bytes that travel in base64, on lines of their own; a line end follows the last.
    Base64(Bytes),
}

impl Letter {
    /// A message of this header, whose fields each end with CRLF, and this body.
    ///
    /// # Errors
    /// What it holds that cannot travel.
    pub(super) fn new(head: String, mut body: Vec<Segment>) -> Result<Self, Problem> {
        let mut lines = Lines::default();
        lines.read(head.as_bytes())?;
        if !lines.is_at_start() {
            return Err(Problem::Bare);
        }
        let mut size = head.len() as u64 + 2;
        for segment in &body {
            match segment {
                Segment::Text(text) => lines.read(text)?,
                // It begins a line, and ends one.
                Segment::Base64(_) if !lines.is_at_start() => return Err(Problem::Bare),
                Segment::Base64(_) => {}
            }
            size += segment.size();
        }
        lines.end()?;
        if !lines.is_at_start() {
            body.push(Segment::Text(Bytes::from_static(b"\r\n")));
            size += 2;
        }
        Ok(Self { head, body, size, dotted: lines.dots > 0 })
    }

    /// Puts a header field on top: whole lines, checked by who made it.
    pub(super) fn put_on_top(&mut self, field: &str) {
        self.head.insert_str(0, field);
        self.size += field.len() as u64;
    }

    /// The header, without the empty line after it.
    pub(crate) fn head(&self) -> &str {
        &self.head
    }

    /// Its size in bytes as RFC 1870 counts it: without doubled dots and the final dot.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The message as it is.
    pub(crate) fn message(&self) -> Chunks<'_> {
        Chunks::of(self, chunks::Part::Message)
    }

    /// Its body.
    pub(crate) fn body(&self) -> Chunks<'_> {
        Chunks::of(self, chunks::Part::Body)
    }

    /// What is sent after DATA, to the final dot's line end (RFC 5321, section 4.5.2).
    pub(crate) fn wire(&self) -> Chunks<'_> {
        Chunks::of(self, chunks::Part::Wire)
    }
}

impl Segment {
    fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Base64(content) => {
                let (lines, rest) = (content.len() / BASE64_LINE_BYTES, content.len() % BASE64_LINE_BYTES);
                let last = if rest == 0 { 0 } else { rest.div_ceil(3) * 4 + 2 };
                (lines * (BASE64_LINE_BYTES / 3 * 4 + 2) + last) as u64
            }
        }
    }
}

#[cfg(test)]
mod tests;
