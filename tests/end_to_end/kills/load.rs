//! The load that gateways are killed under: callers send and queue mail, a trigger makes events of it, subscribers read
//! and acknowledge them. At its end all is compared with what happened.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_client::{Client, Delivered, Retry, Settings, Start, Wish};
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{
    CreateSubscriptionRequest, Event, GetSubscriptionRequest, GetTriggerRequest, Subscription as Stored,
    SubscriptionMode, SubscriptionStatus,
};
use postern_proto::outbox::v1::{GetQueuedEmailRequest, QueuedEmailState};
use postern_sandbox::place::Place;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::callers::{self, Asked};
use super::doors::{Doors, Listening};
use super::proof::{self, Log};
use super::readers::{self, ByMany, InOrder, ORDERED, SHARED};
use super::struck::Struck;
use crate::subscriptions::world::at;
use crate::world::{OUTLOOK, SMTP, TRIGGER, connect, create, new_mail, place, until};

/// After how long a silence the log is followed anew from where that was: the pauses of a subscription whose gateways die
/// one after the other grow far beyond the lives of those here.
const SILENCE: Duration = Duration::from_millis(500);
/// How many share a subscription.
const SHARERS: usize = 2;

/// What everybody who takes part knows.
#[derive(Default)]
struct Known {
    asked: Arc<Mutex<Asked>>,
    followed: Arc<Mutex<Vec<Event>>>,
    in_order: Arc<Mutex<InOrder>>,
    by_many: Arc<Mutex<ByMany>>,
}

impl Known {
    /// The ids of all events that anybody was shown and that were not given before.
    fn shown(&self, before: &mut (usize, usize)) -> Vec<String> {
        let followed = self.followed.lock().unwrap();
        let by_many = self.by_many.lock().unwrap();
        let mut shown: Vec<_> = followed[before.0..].iter().map(|event| event.id.clone()).collect();
        shown.extend(by_many.given[before.1..].iter().cloned());
        *before = (followed.len(), by_many.given.len());
        if let Some(stretch) = self.in_order.lock().unwrap().stretches.last() {
            shown.extend(stretch.given.iter().cloned());
        }
        shown
    }
}

/// Follows the log over every death, and keeps what it saw, until it is aborted.
async fn follow(client: Client, followed: Arc<Mutex<Vec<Event>>>) {
    let mut subscription = client.subscribe(Wish::from(Start::Earliest));
    loop {
        let Ok(delivered) = tokio::time::timeout(SILENCE, subscription.next()).await else {
            let start = subscription.cursor().cloned().map_or(Start::Earliest, Start::After);
            subscription = client.subscribe(Wish::from(start));
            continue;
        };
        match delivered.expect("it goes on").unwrap() {
            Delivered::Event(event) => followed.lock().unwrap().push(event),
            Delivered::Gap(gap) => panic!("a gap: {gap:?}"),
        }
    }
}

/// The connections, the trigger and the subscriptions.
async fn set_up(place: &Place, address: SocketAddr, client: &Client) {
    let channel = connect(address).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    create(&channel, OUTLOOK, place.outlook_connection()).await.unwrap();
    client.triggers().create_trigger(new_mail()).await.unwrap();
    until("what happens is pushed", || async {
        let request = GetTriggerRequest { name: TRIGGER.to_owned() };
        let got = client.triggers().get_trigger(request).await.unwrap().into_inner();
        got.trigger.unwrap().status.unwrap().push_expire_time
    })
    .await;
    for (name, mode) in [(ORDERED, SubscriptionMode::Ordered), (SHARED, SubscriptionMode::Shared)] {
        let (mut deadline, mut attempts) = (None, 0);
        if mode == SubscriptionMode::Shared {
            (deadline, attempts) = (Some(Duration::from_secs(10).try_into().unwrap()), 100);
        }
        let stored =
            Stored { mode: mode.into(), ack_deadline: deadline, max_attempts: attempts, ..Stored::default() };
        let request = CreateSubscriptionRequest {
            subscription_id: name.trim_start_matches("subscriptions/").to_owned(),
            subscription: Some(stored),
            start: at(Position::Earliest(())),
            ..CreateSubscriptionRequest::default()
        };
        client.subscriptions().create_subscription(request).await.unwrap();
    }
}

