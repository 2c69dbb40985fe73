//! How content is written in a message, and what content may be written so (RFC 2045, section 6).

use postern_proto::mail::v1::ContentTransferEncoding;

use super::lines::{Lines, Problem};

/// Whether content is lines that can travel as they are.
fn check_lines(content: &[u8], ascii_only: bool) -> Result<(), &'static str> {
    let mut lines = Lines::default();
    lines.read(content).and_then(|()| lines.end()).map_err(|problem| match problem {
        Problem::TooLong => {
            "the content has a line of more than 998 octets: choose base64 or quoted-printable"
        }
        Problem::Bare => "the content has a NUL, or a CR or LF that is no CRLF: choose base64",
    })?;
    if ascii_only && !content.is_ascii() {
        return Err("the content is not US-ASCII: choose base64, quoted-printable or 8bit");
    }
    Ok(())
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
    /// The encoding in force for content of this type where a caller asked for this one.
    ///
    /// # Errors
    /// Why the content cannot travel so.
    pub(super) fn of(
        content: &[u8],
        asked: ContentTransferEncoding,
        media_type: &str,
    ) -> Result<Self, &'static str> {
        let is_message = media_type.trim_start().to_ascii_lowercase().starts_with("message/");
        match asked {
            // RFC 2046, section 5.2.1: a message within a message travels as it is.
            ContentTransferEncoding::Unspecified if is_message && check_lines(content, true).is_ok() => {
                Ok(Self::SevenBit)
            }
            ContentTransferEncoding::Unspecified if is_message && check_lines(content, false).is_ok() => {
                Ok(Self::EightBit)
            }
            ContentTransferEncoding::Unspecified | ContentTransferEncoding::Base64 => Ok(Self::Base64),
            ContentTransferEncoding::QuotedPrintable => Ok(Self::QuotedPrintable),
            ContentTransferEncoding::SevenBit => check_lines(content, true).map(|()| Self::SevenBit),
            ContentTransferEncoding::EightBit => check_lines(content, false).map(|()| Self::EightBit),
        }
    }

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

    #[test]
    fn content_travels_as_it_is_only_where_it_can() {
        assert_eq!(check_lines(b"a\r\nb\r\n", true), Ok(()));
        assert!(check_lines("ü\r\n".as_bytes(), true).is_err());
        assert_eq!(check_lines("ü\r\n".as_bytes(), false), Ok(()));
        for wrong in [&b"a\nb"[..], b"a\rb", b"a\0b", b"\r\r\n", b"a\r"] {
            assert!(check_lines(wrong, false).is_err(), "{wrong:?}");
        }
        assert!(check_lines(&[b'a'; 998], true).is_ok());
        assert!(check_lines(&[b'a'; 999], true).is_err());
    }
}
