//! Texts of a message: their line ends, and how they are written so that they travel.

use std::borrow::Cow;

use bytes::Bytes;

use super::content::Encoding;
use super::lines::Lines;

/// The longest line of quoted-printable without its soft break (RFC 2045, section 6.7).
const QUOTED_LINE_CHARS: usize = 75;

/// A text as it is written: 7bit where it is plain, else the shorter of quoted-printable and base64.
pub(super) fn written(text: &str) -> (Encoding, Bytes) {
    let text = with_crlf(text);
    let strange = strange_in(text.as_bytes());
    // The lines of one that is borrowed, as most are, have been read already.
    let fits = || matches!(text, Cow::Borrowed(_)) || Lines::default().read(text.as_bytes()).is_ok();
    if strange == 0 && fits() {
        return (Encoding::SevenBit, Bytes::from(text.into_owned().into_bytes()));
    }
    // Quoted-printable makes three characters of each that is strange, base64 four of each three.
    if strange.saturating_mul(6) <= text.len() {
        return (Encoding::QuotedPrintable, quoted_printable(text.as_bytes()));
    }
    (Encoding::Base64, Bytes::from(text.into_owned().into_bytes()))
}

/// How many bytes of a text do not travel as they are. Counted in stretches whose count fits a byte: so the compiler
/// counts many at once, and a mail's text is looked through in a fraction of a microsecond.
fn strange_in(text: &[u8]) -> usize {
    let is_strange = |byte: &u8| !matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t');
    text.chunks(usize::from(u8::MAX))
        .map(|bytes| usize::from(bytes.iter().fold(0_u8, |count, byte| count + u8::from(is_strange(byte)))))
        .sum()
}

/// The text with every line end, CR, LF or CRLF, as CRLF.
pub(super) fn with_crlf(text: &str) -> Cow<'_, str> {
    if Lines::default().read(text.as_bytes()).is_ok() && !text.ends_with('\r') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push_str("\r\n");
            }
            '\n' => out.push_str("\r\n"),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Content in quoted-printable (RFC 2045, section 6.7), in memory of exactly its size: what grows in steps is for a
/// moment there twice. CRLF is a line end; every other byte comes back as it was.
pub(super) fn quoted_printable(content: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(quoted_size(content));
    quote(content, |text| out.extend_from_slice(text));
    out.into()
}

/// How many bytes content has in quoted-printable.
pub(crate) fn quoted_size(content: &[u8]) -> usize {
    let mut size = 0;
    quote(content, |text| size += text.len());
    size
}

fn quote(content: &[u8], mut put: impl FnMut(&[u8])) {
    let (mut column, mut bytes) = (0, content.iter().copied().peekable());
    while let Some(byte) = bytes.next() {
        if byte == b'\r' && bytes.next_if_eq(&b'\n').is_some() {
            put(b"\r\n");
            column = 0;
            continue;
        }
        let literal = match byte {
            // At the end of a line they would be lost on the way.
            b' ' | b'\t' => !matches!(bytes.peek(), None | Some(b'\r')),
            b'=' => false,
            byte => byte.is_ascii_graphic(),
        };
        let width = if literal { 1 } else { 3 };
        if column + width > QUOTED_LINE_CHARS {
            put(b"=\r\n");
            column = 0;
        }
        if literal {
            put(&[byte]);
        } else {
            put(&[b'=', hex(byte >> 4), hex(byte & 15)]);
        }
        column += width;
    }
}

fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> String {
        let quoted = quoted_printable(text.as_bytes());
        assert_eq!(quoted.len(), quoted_size(text.as_bytes()));
        String::from_utf8(quoted.into()).unwrap()
    }

    #[test]
    fn every_line_end_of_a_text_becomes_crlf() {
        assert_eq!(with_crlf("a\rb\nc\r\nd\r\r\n\n"), "a\r\nb\r\nc\r\nd\r\n\r\n\r\n");
        assert_eq!(with_crlf("a\r"), "a\r\n");
        assert!(matches!(with_crlf("a\r\nb"), Cow::Borrowed(_)));
    }

    #[test]
    fn quoted_printable_keeps_lines_short_and_ends_of_lines_safe() {
        assert_eq!(quoted("a=b \r\nc\t\r\n\r\n\n \r."), "a=3Db=20\r\nc=09\r\n\r\n=0A=20=0D.");
        assert_eq!(quoted("ü "), "=C3=BC=20");
        let long = quoted(&"xyü".repeat(100));
        assert!(long.lines().all(|line| line.len() <= 76) && long.contains("=\r\n"));
        assert_eq!(long.replace("=\r\n", ""), "xy=C3=BC".repeat(100));
    }

    #[test]
    fn every_strange_byte_is_counted() {
        for strange in [0, 1, 254, 255, 256, 511, 1_000] {
            let text = ["plain\t\r\n~ ".repeat(100), "\u{7}".repeat(strange)].concat();
            assert_eq!(strange_in(text.as_bytes()), strange);
        }
        assert_eq!(strange_in("é\u{7f}".as_bytes()), 3);
    }

    #[test]
    fn a_text_is_written_in_the_way_that_suits_it() {
        for (text, expected) in [
            ("plain\ttext\n", Encoding::SevenBit),
            ("", Encoding::SevenBit),
            (&*"x".repeat(999), Encoding::QuotedPrintable),
            ("mostly plain, with one ü in it", Encoding::QuotedPrintable),
            ("日本語", Encoding::Base64),
            ("a bell \u{7} in a line of text", Encoding::QuotedPrintable),
        ] {
            assert_eq!(written(text).0, expected, "{text}");
        }
    }
}