/// A load on whatever gateway the doors lead to.
pub(crate) struct Load {
    pub(crate) doors: Doors,
    place: Place,
    client: Client,
    known: Known,
    log: Log,
    shown: (usize, usize),
    asking: Vec<JoinHandle<()>>,
    reading: Vec<JoinHandle<()>>,
    following: JoinHandle<()>,
    /// Nothing more is asked for.
    asked: CancellationToken,
    /// Nothing more is read.
    read: CancellationToken,
}

impl Load {
    /// Begins on a new gateway.
    pub(crate) async fn begin(doors: Doors, gateway: Listening) -> Self {
        let place = place().await;
        doors.lead_to(gateway);
        let (first_pause, longest_pause) = (Duration::from_millis(2), Duration::from_millis(20));
        let retry = Retry { tries: u32::MAX, total: Duration::from_secs(300), first_pause, longest_pause };
        let client = Client::connect(&Settings { retry, ..Settings::to(doors.url()) }).unwrap();
        set_up(&place, gateway.grpc, &client).await;

        let (known, asked, read) = (Known::default(), CancellationToken::new(), CancellationToken::new());
        let asking = vec![
            tokio::spawn(callers::send(client.clone(), asked.clone(), known.asked.clone())),
            tokio::spawn(callers::queue(client.clone(), asked.clone(), known.asked.clone())),
        ];
        let following = tokio::spawn(follow(client.clone(), known.followed.clone()));
        let in_order = readers::in_order(doors.url(), read.clone(), known.in_order.clone());
        let mut reading = vec![tokio::spawn(in_order)];
        for _ in 0..SHARERS {
            let until = (asked.clone(), read.clone());
            reading.push(tokio::spawn(readers::by_many(doors.url(), until, known.by_many.clone())));
        }
        let (log, shown) = (Log::default(), (0, 0));
        Self { doors, place, client, known, log, shown, asking, reading, following, asked, read }
    }

    /// The ids of events that subscribers were shown since this was asked before.
    pub(crate) fn shown(&mut self) -> Vec<String> {
        self.known.shown(&mut self.shown)
    }

    /// How many mails were sent, or are of unknown outcome, and how many were queued.
    fn progress(&self) -> (usize, usize) {
        let asked = self.known.asked.lock().unwrap();
        (asked.confirmed.len() + asked.unknown.len(), asked.queued.len())
    }

    /// Waits until more was sent and more was queued.
    pub(crate) async fn goes_on(&self) {
        let before = self.progress();
        until("callers get on", || async {
            let now = self.progress();
            (now.0 > before.0 && now.1 > before.1).then_some(())
        })
        .await;
    }

