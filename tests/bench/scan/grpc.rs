//! Our own wire: HTTP/2 frames (RFC 9113), gRPC messages in them, and the events of batches in those. Only lengths are
//! read, as of the others; windows are given as hyper's client gives them.

use std::collections::HashMap;

use super::Found;

/// hyper's client: what a peer may send unread, on one stream and on the connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 5 * 1024 * 1024;
/// What the protocol begins with.
const FIRST_WINDOW: u32 = 65_535;
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// What a client sends first.
pub(crate) fn preface() -> Vec<u8> {
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE
    let setting = [&[0, 4][..], &STREAM_WINDOW.to_be_bytes()].concat();
    frame(&mut sent, SETTINGS, 0, 0, &setting);
    frame(&mut sent, WINDOW_UPDATE, 0, 0, &(CONNECTION_WINDOW - FIRST_WINDOW).to_be_bytes());
    sent
}

/// A call with one message, on a stream whose number is odd.
pub(crate) fn call(stream: u32, path: &str, message: &[u8]) -> Vec<u8> {
    // HPACK (RFC 7541): POST and http from the static table, all else as literals that are not indexed.
    let mut block = vec![0x83, 0x86, 0x04];
    let text = |block: &mut Vec<u8>, text: &str| {
        block.push(u8::try_from(text.len()).unwrap_or(0));
        block.extend_from_slice(text.as_bytes());
    };
    text(&mut block, path);
    block.push(0x01);
    text(&mut block, "localhost");
    block.extend_from_slice(&[0x0f, 0x10]);
    text(&mut block, "application/grpc");
    block.push(0x00);
    text(&mut block, "te");
    text(&mut block, "trailers");
    let mut sent = Vec::new();
    frame(&mut sent, HEADERS, END_HEADERS, stream, &block);
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    frame(&mut sent, DATA, END_STREAM, stream, &[&[0][..], &length, message].concat());
    sent
}

fn frame(sent: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    sent.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    sent.extend_from_slice(&stream.to_be_bytes());
    sent.extend_from_slice(payload);
}

/// A connection's place in what comes.
#[derive(Debug)]
pub(crate) struct Connection {
    head: Vec<u8>,
    /// Of the frame that is being read: what it is, its stream, and how much of it is still to come.
    frame: Option<Frame>,
    /// By their numbers.
    streams: HashMap<u32, Stream>,
    /// What came on the connection and was not given back to its window yet.
    taken: u32,
    /// Where a payload's time stands within an event, where that is asked.
    time_at: Option<usize>,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    left: usize,
    payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct Stream {
    messages: Messages,
    taken: u32,
}

impl Connection {
    /// A connection with these streams. `time_at`: where a payload's time stands within an event, where that is asked.
    pub(crate) fn new(streams: impl IntoIterator<Item = u32>, time_at: Option<usize>) -> Self {
        let streams = streams.into_iter().map(|stream| (stream, Stream::default())).collect();
        Self { head: Vec::new(), frame: None, streams, taken: 0, time_at }
    }

    /// Takes in what came. `answers` is given what must be sent back; `found` is told what came on each stream.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        answers: &mut Vec<u8>,
        mut found: impl FnMut(u32, Found),
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            let Some(frame) = &mut self.frame else {
                let missing = (FRAME_HEAD - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                if let [a, b, c, kind, flags, stream @ ..] = &*self.head
                    && let Ok(stream) = <[u8; 4]>::try_from(stream)
                {
                    let left = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                    let stream = u32::from_be_bytes(stream);
                    self.frame =
                        Some(Frame { kind: *kind, flags: *flags, stream, left, payload: Vec::new() });
                    self.head.clear();
                    self.ended(answers)?;
                }
                continue;
            };
            let piece = &bytes[..frame.left.min(bytes.len())];
            bytes = &bytes[piece.len()..];
            frame.left -= piece.len();
            if frame.kind == DATA {
                let stream = self.streams.get_mut(&frame.stream).ok_or("an unknown stream")?;
                let mut of_stream = Found::new(self.time_at.is_some());
                stream.messages.take(piece, self.time_at.unwrap_or(usize::MAX), &mut of_stream);
                let length = u32::try_from(piece.len()).unwrap_or(0);
                stream.taken += length;
                self.taken += length;
                if stream.taken > STREAM_WINDOW / 2 {
                    self::frame(
                        answers,
                        WINDOW_UPDATE,
                        0,
                        frame.stream,
                        &std::mem::take(&mut stream.taken).to_be_bytes(),
                    );
                }
                if self.taken > CONNECTION_WINDOW / 2 {
                    self::frame(answers, WINDOW_UPDATE, 0, 0, &std::mem::take(&mut self.taken).to_be_bytes());
                }
                found(frame.stream, of_stream);
            } else {
                frame.payload.extend_from_slice(piece);
            }
            self.ended(answers)?;
        }
        Ok(())
    }

