//! SendLargeEmail: the mail first, then the bytes of its large attachments, passed on as they come.

use std::time::Duration;

use bytes::Bytes;
use postern_proto::mail::v1::{Attachment, AttachmentChunk, LargeAttachment};
use postern_proto::outlook::v1::send_large_email_request::Part;
use postern_proto::outlook::v1::{LargeEmail, SendLargeEmailRequest, SendLargeEmailResponse};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};

use super::compose::{self, Letter};
use super::send::complete;
use super::sending::{Begun, LARGE, Made, Sending};
use crate::error::Error;
use crate::once;
use crate::outlook::{Call, Outlook};

/// The most bytes of a chunk.
const MAX_CHUNK: usize = 256 * 1024;

/// Sends a mail whose attachments follow it.
pub(super) async fn send_large_email(
    outlook: &Outlook,
    call: &Call,
    stream: Streaming<SendLargeEmailRequest>,
    gone: &CancellationToken,
) -> Result<SendLargeEmailResponse, Error> {
    let mut parts = Parts { stream, silence: outlook.silence, until: None };
    let first = parts.next().await?.unwrap_or_default();
    let mark = once::mark(&first.request_id, &first);
    let SendLargeEmailRequest { request_id, part: Some(Part::Email(asked)), .. } = first else {
        return Err(Error::field("email", "is absent: expected the mail as the first message of the stream"));
    };
    let mailbox = outlook.mailbox(call, "email.mailbox", &asked.mailbox)?;
    parts.until = Some(mailbox.until);
    let LargeEmail { email, large_attachments, .. } = asked;
    let email = email.unwrap_or_default();
    let letter = Letter {
        path: "email.email",
        email: &email,
        request_id: &request_id,
        large: ("email.large_attachments", &large_attachments),
        own: mailbox.user.as_deref(),
    };
    let draft = compose::draft(&letter, &mark)?;
    let sending = Sending { mailbox: &mailbox, path: letter.path, mark, gone };
    let is_repeat = call.is_repeat && !request_id.is_empty();
    let (message_id, internet_message_id) = match sending.begin(&draft.message, is_repeat).await? {
        Begun::Sent(sent) => (sent.id, sent.internet_message_id),
        Begun::Draft(mut made) => {
            complete(&sending, &draft, &mut made).await?;
            if let Err(error) = follow(&sending, &mut made, &mut parts, &large_attachments).await {
                sending.discard(&made.id).await;
                return Err(error);
            }
            sending.send(made).await?
        }
    };
    Ok(SendLargeEmailResponse { message_id, internet_message_id })
}

/// Takes the attachments as they come, to the end of the stream.
async fn follow(
    sending: &Sending<'_>,
    made: &mut Made,
    parts: &mut Parts,
    files: &[LargeAttachment],
) -> Result<(), Error> {
    for (index, file) in files.iter().enumerate() {
        let size = u64::try_from(file.size).unwrap_or_default();
        let mut left = size;
        if made.has_already(compose::name(&file.file_name, &file.content_id)) {
            while left > 0 {
                left -= parts.chunk(index, left).await?.len() as u64;
            }
            continue;
        }
        if size < LARGE as u64 {
            let mut held = Vec::new();
            while left > 0 {
                let chunk = parts.chunk(index, left).await?;
                left -= chunk.len() as u64;
                held.extend_from_slice(&chunk);
            }
            let attachment = Attachment {
                file_name: file.file_name.clone(),
                content_id: file.content_id.clone(),
                content_data: held.into(),
                content_type: file.content_type.clone(),
                content_transfer_encoding: file.content_transfer_encoding,
            };
            sending.attach(made, &attachment).await?;
            continue;
        }
        let mut upload = sending.upload(made, file).await?;
        while left > 0 {
            let chunk = parts.chunk(index, left).await?;
            left -= chunk.len() as u64;
            upload.take(&chunk).await.map_err(|failure| sending.refused(failure))?;
        }
        if index + 1 == files.len() {
            // What is too much is refused before the last range goes up.
            parts.end().await?;
        }
        upload.end().await.map_err(|failure| sending.refused(failure))?;
        made.one_more();
    }
    parts.end().await
}

/// The messages of the stream.
struct Parts {
    stream: Streaming<SendLargeEmailRequest>,
    /// How long the caller may be silent between two messages.
    silence: Duration,
    /// When the call must be done, once that is known.
    until: Option<Instant>,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<SendLargeEmailRequest>, Error> {
        let silent = Instant::now() + self.silence;
        let until = self.until.map_or(silent, |until| until.min(silent));
        let next = tokio::time::timeout_at(until, self.stream.message()).await;
        next.map_err(|_| Error::Stalled)?.map_err(|status| match status.code() {
            Code::Cancelled | Code::Unknown => Error::Abandoned,
            _ => Error::field("part", "cannot be read: expected messages of at most 4 MiB"),
        })
    }

    /// The next bytes of an attachment of which `left` bytes are missing.
    async fn chunk(&mut self, index: usize, left: u64) -> Result<Bytes, Error> {
        let Some(next) = self.next().await? else {
            let problem =
                format!("the stream ended {left} bytes before the end of large_attachments[{index}]");
            return Err(Error::field("chunk", problem));
        };
        let Some(Part::Chunk(AttachmentChunk { attachment, data })) = next.part else {
            return Err(Error::field("chunk", "is absent: expected a chunk in each message after the first"));
        };
        for (field, given) in [("connection", &next.connection), ("request_id", &next.request_id)] {
            if !given.is_empty() {
                return Err(Error::field(field, "expected in the first message only"));
            }
        }
        if usize::try_from(attachment) != Ok(index) {
            let problem = format!("expected {index}: {left} bytes of it are missing");
            return Err(Error::field("chunk.attachment", problem));
        }
        if data.is_empty() || data.len() > MAX_CHUNK {
            return Err(Error::field("chunk.data", format!("expected 1 to {MAX_CHUNK} bytes")));
        }
        if data.len() as u64 > left {
            let problem =
                format!("passes the size of large_attachments[{index}]: expected {left} bytes more");
            return Err(Error::field("chunk.data", problem));
        }
        Ok(data)
    }

    /// The end of the stream.
    async fn end(&mut self) -> Result<(), Error> {
        match self.next().await? {
            Some(_) => Err(Error::field("chunk", "expected the end of the stream: all bytes are there")),
            None => Ok(()),
        }
    }
}
