//! A log served to subscribers, on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_chassis::serve::{ServeSettings, serve};
use postern_gateway::events::EventServer;
use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog, NewEvent};
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind;
use postern_proto::event::v1::{Event, StartPosition, SubscribeRequest, SubscribeResponse};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long a test waits for what must come. Far beyond what it takes, so that only what never comes ends the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store in a folder and a server over its log.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sqlite: Arc<Sqlite>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn start_in(folder: tempfile::TempDir) -> Self {
        let sqlite = Sqlite::open(folder.path()).unwrap();
        let stop = CancellationToken::new();
        let (address, serving) = serve_log(sqlite.clone(), stop.clone()).await;
        Self { folder, sqlite, address, stop, serving }
    }

    /// Stops everything as a gateway does, and gives the folder for another start.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.sqlite.close().await.unwrap();
        self.folder
    }

    pub(crate) async fn append(&self, events: Vec<NewEvent>) {
        self.sqlite.append(events, Vec::new()).await.unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel(self.address).await
    }

    /// A subscriber on a connection of its own.
    pub(crate) async fn subscribe(&self, request: SubscribeRequest) -> Subscriber {
        Subscriber::start(self.address, request).await
    }

    /// A subscriber whose first answer was `opened`.
    pub(crate) async fn opened(&self, request: SubscribeRequest) -> Subscriber {
        let mut subscriber = self.subscribe(request).await;
        assert!(matches!(subscriber.next().await, Kind::Opened(_)));
        subscriber
    }

    /// Why a subscriber is refused.
    pub(crate) async fn refused(&self, request: SubscribeRequest) -> Status {
        EventServiceClient::new(self.channel().await).subscribe(request).await.unwrap_err()
    }
}

/// Serves a log until the token is cancelled.
pub(crate) async fn serve_log(
    log: Arc<dyn EventLog>,
    stop: CancellationToken,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Routes::new(EventServer::new(log, stop.clone()));
    let settings = ServeSettings::default();
    let serving = async move { serve(listener, &settings, routes.prepare(), stop).await.unwrap() };
    (address, tokio::spawn(serving))
}

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// A request to start at a place.
pub(crate) fn from(position: Position) -> SubscribeRequest {
    let start = Some(StartPosition { position: Some(position) });
    SubscribeRequest { start, ..SubscribeRequest::default() }
}

/// One stream of events.
pub(crate) struct Subscriber {
    answers: Streaming<SubscribeResponse>,
}

impl Subscriber {
    pub(crate) async fn start(address: SocketAddr, request: SubscribeRequest) -> Self {
        let mut client = EventServiceClient::new(channel(address).await);
        Self { answers: client.subscribe(request).await.unwrap().into_inner() }
    }

    /// The next answer, or how the stream ended.
    pub(crate) async fn answer(&mut self) -> Result<Kind, Status> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message());
        let answer = answer.await.expect("an answer in time")?;
        Ok(answer.expect("a stream ends with a status").kind.expect("each answer has a kind"))
    }

    pub(crate) async fn next(&mut self) -> Kind {
        self.answer().await.unwrap()
    }

    /// The next events, which must come as batches and no more than asked for.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.next().await {
                Kind::Batch(batch) => events.extend(batch.events),
                other => panic!("no batch: {other:?}"),
            }
        }
        assert_eq!(events.len(), count);
        events
    }
}
