//! Gateways of one store that serve subscriptions, and those who read them.

mod subscriber;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postern_chassis::serve::{ServeSettings, serve};
use postern_gateway::events::EventServer;
use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog, NewEvent, Retention, Store};
use postern_gateway::subscriptions::{Clock, Subscriptions};
use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscription_service_client::SubscriptionServiceClient;
use postern_proto::event::v1::{
    AcknowledgeRequest, Confirmed, ConsumeStart, CreateSubscriptionRequest, Delivery, GetSubscriptionRequest,
    Nack, PullRequest, PullResponse, Settle, StartPosition, Subscription, SubscriptionMode,
    SubscriptionStatus,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

pub(crate) use self::subscriber::Subscriber;

/// How long a test waits for what must come. Far beyond what it takes, so that only what never comes ends the test.
const PATIENCE: Duration = Duration::from_secs(30);
/// The subscription of a test.
pub(crate) const NAME: &str = "subscriptions/billing";

/// A store and its gateways.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sqlite: Arc<Sqlite>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) clock: Clock,
}

/// One gateway, as far as subscriptions go.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) subscriptions: Arc<Subscriptions>,
    serving: JoinHandle<()>,
    apart: Apart,
}

/// The runtime of a gateway that can be killed.
struct Apart(Option<Runtime>);

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Gateway {
    pub(crate) fn start(sqlite: &Arc<Sqlite>, clock: &Clock) -> Self {
        Self::launch(sqlite.clone(), sqlite.clone(), clock, Apart(None))
    }

    /// One that can be killed: on a runtime of its own.
    pub(crate) fn start_apart(store: Arc<dyn Store>, log: Arc<dyn EventLog>, clock: &Clock) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self::launch(store, log, clock, Apart(Some(runtime)))
    }

    fn launch(store: Arc<dyn Store>, log: Arc<dyn EventLog>, clock: &Clock, apart: Apart) -> Self {
        let runtime = apart.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone());
        let _inside = runtime.enter();
        let stop = CancellationToken::new();
        let subscriptions = Subscriptions::start(store, log.clone(), clock.clone(), stop.clone());
        let events = EventServer::new(log, stop.clone()).with(subscriptions.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let routes = tonic::service::Routes::new(events).add_service(subscriptions.service());
        let (settings, stopped) = (ServeSettings::default(), stop.clone());
        let serving = async move { serve(listener, &settings, routes.prepare(), stopped).await.unwrap() };
        Self { address, stop, subscriptions, serving: runtime.spawn(serving), apart }
    }

    /// Ends it at once, with every socket and stream it has.
    pub(crate) fn kill(self) {
        drop(self.apart);
    }

    /// Stops as a gateway does.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
        tokio::time::timeout(PATIENCE, self.subscriptions.finished()).await.expect("an end in time");
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::of(1).await
    }

    pub(crate) async fn of(gateways: usize) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), gateways).await
    }

    pub(crate) async fn start_in(folder: tempfile::TempDir, gateways: usize) -> Self {
        let sqlite = Sqlite::open(folder.path()).unwrap();
        let clock = Clock::default();
        let mut started = Vec::new();
        for _ in 0..gateways {
            started.push(Gateway::start(&sqlite, &clock));
        }
        Self { folder, sqlite, gateways: started, clock }
    }

    /// Stops everything, and gives the folder for another start.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        for gateway in self.gateways {
            gateway.stop().await;
        }
        self.sqlite.close().await.unwrap();
        self.folder
    }

    pub(crate) async fn append(&self, events: Vec<NewEvent>) {
        self.sqlite.append(events, Vec::new()).await.unwrap();
    }

    /// Lets retention pass all but the newest events, which have `kept` bytes together.
    pub(crate) async fn trim(&self, kept: u64) {
        let retention = Retention { age: Duration::from_secs(3_600), bytes: kept };
        self.sqlite.trim(retention).await.unwrap();
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.step(Duration::from_secs(seconds));
    }

    pub(crate) fn channel(&self, gateway: usize) -> Channel {
        let address = self.gateways[gateway].address;
        Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
    }

    pub(crate) fn events(&self, gateway: usize) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel(gateway)).max_decoding_message_size(16 * 1024 * 1024)
    }

    pub(crate) fn subscriptions(&self) -> SubscriptionServiceClient<Channel> {
        SubscriptionServiceClient::new(self.channel(0))
    }

    /// Makes the subscription of the test, from the first event kept on.
    pub(crate) async fn create(&self, subscription: Subscription) -> Subscription {
        let request = create(subscription);
        let created = self.subscriptions().create_subscription(request).await.unwrap();
        created.into_inner().subscription.unwrap()
    }

    pub(crate) async fn status(&self) -> SubscriptionStatus {
        let request = GetSubscriptionRequest { name: NAME.to_owned() };
        let got = self.subscriptions().get_subscription(request).await.unwrap().into_inner();
        got.subscription.unwrap().status.unwrap()
    }

    /// A subscriber at the first gateway whose stream is open.
    pub(crate) async fn consume(&self) -> Subscriber {
        self.consume_as("a").await
    }

    pub(crate) async fn consume_as(&self, client_id: &str) -> Subscriber {
        let mut subscriber = self.start_at(0, start(client_id)).await;
        subscriber.opened().await;
        subscriber
    }

    /// A stream that was begun at a gateway.
    pub(crate) async fn start_at(&self, gateway: usize, start: ConsumeStart) -> Subscriber {
        Subscriber::begin(self.events(gateway), Say::Start(start)).await
    }

    pub(crate) async fn pull(&self, client_id: &str, wait: u64) -> Result<PullResponse, Status> {
        self.pull_at(0, client_id, wait).await
    }

    pub(crate) async fn pull_at(
        &self,
        gateway: usize,
        client_id: &str,
        wait: u64,
    ) -> Result<PullResponse, Status> {
        let wait = Some(prost_types::Duration { seconds: wait.cast_signed(), nanos: 0 });
        let request = PullRequest {
            subscription: NAME.to_owned(),
            client_id: client_id.to_owned(),
            max_events: 0,
            wait,
        };
        Ok(self.events(gateway).pull(request).await?.into_inner())
    }

    pub(crate) async fn acknowledge(&self, client_id: &str, cursor: &Bytes) -> Result<Confirmed, Status> {
        self.acknowledge_at(0, client_id, cursor).await
    }

    pub(crate) async fn acknowledge_at(
        &self,
        gateway: usize,
        client_id: &str,
        cursor: &Bytes,
    ) -> Result<Confirmed, Status> {
        let request = AcknowledgeRequest {
            subscription: NAME.to_owned(),
            client_id: client_id.to_owned(),
            cursor: cursor.clone(),
            settle: None,
        };
        Ok(self.events(gateway).acknowledge(request).await?.into_inner().confirmed.unwrap())
    }

    pub(crate) async fn settle(&self, settle: Settle) -> Result<Confirmed, Status> {
        self.settle_at(0, settle).await
    }

    /// Has a gateway know the subscription as it is now.
    pub(crate) async fn acquaint(&self, gateway: usize) {
        let none = Settle { ack_ids: vec!["nonsense".into()], ..Settle::default() };
        self.settle_at(gateway, none).await.unwrap();
    }

    pub(crate) async fn settle_at(&self, gateway: usize, settle: Settle) -> Result<Confirmed, Status> {
        let request = AcknowledgeRequest {
            subscription: NAME.to_owned(),
            settle: Some(settle),
            ..AcknowledgeRequest::default()
        };
        Ok(self.events(gateway).acknowledge(request).await?.into_inner().confirmed.unwrap())
    }
}

