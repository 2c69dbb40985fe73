//! Those who read events at the gateways of a simulation, go away and come back, and notice what must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use postern_gateway::events::cursor::Cursor;
use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::consume_response::Kind as Told;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::{
    Commit, ConsumeRequest, ConsumeStart, Delivery, Event, Nack, Settle, StartPosition, SubscribeRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::machine::Gateway;
use crate::weather::{Weather, lock};

/// The longest silence of a stream: heartbeats come more often.
const SILENCE: Duration = Duration::from_secs(60);

/// How a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It keeps its place itself.
    Follows,
    /// It commits in an ORDERED subscription.
    Commits,
    /// It acknowledges in a SHARED subscription.
    Acks,
}

/// What all readers of one kind know together.
#[derive(Default)]
pub(crate) struct Book {
    /// Where who follows has come to.
    pub(crate) cursor: Bytes,
    /// The places of what was read, as it came, of who follows.
    pub(crate) read: Vec<u64>,
    /// The last place whose commit was confirmed.
    pub(crate) confirmed: u64,
    /// The last place that was ever committed.
    committed: u64,
    /// The ids whose acknowledgement was confirmed.
    pub(crate) acked: BTreeSet<String>,
    /// What the ids of acknowledgements are for.
    asked: BTreeMap<String, String>,
}

impl Book {
    /// How many events are acknowledged, whether that was confirmed or not.
    pub(crate) fn acks(&self) -> usize {
        self.acked.iter().chain(self.asked.values()).collect::<BTreeSet<_>>().len()
    }
}

/// A reader.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) weather: Arc<Weather>,
}

fn place(cursor: &[u8]) -> u64 {
    Cursor::decode(cursor).map_or(0, |cursor| cursor.sequence)
}

fn place_of(event: Option<&Event>) -> u64 {
    event.map_or(0, |event| place(&event.cursor))
}

impl Reader {
    /// Reads at one gateway until that ends.
    pub(crate) async fn session(self: Arc<Self>, gateway: Gateway) {
        let client = EventServiceClient::new(gateway.doors);
        let ended = match self.way {
            Way::Follows => self.follow(client).await,
            Way::Commits | Way::Acks => self.consume(client).await,
        };
        let code = ended.err().map(|status| (status.code(), postern_chassis::fault::reason_of(&status)));
        self.weather.trace(format_args!("{}: ended {code:?}", self.name));
    }

    /// Whether it goes away now, of itself.
    fn leaves(&self) -> bool {
        self.weather.strikes(30)
    }

    async fn follow(&self, mut client: EventServiceClient<crate::Doors>) -> Result<(), Status> {
        let cursor = lock(&self.book).cursor.clone();
        let position = match cursor.is_empty() {
            true => Position::Earliest(()),
            false => Position::Cursor(cursor),
        };
        let start = Some(StartPosition { position: Some(position) });
        let request = SubscribeRequest { start, ..SubscribeRequest::default() };
        let mut stream = client.subscribe(request).await?.into_inner();
        while let Ok(Some(answer)) = tokio::time::timeout(SILENCE, stream.message()).await.unwrap_or(Ok(None))
        {
            match answer.kind {
                Some(Answer::Batch(batch)) => {
                    let mut book = lock(&self.book);
                    for event in batch.events {
                        book.read.push(place(&event.cursor));
                        book.cursor = event.cursor;
                    }
                }
                Some(Answer::Opened(opened)) => lock(&self.book).cursor = opened.cursor,
                Some(Answer::Heartbeat(heartbeat)) => lock(&self.book).cursor = heartbeat.cursor,
                Some(Answer::Gap(gap)) => self.weather.wrong(format!("{}: {gap:?}", self.name)),
                None => {}
            }
            if self.leaves() {
                return Ok(());
            }
            self.weather.wait(100, 5_000).await;
        }
        Ok(())
    }

