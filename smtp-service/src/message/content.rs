//! Bytes that came in pieces and are never joined: an attachment's content, and what it may travel as (RFC 2045,
//! section 6).

use bytes::Bytes;
use memchr::memmem;
use postern_proto::mail::v1::ContentTransferEncoding;

use super::lines::{Lines, Problem};

/// Some bytes, in pieces that are shared and not copied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pieces: Vec<Bytes>,
    length: usize,
}

impl From<Bytes> for Content {
    fn from(piece: Bytes) -> Self {
        let length = piece.len();
        Self { pieces: vec![piece], length }
    }
}

impl FromIterator<Bytes> for Content {
    fn from_iter<T: IntoIterator<Item = Bytes>>(pieces: T) -> Self {
        let pieces: Vec<Bytes> = pieces.into_iter().collect();
        let length = pieces.iter().map(Bytes::len).sum();
        Self { pieces, length }
    }
}

impl Content {
    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The pieces.
    pub(super) fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Whether all of it is ASCII.
    pub(super) fn is_ascii(&self) -> bool {
        self.pieces.iter().all(|piece| piece.is_ascii())
    }

    /// Whether it holds this text, within a piece or across two of them.
    pub(super) fn holds(&self, text: &[u8]) -> bool {
        let finder = memmem::Finder::new(text);
        let keep = text.len().saturating_sub(1);
        let mut seam: Vec<u8> = Vec::new();
        for piece in &self.pieces {
            if finder.find(piece).is_some() {
                return true;
            }
            seam.extend_from_slice(&piece[..piece.len().min(keep)]);
            if finder.find(&seam).is_some() {
                return true;
            }
            if piece.len() >= keep {
                seam.clear();
                seam.extend_from_slice(&piece[piece.len() - keep..]);
            } else {
                seam.drain(..seam.len().saturating_sub(keep));
            }
        }
        false
    }

    /// Whether it is lines that can travel as they are.
    fn check_lines(&self, ascii_only: bool) -> Result<(), &'static str> {
        let mut lines = Lines::default();
        let read = self.pieces.iter().try_for_each(|piece| lines.read(piece)).and_then(|()| lines.end());
        read.map_err(|problem| match problem {
            Problem::TooLong => {
                "the content has a line of more than 998 octets: choose base64 or quoted-printable"
            }
            Problem::Bare => "the content has a NUL, or a CR or LF that is no CRLF: choose base64",
        })?;
        if ascii_only && !self.is_ascii() {
            return Err("the content is not US-ASCII: choose base64, quoted-printable or 8bit");
        }
        Ok(())
    }

    /// The encoding in force where a caller asked for this one.
    ///
    /// # Errors
    /// Why the content cannot travel so.
    pub(super) fn encoding(
        &self,
        asked: ContentTransferEncoding,
        media_type: &str,
    ) -> Result<Encoding, &'static str> {
        let is_message = media_type.trim_start().to_ascii_lowercase().starts_with("message/");
        match asked {
            // RFC 2046, section 5.2.1: a message within a message travels as it is.
            ContentTransferEncoding::Unspecified if is_message && self.check_lines(true).is_ok() => {
                Ok(Encoding::SevenBit)
            }
            ContentTransferEncoding::Unspecified if is_message && self.check_lines(false).is_ok() => {
                Ok(Encoding::EightBit)
            }
            ContentTransferEncoding::Unspecified | ContentTransferEncoding::Base64 => Ok(Encoding::Base64),
            ContentTransferEncoding::QuotedPrintable => Ok(Encoding::QuotedPrintable),
            ContentTransferEncoding::SevenBit => self.check_lines(true).map(|()| Encoding::SevenBit),
            ContentTransferEncoding::EightBit => self.check_lines(false).map(|()| Encoding::EightBit),
        }
    }
}

/// How content is written in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Base64.
    Base64,
    /// Quoted-printable.
    QuotedPrintable,
    /// As it is, ASCII.
    SevenBit,
    /// As it is.
    EightBit,
}

impl Encoding {
    /// Its name in Content-Transfer-Encoding.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::QuotedPrintable => "quoted-printable",
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: &[u8]) -> Content {
        Bytes::copy_from_slice(bytes).into()
    }

    #[test]
    fn content_travels_as_it_is_only_where_it_can() {
        assert_eq!(content(b"a\r\nb\r\n").check_lines(true), Ok(()));
        assert!(content("ü\r\n".as_bytes()).check_lines(true).is_err());
        assert_eq!(content("ü\r\n".as_bytes()).check_lines(false), Ok(()));
        for wrong in [&b"a\nb"[..], b"a\rb", b"a\0b", b"\r\r\n", b"a\r"] {
            assert!(content(wrong).check_lines(false).is_err(), "{wrong:?}");
        }
        assert!(content(&[b'a'; 998]).check_lines(true).is_ok());
        assert!(content(&[b'a'; 999]).check_lines(true).is_err());
    }

    #[test]
    fn a_text_is_found_across_pieces() {
        let text = b"some boundary here";
        for size in 1..=text.len() {
            let pieces: Content = text.chunks(size).map(Bytes::copy_from_slice).collect();
            assert_eq!(pieces.len(), text.len());
            assert!(pieces.holds(b"boundary") && pieces.holds(b"so") && pieces.holds(b"here"), "{size}");
            assert!(!pieces.holds(b"boundaryhere") && !pieces.holds(b"soome"), "{size}");
        }
        assert!(!Content::default().holds(b"a"));
    }
}
