//! Those who read over every death of the gateway: one ORDERED subscriber who commits, several SHARED ones who
//! acknowledge. They speak the contract itself, so that it is known what had been confirmed when a stream was opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::consume_response::Kind;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::{
    Commit, Confirmed, ConsumeRequest, ConsumeResponse, ConsumeStart, Delivery, Settle,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;

pub(super) const ORDERED: &str = "subscriptions/in-order";
pub(super) const SHARED: &str = "subscriptions/by-many";
/// How long a reader waits before it looks for a gateway again.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a reader waits for its stream to open before it tries anew. It is the HTTP/2 client's fault where it never
/// does: a call that it takes in the moment in which its connection breaks may be forgotten.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one stream of the ORDERED subscription gave.
#[derive(Default)]
pub(super) struct Stretch {
    /// What was confirmed to be committed before it was opened.
    pub(super) confirmed: Option<String>,
    /// The last event that a commit was asked for before it was opened.
    pub(super) asked: Option<String>,
    /// The ids of the events, as they came.
    pub(super) given: Vec<String>,
}

/// What the ORDERED subscriber knows.
#[derive(Default)]
pub(super) struct InOrder {
    pub(super) stretches: Vec<Stretch>,
    pub(super) confirmed: Option<String>,
    asked: Option<String>,
    /// The last event that the present stream gave.
    last: Option<(Bytes, String)>,
    ids: HashMap<Bytes, String>,
}

/// What the SHARED subscribers know.
#[derive(Default)]
pub(super) struct ByMany {
    /// The events whose acknowledgement was confirmed, and as the how manieth.
    pub(super) confirmed: HashMap<String, usize>,
    /// The ids of all events that were delivered, again and again where they were.
    pub(super) given: Vec<String>,
    ids: HashMap<String, String>,
}

/// An open stream, and what to say on it.
struct Open {
    say: mpsc::Sender<ConsumeRequest>,
    answers: Streaming<ConsumeResponse>,
}

impl Open {
    /// Opens a stream. Nothing where there is no gateway, or no longer.
    async fn at(url: &str, subscription: &str, client_id: &str) -> Option<Self> {
        tokio::time::timeout(PATIENCE, Self::open(url, subscription, client_id)).await.ok()?
    }

    async fn open(url: &str, subscription: &str, client_id: &str) -> Option<Self> {
        let channel = Endpoint::from_shared(url.to_owned()).unwrap().connect().await.ok()?;
        let (say, said) = mpsc::channel(64);
        let start = ConsumeStart {
            subscription: subscription.to_owned(),
            client_id: client_id.to_owned(),
            ..ConsumeStart::default()
        };
        say.try_send(ConsumeRequest { kind: Some(Say::Start(start)) }).unwrap();
        let answers = EventServiceClient::new(channel).consume(ReceiverStream::new(said)).await.ok()?;
        let mut open = Self { say, answers: answers.into_inner() };
        match open.next().await? {
            Kind::Opened(_) => Some(open),
            other => panic!("not opened: {other:?}"),
        }
    }

    /// The next answer. Nothing where the gateway is gone.
    async fn next(&mut self) -> Option<Kind> {
        Some(self.answers.message().await.ok()??.kind.expect("each answer has a kind"))
    }

    async fn say(&self, say: Say) {
        // A stream that has ended hears no more.
        let _ = self.say.send(ConsumeRequest { kind: Some(say) }).await;
    }
}

fn id_of(delivery: &Delivery) -> String {
    delivery.event.as_ref().unwrap().id.clone()
}

