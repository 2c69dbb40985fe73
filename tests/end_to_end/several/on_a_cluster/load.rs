//! What callers do meanwhile: they send, queue, follow the log and read subscriptions, through whichever gateway answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_client::{Client, Consumed, Delivered, Start, Wish};
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{
    ConsumeStart, CreateSubscriptionRequest, StartPosition, Subscription, SubscriptionMode,
    start_position::Position,
};
use postern_proto::outbox::v1::QueueEmailRequest;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use tokio::task::JoinSet;

use crate::several::in_order::{Step, patient_client, read_by_turns};
use crate::world::{SMTP, mail};

/// The pause between two mails of a sender: what is tried is what they live through, not how many they are.
const PACE: Duration = Duration::from_millis(100);
/// How long a fault may last for callers: a vote on a new leader takes NATS ten seconds, and a lost answer twenty.
const PATIENCE: Duration = Duration::from_secs(75);

const ORDERED: &str = "subscriptions/in-order";
const SHARED: &str = "subscriptions/shared-out";

/// What the callers have seen.
#[derive(Default)]
pub(super) struct Seen {
    /// The subjects of mails that were sent, and of those of which nobody knows.
    pub(super) sent: BTreeSet<String>,
    pub(super) unknown: BTreeSet<String>,
    /// Queued mails: their subjects by name.
    pub(super) queued: BTreeMap<String, String>,
    /// The events of the log, as they were told to a subscriber.
    pub(super) told: Vec<Event>,
    pub(super) ordered: Vec<Step>,
    /// The ids of events that a reader of the SHARED subscription has settled.
    pub(super) settled: BTreeSet<String>,
}

/// The callers at work.
pub(super) struct Load {
    client: Client,
    seen: Arc<Mutex<Seen>>,
    done: Arc<AtomicBool>,
    senders: JoinSet<()>,
    readers: JoinSet<()>,
}

impl Load {
    /// Callers of the gateways at these addresses.
    pub(super) async fn start(addresses: &[String]) -> Self {
        let client = |first: usize| patient_client(addresses, first);
        for (name, mode) in [(ORDERED, SubscriptionMode::Ordered), (SHARED, SubscriptionMode::Shared)] {
            let ack_deadline = Some(prost_types::Duration { seconds: 10, nanos: 0 });
            let ack_deadline = ack_deadline.filter(|_| mode == SubscriptionMode::Shared);
            let request = CreateSubscriptionRequest {
                subscription_id: name.trim_start_matches("subscriptions/").to_owned(),
                subscription: Some(Subscription { mode: mode.into(), ack_deadline, ..Default::default() }),
                start: Some(StartPosition { position: Some(Position::Earliest(())) }),
                ..Default::default()
            };
            client(0).subscriptions().create_subscription(request).await.unwrap();
        }
        let (seen, done) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (mut senders, mut readers) = (JoinSet::new(), JoinSet::new());
        for number in 0..2 {
            senders.spawn(send(client(number), number, seen.clone(), done.clone()));
        }
        senders.spawn(queue(client(2), seen.clone(), done.clone()));
        readers.spawn(follow(client(0), seen.clone()));
        let (readers_in_order, reading) = ((0..addresses.len()).map(client).collect(), seen.clone());
        readers.spawn(async move {
            read_by_turns(readers_in_order, ORDERED, |step| reading.lock().unwrap().ordered.push(step)).await;
        });
        for number in 1..3 {
            readers.spawn(share(client(number), seen.clone()));
        }
        Self { client: client(0), seen, done, senders, readers }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    /// Waits until everybody has been served again from now on: mails sent and queued, their events told and read.
    pub(super) async fn goes_on(&self) {
        let counts = |seen: &Seen| {
            [seen.sent.len(), seen.queued.len(), seen.told.len(), seen.ordered.len(), seen.settled.len()]
        };
        let before = self.seen(counts);
        let going = async {
            // Two senders: three answers mean that one call at least began after now.
            while !before.iter().zip(self.seen(counts)).all(|(before, now)| now >= before + 3) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, going).await.is_err() {
            panic!(
                "somebody is served no more (sent, queued, told, read, settled): {before:?}, {:?}",
                self.seen(counts)
            );
        }
    }

    /// Ends the senders, each after what it is at.
    pub(super) async fn end_sending(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
    }

    /// Ends the readers. One that broke ends the test.
    pub(super) async fn end(mut self) -> Seen {
        self.readers.abort_all();
        while let Some(ended) = self.readers.join_next().await {
            assert!(ended.is_err_and(|error| error.is_cancelled()), "a reader ended by itself");
        }
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn send(client: Client, sender: usize, seen: Arc<Mutex<Seen>>, done: Arc<AtomicBool>) {
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("sent-{sender}-{number:05}");
        let request = SendEmailRequest {
            connection: SMTP.to_owned(),
            request_id: id.clone(),
            content: Some(Content::Email(mail(&id))),
            delivery_reports: None,
        };
        let sending = client.retrying(|client| {
            let request = request.clone();
            async move { client.smtp().send_email(request).await }
        });
        match sending.await {
            Ok(_) => drop(seen.lock().unwrap().sent.insert(id)),
            Err(error) if error.reason() == "OUTCOME_UNKNOWN" => {
                seen.lock().unwrap().unknown.insert(id);
            }
            Err(error) => panic!("{id}: {error:?}"),
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn queue(client: Client, seen: Arc<Mutex<Seen>>, done: Arc<AtomicBool>) {
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("queued-{number:05}");
        let request = QueueEmailRequest {
            connection: SMTP.to_owned(),
            request_id: id.clone(),
            email: Some(mail(&id)),
            ..QueueEmailRequest::default()
        };
        let queueing = client.retrying(|client| {
            let request = request.clone();
            async move { client.outbox().queue_email(request).await }
        });
        let queued = queueing.await.unwrap_or_else(|error| panic!("{id}: {error:?}"));
        let name = queued.into_inner().queued_email.unwrap().name;
        assert_eq!(seen.lock().unwrap().queued.insert(name, id), None, "two mails of one name");
        tokio::time::sleep(2 * PACE).await;
    }
}

async fn follow(client: Client, seen: Arc<Mutex<Seen>>) {
    let mut subscription = client.subscribe(Wish::from(Start::Earliest));
    while let Some(delivered) = subscription.next().await {
        match delivered.unwrap() {
            Delivered::Event(event) => seen.lock().unwrap().told.push(event),
            Delivered::Gap(gap) => panic!("a gap: {gap:?}"),
        }
    }
}

async fn share(client: Client, seen: Arc<Mutex<Seen>>) {
    let start = ConsumeStart {
        subscription: SHARED.to_owned(),
        max_outstanding_events: 20,
        ..ConsumeStart::default()
    };
    let mut reader = client.consume(start);
    loop {
        match reader.next().await.expect("it goes on").unwrap() {
            Consumed::Delivery(delivery) => {
                if reader.ack(&delivery).await.unwrap() {
                    seen.lock().unwrap().settled.insert(delivery.event.unwrap().id);
                }
            }
            Consumed::Gap(gap) => panic!("a gap: {gap:?}"),
        }
    }
}

/// The subject of the mail that an event tells of, if it does.
pub(super) fn subject_of(event: &Event) -> Option<&str> {
    match event.data.as_ref()?.kind.as_ref()? {
        Kind::NewEmail(email) => Some(&email.subject),
        _ => None,
    }
}
