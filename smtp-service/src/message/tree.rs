//! The message's MIME parts (RFC 2045, RFC 2046, RFC 2387) and how they nest: what is attached around the ways to read
//! the mail, and within HTML what it shows in place.

use bytes::Bytes;
use memchr::memmem;
use postern_chassis::digest;
use postern_proto::mail::v1::Email;

use super::attachments::Piece;
use super::calendar::Invitation;
use super::content::Encoding;
use super::head::Head;
use super::letter::{Letter, Segment};
use super::lines::Problem;
use super::text;

/// Bytes of the digest that the boundaries hold.
const STEM_BYTES: usize = 12;
/// Texts shorter than this are gathered; longer ones are kept apart, so that they are not copied.
const GATHERED_BYTES: usize = 16 * 1024;

/// A part of a message.
#[derive(Debug)]
pub(super) enum Part {
    /// Content: its fields, how it is written, and the content, encoded unless it is to be base64.
    Leaf(Head, Encoding, Bytes),
    /// Parts within a multipart of this kind, with what its type says further.
    Multi(&'static str, &'static str, Vec<Part>),
}

impl Part {
    /// Content under these fields. Base64 is written later; every other encoding is done already.
    pub(super) fn leaf(mut head: Head, encoding: Encoding, content: Bytes) -> Self {
        head.field("Content-Transfer-Encoding", encoding.as_str());
        Self::Leaf(head, encoding, content)
    }

    /// A text of this type.
    pub(super) fn text(content_type: &str, text: &str) -> Self {
        let mut head = Head::new();
        head.field("Content-Type", content_type);
        let (encoding, content) = text::written(text);
        Self::leaf(head, encoding, content)
    }

    /// A multipart of the parts, or the one that there is.
    fn joined(kind: &'static str, says: &'static str, mut parts: Vec<Self>) -> Self {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                Self::Multi(kind, says, parts)
            }
        }
    }

    /// Whether what is written as it is holds this text.
    fn holds(&self, needle: &[u8]) -> bool {
        match self {
            Self::Leaf(_, Encoding::Base64, _) => false,
            Self::Leaf(_, _, content) => memmem::find(content, needle).is_some(),
            Self::Multi(_, _, parts) => parts.iter().any(|part| part.holds(needle)),
        }
    }
}

/// All parts of a mail: mixed(alternative(text, related(html, inline…), calendar), attached…), of which each layer is
/// there only where it has something to join.
pub(super) fn of(email: &Email, invitation: Option<Invitation>, pieces: Vec<Piece>) -> Part {
    // A Content-ID is referred to by HTML; beside plain text an inline part is only an attachment to be shown.
    let (related, mixed): (Vec<_>, Vec<_>) =
        pieces.into_iter().partition(|piece| piece.inline && email.is_html);
    let kind = if email.is_html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
    let mut shown = vec![Part::text(kind, &email.body)];
    shown.extend(related.into_iter().map(|piece| piece.part));
    let mut ways = Vec::new();
    if !email.text_body.is_empty() {
        ways.push(Part::text("text/plain; charset=utf-8", &email.text_body));
    }
    // RFC 2387 asks for the type of the root.
    ways.push(Part::joined("related", ";\r\n type=\"text/html\"", shown));
    let (way, copy) = invitation.map(Invitation::into_parts).unzip();
    ways.extend(way);
    let mut whole = vec![Part::joined("alternative", "", ways)];
    whole.extend(mixed.into_iter().map(|piece| piece.part));
    whole.extend(copy);
    Part::joined("mixed", "", whole)
}

/// Writes a message of this header and these parts. The boundaries are derived from `seed`.
///
/// # Errors
/// What cannot travel in spite of all checks.
pub(super) fn write(mut head: Head, root: Part, seed: &str) -> Result<Letter, Problem> {
    head.field("MIME-Version", "1.0");
    // A mail of one part has no boundary.
    let stem = if matches!(root, Part::Multi(..)) { stem(&root, seed) } else { String::new() };
    let mut writer = Writer { stem, ..Writer::default() };
    let (fields, body) = writer.open(root);
    writer.body(body);
    writer.cut();
    Letter::new(head.into_text() + &fields, writer.segments)
}

