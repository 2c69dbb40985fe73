//! Sending by stream: many mails at once, and mails whose attachments are read as they are sent.

use std::pin::{Pin, pin};

use bytes::BytesMut;
use futures_util::{Stream, StreamExt as _, TryFutureExt as _};
use postern_proto::mail::v1::{AttachmentChunk, Email, LargeAttachment};
use postern_proto::smtp::v1::send_emails_response::Outcome;
use postern_proto::smtp::v1::send_large_email_request::Part;
use postern_proto::smtp::v1::{
    LargeEmail, SendEmailResponse, SendEmailsRequest, SendEmailsResponse, SendLargeEmailRequest,
    SendLargeEmailResponse,
};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};

use crate::client::Client;
use crate::error::Error;

/// Mails that were given and not yet taken by the connection: enough to keep it busy.
const MAILS_AHEAD: usize = 16;
/// Chunks that were read and not yet taken.
const CHUNKS_AHEAD: usize = 2;
/// The bytes of a chunk, as the contract bounds them.
const CHUNK_BYTES: usize = 256 * 1024;

/// Where mails are given to a stream. Dropped: the stream ends once they are answered.
#[derive(Debug, Clone)]
pub struct Mails(mpsc::Sender<SendEmailsRequest>);

/// What becomes of the mails of a stream.
pub struct Outcomes(Pin<Box<dyn Stream<Item = Result<SendEmailsResponse, Status>> + Send>>);

impl std::fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcomes").finish_non_exhaustive()
    }
}

impl Mails {
    /// Gives one mail; waits while the connector is not ready for it. False: the stream has ended, and this mail was not
    /// sent; the outcomes say why.
    pub async fn send(&self, mail: SendEmailsRequest) -> bool {
        self.0.send(mail).await.is_ok()
    }
}

impl Outcomes {
    /// What became of a mail: its request id, and what the server did with it or why it was not sent. `None`: all are
    /// answered.
    ///
    /// # Errors
    /// The stream broke: mails without an answer were not sent, unless [`Error::outcome_is_unknown`].
    #[allow(clippy::type_complexity, reason = "an outcome of its own within the fate of the stream")]
    pub async fn next(&mut self) -> Option<Result<(String, Result<SendEmailResponse, Error>), Error>> {
        let answer = match self.0.next().await? {
            Ok(answer) => answer,
            Err(status) => return Some(Err(status.into())),
        };
        let outcome = match answer.outcome {
            Some(Outcome::Sent(sent)) => Ok(sent),
            Some(Outcome::Failure(failure)) => Err(failure.into()),
            None => Err(Error::broken_off(Code::Unknown, "the answer says nothing of the mail")),
        };
        Some(Ok((answer.request_id, outcome)))
    }
}

impl Client {
    /// Opens a stream for many mails (`SmtpService.SendEmails`). The first one names the connection. Mails are to be given
    /// and outcomes to be read at the same time: each waits for the other once a few are under way.
    ///
    /// On this stream nothing is remembered: a mail that is given again is sent again.
    #[must_use]
    pub fn send_emails(&self) -> (Mails, Outcomes) {
        let (mails, given) = mpsc::channel(MAILS_AHEAD);
        let mut smtp = self.smtp();
        let answers = async move { smtp.send_emails(ReceiverStream::new(given)).await };
        let answers = answers.map_ok(Response::into_inner).try_flatten_stream();
        (Mails(mails), Outcomes(Box::pin(answers)))
    }

    /// Sends one mail whose attachments are read as they are sent (`SmtpService.SendLargeEmail`). Of each reader
    /// `size` bytes are taken.
    ///
    /// # Errors
    /// Those of the method; INVALID_ARGUMENT where a reader fails or ends early: the mail is then not sent.
    pub async fn send_large_email<R: AsyncRead + Send + Unpin>(
        &self,
        connection: impl Into<String>,
        request_id: impl Into<String>,
        email: Email,
        attachments: Vec<(LargeAttachment, R)>,
    ) -> Result<SendLargeEmailResponse, Error> {
        let (sender, parts) = mpsc::channel(CHUNKS_AHEAD);
        let (large_attachments, readers): (Vec<_>, Vec<_>) = attachments.into_iter().unzip();
        let sizes: Vec<_> = large_attachments.iter().map(|attachment| attachment.size).collect();
        let email = LargeEmail { email: Some(email), large_attachments, delivery_reports: None };
        let first = SendLargeEmailRequest {
            connection: connection.into(),
            request_id: request_id.into(),
            part: Some(Part::Email(email)),
        };
        let mut smtp = self.smtp();
        let mut call = pin!(smtp.send_large_email(ReceiverStream::new(parts)));
        let feeding = async {
            // Where nobody takes any more, the call has its answer already.
            if sender.send(first).await.is_err() {
                return Ok::<(), Error>(());
            }
            for (place, (reader, size)) in readers.into_iter().zip(sizes).enumerate() {
                feed(&sender, place, reader, size).await?;
            }
            Ok(())
        };
        let mut answer = None;
        {
            let mut feeding = pin!(feeding);
            tokio::select! {
                fed = &mut feeding => fed?,
                early = &mut call => answer = Some(early),
            }
        }
        drop(sender);
        let answer = match answer {
            Some(answer) => answer,
            None => call.await,
        };
        Ok(answer?.into_inner())
    }
}

/// Gives the bytes of one attachment, chunk by chunk.
async fn feed(
    sender: &mpsc::Sender<SendLargeEmailRequest>,
    place: usize,
    reader: impl AsyncRead + Unpin,
    size: i64,
) -> Result<(), Error> {
    let wrong = |problem: String| Error::not_sent(format!("attachments[{place}]: {problem}"));
    let mut left = u64::try_from(size).map_err(|_| wrong("its size is negative".to_owned()))?;
    let attachment = i32::try_from(place).map_err(|_| wrong("is one too many".to_owned()))?;
    let mut reader = reader.take(left);
    while left > 0 {
        let mut data = BytesMut::with_capacity(CHUNK_BYTES);
        while data.len() < CHUNK_BYTES {
            let room = CHUNK_BYTES - data.len();
            let read = reader.read_buf(&mut bytes::BufMut::limit(&mut data, room)).await;
            match read.map_err(|error| wrong(format!("cannot be read: {error}")))? {
                0 => break,
                read => left = left.saturating_sub(read as u64),
            }
        }
        if data.is_empty() {
            return Err(wrong(format!("ends {left} bytes before its size")));
        }
        let chunk = AttachmentChunk { attachment, data: data.freeze() };
        let message = SendLargeEmailRequest { part: Some(Part::Chunk(chunk)), ..Default::default() };
        if sender.send(message).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
