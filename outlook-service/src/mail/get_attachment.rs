//! GetAttachment: what an attachment is, then its bytes as they come from Graph; never the whole is held.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postern_proto::mail::v1::{AttachmentKind, ReceivedAttachment};
use postern_proto::outlook::v1::get_attachment_response::Part;
use postern_proto::outlook::v1::{GetAttachmentRequest, GetAttachmentResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::attachments;
use super::change::check_ids;
use crate::error::Error;
use crate::graph::{Failure, Mailbox, pause_after};
use crate::ids;
use crate::outlook::{Call, Outlook};

/// The most bytes of a chunk.
const CHUNK: usize = 256 * 1024;
/// How many chunks wait for the caller.
const AHEAD: usize = 2;
/// How long the caller may leave a chunk waiting: the mailbox lends a place at its gate meanwhile.
const SLOWNESS: Duration = Duration::from_secs(60);
/// How often the bytes are asked for at most.
const MAX_TRIES: u32 = 4;

/// The parts of an attachment.
pub(super) type Parts = ReceiverStream<Result<GetAttachmentResponse, Status>>;

/// Gives an attachment.
pub(super) async fn get_attachment(
    outlook: &Arc<Outlook>,
    call: &Call,
    asked: &GetAttachmentRequest,
) -> Result<Parts, Error> {
    check_ids(&[("message_id", &asked.message_id), ("attachment_id", &asked.attachment_id)])?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let attachment = attachments::one(&mailbox, &asked.message_id, &asked.attachment_id)
        .await
        .map_err(|failure| ids::of_item("message_id", failure, Error::from))?;
    let (parts, receiver) = mpsc::channel(AHEAD);
    let message = asked.message_id.clone();
    tokio::spawn(async move {
        let mut giving = Giving { mailbox: &mailbox, parts: &parts, given: 0 };
        if let Err(End::Failed(failure)) = giving.give(&message, attachment).await {
            let status = Error::from(failure).into();
            let _ = parts.send_timeout(Err(status), SLOWNESS).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Why giving ends before the end.
enum End {
    /// The caller has gone, or takes nothing.
    Unheard,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

struct Giving<'a> {
    mailbox: &'a Mailbox,
    parts: &'a mpsc::Sender<Result<GetAttachmentResponse, Status>>,
    /// How many bytes the caller has.
    given: usize,
}

impl Giving<'_> {
    async fn give(&mut self, message: &str, attachment: ReceivedAttachment) -> Result<(), End> {
        let (id, kind) = (attachment.id.clone(), attachment.kind());
        self.say(Part::Attachment(attachment)).await?;
        if kind == AttachmentKind::Reference {
            return Ok(());
        }
        let mut tries = 1;
        loop {
            let failure = match self.bytes(message, &id).await {
                Err(End::Failed(failure)) => failure,
                end => return end,
            };
            // A file's bytes are the same each time: what the caller has is passed over. An item is written anew for
            // each who asks.
            let can_go_on = self.given == 0 || kind == AttachmentKind::File;
            let pause = pause_after(tries, failure.retry_after());
            let late = Instant::now() + pause >= self.mailbox.until;
            if !failure.is_passing() || !can_go_on || tries == MAX_TRIES || late {
                return Err(failure.into());
            }
            tries += 1;
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks for the bytes, and gives those that the caller has not had.
    async fn bytes(&mut self, message: &str, id: &str) -> Result<(), End> {
        let url = self.mailbox.url(&["messages", message, "attachments", id, "$value"]);
        let mut download = self.mailbox.open(url).await?;
        let mut passed = 0;
        let mut held = BytesMut::with_capacity(CHUNK);
        while let Some(chunk) = download.chunk().await? {
            let had = chunk.len().min(self.given - passed);
            passed += had;
            let mut chunk: Bytes = chunk.slice(had..);
            while !chunk.is_empty() {
                let fits = chunk.split_to(chunk.len().min(CHUNK - held.len()));
                held.extend_from_slice(&fits);
                if held.len() == CHUNK {
                    self.hand(&mut held, &mut passed).await?;
                }
            }
        }
        if !held.is_empty() {
            self.hand(&mut held, &mut passed).await?;
        }
        Ok(())
    }

    async fn hand(&mut self, held: &mut BytesMut, passed: &mut usize) -> Result<(), End> {
        let bytes = held.split().freeze();
        self.given += bytes.len();
        *passed += bytes.len();
        self.say(Part::Chunk(bytes)).await
    }

    async fn say(&self, part: Part) -> Result<(), End> {
        let part = Ok(GetAttachmentResponse { part: Some(part) });
        self.parts.send_timeout(part, SLOWNESS).await.map_err(|_| End::Unheard)
    }
}