    async fn consume(&self, mut client: EventServiceClient<crate::Doors>) -> Result<(), Status> {
        let (say, said) = mpsc::channel(16);
        let subscription = match self.way {
            Way::Commits => "subscriptions/ordered",
            Way::Follows | Way::Acks => "subscriptions/shared",
        };
        let (subscription, client_id) = (subscription.to_owned(), self.name.to_owned());
        let first = ConsumeStart { subscription, client_id, max_outstanding_events: 5, ..Default::default() };
        let send = |kind| say.try_send(ConsumeRequest { kind: Some(kind) });
        let _ = send(Say::Start(first));
        let floor = lock(&self.book).confirmed;
        let mut last = None;
        let mut stream = client.consume(ReceiverStream::new(said)).await?.into_inner();
        while let Some(answer) = tokio::time::timeout(SILENCE, stream.message()).await.unwrap_or(Ok(None))? {
            match answer.kind {
                Some(Told::Deliveries(all)) if self.way == Way::Commits => {
                    for delivery in &all.deliveries {
                        self.in_order(floor, &mut last, place_of(delivery.event.as_ref()));
                    }
                    let chosen = self.weather.below(all.deliveries.len());
                    let chosen = all.deliveries.get(if self.weather.is_calm() {
                        all.deliveries.len() - 1
                    } else {
                        chosen
                    });
                    self.weather.wait(100, 5_000).await;
                    if let Some(event) = chosen.and_then(|delivery| delivery.event.clone()) {
                        let mut book = lock(&self.book);
                        book.committed = book.committed.max(place(&event.cursor));
                        let _ = send(Say::Commit(Commit { cursor: event.cursor }));
                    }
                }
                Some(Told::Deliveries(all)) => {
                    // What comes meanwhile is looked at as it comes: until its deadline has passed it may be another's.
                    let (settle, say, weather) =
                        (self.settle(all.deliveries), say.clone(), self.weather.clone());
                    tokio::spawn(async move {
                        weather.wait(200, 15_000).await;
                        let _ = say.try_send(ConsumeRequest { kind: Some(Say::Settle(settle)) });
                    });
                }
                Some(Told::Confirmed(confirmed)) => {
                    let mut book = lock(&self.book);
                    book.confirmed = book.confirmed.max(place(&confirmed.cursor));
                    for ack_id in &confirmed.ack_ids {
                        if let Some(id) = book.asked.get(ack_id).cloned() {
                            book.acked.insert(id);
                        }
                    }
                }
                Some(Told::Gap(gap)) => self.weather.wrong(format!("{}: {gap:?}", self.name)),
                // What was committed may not have been confirmed.
                Some(Told::Opened(opened)) => {
                    let mut book = lock(&self.book);
                    book.confirmed = book.confirmed.max(place(&opened.cursor));
                }
                Some(Told::Heartbeat(_)) | None => {}
            }
            if self.leaves() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// An ORDERED stream goes on after what is confirmed, leaves nothing out that was not committed, and then nothing.
    fn in_order(&self, floor: u64, last: &mut Option<u64>, place: u64) {
        let name = self.name;
        match *last {
            None if place <= floor => {
                self.weather.wrong(format!("{name}: {place} came after {floor} was confirmed"));
            }
            None if place > lock(&self.book).committed + 1 => {
                self.weather.wrong(format!("{name}: began at {place}, beyond what was committed"));
            }
            Some(last) if place != last + 1 => {
                self.weather.wrong(format!("{name}: {place} came after {last}"));
            }
            None | Some(_) => {}
        }
        *last = Some(place);
    }

    /// What becomes of deliveries: most are acknowledged.
    fn settle(&self, deliveries: Vec<Delivery>) -> Settle {
        let mut settle = Settle::default();
        for Delivery { event, ack_id, .. } in deliveries {
            let id = event.map(|event| event.id).unwrap_or_default();
            let mut book = lock(&self.book);
            if book.acked.contains(&id) {
                self.weather.wrong(format!("{}: {id} came after its ack was confirmed", self.name));
            }
            if self.weather.strikes(100) {
                let delay = Duration::from_secs(1).try_into().ok();
                settle.nacks.push(Nack { ack_id, delay, reason: String::new() });
            } else if !self.weather.strikes(50) {
                book.asked.insert(ack_id.clone(), id);
                settle.ack_ids.push(ack_id);
            }
        }
        settle
    }
}
