//! The attachments of a message: listed, and their content fetched as far as it fits.

use futures_util::{StreamExt as _, stream};
use postern_proto::mail::v1::ReceivedAttachment;

use crate::graph::model::{Attachment, Page};
use crate::graph::{Failure, Mailbox, with_options};

/// What is asked of each; its content is fetched apart, once it is known to fit.
const SELECT: &str = "id,name,contentType,size,isInline,microsoft.graph.fileAttachment/contentId";
/// How many pages of attachments are read.
const MAX_PAGES: usize = 10;
/// How many attachments are fetched at once. The mailbox's gate has the last word.
const AT_ONCE: usize = 4;

/// Lists the attachments of a message, without content. None where the message is gone.
///
/// # Errors
/// What Graph answered.
pub(crate) async fn list(mailbox: &Mailbox, message: &str) -> Result<Vec<ReceivedAttachment>, Failure> {
    let mut url = with_options(mailbox.url(&["messages", message, "attachments"]), &[("$select", SELECT)]);
    let mut listed = Vec::new();
    for _ in 0..MAX_PAGES {
        let page: Page<Attachment> = match mailbox.get(url, None).await {
            Ok(read) => read.value,
            Err(failure) if failure.status() == Some(404) => break,
            Err(failure) => return Err(failure),
        };
        listed.extend(page.value.into_iter().map(shape));
        match page.next {
            Some(next) => url = mailbox.link(&next)?,
            None => break,
        }
    }
    Ok(listed)
}

/// An attachment that holds no content yet. What is no file has none that could be fetched as bytes of one.
fn shape(attachment: Attachment) -> ReceivedAttachment {
    let id = attachment.content_id.unwrap_or_default();
    ReceivedAttachment {
        id: attachment.id,
        file_name: attachment.name.unwrap_or_default(),
        content_type: attachment.content_type.unwrap_or_default(),
        // -1: not a file, see `fetch`.
        size: if is_file(attachment.kind.as_deref()) { attachment.size.unwrap_or_default() } else { -1 },
        is_inline: attachment.is_inline.unwrap_or_default(),
        content_id: id.trim_start_matches('<').trim_end_matches('>').to_owned(),
        content_data: bytes::Bytes::new(),
        content_omitted: true,
    }
}

fn is_file(kind: Option<&str>) -> bool {
    kind.is_none_or(|kind| kind.to_ascii_lowercase().ends_with("fileattachment"))
}

/// Fetches the content of those attachments that fit into `room` bytes, in order. Gives how many bytes that took.
///
/// # Errors
/// What Graph answered.
pub(crate) async fn fetch(
    mailbox: &Mailbox,
    message: &str,
    listed: &mut [ReceivedAttachment],
    room: usize,
) -> Result<usize, Failure> {
    let mut planned = 0;
    let fitting: Vec<(usize, String)> = listed
        .iter()
        .enumerate()
        .filter(|(_, attachment)| match usize::try_from(attachment.size) {
            Ok(size) if planned + size <= room => {
                planned += size;
                true
            }
            _ => false,
        })
        .map(|(index, attachment)| (index, attachment.id.clone()))
        .collect();
    let contents = fitting.into_iter().map(|(index, id)| async move {
        let url = mailbox.url(&["messages", message, "attachments", &id, "$value"]);
        (index, mailbox.bytes(url).await)
    });
    let mut contents = stream::iter(contents).buffered(AT_ONCE);
    let mut taken = 0;
    while let Some((index, content)) = contents.next().await {
        let content = match content {
            Ok(content) => content,
            Err(failure) if matches!(failure.status(), Some(404 | 405)) => continue,
            Err(failure) => return Err(failure),
        };
        // The size that Graph tells need not be that of the bytes.
        if let Some(attachment) = listed.get_mut(index)
            && taken + content.len() <= room
        {
            taken += content.len();
            attachment.content_data = content.into();
            attachment.content_omitted = false;
        }
    }
    Ok(taken)
}
