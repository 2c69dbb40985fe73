//! One mail whose attachments come in chunks. All that can be wrong without their bytes is found before the first chunk
//! is read: the fields, the sizes against every limit, the server's own among them, and the room for so many bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use postern_proto::mail::v1::{Attachment, AttachmentChunk, ContentTransferEncoding, LargeAttachment};
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::send_large_email_request::Part;
use postern_proto::smtp::v1::{LargeEmail, SendEmailRequest, SendEmailResponse, SendLargeEmailRequest};
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;
use tonic::Status;

use crate::clock::Clock;
use crate::connection::Connection;
use crate::error::Error;
use crate::message::{MAX_ATTACHMENTS, Mail, Problems, quoted_size};
use crate::pool::Pool;
use crate::room::{Room, encoded};
use crate::send;

/// The most bytes in a chunk.
const MAX_CHUNK_BYTES: usize = 256 * 1024;
/// How long the caller may take from one chunk to the next, and over all of them: for so long its bytes are held.
const CHUNK_PATIENCE: Duration = Duration::from_secs(60);
const WHOLE_PATIENCE: Duration = Duration::from_secs(3_600);
/// What stands for the content of a large attachment while it is not there.
const STAND_IN: &[u8] = b"x";

/// Why a mail was not sent.
pub(crate) enum Failed {
    /// Found out here, or by the server.
    Here(Error),
    /// The caller's stream broke, or holds what is no message.
    Stream(Status),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

/// Takes a mail in parts and hands it over.
///
/// # Errors
/// As [`send::send`] and [`Mail::compose`], with the fields' paths as they are in the parts; or the stream broke.
pub(crate) async fn send(
    pool: &Arc<Pool>,
    room: &Room,
    clock: Clock,
    parts: impl Stream<Item = Result<SendLargeEmailRequest, Status>> + Unpin,
) -> Result<SendEmailResponse, Failed> {
    let mut parts = Parts { parts, clock, until: clock.end_within(WHOLE_PATIENCE), named: None };
    let mut draft = Draft::of(parts.next().await?)?;
    let (least, most) = draft.check(pool.connection()).await?;
    let _held = room.take_encoded(most)?;
    check_server(pool, least, clock).await?;
    draft.fill(&mut parts).await?;
    draft.check_growth(least, pool.connection())?;
    let mail = draft.compose(pool.connection()).await?;
    // What the mail needs of the content is in it.
    drop(draft);
    let taken = send::send(pool, &mail, clock).await?;
    Ok(send::response(&mail, taken))
}

/// Asks the server, on a socket that is used again for the mail, whether it takes so much: nobody should send a large
/// mail in vain.
async fn check_server(pool: &Arc<Pool>, size: u64, clock: Clock) -> Result<(), Error> {
    let lease = pool.lend(clock).await?;
    let limit = lease.conversation.max_size();
    lease.give_back();
    match limit {
        Some(limit) if size > limit => Err(Error::TooLarge { size, limit, whose: "the server" }),
        _ => Ok(()),
    }
}

/// The parts of a stream.
struct Parts<S> {
    parts: S,
    clock: Clock,
    until: Instant,
    /// The connection and the request id of the first part.
    named: Option<(String, String)>,
}

impl<S: Stream<Item = Result<SendLargeEmailRequest, Status>> + Unpin> Parts<S> {
    /// The next part; none at the caller's end.
    async fn next(&mut self) -> Result<Option<SendLargeEmailRequest>, Failed> {
        let end = self.clock.end_within(CHUNK_PATIENCE).min(self.until);
        let next = timeout_at(end, self.parts.next()).await;
        let next = next.map_err(|_| Error::Stalled)?;
        let Some(part) = next.transpose().map_err(Failed::Stream)? else { return Ok(None) };
        let (connection, request_id) =
            self.named.get_or_insert_with(|| (part.connection.clone(), part.request_id.clone()));
        for (field, value, first) in
            [("connection", &part.connection, connection), ("request_id", &part.request_id, request_id)]
        {
            if !value.is_empty() && value != first {
                let problem = "differs from that of the first message: expected it there only";
                return Err(Error::field(field, problem).into());
            }
        }
        Ok(Some(part))
    }
}

/// A mail whose large attachments are not there yet, or not whole.
struct Draft {
    /// The mail, with a stand-in for each large attachment after the small ones.
    request: SendEmailRequest,
    /// How many bytes of each large attachment come.
    sizes: Vec<u64>,
}

impl Draft {
    /// The mail in the first part.
    fn of(first: Option<SendLargeEmailRequest>) -> Result<Self, Error> {
        let needed = || Error::field("email", "is needed: the first message holds the mail");
        let SendLargeEmailRequest { request_id, part, .. } = first.ok_or_else(needed)?;
        let Some(Part::Email(LargeEmail { email, large_attachments, delivery_reports })) = part else {
            return Err(needed());
        };
        let mut email = email.ok_or_else(|| Error::field("email.email", "is needed"))?;
        if email.attachments.len() + large_attachments.len() > MAX_ATTACHMENTS {
            let problem = format!("are, with the small ones, more than {MAX_ATTACHMENTS}");
            return Err(Error::field("email.large_attachments", problem));
        }
        let sizes = sizes(&large_attachments)?;
        email.attachments.extend(large_attachments.into_iter().map(stand_in));
        let content = Some(Content::Email(email));
        let request = SendEmailRequest { connection: String::new(), request_id, content, delivery_reports };
        Ok(Self { request, sizes })
    }