    /// Looks at the frame that is being read, once it is whole.
    fn ended(&mut self, answers: &mut Vec<u8>) -> Result<(), String> {
        let Some(Frame { kind, flags, stream, left: 0, payload }) = &self.frame else { return Ok(()) };
        match *kind {
            SETTINGS if flags & ACK == 0 => frame(answers, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(answers, PING, ACK, 0, payload),
            RESET | GO_AWAY => return Err(format!("stream {stream} was ended by the server")),
            DATA | HEADERS if flags & END_STREAM != 0 => return Err(format!("stream {stream} ended")),
            _ => {}
        }
        self.frame = None;
        Ok(())
    }
}

/// A stream's place in its messages: `postern.event.v1.SubscribeResponse`, of which batches are looked into.
#[derive(Debug, Default)]
struct Messages {
    prefix: Vec<u8>,
    /// Bytes of the message that are still to come.
    left: usize,
    /// Bytes to pass over.
    skip: usize,
    at: At,
    length: usize,
    shift: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// What kind of answer it is.
    #[default]
    Kind,
    /// How long a batch is.
    BatchLength,
    /// An event's tag.
    Event,
    /// How long an event is.
    EventLength,
}

impl Messages {
    fn take(&mut self, mut bytes: &[u8], time_at: usize, found: &mut Found) {
        /// `SubscribeResponse.batch`, and its wire type.
        const BATCH: u8 = 2 << 3 | 2;
        const PREFIX: usize = 5;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let byte = bytes[0];
            bytes = &bytes[1..];
            if self.left == 0 {
                self.prefix.push(byte);
                if self.prefix.len() == PREFIX {
                    self.left =
                        self.prefix[1..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                    self.prefix.clear();
                    self.at = At::Kind;
                }
                continue;
            }
            self.left -= 1;
            match self.at {
                At::Kind if byte == BATCH => self.at = At::BatchLength,
                At::Kind => {
                    found.confirmed += 1;
                    self.skip = self.left;
                }
                At::Event => self.at = At::EventLength,
                At::BatchLength | At::EventLength => {
                    self.length |= usize::from(byte & 0x7f) << self.shift;
                    self.shift += 7;
                    if byte & 0x80 != 0 {
                        continue;
                    }
                    if self.at == At::EventLength {
                        self.skip = self.length;
                        found.message(bytes.get(time_at..).unwrap_or_default());
                    }
                    (self.at, self.length, self.shift) = (At::Event, 0, 0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::subscribe_response::Kind;
    use postern_proto::event::v1::{Batch, Event, Heartbeat, SubscribeResponse};
    use prost::Message as _;

    #[test]
    fn events_are_counted_in_whatever_pieces_they_come() {
        let event = |id: &str| Event { id: id.into(), ..Event::default() };
        let batch =
            Kind::Batch(Batch { events: vec![event("1700000000000000000"), event(&"x".repeat(300))] });
        let heartbeat = Kind::Heartbeat(Heartbeat { cursor: vec![2; 25].into() });
        let mut told = Vec::new();
        frame(&mut told, SETTINGS, 0, 0, &[]);
        for kind in [batch.clone(), heartbeat, batch] {
            let message = SubscribeResponse { kind: Some(kind) }.encode_to_vec();
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let framed = [&[0][..], &length, &message].concat();
            for piece in framed.chunks(100) {
                frame(&mut told, DATA, 0, 1, piece);
            }
        }
        for size in 1..told.len() {
            let (mut connection, mut answers) = (Connection::new([1], None), Vec::new());
            let mut messages = 0;
            for piece in told.chunks(size) {
                connection.take(piece, &mut answers, |_, found| messages += found.messages).unwrap();
            }
            assert_eq!(messages, 4, "pieces of {size}");
            assert_eq!(answers, [0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0], "pieces of {size}");
        }
        let mut sent = Vec::new();
        let found = |_, found: Found| sent.extend(found.sent.unwrap());
        Connection::new([1], Some(2)).take(&told, &mut Vec::new(), found).unwrap();
        assert_eq!(sent, [1_700_000_000_000_000_000; 2]);
    }
}
