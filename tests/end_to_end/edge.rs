//! A gateway's edge to try: connections and forwarding on a store of its own, before small connectors that do as a test
//! says. Everything listens on port 0.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use postern_chassis::serve::{self, ServeSettings};
use postern_gateway::auth::{Callers, Guarded};
use postern_gateway::connections::Connections;
use postern_gateway::connectors::{ConnectorAddress, Connectors, Watchfulness};
use postern_gateway::forward::Forwarder;
use postern_gateway::seal::KeyRing;
use postern_gateway::store::Store;
use postern_gateway::store::sqlite::Sqlite;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest};
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{OutlookCredentials, OutlookSettings};
use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request as Asked, Response as Answered, Status};
use tonic_prost::ProstCodec;
use tower::{Service, ServiceExt as _};

pub(crate) use crate::world::PATIENCE;
pub(crate) use fake::{Fake, Said, Say};

mod fake;

/// A secret that must be seen nowhere but at a connector.
pub(crate) const SECRET: &str = "sesame-0f2c";

/// The edge of a gateway.
pub(crate) struct Edge {
    pub(crate) store: Arc<Sqlite>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) connectors: Arc<Connectors>,
    pub(crate) channel: Channel,
    address: SocketAddr,
    pub(crate) folder: Arc<tempfile::TempDir>,
    _stop: DropGuard,
}

impl Edge {
    /// An edge before connectors, all of which have said what they are.
    pub(crate) async fn before(fakes: &[&Fake]) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let store = Sqlite::open(folder.path()).unwrap();
        let addresses: Vec<_> = fakes.iter().map(|fake| fake.address()).collect();
        let edge = Self::over(folder, store, &addresses, None).await;
        assert_eq!(edge.connectors.all_described(PATIENCE).await, Vec::<String>::new());
        edge
    }

    /// An edge before a connector, whose connections go through what stands before the store.
    pub(crate) async fn behind(fake: &Fake, front: impl FnOnce(Arc<Sqlite>) -> Arc<dyn Store>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let store = Sqlite::open(folder.path()).unwrap();
        let front = front(store.clone());
        let edge =
            Self::fronted(folder, (store, front), &[fake.address()], None, Watchfulness::default()).await;
        assert_eq!(edge.connectors.all_described(PATIENCE).await, Vec::<String>::new());
        edge
    }

    /// An edge over a store, before whatever is or is not at these addresses.
    pub(crate) async fn over(
        folder: Arc<tempfile::TempDir>,
        store: Arc<Sqlite>,
        addresses: &[SocketAddr],
        callers: Option<Callers>,
    ) -> Self {
        Self::watching(folder, store, addresses, callers, Watchfulness::default()).await
    }

    /// An edge that soon finds out what hangs at these addresses, where something is.
    pub(crate) async fn watchful(addresses: &[SocketAddr]) -> Self {
        let watchfulness = Watchfulness {
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            describe_interval: Duration::from_secs(1),
            describe_timeout: Duration::from_secs(1),
            suspicion: Duration::from_millis(300),
        };
        Self::watched(addresses, watchfulness).await
    }

    /// An edge that watches these addresses so closely, where something is.
    pub(crate) async fn watched(addresses: &[SocketAddr], watchfulness: Watchfulness) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let store = Sqlite::open(folder.path()).unwrap();
        let edge = Self::watching(folder, store, addresses, None, watchfulness).await;
        assert_eq!(edge.connectors.all_described(PATIENCE).await, Vec::<String>::new());
        edge
    }

    async fn watching(
        folder: Arc<tempfile::TempDir>,
        store: Arc<Sqlite>,
        addresses: &[SocketAddr],
        callers: Option<Callers>,
        watchfulness: Watchfulness,
    ) -> Self {
        Self::fronted(folder, (store.clone(), store), addresses, callers, watchfulness).await
    }

    async fn fronted(
        folder: Arc<tempfile::TempDir>,
        (store, front): (Arc<Sqlite>, Arc<dyn Store>),
        addresses: &[SocketAddr],
        callers: Option<Callers>,
        watchfulness: Watchfulness,
    ) -> Self {
        let keys = KeyRing::read_or_make(&folder.path().join("keys")).unwrap();
        let addresses = addresses.iter().map(|address| format!("http://{address}").parse().unwrap());
        let addresses = addresses.collect::<Vec<ConnectorAddress>>();
        let connectors = Arc::new(Connectors::watched(addresses, None, watchfulness).unwrap());
        let connections = Arc::new(Connections::new(front, store.clone(), connectors.clone(), keys));
        let (routes, _) = serve::edges(&["postern.connection.v1.ConnectionService"]).await.unwrap();
        let routes = routes.add_service(connections.service()).prepare();
        let forwarder = Forwarder::new(connections.clone(), connectors.clone(), CancellationToken::new());
        let door = Guarded::new(Door { routes, forwarder }, callers.map(Arc::new));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let settings = ServeSettings { stop_grace: Duration::ZERO, ..Default::default() };
            serve::serve(listener, &settings, door, stopped).await
        });
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { store, connections, connectors, channel, address, folder, _stop: stop.drop_guard() }
    }

    /// An HTTP/2 connection to it that nobody else uses.
    pub(crate) fn own_channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// The client of the connections.
    pub(crate) fn client(&self) -> ConnectionServiceClient<Channel> {
        ConnectionServiceClient::new(self.channel.clone())
    }

    /// Stores a connection under an id.
    pub(crate) async fn create(&self, id: &str, connection: Connection) -> Result<Connection, Status> {
        let request = CreateConnectionRequest {
            connection_id: id.into(),
            connection: Some(connection),
            ..Default::default()
        };
        Ok(self.client().create_connection(request).await?.into_inner().connection.unwrap())
    }

    /// Stores the connection `connections/billing`.
    pub(crate) async fn billing(&self) {
        self.create("billing", smtp()).await.unwrap();
    }

    /// Calls a method of the connectors' echo service.
    pub(crate) async fn call(&self, method: &str, say: Say) -> Result<Answered<Said>, Status> {
        self.ask(&format!("/test.echo.v1.EchoService/{method}"), Asked::new(say)).await
    }

    /// Calls a unary method by its path.
    pub(crate) async fn ask(&self, path: &str, request: Asked<Say>) -> Result<Answered<Said>, Status> {
        ask(&self.channel, path, request).await
    }
}

