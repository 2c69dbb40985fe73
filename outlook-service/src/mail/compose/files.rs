//! The attachments of a mail to send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_proto::mail::v1::{Attachment, ContentTransferEncoding, LargeAttachment};
use serde_json::{Value, json};

use super::Letter;

use crate::error::Problems;

/// The most attachments of a mail: what Exchange takes.
const MAX_FILES: usize = 250;
/// The most bytes of an attachment (concepts: outlook-large-attachments).
const MAX_FILE: i64 = 150 * 1024 * 1024;

/// What is checked of an attachment, however its bytes come.
struct Named<'a> {
    file_name: &'a str,
    content_id: &'a str,
    content_type: &'a str,
    encoding: i32,
}

/// Says what is wrong with the attachments, if anything.
pub(super) fn check(letter: &Letter<'_>, problems: &mut Problems) {
    let small = &letter.email.attachments;
    let (large_path, large) = letter.large;
    if small.len() + large.len() > MAX_FILES {
        let path = if large.is_empty() { format!("{}.attachments", letter.path) } else { large_path.into() };
        problems.push((path, format!("expected at most {MAX_FILES} attachments in all")));
        return;
    }
    for (index, file) in small.iter().enumerate() {
        let path = format!("{}.attachments[{index}]", letter.path);
        let empty = file.content_data.is_empty().then(|| ("content_data", "is needed".to_owned()));
        let named = Named {
            file_name: &file.file_name,
            content_id: &file.content_id,
            content_type: &file.content_type,
            encoding: file.content_transfer_encoding,
        };
        check_one(&path, &named, empty, problems);
    }
    for (index, file) in large.iter().enumerate() {
        let path = format!("{large_path}[{index}]");
        let wrong = !(1..=MAX_FILE).contains(&file.size);
        let wrong = wrong.then(|| ("size", format!("expected 1 to {MAX_FILE} bytes")));
        let named = Named {
            file_name: &file.file_name,
            content_id: &file.content_id,
            content_type: &file.content_type,
            encoding: file.content_transfer_encoding,
        };
        check_one(&path, &named, wrong, problems);
    }
}

fn check_one(path: &str, file: &Named<'_>, wrong: Option<(&str, String)>, problems: &mut Problems) {
    let mut problem = |field: &str, text: &str| problems.push((format!("{path}.{field}"), text.to_owned()));
    let broken = |text: &str| text.chars().any(char::is_control);
    if file.file_name.is_empty() && file.content_id.is_empty() {
        problem("file_name", "is needed where there is no content_id");
    }
    if broken(file.file_name) {
        problem("file_name", "holds a control character");
    }
    if broken(file.content_id) || file.content_id.contains(['<', '>', ' ']) {
        problem("content_id", "expected a Content-ID without angle brackets");
    }
    if let Some((field, text)) = wrong {
        problem(field, &text);
    }
    if !is_media_type(file.content_type) {
        problem("content_type", "expected a media type such as image/png");
    }
    if ContentTransferEncoding::try_from(file.encoding).is_err() {
        problem("content_transfer_encoding", "is no encoding");
    }
}

/// Whether a text is a media type (RFC 2045, section 5.1): two tokens, and perhaps parameters.
fn is_media_type(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c))
    };
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    let plain = parameters.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    kind.trim().split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype)) && plain
}

/// A file with its bytes, as Graph wants it.
pub(in crate::mail) fn file(attachment: &Attachment) -> Value {
    let mut file = json!({
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": name(&attachment.file_name, &attachment.content_id),
        "contentType": attachment.content_type,
        "contentBytes": STANDARD.encode(&attachment.content_data),
    });
    if !attachment.content_id.is_empty() {
        file["isInline"] = true.into();
        file["contentId"] = attachment.content_id.clone().into();
    }
    file
}

/// A file whose bytes are uploaded, as Graph wants it.
pub(in crate::mail) fn item(file: &LargeAttachment) -> Value {
    let mut item = json!({
        "attachmentType": "file",
        "name": name(&file.file_name, &file.content_id),
        "contentType": file.content_type,
        "size": file.size,
    });
    if !file.content_id.is_empty() {
        item["isInline"] = true.into();
        item["contentId"] = file.content_id.clone().into();
    }
    json!({"AttachmentItem": item})
}

/// The name that an attachment is known by in its message.
pub(in crate::mail) fn name<'a>(file_name: &'a str, content_id: &'a str) -> &'a str {
    if file_name.is_empty() { content_id } else { file_name }
}
