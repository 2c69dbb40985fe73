//! The message's MIME parts (RFC 2045, RFC 2046, RFC 2387): the body, what it shows in place, and what is attached.

use lettre::error::Error as EmailError;
use lettre::message::header::{
    ContentDisposition, ContentId, ContentTransferEncoding as Encoding, ContentType,
};
use lettre::message::{Body, Message, MessageBuilder, MultiPart, MultiPartBuilder, SinglePart};
use postern_proto::mail::v1::{Attachment, ContentTransferEncoding, Email};

use super::fields::{Problems, check_text};

/// How long a file's name may be.
const MAX_FILE_NAME_CHARS: usize = 255;
/// How long a Content-ID may be.
const MAX_CONTENT_ID_CHARS: usize = 255;
/// How long a media type with its parameters may be.
const MAX_CONTENT_TYPE_CHARS: usize = 255;
/// The most attachments of one mail.
const MAX_ATTACHMENTS: usize = 250;
/// The longest line of content that travels as it is (RFC 2045, section 2.7).
const MAX_LINE_BYTES: usize = 998;

/// An attachment, written as a part.
pub(super) struct Piece {
    part: SinglePart,
    inline: bool,
    /// Whether it has octets outside ASCII.
    pub(super) eight_bit: bool,
}

/// Writes all attachments; problems are told by field.
pub(super) fn attachments(attachments: &[Attachment], problems: &mut Problems) -> Vec<Piece> {
    if attachments.len() > MAX_ATTACHMENTS {
        problems.add("email.attachments", format!("are more than {MAX_ATTACHMENTS}"));
        return Vec::new();
    }
    let pieces = attachments.iter().enumerate();
    pieces
        .filter_map(|(at, attachment)| piece(attachment, &format!("email.attachments[{at}]"), problems))
        .collect()
}

/// Puts body and attachments together.
pub(super) fn assemble(
    builder: MessageBuilder,
    email: &Email,
    attachments: Vec<Piece>,
) -> Result<Message, EmailError> {
    let text = body(&email.body, email.is_html);
    // A Content-ID is referred to by HTML; beside plain text an inline part is only an attachment to be shown.
    let (related, mixed): (Vec<_>, Vec<_>) =
        attachments.into_iter().partition(|piece| piece.inline && email.is_html);
    let joined = |part: MultiPart, pieces: Vec<Piece>| {
        pieces.into_iter().fold(part, |whole, piece| whole.singlepart(piece.part))
    };
    match (related.is_empty(), mixed.is_empty()) {
        (true, true) => builder.singlepart(text),
        (true, false) => builder.multipart(joined(MultiPart::mixed().singlepart(text), mixed)),
        (false, true) => builder.multipart(joined(related_to_html().singlepart(text), related)),
        (false, false) => {
            let related = joined(related_to_html().singlepart(text), related);
            builder.multipart(joined(MultiPart::mixed().multipart(related), mixed))
        }
    }
}

/// A multipart/related that says what its root is, as RFC 2387 asks.
fn related_to_html() -> MultiPartBuilder {
    let boundary: String = std::iter::repeat_with(fastrand::alphanumeric).take(40).collect();
    let related = format!("multipart/related; type=\"text/html\"; boundary=\"{boundary}\"");
    let builder = MultiPart::builder();
    match ContentType::parse(&related) {
        Ok(content_type) => builder.header(content_type),
        Err(_) => builder.kind(lettre::message::MultiPartKind::Related),
    }
}

/// The body as a part: 7bit where it is plain, else the shorter of quoted-printable and base64.
fn body(text: &str, is_html: bool) -> SinglePart {
    let content_type = if is_html { ContentType::TEXT_HTML } else { ContentType::TEXT_PLAIN };
    let builder = SinglePart::builder().header(content_type);
    let text = with_crlf(text);
    if text.chars().any(|c| c.is_ascii_control() && !matches!(c, '\r' | '\n' | '\t')) {
        // Such as NUL or ESC: ASCII, and still nothing that travels as it is.
        if let Ok(body) = Body::new_with_encoding(text.clone(), Encoding::QuotedPrintable) {
            return builder.body(body);
        }
    }
    builder.body(text)
}

/// The text with every line end, CR, LF or CRLF, as CRLF.
fn with_crlf(text: &str) -> String {
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
    out
}

