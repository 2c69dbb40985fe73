//! A message, its body, or what goes over the wire, read chunk by chunk. A small mail is one chunk, so that it is one
//! write.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use memchr::memchr;

use super::{BASE64_LINE_BYTES, Letter, Segment};

/// The least bytes of a chunk that is not the last.
const CHUNK_BYTES: usize = 64 * 1024;
/// What a chunk may hold beyond that: a line, or dots.
const SLACK_BYTES: usize = 256;

/// What of a letter is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole message.
    Message,
    /// Its body.
    Body,
    /// The whole message, dots at line beginnings doubled, and the final dot.
    Wire,
}

/// A reading of a letter.
#[derive(Debug)]
pub(crate) struct Chunks<'a> {
    letter: &'a Letter,
    part: Part,
    /// What comes after `current`: 0 the header, 1 the empty line, then the body's segments.
    next: usize,
    current: Current<'a>,
    /// Whether the next byte begins a line.
    at_start: bool,
    buffer: Vec<u8>,
    done: bool,
}

/// What is being read.
#[derive(Debug)]
enum Current<'a> {
    Text(&'a [u8]),
    Base64(&'a [u8]),
}

impl<'a> Chunks<'a> {
    pub(super) fn of(letter: &'a Letter, part: Part) -> Self {
        let size = usize::try_from(letter.size()).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        Self {
            letter,
            part,
            next: if part == Part::Body { 2 } else { 0 },
            current: Current::Text(&[]),
            at_start: true,
            buffer: Vec::with_capacity(size + SLACK_BYTES),
            done: false,
        }
    }

    /// The next bytes, and whether they are the last.
    pub(crate) fn next_chunk(&mut self) -> Option<(&[u8], bool)> {
        if self.done {
            return None;
        }
        self.buffer.clear();
        while self.buffer.len() < CHUNK_BYTES {
            if !self.fill() {
                self.done = true;
                if self.part == Part::Wire {
                    self.buffer.extend_from_slice(b".\r\n");
                }
                break;
            }
        }
        Some((&self.buffer, self.done))
    }

    /// Adds some bytes to the buffer. False: there are none left.
    fn fill(&mut self) -> bool {
        let doubles = self.part == Part::Wire && self.letter.dotted;
        match &mut self.current {
            Current::Text([]) => return self.advance(),
            Current::Text(text) if doubles => {
                if self.at_start && text.starts_with(b".") {
                    self.buffer.push(b'.');
                }
                let line = memchr(b'\n', text).map_or(text.len(), |at| at + 1);
                let (line, rest) = text.split_at(line);
                self.at_start = line.ends_with(b"\n");
                self.buffer.extend_from_slice(line);
                *text = rest;
            }
            Current::Text(text) => {
                let (now, rest) = text.split_at(text.len().min(CHUNK_BYTES - self.buffer.len()));
                self.buffer.extend_from_slice(now);
                *text = rest;
            }
            Current::Base64([]) => return self.advance(),
            Current::Base64(content) => {
                let (line, rest) = content.split_at(content.len().min(BASE64_LINE_BYTES));
                *content = rest;
                let start = self.buffer.len();
                self.buffer.resize(start + BASE64_LINE_BYTES / 3 * 4, 0);
                // It fits: the buffer has the room of a full line.
                let written = BASE64_STANDARD.encode_slice(line, &mut self.buffer[start..]).unwrap_or(0);
                self.buffer.truncate(start + written);
                self.buffer.extend_from_slice(b"\r\n");
            }
        }
        true
    }

    /// Goes on to the next stretch. False: there is none.
    fn advance(&mut self) -> bool {
        let next = match self.next {
            0 => Current::Text(self.letter.head.as_bytes()),
            1 => Current::Text(b"\r\n"),
            later => match self.letter.body.get(later - 2) {
                None => return false,
                Some(Segment::Text(text)) => Current::Text(text),
                Some(Segment::Base64(content)) => {
                    self.at_start = true;
                    Current::Base64(content)
                }
            },
        };
        self.current = next;
        self.next += 1;
        true
    }
}
