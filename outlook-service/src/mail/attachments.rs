//! The attachments of a message: listed, and their content fetched as far as it fits.

use futures_util::{StreamExt as _, stream};
use postern_proto::mail::v1::{AttachmentKind, ReceivedAttachment};

use crate::graph::model::{Attachment, Page};
use crate::graph::{Failure, Mailbox, with_options};

/// What is asked of each; its content is fetched apart, once it is known to fit.
const SELECT: &str = "id,name,contentType,size,isInline,microsoft.graph.fileAttachment/contentId";
/// How many pages of attachments are read: a mail has at most 250, and a page of Graph's no fewer than ten.
const MAX_PAGES: usize = 30;
/// What content takes beside its bytes: its tag and length, and what the lengths around it grow by.
const AROUND: usize = 8;
/// How many attachments are fetched at once. The mailbox's gate has the last word.
const AT_ONCE: usize = 4;

/// Lists the attachments of a message, without content. None where the message is gone.
///
/// # Errors
/// What Graph answered.
pub(crate) async fn list(mailbox: &Mailbox, message: &str) -> Result<Vec<Attachment>, Failure> {
    let mut url = with_options(mailbox.url(&["messages", message, "attachments"]), &[("$select", SELECT)]);
    let mut listed = Vec::new();
    for _ in 0..MAX_PAGES {
        let page: Page<Attachment> = match mailbox.read(url).await {
            Ok(page) => page,
            Err(failure) if failure.is_gone() => break,
            Err(failure) => return Err(failure),
        };
        listed.extend(page.value);
        match page.next {
            Some(next) => url = mailbox.link(&next)?,
            None => break,
        }
    }
    Ok(listed)
}

/// The attachments as the contract has them, without content yet.
pub(crate) fn shown(listed: &[Attachment]) -> Vec<ReceivedAttachment> {
    listed.iter().map(show).collect()
}

fn show(attachment: &Attachment) -> ReceivedAttachment {
    let content_id = attachment.content_id.as_deref().unwrap_or_default();
    ReceivedAttachment {
        id: attachment.id.clone(),
        file_name: attachment.name.clone().unwrap_or_default(),
        content_type: attachment.content_type.clone().unwrap_or_default(),
        size: attachment.size.unwrap_or_default(),
        is_inline: attachment.is_inline.unwrap_or_default(),
        content_id: content_id.trim_start_matches('<').trim_end_matches('>').to_owned(),
        content_data: bytes::Bytes::new(),
        content_omitted: true,
        kind: kind(attachment).into(),
        source_url: attachment.source_url.clone().unwrap_or_default(),
    }
}

/// One attachment of a message, without content.
///
/// # Errors
/// What Graph answered.
pub(super) async fn one(mailbox: &Mailbox, message: &str, id: &str) -> Result<ReceivedAttachment, Failure> {
    let url = mailbox.url(&["messages", message, "attachments", id]);
    let read: Attachment = mailbox.read(with_options(url, &[("$select", SELECT)])).await?;
    let mut shown = show(&read);
    tell_source(mailbox, message, &mut shown).await?;
    Ok(shown)
}

/// Says where the file of an attached link lies, if Graph says so: a link has no content that asking for all of it
/// would fetch, and what it leads to cannot be selected.
async fn tell_source(
    mailbox: &Mailbox,
    message: &str,
    shown: &mut ReceivedAttachment,
) -> Result<(), Failure> {
    if shown.kind() != AttachmentKind::Reference {
        return Ok(());
    }
    match mailbox.read::<Attachment>(mailbox.url(&["messages", message, "attachments", &shown.id])).await {
        Ok(read) => shown.source_url = read.source_url.unwrap_or_default(),
        Err(failure) if failure.is_gone() => {}
        Err(failure) => return Err(failure),
    }
    Ok(())
}

fn kind(attachment: &Attachment) -> AttachmentKind {
    let kind = attachment.kind.as_deref().unwrap_or("fileAttachment").to_ascii_lowercase();
    match kind.rsplit('.').next() {
        Some("fileattachment") => AttachmentKind::File,
        Some("itemattachment") => AttachmentKind::Item,
        Some("referenceattachment") => AttachmentKind::Reference,
        _ => AttachmentKind::Unspecified,
    }
}

/// How many bytes an attachment holds, where it is a file: items and links have no bytes of their own.
fn file_size(attachment: &Attachment) -> Option<usize> {
    let size = attachment.size.unwrap_or_default();
    if kind(attachment) == AttachmentKind::File { usize::try_from(size).ok() } else { None }
}

/// Fetches the content of those attachments that fit into `room` bytes, in order, into those shown. Gives how many
/// bytes that took.
///
/// # Errors
/// What Graph answered.
pub(crate) async fn fetch(
    mailbox: &Mailbox,
    message: &str,
    listed: &[Attachment],
    shown: &mut [ReceivedAttachment],
    room: usize,
) -> Result<usize, Failure> {
    let mut planned = 0;
    let mut fits = |attachment: &Attachment| match file_size(attachment) {
        Some(size) if planned + size + AROUND <= room => {
            planned += size + AROUND;
            true
        }
        _ => false,
    };
    let fitting: Vec<(usize, String)> = listed
        .iter()
        .enumerate()
        .filter(|(_, attachment)| fits(attachment))
        .map(|(index, attachment)| (index, attachment.id.clone()))
        .collect();
    let contents = fitting.into_iter().map(|(index, id)| async move {
        let url = mailbox.url(&["messages", message, "attachments", &id, "$value"]);
        (index, mailbox.bytes(url).await)
    });
    let mut contents = stream::iter(contents).buffered(AT_ONCE);
    let mut taken = 0;
    for attachment in shown.iter_mut() {
        tell_source(mailbox, message, attachment).await?;
        taken += attachment.source_url.len();
    }
    while let Some((index, content)) = contents.next().await {
        let content = match content {
            Ok(content) => content,
            Err(failure) if failure.is_gone() || failure.status() == Some(405) => continue,
            Err(failure) => return Err(failure),
        };
        // The size that Graph tells need not be that of the bytes.
        if let Some(attachment) = shown.get_mut(index)
            && taken + content.len() + AROUND <= room
        {
            taken += content.len() + AROUND;
            attachment.content_data = content.into();
            attachment.content_omitted = false;
        }
    }
    Ok(taken)
}