/// Reads in order and commits, until it is done.
pub(super) async fn in_order(url: String, done: CancellationToken, known: Arc<Mutex<InOrder>>) {
    while !done.is_cancelled() {
        let stretch = {
            let known = known.lock().unwrap();
            Stretch { confirmed: known.confirmed.clone(), asked: known.asked.clone(), given: Vec::new() }
        };
        if let Some(open) = Open::at(&url, ORDERED, "in-order").await {
            known.lock().unwrap().stretches.push(stretch);
            let reading = async {
                read_in_order(open, &known).await;
            };
            done.run_until_cancelled(reading).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read_in_order(mut open: Open, known: &Mutex<InOrder>) {
    while let Some(answer) = open.next().await {
        match answer {
            Kind::Deliveries(deliveries) => {
                // At times only part of them is done with.
                let few = fastrand::usize(1..=deliveries.deliveries.len());
                let part = if fastrand::bool() { few } else { deliveries.deliveries.len() };
                let mut cursor = Bytes::new();
                {
                    let mut known = known.lock().unwrap();
                    for (place, delivery) in deliveries.deliveries.iter().enumerate() {
                        let (id, at) = (id_of(delivery), delivery.event.as_ref().unwrap().cursor.clone());
                        if place < part {
                            (known.asked, cursor) = (Some(id.clone()), at.clone());
                        }
                        known.ids.insert(at.clone(), id.clone());
                        known.last = Some((at, id.clone()));
                        known.stretches.last_mut().unwrap().given.push(id);
                    }
                }
                open.say(Say::Commit(Commit { cursor })).await;
            }
            Kind::Confirmed(Confirmed { cursor, .. }) => {
                let rest = {
                    let mut known = known.lock().unwrap();
                    let id = known.ids.get(&cursor).expect("what is confirmed was asked for").clone();
                    // Of a part: now the rest is done with, too.
                    let rest = known.last.clone().filter(|(_, last)| *last != id);
                    known.confirmed = Some(id);
                    if let Some((_, last)) = &rest {
                        known.asked = Some(last.clone());
                    }
                    rest
                };
                if let Some((cursor, _)) = rest {
                    open.say(Say::Commit(Commit { cursor })).await;
                }
            }
            Kind::Heartbeat(_) => {}
            other => panic!("unexpected in order: {other:?}"),
        }
    }
}

/// Reads with others and acknowledges, until it is done. Some deliveries are left to their deadline, until all is to come
/// to its end: one that is left again and again would take longer than that is waited for.
pub(super) async fn by_many(
    url: String,
    (ends, done): (CancellationToken, CancellationToken),
    known: Arc<Mutex<ByMany>>,
) {
    while !done.is_cancelled() {
        let before = known.lock().unwrap().confirmed.len();
        if let Some(open) = Open::at(&url, SHARED, "").await {
            let reading = async {
                read_by_many(open, &known, before, &ends).await;
            };
            done.run_until_cancelled(reading).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read_by_many(mut open: Open, known: &Mutex<ByMany>, before: usize, ends: &CancellationToken) {
    while let Some(answer) = open.next().await {
        match answer {
            Kind::Deliveries(deliveries) => {
                let mut ack_ids = Vec::new();
                {
                    let mut known = known.lock().unwrap();
                    for delivery in &deliveries.deliveries {
                        let id = id_of(delivery);
                        if let Some(place) = known.confirmed.get(&id) {
                            assert!(*place >= before, "{id} was acknowledged and came again: {delivery:?}");
                        }
                        known.ids.insert(delivery.ack_id.clone(), id.clone());
                        known.given.push(id);
                        if ends.is_cancelled() || fastrand::u8(..50) != 0 {
                            ack_ids.push(delivery.ack_id.clone());
                        }
                    }
                }
                open.say(Say::Settle(Settle { ack_ids, ..Settle::default() })).await;
            }
            Kind::Confirmed(Confirmed { ack_ids, .. }) => {
                let mut known = known.lock().unwrap();
                for ack_id in ack_ids {
                    let id = known.ids[&ack_id].clone();
                    let place = known.confirmed.len();
                    let again = known.confirmed.insert(id, place);
                    assert!(again.is_none(), "{ack_id}: an event was acknowledged twice");
                }
            }
            Kind::Heartbeat(_) => {}
            other => panic!("unexpected by many: {other:?}"),
        }
    }
}