/// Calls a unary method by its path.
pub(crate) async fn ask(
    channel: &Channel,
    path: &str,
    request: Asked<Say>,
) -> Result<Answered<Said>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone())
        .max_encoding_message_size(usize::MAX)
        .max_decoding_message_size(usize::MAX);
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    client.unary(request, path.parse::<PathAndQuery>().unwrap(), ProstCodec::default()).await
}

/// Calls a method that takes a stream and gives one answer.
pub(crate) async fn ask_with_stream(
    channel: &Channel,
    path: &str,
    says: impl Stream<Item = Say> + Send + 'static,
) -> Result<Said, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = path.parse::<PathAndQuery>().unwrap();
    let answer = client.client_streaming(Asked::new(says), path, ProstCodec::<Say, Said>::default()).await?;
    Ok(answer.into_inner())
}

/// A connection of the one kind.
pub(crate) fn smtp() -> Connection {
    Connection {
        display_name: "Billing".into(),
        settings: Some(Settings::Smtp(SmtpSettings {
            server: "mail.example.org".into(),
            port: 587,
            username: "billing".into(),
            ..Default::default()
        })),
        credentials: Some(Credentials::SmtpCredentials(SmtpCredentials {
            password: SECRET.into(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A connection of the other kind.
pub(crate) fn outlook() -> Connection {
    Connection {
        settings: Some(Settings::Outlook(OutlookSettings { tenant: "t".into(), ..Default::default() })),
        credentials: Some(Credentials::OutlookCredentials(OutlookCredentials {
            sign_in: Some(SignIn::ClientSecret(SECRET.into())),
        })),
        ..Default::default()
    }
}

/// The reason in an error.
pub(crate) fn reason(status: &Status) -> String {
    postern_chassis::fault::reason_of(status)
}

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: it did not come to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The gateway's own services, and those that it forwards.
#[derive(Clone)]
struct Door {
    routes: Routes,
    forwarder: Forwarder,
}

impl Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.forwarder.takes(request.uri().path()) {
            self.forwarder.call(request)
        } else {
            Box::pin(self.routes.clone().oneshot(request))
        }
    }
}
