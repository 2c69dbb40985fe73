//! What queued mails say: sealed, in pieces that fit the store, apart from their records.

use postern_chassis::fault::Fault;
use postern_proto::connector::v1::SendEmailRequest;
use prost::Message as _;
use secrecy::zeroize::Zeroizing;
use tonic::Code;

use super::record::{Record, content_key};
use crate::connections::Connections;
use crate::error::Error;
use crate::store::{Expect, Store, Write};

/// The most bytes of a piece: with its seal well below what engines take as a value.
const PIECE_BYTES: usize = 512 * 1024;

/// The writes of what a mail says, one a piece.
///
/// # Errors
/// It cannot be sealed.
pub(super) fn writes(connections: &Connections, name: &str, plain: &[u8]) -> Result<Vec<Write>, Error> {
    let pieces = plain.chunks(PIECE_BYTES).zip(0..);
    let write = |(piece, number): (&[u8], u32)| {
        let key = content_key(name, number);
        let value = connections.seal(&key, piece)?;
        Ok(Write { key, value: Some(value), expect: Expect::Absent })
    };
    pieces.map(write).collect()
}

/// Reads what a mail says.
///
/// # Errors
/// CONTENT_UNREADABLE: it is gone, or the key that sealed it is; storage failed.
pub(super) async fn read(
    store: &dyn Store,
    connections: &Connections,
    record: &Record,
) -> Result<SendEmailRequest, Error> {
    let mut plain = Zeroizing::new(Vec::with_capacity(usize::try_from(record.bytes).unwrap_or_default()));
    for piece in 0..record.pieces {
        let key = content_key(record.name(), piece);
        let entry = store.get(&key).await?.ok_or_else(unreadable)?;
        plain.extend_from_slice(&connections.unseal(&key, &entry.value).ok_or_else(unreadable)?);
    }
    if plain.is_empty() {
        return Err(unreadable());
    }
    SendEmailRequest::decode(plain.as_slice()).map_err(|_| unreadable())
}

fn unreadable() -> Error {
    let message = "what the mail says cannot be read: the key that sealed it may be missing";
    Fault::new(Code::Internal, "CONTENT_UNREADABLE", message).into()
}