pub(crate) fn create(subscription: Subscription) -> CreateSubscriptionRequest {
    CreateSubscriptionRequest {
        subscription_id: NAME.trim_start_matches("subscriptions/").to_owned(),
        subscription: Some(subscription),
        start: at(Position::Earliest(())),
        ..CreateSubscriptionRequest::default()
    }
}

pub(crate) fn at(position: Position) -> Option<StartPosition> {
    Some(StartPosition { position: Some(position) })
}

pub(crate) fn ordered() -> Subscription {
    Subscription::default()
}

pub(crate) fn shared() -> Subscription {
    Subscription { mode: SubscriptionMode::Shared.into(), ..Subscription::default() }
}

pub(crate) fn start(client_id: &str) -> ConsumeStart {
    ConsumeStart { subscription: NAME.to_owned(), client_id: client_id.to_owned(), ..ConsumeStart::default() }
}

/// What is said of deliveries that are done with.
pub(crate) fn acks<'a>(deliveries: impl IntoIterator<Item = &'a Delivery>) -> Settle {
    let ack_ids = deliveries.into_iter().map(|delivery| delivery.ack_id.clone()).collect();
    Settle { ack_ids, ..Settle::default() }
}

/// What is said of a delivery that is not done with.
pub(crate) fn nack(delivery: &Delivery, delay: Option<i64>, reason: &str) -> Settle {
    let delay = delay.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    let nack = Nack { ack_id: delivery.ack_id.clone(), delay, reason: reason.to_owned() };
    Settle { nacks: vec![nack], ..Settle::default() }
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.event.as_ref().unwrap().id.clone()).collect()
}

pub(crate) fn cursor_of(delivery: &Delivery) -> Bytes {
    delivery.event.as_ref().unwrap().cursor.clone()
}
