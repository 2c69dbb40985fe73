//! The answers of `Subscribe` as they go over the wire: the contract's `SubscribeResponse`, with the events of a batch
//! left encoded as the log holds them. On the wire `repeated Event` and `repeated bytes` are the same.

use bytes::Bytes;
use postern_proto::event::v1::{Gap, Heartbeat, Opened};

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

impl From<Kind> for Answer {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::{Event, SubscribeResponse, subscribe_response};
    use prost::Message as _;

    #[test]
    fn a_batch_reads_as_the_contract_says() {
        let events = ["a", "b"].map(|id| Event { id: id.to_owned(), ..Event::default() });
        let encoded = events.iter().map(|event| event.encode_to_vec().into()).collect();
        let answer = Answer::from(Kind::Batch(Batch { events: encoded }));
        let read = SubscribeResponse::decode(answer.encode_to_vec().as_slice()).unwrap();
        let Some(subscribe_response::Kind::Batch(batch)) = read.kind else { panic!("{read:?}") };
        assert_eq!(batch.events, events);
    }
}