    /// Checks all that can be wrong already; gives the least and the most bytes that the mail can have, encoded.
    async fn check(&self, connection: &Connection) -> Result<(u64, u64), Error> {
        let trial = self.compose(connection).await?;
        let large = || self.large().zip(&self.sizes);
        let least = large().map(|(attachment, size)| least(attachment, *size));
        let least = least.fold(trial.size(), u64::saturating_add);
        let limit = connection.max_message_bytes;
        if least > limit {
            return Err(Error::TooLarge { size: least, limit, whose: "the connection" });
        }
        let most = large().map(|(attachment, size)| most(attachment, *size));
        // What grows beyond the limit is refused later, and what is refused is no longer held.
        let most = most.fold(trial.size(), u64::saturating_add).min(limit.max(least));
        Ok((least, most))
    }

    /// The mail as it would travel.
    async fn compose(&self, connection: &Connection) -> Result<Mail, Error> {
        let small = self.small();
        Mail::compose(&self.request, connection).await.map_err(|error| match error {
            Error::Fields(fields) => {
                let mut problems = Problems::default();
                for (path, problem) in fields {
                    problems.add(path_in_parts(&path, small), problem);
                }
                problems.into_error()
            }
            error => error,
        })
    }

    /// Reads the content of all large attachments, to the end of the stream.
    async fn fill<S>(&mut self, parts: &mut Parts<S>) -> Result<(), Failed>
    where
        S: Stream<Item = Result<SendLargeEmailRequest, Status>> + Unpin,
    {
        let small = self.small();
        for at in 0..self.sizes.len() {
            let size = self.sizes[at];
            let content = gather(parts, at, size).await?;
            if let Some(Content::Email(email)) = &mut self.request.content {
                email.attachments[small + at].content_data = content;
            }
        }
        match parts.next().await? {
            None => Ok(()),
            Some(SendLargeEmailRequest { part: Some(Part::Chunk(chunk)), .. }) => {
                Err(surplus(&chunk, self.sizes.len()).into())
            }
            Some(_) => Err(no_chunk().into()),
        }
    }

    /// Refuses content that quoted-printable makes larger than the connection allows, before it is written so: it can
    /// grow threefold.
    fn check_growth(&self, least: u64, connection: &Connection) -> Result<(), Error> {
        let quoted = self.large().filter(|attachment| {
            attachment.content_transfer_encoding() == ContentTransferEncoding::QuotedPrintable
        });
        let growth = quoted.map(|attachment| {
            let content = &attachment.content_data;
            quoted_size(content).saturating_sub(content.len()) as u64
        });
        let (size, limit) = (least + growth.sum::<u64>(), connection.max_message_bytes);
        if size > limit { Err(Error::TooLarge { size, limit, whose: "the connection" }) } else { Ok(()) }
    }

    fn attachments(&self) -> &[Attachment] {
        match &self.request.content {
            Some(Content::Email(email)) => &email.attachments,
            _ => &[],
        }
    }

    /// How many attachments came with the mail.
    fn small(&self) -> usize {
        self.attachments().len() - self.sizes.len()
    }

