//! One who reads a subscription on a stream.

use std::time::Duration;

use bytes::Bytes;
use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::consume_response::Kind;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::{
    Commit, Confirmed, ConsumeOpened, ConsumeRequest, ConsumeResponse, Delivery, Gap, Settle,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::PATIENCE;

/// One stream of a subscription.
pub(crate) struct Subscriber {
    say: Option<mpsc::Sender<ConsumeRequest>>,
    answers: Streaming<ConsumeResponse>,
}

impl Subscriber {
    pub(crate) async fn begin(mut client: EventServiceClient<Channel>, first: Say) -> Self {
        let (say, said) = mpsc::channel(16);
        say.send(ConsumeRequest { kind: Some(first) }).await.unwrap();
        let answers = client.consume(ReceiverStream::new(said)).await.unwrap().into_inner();
        Self { say: Some(say), answers }
    }

    pub(crate) async fn say(&self, say: Say) {
        // A stream that has ended hears no more.
        drop(self.say.as_ref().unwrap().send(ConsumeRequest { kind: Some(say) }).await);
    }

    /// Says several things at once, as far as there is room for them.
    pub(crate) fn say_all(&self, all: impl IntoIterator<Item = Say>) {
        let say = self.say.as_ref().unwrap();
        all.into_iter().for_each(|one| say.try_send(ConsumeRequest { kind: Some(one) }).unwrap());
    }

    /// Has nothing more to say.
    pub(crate) fn hush(&mut self) {
        self.say = None;
    }

    pub(crate) async fn commit(&self, cursor: &Bytes) {
        self.say(Say::Commit(Commit { cursor: cursor.clone() })).await;
    }

    pub(crate) async fn settle(&self, settle: Settle) {
        self.say(Say::Settle(settle)).await;
    }

    /// The next answer, or how the stream ended; nothing where that was well.
    pub(crate) async fn answer(&mut self) -> Result<Option<Kind>, Status> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message());
        let answer = answer.await.expect("an answer in time")?;
        Ok(answer.map(|answer| answer.kind.expect("each answer has a kind")))
    }

    pub(crate) async fn next(&mut self) -> Kind {
        self.answer().await.unwrap().expect("it goes on")
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.answers.message()).await.is_err()
    }

    pub(crate) async fn opened(&mut self) -> ConsumeOpened {
        match self.next().await {
            Kind::Opened(opened) => opened,
            other => panic!("not opened: {other:?}"),
        }
    }

    pub(crate) async fn gap(&mut self) -> Gap {
        match self.next().await {
            Kind::Gap(gap) => gap,
            other => panic!("no gap: {other:?}"),
        }
    }

    pub(crate) async fn confirmed(&mut self) -> Confirmed {
        match self.next().await {
            Kind::Confirmed(confirmed) => confirmed,
            other => panic!("not confirmed: {other:?}"),
        }
    }

    /// The next deliveries, which must come as such and no more than asked for.
    pub(crate) async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next().await {
                Kind::Deliveries(deliveries) => all.extend(deliveries.deliveries),
                other => panic!("no deliveries: {other:?}"),
            }
        }
        assert_eq!(all.len(), count);
        all
    }

    /// The status that ends the stream.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match self.answer().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended well"),
                Err(status) => return status,
            }
        }
    }

    /// The next deliveries of one answer; confirmations before them are passed over.
    pub(crate) async fn deliveries_once(&mut self) -> Vec<Delivery> {
        loop {
            match self.next().await {
                Kind::Deliveries(deliveries) => return deliveries.deliveries,
                Kind::Confirmed(_) => {}
                other => panic!("no deliveries: {other:?}"),
            }
        }
    }

    /// The next confirmation; deliveries before it are passed over.
    pub(crate) async fn confirmed_once(&mut self) -> Confirmed {
        loop {
            match self.next().await {
                Kind::Confirmed(confirmed) => return confirmed,
                Kind::Deliveries(_) => {}
                other => panic!("not confirmed: {other:?}"),
            }
        }
    }
}
