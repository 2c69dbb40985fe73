//! The first message of a call: the only one that is buffered, up to the bound on inline messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use postern_chassis::fault::Fault;
use postern_chassis::serve::MAX_MESSAGE_BYTES;
use tonic::Code;
use tonic::body::Body;

use super::passing::{Handed, Passing};

/// The flag byte and the length before each message.
const PREFIX_BYTES: usize = 5;
/// How long a caller may take to send the first message: without it the call cannot go anywhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// The beginning of a call's body, with its first message whole, and the rest of it.
pub struct First {
    buffered: Bytes,
    end: usize,
    rest: Option<Body>,
    has_rest: bool,
}

impl First {
    /// Reads up to the end of the first message.
    ///
    /// # Errors
    /// INVALID_ARGUMENT (MESSAGE_MALFORMED), RESOURCE_EXHAUSTED (MESSAGE_TOO_LARGE), UNIMPLEMENTED
    /// (COMPRESSION_UNSUPPORTED), CANCELLED where the caller went away, DEADLINE_EXCEEDED where it sent nothing.
    pub async fn read(body: Body) -> Result<Self, Fault> {
        tokio::time::timeout(PATIENCE, Self::collect(body)).await.map_err(|_| {
            let message = format!("no first message came within {} s", PATIENCE.as_secs());
            Fault::new(Code::DeadlineExceeded, "MESSAGE_MISSING", message)
        })?
    }

    async fn collect(mut body: Body) -> Result<Self, Fault> {
        let mut buffered = Bytes::new();
        let mut gathered = BytesMut::new();
        let end = loop {
            let so_far = if gathered.is_empty() { &buffered[..] } else { &gathered[..] };
            let needed = needed(so_far)?;
            if let Some(end) = needed
                && so_far.len() >= end
            {
                break end;
            }
            let frame = body.frame().await.ok_or_else(|| {
                malformed("the call ended before its first message did: expected one that names a connection")
            })?;
            let frame = frame
                .map_err(|_| Fault::new(Code::Cancelled, "CALL_CANCELLED", "the caller ended the call"))?;
            let Ok(frame) = frame.into_data() else { continue };
            // A message in one frame, which is the rule, is not copied.
            if buffered.is_empty() {
                buffered = frame;
                continue;
            }
            if gathered.is_empty() {
                gathered.reserve(needed.unwrap_or(PREFIX_BYTES).max(buffered.len() + frame.len()));
                gathered.extend_from_slice(&buffered);
            }
            gathered.extend_from_slice(&frame);
        };
        if !gathered.is_empty() {
            buffered = gathered.freeze();
        }
        let has_rest = !body.is_end_stream();
        Ok(Self { buffered, end, rest: has_rest.then_some(body), has_rest })
    }

    /// The first message.
    pub fn message(&self) -> &[u8] {
        &self.buffered[PREFIX_BYTES..self.end]
    }

    /// The body as it was before it was read.
    pub fn into_body(self) -> Body {
        Body::new(Passing::new(self.buffered, self.rest, Arc::default()))
    }

    /// All that was read, to be passed on.
    pub(super) fn buffered(&self) -> Bytes {
        self.buffered.clone()
    }

    /// What was not read, to be passed on: once, unless it is taken back.
    pub(super) fn rest(&mut self) -> Option<Body> {
        self.rest.take()
    }

    /// Takes back what was not handed over. False where some beyond the first message was, and the call cannot be made
    /// again.
    pub(super) async fn take_back(&mut self, handed: &Handed) -> bool {
        if !self.has_rest {
            return true;
        }
        handed.let_go().await;
        if handed.is_whole() {
            self.has_rest = false;
            return true;
        }
        self.rest = handed.rest();
        self.rest.is_some()
    }
}

/// Whether bytes are one message with its prefix, and nothing else.
pub(super) fn is_whole(bytes: &Bytes) -> bool {
    needed(bytes).is_ok_and(|needed| needed == Some(bytes.len()))
}

/// How many bytes the first message needs with its prefix; `None` where the prefix is not there yet.
fn needed(so_far: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(mut prefix) = so_far.get(..PREFIX_BYTES) else {
        return Ok(None);
    };
    match prefix.get_u8() {
        0 => {}
        1 => {
            let message = "compressed messages are not taken: send them with grpc-encoding identity";
            return Err(Fault::new(Code::Unimplemented, "COMPRESSION_UNSUPPORTED", message));
        }
        other => return Err(malformed(&format!("a message begins with the flag {other}: expected 0"))),
    }
    let length = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE_BYTES {
        let message = format!("a message has {length} bytes: at most {MAX_MESSAGE_BYTES} are taken");
        return Err(Fault::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message));
    }
    Ok(Some(PREFIX_BYTES + length))
}

pub(super) fn malformed(problem: &str) -> Fault {
    Fault::new(Code::InvalidArgument, "MESSAGE_MALFORMED", problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;

    fn body(chunks: Vec<Vec<u8>>) -> Body {
        let frames = chunks
            .into_iter()
            .map(|chunk| Ok::<_, tonic::Status>(http_body::Frame::data(Bytes::from(chunk))));
        Body::new(StreamBody::new(tokio_stream::iter(frames.collect::<Vec<_>>())))
    }

    #[tokio::test]
    async fn a_message_is_found_however_it_is_cut() {
        let whole = [&[0, 0, 0, 0, 4][..], b"abcd", &[0, 0, 0, 0, 1], b"e"].concat();
        for size in 1..=whole.len() {
            let first = First::read(body(whole.chunks(size).map(<[u8]>::to_vec).collect())).await.unwrap();
            assert_eq!(first.message(), b"abcd", "cut by {size}");
            let rest = first.rest.unwrap().collect().await.unwrap().to_bytes();
            assert_eq!([&first.buffered[..], &rest].concat(), whole, "cut by {size}");
        }
    }

    #[tokio::test]
    async fn what_is_no_first_message_is_refused() {
        for (bytes, reason) in [
            (vec![], "MESSAGE_MALFORMED"),
            (vec![0, 0, 0, 0, 9, 1], "MESSAGE_MALFORMED"),
            (vec![7, 0, 0, 0, 0], "MESSAGE_MALFORMED"),
            (vec![1, 0, 0, 0, 0], "COMPRESSION_UNSUPPORTED"),
            (vec![0, 0xff, 0, 0, 0], "MESSAGE_TOO_LARGE"),
        ] {
            let refused = First::read(body(vec![bytes])).await.err().unwrap();
            assert_eq!(refused.reason(), reason);
        }
        assert!(First::read(body(vec![vec![0, 0, 0, 0, 0]])).await.unwrap().message().is_empty());
    }
}