    fn large(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments().iter().skip(self.small())
    }
}

/// Reads the bytes of one large attachment. They are copied out of the stream's buffers, into memory of exactly their
/// size: what a chunk lies in may be larger than it, and would be held with it.
async fn gather<S>(parts: &mut Parts<S>, at: usize, size: u64) -> Result<Bytes, Failed>
where
    S: Stream<Item = Result<SendLargeEmailRequest, Status>> + Unpin,
{
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut content = BytesMut::with_capacity(size);
    while content.len() < size {
        let Some(part) = parts.next().await? else {
            let path = format!("email.large_attachments[{at}].size");
            let problem = format!("says {size} bytes, and {} came before the stream ended", content.len());
            return Err(Error::field(path, problem).into());
        };
        let Some(Part::Chunk(chunk)) = part.part else { return Err(no_chunk().into()) };
        let (place, length) = (i64::from(chunk.attachment), chunk.data.len());
        if place != at as i64 {
            if place == at as i64 - 1 && content.is_empty() {
                return Err(surplus(&chunk, at).into());
            }
            let problem = format!("is {place}: expected {at}, of whose {size} bytes {} came", content.len());
            return Err(Error::field("chunk.attachment", problem).into());
        }
        if length == 0 || length > MAX_CHUNK_BYTES {
            let problem = format!("has {length} bytes: expected 1 to {MAX_CHUNK_BYTES}");
            return Err(Error::field("chunk.data", problem).into());
        }
        if length > size - content.len() {
            return Err(surplus(&chunk, at + 1).into());
        }
        content.extend_from_slice(&chunk.data);
    }
    Ok(content.freeze())
}

/// The error for bytes beyond what was said. All attachments before `whole` are, or would be.
fn surplus(chunk: &AttachmentChunk, whole: usize) -> Error {
    match usize::try_from(chunk.attachment) {
        Ok(at) if at < whole => Error::field(
            "chunk.data",
            format!("goes beyond the size that large_attachments[{at}] was said to have"),
        ),
        _ => {
            let problem = format!("is {}: expected the end, for there are {whole}", chunk.attachment);
            Error::field("chunk.attachment", problem)
        }
    }
}

fn no_chunk() -> Error {
    Error::field("chunk", "is needed: after the first message come chunks only")
}

/// How many bytes of each attachment come.
fn sizes(attachments: &[LargeAttachment]) -> Result<Vec<u64>, Error> {
    let mut problems = Problems::default();
    let sizes = attachments.iter().enumerate().map(|(at, attachment)| {
        let size = u64::try_from(attachment.size).unwrap_or_default();
        if size == 0 {
            let path = format!("email.large_attachments[{at}].size");
            problems.add(path, "is needed: expected how many bytes follow, over 0");
        }
        size
    });
    let sizes = sizes.collect();
    if problems.is_empty() { Ok(sizes) } else { Err(problems.into_error()) }
}

fn stand_in(attachment: LargeAttachment) -> Attachment {
    let LargeAttachment { file_name, content_id, content_type, content_transfer_encoding, .. } = attachment;
    let content_data = Bytes::from_static(STAND_IN);
    Attachment { file_name, content_id, content_data, content_type, content_transfer_encoding }
}

/// A field's path in the parts of a large mail, of its path in a mail that travels whole. The large attachments stand
/// after the small ones there.
fn path_in_parts(path: &str, small: usize) -> String {
    let numbered = path.strip_prefix("email.attachments[").and_then(|rest| rest.split_once(']'));
    let place = numbered.and_then(|(at, rest)| Some((at.parse::<usize>().ok()?.checked_sub(small)?, rest)));
    match place {
        Some((at, rest)) => format!("email.large_attachments[{at}]{rest}"),
        None if path == "request_id" => path.to_owned(),
        None => format!("email.{path}"),
    }
}

/// The least that content of so many bytes can take in a message, beyond its stand-in.
fn least(attachment: &Attachment, size: u64) -> u64 {
    let may_travel_as_it_is =
        attachment.content_type.trim_start().to_ascii_lowercase().starts_with("message/");
    let encoded = match attachment.content_transfer_encoding() {
        ContentTransferEncoding::Unspecified if may_travel_as_it_is => size,
        ContentTransferEncoding::Unspecified | ContentTransferEncoding::Base64 => encoded(size),
        _ => size,
    };
    encoded.saturating_sub(encoded_stand_in())
}

/// The most that it can take: in quoted-printable three characters a byte, and soft line ends.
fn most(attachment: &Attachment, size: u64) -> u64 {
    match attachment.content_transfer_encoding() {
        ContentTransferEncoding::QuotedPrintable => size.saturating_mul(3).saturating_add(size / 8),
        _ => encoded(size),
    }
}

fn encoded_stand_in() -> u64 {
    encoded(STAND_IN.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_where_it_stands_in_the_parts() {
        for (whole, parts) in [
            ("email.subject", "email.email.subject"),
            ("email.attachments[1].file_name", "email.email.attachments[1].file_name"),
            ("email.attachments[2].file_name", "email.large_attachments[0].file_name"),
            ("email.attachments[13].content_type", "email.large_attachments[11].content_type"),
            ("email.attachments", "email.email.attachments"),
            ("email", "email.email"),
            ("delivery_reports.notify", "email.delivery_reports.notify"),
            ("request_id", "request_id"),
        ] {
            assert_eq!(path_in_parts(whole, 2), parts);
        }
    }

    #[test]
    fn the_least_and_the_most_enclose_what_an_encoding_makes() {
        let attachment = |encoding: ContentTransferEncoding, media: &str| Attachment {
            content_type: media.into(),
            content_transfer_encoding: encoding.into(),
            ..Default::default()
        };
        let base64 = attachment(ContentTransferEncoding::Base64, "image/png");
        assert_eq!(least(&base64, 5_700), 7_600 + 2 * 99 - 4);
        let quoted = attachment(ContentTransferEncoding::QuotedPrintable, "text/csv");
        assert!(least(&quoted, 1_000) <= 1_000 && most(&quoted, 1_000) > 3_000);
        let message = attachment(ContentTransferEncoding::Unspecified, "Message/rfc822");
        assert!(least(&message, 1_000) <= 1_000);
    }
}