fn piece(attachment: &Attachment, path: &str, problems: &mut Problems) -> Option<Piece> {
    let mut own = Problems::default();
    let Attachment { file_name, content_id, content_data, content_type, content_transfer_encoding } =
        attachment;
    if file_name.is_empty() && content_id.is_empty() {
        own.add(format!("{path}.file_name"), "is needed, unless content_id is given");
    }
    check_text(&format!("{path}.file_name"), file_name, MAX_FILE_NAME_CHARS, &mut own);
    if content_id.chars().count() > MAX_CONTENT_ID_CHARS
        || !content_id.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>'))
    {
        let problem =
            format!("expected at most {MAX_CONTENT_ID_CHARS} visible ASCII characters, no angle brackets");
        own.add(format!("{path}.content_id"), problem);
    }
    if content_data.is_empty() {
        own.add(format!("{path}.content_data"), "is needed");
    }
    let media =
        media_type(content_type).map_err(|problem| own.add(format!("{path}.content_type"), problem)).ok();
    let encoding = ContentTransferEncoding::try_from(*content_transfer_encoding)
        .map_err(|_| "is no encoding")
        .and_then(|asked| choose_encoding(asked, content_type, content_data))
        .map_err(|problem| own.add(format!("{path}.content_transfer_encoding"), problem))
        .ok();
    let (Some(media), Some(encoding), true) = (media, encoding, own.is_empty()) else {
        problems.append(own);
        return None;
    };

    let disposition = match (content_id.is_empty(), file_name.is_empty()) {
        (true, _) => ContentDisposition::attachment(file_name),
        (false, true) => ContentDisposition::inline(),
        (false, false) => ContentDisposition::inline_with_name(file_name),
    };
    let mut builder = SinglePart::builder().header(media).header(disposition);
    if !content_id.is_empty() {
        builder = builder.header(ContentId::from(format!("<{content_id}>")));
    }
    let body = match encoding {
        Encoding::SevenBit | Encoding::EightBit | Encoding::Binary => {
            Body::dangerous_pre_encoded(content_data.to_vec(), encoding)
        }
        // Any bytes can be written so: there is no error to tell.
        encoding => Body::new_with_encoding(content_data.to_vec(), encoding).ok()?,
    };
    let eight_bit = encoding == Encoding::EightBit && !content_data.is_ascii();
    Some(Piece { part: builder.body(body), inline: !content_id.is_empty(), eight_bit })
}

/// A media type (RFC 2045, section 5.1) of content that is one file.
fn media_type(text: &str) -> Result<ContentType, &'static str> {
    if text.is_empty() {
        return Err("is needed");
    }
    if text.len() > MAX_CONTENT_TYPE_CHARS || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err("expected a media type such as image/png, in visible ASCII");
    }
    let essence = text.split(';').next().unwrap_or_default().trim();
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    if !essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype)) {
        return Err("is no media type: expected one such as image/png");
    }
    if essence.to_ascii_lowercase().starts_with("multipart/") {
        return Err("a multipart is no file: expected the media type of one");
    }
    ContentType::parse(text).map_err(|_| "is no media type: expected one such as image/png")
}

/// How content is written: as asked where it can be, base64 where nothing is asked.
fn choose_encoding(
    asked: ContentTransferEncoding,
    media: &str,
    content: &[u8],
) -> Result<Encoding, &'static str> {
    let is_message = media.trim_start().to_ascii_lowercase().starts_with("message/");
    match asked {
        // RFC 2046, section 5.2.1: a message within a message travels as it is.
        ContentTransferEncoding::Unspecified if is_message && lines_of(content, true).is_ok() => {
            Ok(Encoding::SevenBit)
        }
        ContentTransferEncoding::Unspecified if is_message && lines_of(content, false).is_ok() => {
            Ok(Encoding::EightBit)
        }
        ContentTransferEncoding::Unspecified | ContentTransferEncoding::Base64 => Ok(Encoding::Base64),
        ContentTransferEncoding::QuotedPrintable => Ok(Encoding::QuotedPrintable),
        ContentTransferEncoding::SevenBit => lines_of(content, true).map(|()| Encoding::SevenBit),
        ContentTransferEncoding::EightBit => lines_of(content, false).map(|()| Encoding::EightBit),
    }
}

/// Whether content is lines that can travel as they are.
fn lines_of(content: &[u8], ascii_only: bool) -> Result<(), &'static str> {
    let mut rest = content;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let (line, next) = end.map_or((rest, &[][..]), |end| (&rest[..end], &rest[end + 2..]));
        if line.len() > MAX_LINE_BYTES {
            return Err("the content has a line of more than 998 octets: choose base64 or quoted-printable");
        }
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err("the content has a NUL, or a CR or LF that is no CRLF: choose base64");
        }
        if ascii_only && !line.is_ascii() {
            return Err("the content is not US-ASCII: choose base64, quoted-printable or 8bit");
        }
        rest = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_travels_as_it_is_only_where_it_can() {
        assert_eq!(lines_of(b"a\r\nb\r\n", true), Ok(()));
        assert!(lines_of("ü\r\n".as_bytes(), true).is_err());
        assert_eq!(lines_of("ü\r\n".as_bytes(), false), Ok(()));
        for wrong in [&b"a\nb"[..], b"a\rb", b"a\0b", b"\r\r\n"] {
            assert!(lines_of(wrong, false).is_err(), "{wrong:?}");
        }
        assert!(lines_of(&[b'a'; 998], true).is_ok());
        assert!(lines_of(&[b'a'; 999], true).is_err());
    }

    #[test]
    fn media_types_are_told_from_what_is_none() {
        for right in ["image/png", "text/plain; charset=utf-8", "application/vnd.ms-excel.sheet+xml"] {
            assert!(media_type(right).is_ok(), "{right}");
        }
        for wrong in
            ["", "png", "image/", "/png", "*/*", "image/png\r\nX: y", "multipart/mixed", "imagé/png", "a b/c"]
        {
            assert!(media_type(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_line_end_of_a_body_becomes_crlf() {
        assert_eq!(with_crlf("a\rb\nc\r\nd\r\r\n\n"), "a\r\nb\r\nc\r\nd\r\n\r\n\r\n");
    }
}
