//! What is attached to a mail: checked field by field, and made a part each.

use lettre::message::header::ContentType;
use postern_proto::mail::v1::{Attachment, ContentTransferEncoding};

use super::content::Encoding;
use super::fields::{Problems, check_text};
use super::head::Head;
use super::text::quoted_printable;
use super::tree::Part;

/// How long a file's name may be.
const MAX_FILE_NAME_CHARS: usize = 255;
/// How long a Content-ID may be.
const MAX_CONTENT_ID_CHARS: usize = 255;
/// How long a media type with its parameters may be.
const MAX_CONTENT_TYPE_CHARS: usize = 255;
/// The most attachments of one mail, those that come in chunks among them.
pub(crate) const MAX_ATTACHMENTS: usize = 250;

/// An attachment as a part.
pub(super) struct Piece {
    pub(super) part: Part,
    /// Whether it has a Content-ID.
    pub(super) inline: bool,
    /// Whether it has octets outside ASCII.
    pub(super) eight_bit: bool,
}

/// Makes parts of all attachments; problems are told by field. Their bytes are shared.
pub(super) fn pieces(attachments: &[Attachment], problems: &mut Problems) -> Vec<Piece> {
    if attachments.len() > MAX_ATTACHMENTS {
        problems.add("email.attachments", format!("are more than {MAX_ATTACHMENTS}"));
        return Vec::new();
    }
    let numbered = attachments.iter().enumerate();
    numbered.filter_map(|(at, one)| piece(one, &format!("email.attachments[{at}]"), problems)).collect()
}

fn piece(attachment: &Attachment, path: &str, problems: &mut Problems) -> Option<Piece> {
    let mut own = Problems::default();
    let Attachment { file_name, content_id, content_data: content, content_type, .. } = attachment;
    if file_name.is_empty() && content_id.is_empty() {
        own.add(format!("{path}.file_name"), "is needed, unless content_id is given");
    }
    check_text(&format!("{path}.file_name"), file_name, MAX_FILE_NAME_CHARS, &mut own);
    if content_id.len() > MAX_CONTENT_ID_CHARS
        || !content_id.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>'))
    {
        let problem =
            format!("expected at most {MAX_CONTENT_ID_CHARS} visible ASCII characters, no angle brackets");
        own.add(format!("{path}.content_id"), problem);
    }
    if content.is_empty() {
        own.add(format!("{path}.content_data"), "is needed");
    }
    own.keep(&format!("{path}.content_type"), check_media_type(content_type));
    let asked = ContentTransferEncoding::try_from(attachment.content_transfer_encoding);
    let asked = asked.map_err(|_| "is no encoding");
    let chosen = asked.and_then(|asked| Encoding::of(content, asked, content_type));
    let chosen = own.keep(&format!("{path}.content_transfer_encoding"), chosen);
    let (Some(encoding), true) = (chosen, own.is_empty()) else {
        problems.append(own);
        return None;
    };

    let inline = !content_id.is_empty();
    let mut head = Head::new();
    head.field("Content-Type", content_type.trim());
    head.disposition(if inline { "inline" } else { "attachment" }, file_name);
    if inline {
        head.field("Content-ID", &format!("<{content_id}>"));
    }
    let eight_bit = encoding == Encoding::EightBit && !content.is_ascii();
    let content = match encoding {
        Encoding::QuotedPrintable => quoted_printable(content),
        _ => content.clone(),
    };
    Some(Piece { part: Part::leaf(head, encoding, content), inline, eight_bit })
}

impl Head {
    /// Content-Disposition (RFC 2183), with the file's name where it has one.
    pub(super) fn disposition(&mut self, kind: &str, file_name: &str) {
        let name =
            if file_name.is_empty() { String::new() } else { super::head::parameter("filename", file_name) };
        self.field("Content-Disposition", &format!("{kind}{name}"));
    }
}

/// Checks a media type (RFC 2045, section 5.1) of content that is one file.
fn check_media_type(text: &str) -> Result<(), &'static str> {
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
    ContentType::parse(text).map(|_| ()).map_err(|_| "is no media type: expected one such as image/png")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_told_from_what_is_none() {
        for right in ["image/png", "text/plain; charset=utf-8", "application/vnd.ms-excel.sheet+xml"] {
            assert!(check_media_type(right).is_ok(), "{right}");
        }
        for wrong in
            ["", "png", "image/", "/png", "*/*", "image/png\r\nX: y", "multipart/mixed", "imagé/png", "a b/c"]
        {
            assert!(check_media_type(wrong).is_err(), "{wrong:?}");
        }
    }
}