/// What the boundaries begin with. Neither base64 nor quoted-printable can hold `=_`; what travels as it is can, and is
/// looked through, so that no content ends its own part.
fn stem(root: &Part, seed: &str) -> String {
    let mut salt = 0_u32;
    loop {
        let digest = digest::of(format!("{salt} {seed}").as_bytes());
        let stem = format!("=_{}", digest::hex(&digest[..STEM_BYTES]));
        if !root.holds(stem.as_bytes()) {
            return stem;
        }
        salt += 1;
    }
}

/// A body as it is written.
#[derive(Default)]
struct Writer {
    stem: String,
    boundaries: usize,
    segments: Vec<Segment>,
    text: String,
}

/// What follows a part's fields.
enum Body {
    Content(Encoding, Bytes),
    Parts(String, Vec<Part>),
}

impl Writer {
    /// A part's fields, and what follows them.
    fn open(&mut self, part: Part) -> (String, Body) {
        match part {
            Part::Leaf(head, encoding, content) => (head.into_text(), Body::Content(encoding, content)),
            Part::Multi(kind, says, parts) => {
                let boundary = format!("{}_{}", self.stem, self.boundaries);
                self.boundaries += 1;
                let mut head = Head::new();
                head.field("Content-Type", &format!("multipart/{kind}{says};\r\n boundary=\"{boundary}\""));
                (head.into_text(), Body::Parts(boundary, parts))
            }
        }
    }

    fn body(&mut self, body: Body) {
        match body {
            Body::Content(Encoding::Base64, content) => {
                self.cut();
                self.segments.push(Segment::Base64(content));
            }
            Body::Content(_, content) => self.add(content),
            Body::Parts(boundary, parts) => {
                for part in parts {
                    self.delimiter(&boundary, "");
                    let (fields, body) = self.open(part);
                    self.text.push_str(&fields);
                    self.text.push_str("\r\n");
                    self.body(body);
                }
                self.delimiter(&boundary, "--");
                self.text.push_str("\r\n");
            }
        }
    }

    /// A delimiter and the line end before it, which is its own: what is before it may end with one too.
    fn delimiter(&mut self, boundary: &str, end: &str) {
        self.text.push_str("\r\n--");
        self.text.push_str(boundary);
        self.text.push_str(end);
        if end.is_empty() {
            self.text.push_str("\r\n");
        }
    }

    /// Adds content that is written. What has nothing before it to be gathered with is not copied.
    fn add(&mut self, content: Bytes) {
        let is_short = content.len() < GATHERED_BYTES && !self.text.is_empty();
        match is_short.then(|| std::str::from_utf8(&content)) {
            Some(Ok(text)) => self.text.push_str(text),
            _ => {
                self.cut();
                self.segments.push(Segment::Text(content));
            }
        }
    }

    /// Ends the text that is being gathered.
    fn cut(&mut self) {
        if !self.text.is_empty() {
            self.segments.push(Segment::Text(Bytes::from(std::mem::take(&mut self.text))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::attachments::pieces;
    use crate::message::fields::Problems;
    use postern_proto::mail::v1::{Attachment, ContentTransferEncoding};

    fn letter(email: &Email) -> Letter {
        let mut problems = Problems::default();
        let pieces = pieces(&email.attachments, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        write(Head::new(), of(email, None, pieces), "seed").unwrap()
    }

    #[test]
    fn the_bytes_of_attachments_are_shared_and_not_copied() {
        for encoding in [ContentTransferEncoding::Base64, ContentTransferEncoding::EightBit] {
            let data = Bytes::from("some line\r\n".repeat(10_000));
            let email = Email {
                attachments: vec![Attachment {
                    file_name: "a".into(),
                    content_data: data.clone(),
                    content_type: "text/plain".into(),
                    content_transfer_encoding: encoding.into(),
                    ..Attachment::default()
                }],
                ..Email::default()
            };
            let letter = letter(&email);
            drop(email);
            assert!(!data.is_unique(), "the letter holds the same bytes");
            assert!(letter.size() > data.len() as u64);
            drop(letter);
            assert!(data.is_unique());
        }
    }
}
