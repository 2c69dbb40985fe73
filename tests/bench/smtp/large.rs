//! What a large attachment costs in memory: how far the connector's process grows while it sends one.

use std::net::SocketAddr;

use bytes::Bytes;
use postern_chassis::opened::{CONNECTION_METADATA, encode};
use postern_chassis::serve::BoxError;
use postern_proto::mail::v1::{AttachmentChunk, LargeAttachment};
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::send_large_email_request::Part;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{LargeEmail, SendEmailRequest, SendLargeEmailRequest};
use tonic::Request;

use super::{connector, mails};

const MIB: u64 = 1024 * 1024;
/// As many bytes as a chunk may have.
const CHUNK_BYTES: u64 = 256 * 1024;
/// Octets on a line of base64, and with its end (RFC 2045, section 6.8).
const LINE_OCTETS: u64 = 76;

/// What was measured.
pub(crate) struct Grown {
    /// How large the attachment is, in MiB.
    pub(crate) attachment_mib: u32,
    /// How large it is in the message, in bytes.
    pub(crate) encoded: u64,
    /// By how much the peak of the resident memory grew, in bytes.
    pub(crate) growth: u64,
}

/// Measures.
pub(crate) async fn measure(server: SocketAddr, attachment_mib: u32) -> Result<Grown, BoxError> {
    let (process, address) = connector().await?;
    let id = process.id().ok_or("the connector has ended")?;
    let mut client = SmtpServiceClient::connect(format!("http://{address}")).await?;
    let opened = encode(&mails::opened(server, 1));
    let email = mails::email(&mails::body());
    let mut small =
        Request::new(SendEmailRequest { content: Some(Content::Email(email.clone())), ..Default::default() });
    small.metadata_mut().insert_bin(CONNECTION_METADATA, opened.clone());
    client.send_email(small).await?;

    let before = peak(id)?;
    let size = u64::from(attachment_mib) * MIB;
    let attachment = LargeAttachment {
        file_name: "large.bin".into(),
        content_type: "application/octet-stream".into(),
        size: i64::try_from(size)?,
        ..LargeAttachment::default()
    };
    let first =
        LargeEmail { email: Some(email), large_attachments: vec![attachment], delivery_reports: None };
    // Not all the same: memory that nobody wrote to, or that can be compressed, would not count.
    let chunk: Bytes = (0..CHUNK_BYTES).map(|_| fastrand::u8(..)).collect();
    let chunks = (0..size / CHUNK_BYTES)
        .map(move |_| Part::Chunk(AttachmentChunk { attachment: 0, data: chunk.clone() }));
    let parts = std::iter::once(Part::Email(first)).chain(chunks);
    let requests = parts.map(|part| SendLargeEmailRequest { part: Some(part), ..Default::default() });
    let mut request = Request::new(tokio_stream::iter(requests));
    request.metadata_mut().insert_bin(CONNECTION_METADATA, opened);
    client.send_large_email(request).await?;
    let growth = peak(id)?.saturating_sub(before);
    Ok(Grown { attachment_mib, encoded: encoded(size), growth })
}

/// How many bytes base64 makes of so many, line ends included.
fn encoded(size: u64) -> u64 {
    let octets = size.div_ceil(3) * 4;
    octets + octets.div_ceil(LINE_OCTETS) * 2
}

/// The most that a process has had resident, in bytes.
fn peak(id: u32) -> Result<u64, BoxError> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_takes_four_octets_for_three_and_two_for_a_line() {
        assert_eq!(encoded(57), 76 + 2);
        assert_eq!(encoded(58), 80 + 4);
    }
}
