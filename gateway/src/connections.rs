//! Connections: kept with their credentials sealed, opened for calls with a fresh grant, changed by callers. What
//! settings, credentials and grants mean is their connector's to know.

mod cache;
mod call;
mod change;
mod claim;
mod ending;
mod event;
mod grant;
mod opened;
mod record;
mod service;
mod shape;
pub(crate) mod sign_in;
mod unstored;
mod uses;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use postern_chassis::fault::{Fault, REFRESH_METADATA};
use postern_proto::connection::v1::ConnectionState;
use postern_proto::connection::v1::connection_service_server::ConnectionServiceServer;
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use secrecy::zeroize::Zeroizing;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Response, Status};

use crate::connectors::{Channel, Connectors};
use crate::error::Error;
use crate::leases::Leases;
use crate::names;
use crate::notifications::PublicUrl;
use crate::seal::KeyRing;
use crate::store::{Change, Entry, EventLog, Store};

use opened::Freshness;
pub use opened::Opened;
pub use service::ConnectionRpc;

/// The connections of a gateway.
#[derive(Debug)]
pub struct Connections {
    room: Arc<Room>,
    _stop: DropGuard,
}

/// What work on connections needs; shared with the tasks that outlive the call that started them.
struct Room {
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
    connectors: Arc<Connectors>,
    /// Tells which gateways live that share the store. `None`: there is no other.
    leases: Option<Arc<Leases>>,
    keys: Arc<KeyRing>,
    cache: cache::Cache,
    flights: grant::Flights,
    doubts: grant::Doubts,
    unstored: unstored::Unstored,
    public_url: sign_in::OwnUrl,
    uses: uses::Uses,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("connectors", &self.connectors).finish_non_exhaustive()
    }
}

