//! The answers of `Consume` and `Pull` as they go over the wire: the contract's messages, with events left encoded as
//! the log holds them.

use bytes::Bytes;
use postern_proto::event::v1::{Confirmed, ConsumeOpened, Gap, Heartbeat};

/// The most deliveries of one answer, as the contract promises.
pub(super) const BATCH_EVENTS: usize = 256;
/// The most bytes of events of one answer that has more than one: what else is in it fits under the 1 MiB promised.
pub(super) const BATCH_BYTES: usize = 512 * 1024;

/// `postern.event.v1.ConsumeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConsumeAnswer {
    /// What it is.
    #[prost(oneof = "Said", tags = "1, 2, 3, 4, 5")]
    pub(super) said: Option<Said>,
}

/// `postern.event.v1.ConsumeResponse.kind`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Said {
    /// The stream is open.
    #[prost(message, tag = "1")]
    Opened(ConsumeOpened),
    /// Events.
    #[prost(message, tag = "2")]
    Deliveries(Deliveries),
    /// Nothing was delivered or confirmed for a while.
    #[prost(message, tag = "3")]
    Heartbeat(Heartbeat),
    /// Events are no longer kept.
    #[prost(message, tag = "4")]
    Gap(Gap),
    /// What is durable.
    #[prost(message, tag = "5")]
    Confirmed(Confirmed),
}

/// `postern.event.v1.Deliveries`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Deliveries {
    #[prost(message, repeated, tag = "1")]
    pub(super) deliveries: Vec<Delivery>,
}

/// `postern.event.v1.Delivery`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Delivery {
    /// An encoded `postern.event.v1.Event`.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) event: Bytes,
    #[prost(string, tag = "2")]
    pub(super) ack_id: String,
    #[prost(int32, tag = "3")]
    pub(super) attempt: i32,
}

/// `postern.event.v1.PullResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PullAnswer {
    #[prost(message, repeated, tag = "1")]
    pub(super) deliveries: Vec<Delivery>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) cursor: Bytes,
    #[prost(message, optional, tag = "3")]
    pub(super) gap: Option<Gap>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::{ConsumeResponse, Event, PullResponse, consume_response};
    use prost::Message as _;

    #[test]
    fn answers_read_as_the_contract_says() {
        let event = Event { id: "a".to_owned(), ..Event::default() };
        let delivery = Delivery { event: event.encode_to_vec().into(), ack_id: "x".to_owned(), attempt: 2 };
        let deliveries = Deliveries { deliveries: vec![delivery.clone()] };
        let answer = ConsumeAnswer { said: Some(Said::Deliveries(deliveries)) };
        let read = ConsumeResponse::decode(answer.encode_to_vec().as_slice()).unwrap();
        let Some(consume_response::Kind::Deliveries(read)) = read.kind else { panic!("{read:?}") };
        assert_eq!(read.deliveries[0].event.as_ref(), Some(&event));
        assert_eq!((read.deliveries[0].ack_id.as_str(), read.deliveries[0].attempt), ("x", 2));

        let gap = Gap { missed: 3, ..Gap::default() };
        let cursor = Bytes::from_static(b"c");
        let answer =
            PullAnswer { deliveries: vec![delivery], cursor: cursor.clone(), gap: Some(gap.clone()) };
        let read = PullResponse::decode(answer.encode_to_vec().as_slice()).unwrap();
        assert_eq!(
            (read.deliveries[0].event.as_ref(), read.cursor, read.gap),
            (Some(&event), cursor, Some(gap))
        );
    }
}
