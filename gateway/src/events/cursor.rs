//! Cursors: opaque resume points in the event log, as subscribers hold them. A cursor is a place and no authority: what
//! its bearer may see is asked elsewhere.

use bytes::Bytes;
use postern_chassis::fault::Fault;
use tonic::Code;

use crate::store::Sequence;

/// The only form there is so far: version, epoch, sequence, fingerprint, checksum, all big-endian.
const VERSION: u8 = 1;
/// How long an encoded cursor is.
pub(crate) const CURSOR_BYTES: usize = 1 + 8 + 8 + 4 + 4;

/// A place in a log: strictly after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The log's epoch.
    pub epoch: u64,
    /// The place of the event that it is just after; 0: before the first.
    pub sequence: Sequence,
    /// What tells that event from any other at the same place: a log that was restored from a backup keeps its epoch
    /// and gives places anew. 0: not known.
    pub fingerprint: u32,
}

/// The fingerprint of an event: of its id and of when it became durable, in milliseconds since 1970. Never 0.
#[must_use]
pub fn fingerprint(id: &str, recorded: i64) -> u32 {
    digest(recorded.to_be_bytes().iter().chain(id.as_bytes())).max(1)
}

impl Cursor {
    /// The cursor as subscribers get it.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut bytes = [0; CURSOR_BYTES];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[17..21].copy_from_slice(&self.fingerprint.to_be_bytes());
        let sum = digest(&bytes[..21]);
        bytes[21..].copy_from_slice(&sum.to_be_bytes());
        Bytes::copy_from_slice(&bytes)
    }

    /// Reads what a subscriber gave.
    ///
    /// # Errors
    /// INVALID_ARGUMENT (CURSOR_INVALID): it is not a cursor, or not a whole one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        Self::parse(bytes).ok_or_else(|| {
            let message = "not a cursor: expected one as an event, a heartbeat, a gap or opened gave it";
            Fault::new(Code::InvalidArgument, "CURSOR_INVALID", message)
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; CURSOR_BYTES] = bytes.try_into().ok()?;
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        let (version, places) = body.split_first()?;
        let (epoch, sequence) = places.split_first_chunk::<8>()?;
        let (sequence, fingerprint) = sequence.split_first_chunk::<8>()?;
        let whole = *version == VERSION && digest(body) == u32::from_be_bytes(*sum);
        whole.then_some(Self {
            epoch: u64::from_be_bytes(*epoch),
            sequence: u64::from_be_bytes(*sequence),
            fingerprint: u32::from_be_bytes(fingerprint.try_into().ok()?),
        })
    }
}

/// FNV-1a: finds out mangled bytes and events that were replaced, neither of them by intent.
fn digest<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u32 {
    bytes.into_iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        for cursor in [
            Cursor { epoch: 0, sequence: 0, fingerprint: 0 },
            Cursor { epoch: u64::MAX, sequence: 1 << 40, fingerprint: 7 },
        ] {
            assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        }
    }

    #[test]
    fn a_mangled_cursor_is_refused_whichever_byte_it_is() {
        let whole = Cursor { epoch: 7, sequence: 42, fingerprint: 1 << 30 }.encode();
        for place in 0..whole.len() {
            let mut mangled = whole.to_vec();
            mangled[place] ^= 0x10;
            assert_eq!(Cursor::decode(&mangled).unwrap_err().reason(), "CURSOR_INVALID", "byte {place}");
        }
        for wrong in [&whole[..20], b"", b"not a cursor"] {
            assert!(Cursor::decode(wrong).is_err());
        }
    }
}