impl Connections {
    /// The connections kept in a store that no other gateway uses. Must be called within a runtime: a task follows the
    /// store's changes for as long as the result lives.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        connectors: Arc<Connectors>,
        keys: impl Into<Arc<KeyRing>>,
    ) -> Self {
        Self::among(None, store, log, connectors, keys)
    }

    /// The connections kept in a store that the gateways share which have leases in it.
    #[must_use]
    pub fn among(
        leases: Option<Arc<Leases>>,
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        connectors: Arc<Connectors>,
        keys: impl Into<Arc<KeyRing>>,
    ) -> Self {
        let changes = store.watch();
        let (cache, flights) = (cache::Cache::default(), grant::Flights::default());
        let (doubts, unstored) = (grant::Doubts::default(), unstored::Unstored::default());
        let (keys, public_url) = (keys.into(), sign_in::OwnUrl::default());
        let uses = uses::Uses::default();
        let asking = store.watch();
        let room = Arc::new(Room {
            store,
            log,
            connectors,
            leases,
            keys,
            cache,
            flights,
            doubts,
            unstored,
            public_url,
            uses,
        });
        let stop = CancellationToken::new();
        let following = cache::follow(changes, room.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        let asking = sign_in::keep(asking, room.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(asking));
        Self { room, _stop: stop.drop_guard() }
    }

    /// The gRPC service that callers keep their connections by.
    #[must_use]
    pub fn service(self: &Arc<Self>) -> ConnectionServiceServer<ConnectionRpc> {
        ConnectionServiceServer::new(ConnectionRpc::new(self.clone()))
    }

    /// Says where the world outside reaches this gateway: users who sign in in a browser are led back there. Gives the
    /// pages that they are led to, which lead on to the console where there is one. To be said once.
    pub fn reached_at(&self, url: &PublicUrl, has_console: bool) -> axum::Router {
        let _ = self.room.public_url.set(url.clone());
        sign_in::router(self, url, has_console)
    }

    /// The connectors that these connections are for.
    #[must_use]
    pub fn connectors(&self) -> &Arc<Connectors> {
        &self.room.connectors
    }

    /// Opens a connection for a call: its credentials unsealed, its grant fresh.
    ///
    /// # Errors
    /// FIELD_INVALID `connection`; CONNECTION_NOT_FOUND; FAILED_PRECONDITION (CREDENTIALS_REFUSED,
    /// CONFIGURATION_REFUSED) at once while its state says so; what the connector says to a refresh; CONNECTOR_MISSING and CONNECTOR_UNAVAILABLE.
    pub async fn open(&self, name: &str) -> Result<Arc<Opened>, Error> {
        // One that is refused is read anew: that somebody has mended it may not have been heard of yet.
        let opened = match self.room.cache.get(name).filter(|opened| !opened.is_shut()) {
            Some(opened) => opened,
            None => {
                names::connection("connection", name)?;
                // In a box: nearly every call finds it at once.
                Box::pin(self.room.load(name)).await?
            }
        };
        if opened.is_shut() {
            return Err(refused(name, opened.state()));
        }
        self.room.uses.note(name);
        match opened.freshness() {
            Freshness::Fresh => Ok(opened),
            Freshness::Ageing => {
                self.room.renew_ahead(&opened);
                Ok(opened)
            }
            Freshness::Spent => Box::pin(self.room.refresh(&opened)).await,
        }
    }

    /// A connection that was opened, with a newer grant: for a call whose access token was refused. Callers that ask at
    /// the same time share one refresh. `None` where a newer one was refused just now: the call is not worth a repeat.
    ///
    /// # Errors
    /// What the connector says to a refresh.
    pub async fn refreshed(&self, opened: &Arc<Opened>) -> Result<Option<Arc<Opened>>, Error> {
        if !self.room.doubts.allow(opened) {
            return Ok(None);
        }
        self.room.refresh(opened).await.map(Some)
    }

    /// Notes that a call was refused although its connection's grant was new.
    pub fn doubt(&self, opened: &Opened) {
        self.room.doubts.note(opened);
    }

    /// Gets a newer grant for a connection that was opened, apart from the call: for one that cannot be repeated.
    pub fn renew(&self, opened: &Arc<Opened>) {
        if self.room.doubts.allow(opened) {
            self.room.renew_ahead(opened);
        }
    }

    /// The kind of a connection.
    ///
    /// # Errors
    /// CONNECTION_NOT_FOUND; storage failed.
    pub(crate) async fn kind(&self, name: &str) -> Result<String, Error> {
        Ok(self.room.stored(name).await?.connection.kind)
    }

    /// What people are told a connection is: its name for people, or else its id.
    ///
    /// # Errors
    /// CONNECTION_NOT_FOUND; storage failed.
    pub(crate) async fn sender(&self, name: &str) -> Result<String, Error> {
        let display_name = self.room.stored(name).await?.connection.display_name;
        Ok(if display_name.is_empty() { record::id_of(name).to_owned() } else { display_name })
    }

    /// Seals a secret that belongs to a place in the store.
    ///
    /// # Errors
    /// The key ring cannot be used.
    pub(crate) fn seal(&self, place: &str, secret: &[u8]) -> Result<bytes::Bytes, Error> {
        let sealed = self.room.keys.seal(place, secret);
        sealed.map(Into::into).map_err(|error| {
            let message = format!("a secret cannot be sealed: {error}");
            Fault::new(Code::Internal, "SECRET_UNSEALABLE", message).into()
        })
    }

    /// Opens a secret that was sealed for a place. `None`: its key is gone, or it was changed.
    pub(crate) fn unseal(&self, place: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let opened = self.room.keys.open(place, sealed);
        opened.inspect_err(|error| tracing::error!(place, %error, "a secret cannot be opened")).ok()
    }

    /// Calls a method of `ConnectorService` through a connection, in `timeout` in all. Where the access token was
    /// refused, the call is repeated once with a new grant.
    ///
    /// ```ignore
    /// connections.call(name, TIMEOUT, request, |mut connector, request| async move { connector.poll(request).await })
    /// ```
    ///
    /// # Errors
    /// As [`Connections::open`]; what the connector answers, as it is.
    pub async fn call<Req, Res, F, Fut>(
        &self,
        connection: &str,
        timeout: Duration,
        request: Req,
        method: F,
    ) -> Result<Res, Error>
    where
        Req: Clone,
        F: Fn(ConnectorServiceClient<Channel>, tonic::Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Res>, Status>>,
    {
        let deadline = tokio::time::Instant::now() + timeout;
        let opening = tokio::time::timeout_at(deadline, self.open(connection));
        let opened = opening.await.map_err(|_| call::out_of_time())??;
        self.room.call(&opened, deadline, request, method).await
    }
}

/// Whether a change of the store says of a connection that it can be used, and of which. `false`: it was deleted.
pub(crate) fn told_usable(change: &Change) -> Option<(&str, bool)> {
    let name = Some(change.key.as_str()).filter(|key| key.starts_with(record::CONNECTIONS))?;
    match &change.value {
        None => Some((name, false)),
        Some(entry) => is_ready(entry).then_some((name, true)),
    }
}

/// Whether a stored value is a connection that nothing speaks against.
pub(crate) fn is_ready(entry: &Entry) -> bool {
    entry.key.starts_with(record::CONNECTIONS)
        && record::Stored::read(entry).is_ok_and(|stored| !stored.is_shut())
}

/// The provider refuses the credentials for good, or whoever is to sign in has not.
pub(crate) const CREDENTIALS_REFUSED: &str = "CREDENTIALS_REFUSED";
/// The provider refuses the application or what it asks for, whoever signs in.
pub(crate) const CONFIGURATION_REFUSED: &str = "CONFIGURATION_REFUSED";

/// The error of a connection in a state in which no call is made.
fn refused(name: &str, state: ConnectionState) -> Error {
    let (reason, message) = match state {
        ConnectionState::Misconfigured => (
            CONFIGURATION_REFUSED,
            format!(
                "{name} is not set up as its provider wants it: correct how its application is registered there, its \
                 settings or its credentials, then check it once more"
            ),
        ),
        _ => (
            CREDENTIALS_REFUSED,
            format!(
                "{name} needs a sign-in: let its user sign in (StartSignIn), update its credentials, or check it once \
                 more"
            ),
        ),
    };
    Fault::new(Code::FailedPrecondition, reason, message).with("connection", name).into()
}

/// The state in which a connector's answer leaves a connection that the provider refuses for good, and why.
fn refusal(status: &Status) -> Option<(ConnectionState, &'static str)> {
    if status.code() != Code::FailedPrecondition {
        return None;
    }
    match postern_chassis::fault::reason_of(status).as_str() {
        CREDENTIALS_REFUSED => Some((ConnectionState::NeedsSignIn, CREDENTIALS_REFUSED)),
        CONFIGURATION_REFUSED => Some((ConnectionState::Misconfigured, CONFIGURATION_REFUSED)),
        _ => None,
    }
}

/// Whether a connector says that only the access token was refused.
fn asks_for_refresh(status: &Status) -> bool {
    status.metadata().contains_key(REFRESH_METADATA)
}
