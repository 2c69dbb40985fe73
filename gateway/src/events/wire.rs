//! The answers of `Subscribe` as they go over the wire: the contract's `SubscribeResponse`, with the events of a batch
//! left encoded as the log holds them. On the wire `repeated Event` and `repeated bytes` are the same.

use bytes::{BufMut as _, Bytes, BytesMut};
use postern_proto::event::v1::{Gap, Heartbeat, Opened};
use prost::Message as _;

/// `postern.event.v1.SubscribeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Answer {
    /// What it is.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4")]
    pub(super) kind: Option<Kind>,
}

/// `postern.event.v1.SubscribeResponse.kind`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    /// The stream is open.
    #[prost(message, tag = "1")]
    Opened(Opened),
    /// Events, in order.
    #[prost(message, tag = "2")]
    Batch(Batch),
    /// Nothing that matches happened for a while.
    #[prost(message, tag = "3")]
    Heartbeat(Heartbeat),
    /// Events asked for are no longer kept.
    #[prost(message, tag = "4")]
    Gap(Gap),
}

/// `postern.event.v1.Batch`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Batch {
    /// Each an encoded `postern.event.v1.Event`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) events: Vec<Bytes>,
}

/// What stands before a message on the wire: whether it is compressed, and its length (gRPC over HTTP/2).
const FRAME_BYTES: usize = 1 + 4;

impl Answer {
    /// The answer as it goes over the wire: a gRPC frame.
    pub(super) fn framed(&self) -> Bytes {
        let length = self.encoded_len();
        let mut framed = BytesMut::with_capacity(FRAME_BYTES + length);
        framed.put_u8(0);
        // A batch is bounded far below.
        framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        // There is room: a buffer grows.
        let _ = self.encode(&mut framed);
        framed.freeze()
    }
}

impl From<Kind> for Answer {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::{Event, SubscribeResponse, subscribe_response};

    #[test]
    fn a_batch_reads_as_the_contract_says() {
        let events = ["a", "b"].map(|id| Event { id: id.to_owned(), ..Event::default() });
        let encoded = events.iter().map(|event| event.encode_to_vec().into()).collect();
        let answer = Answer::from(Kind::Batch(Batch { events: encoded }));
        let framed = answer.framed();
        assert_eq!(framed[..FRAME_BYTES], [0, 0, 0, 0, u8::try_from(framed.len() - FRAME_BYTES).unwrap()]);
        let read = SubscribeResponse::decode(&framed[FRAME_BYTES..]).unwrap();
        let Some(subscribe_response::Kind::Batch(batch)) = read.kind else { panic!("{read:?}") };
        assert_eq!(batch.events, events);
    }
}