    /// Waits until a mail was handed over, an event told or a mail queued: whichever is to happen.
    pub(super) async fn happens(&self, random: &mut fastrand::Rng) {
        let what: fn(&Known) -> usize = match random.u8(..4) {
            0 | 1 => return self.place.smtp.grown(self.place.smtp.count()).await,
            2 => |known| known.followed.lock().unwrap().len(),
            _ => |known| known.asked.lock().unwrap().queued.len(),
        };
        let before = what(&self.known);
        while what(&self.known) == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What deaths have hit so far.
    pub(super) fn struck(&self) -> Struck {
        let (asked, in_order) = (self.known.asked.lock().unwrap(), self.known.in_order.lock().unwrap());
        let stretches = &in_order.stretches;
        Struck {
            sent: asked.unknown.len(),
            repeated: asked.repeated,
            queued: self.log.failed,
            lives_that_told: self.log.growths,
            // The last one is open.
            streams: stretches.iter().rev().skip(1).filter(|stretch| !stretch.given.is_empty()).count(),
            acknowledged: self.known.by_many.lock().unwrap().confirmed.len(),
        }
    }

    /// Looks into the database of a gateway that is dead: what was shown while it lived is there, and all else that was.
    pub(crate) fn look(&mut self, data: &Path, shown: Vec<String>) {
        self.log.look(data, shown.into_iter());
        let mut going = self.reading.iter().chain([&self.following]);
        assert!(going.all(|task| !task.is_finished()), "a reader broke off");
    }

    /// Asks for nothing more, waits until all has come to its end, and compares. Gives what was hit in all.
    pub(crate) async fn finish(mut self, data: &Path) -> Struck {
        self.asked.cancel();
        for asking in std::mem::take(&mut self.asking) {
            asking.await.unwrap();
        }
        self.prove().await;
        self.read.cancel();
        for reading in std::mem::take(&mut self.reading) {
            reading.await.unwrap();
        }
        self.following.abort();
        self.log.look(data, std::iter::empty());
        let followed = self.known.followed.lock().unwrap();
        let followed = followed.iter().map(|event| &event.id);
        assert!(followed.eq(&self.log.order), "what was followed is not what is stored");
        self.struck()
    }

    async fn status(&self, name: &str) -> SubscriptionStatus {
        let request = GetSubscriptionRequest { name: name.to_owned() };
        let got = self.client.subscriptions().get_subscription(request).await.unwrap().into_inner();
        got.subscription.unwrap().status.unwrap()
    }

    /// How the queued mails ended, by their request ids.
    async fn settled(&self) -> BTreeMap<String, QueuedEmailState> {
        let queued = self.known.asked.lock().unwrap().queued.clone();
        let mut settled = BTreeMap::new();
        for (request_id, name) in queued {
            let what = format!("{name} is settled");
            let state = until(&what, || async {
                let request = GetQueuedEmailRequest { name: name.clone() };
                let got = self.client.outbox().get_queued_email(request).await.unwrap().into_inner();
                let email = got.queued_email.unwrap();
                email.settle_time.is_some().then(|| email.state())
            });
            settled.insert(request_id, state.await);
        }
        settled
    }

    async fn prove(&self) {
        let known = &self.known;
        let settled = self.settled().await;
        let received = proof::mail(&known.asked.lock().unwrap(), &settled, &self.place.smtp.accepted());
        until("each mail was told of", || async {
            let followed = known.followed.lock().unwrap();
            let told = followed.iter().filter(|event| event.r#type == "email.received").count();
            (told >= received.len()).then_some(())
        })
        .await;
        for name in [ORDERED, SHARED] {
            until(&format!("{name} was read to its end"), || async {
                let status = self.status(name).await;
                (status.backlog == 0 && status.outstanding == 0).then_some(())
            })
            .await;
        }
        assert_eq!(self.status(SHARED).await.set_aside, 0);

        let stored = known.followed.lock().unwrap().clone();
        let unknown = proof::events(&stored, &received, &settled);
        let in_order = known.in_order.lock().unwrap();
        proof::in_order(&in_order, &stored);
        let by_many = known.by_many.lock().unwrap();
        let given: HashSet<_> = by_many.given.iter().collect();
        let missed: Vec<_> = stored.iter().filter(|event| !given.contains(&event.id)).collect();
        assert!(missed.is_empty(), "not delivered to any of many: {missed:?}");

        let asked = known.asked.lock().unwrap();
        println!(
            "{} mails confirmed, {} of unknown outcome, {} queued, {unknown} of these of unknown outcome, {} events, {} \
             streams in order, {} acknowledged by many",
            asked.confirmed.len(),
            asked.unknown.len(),
            settled.len(),
            stored.len(),
            in_order.stretches.len(),
            by_many.confirmed.len(),
        );
    }
}
