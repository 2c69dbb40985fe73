//! A simulated machine: a runtime with a clock of its own, and a gateway on it, made of the parts of the real one. To
//! crash it is to drop the runtime, with all that was going on.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::OptionFuture;
use postern_chassis::serve::BoxError;
use postern_gateway::connections::Connections;
use postern_gateway::connectors::{ConnectorAddress, Connectors, Watchfulness};
use postern_gateway::doors::Doors;
use postern_gateway::events::{EventServer, retention};
use postern_gateway::forward::Forwarder;
use postern_gateway::leases::Leases;
use postern_gateway::ledger::{Ledger, Once};
use postern_gateway::outbox::{Outbox, OutboxSettings};
use postern_gateway::seal::KeyRing;
use postern_gateway::subscriptions::{Clock, Subscriptions};
use postern_gateway::triggers::{Schedule, Triggers};
use postern_proto::event::v1::trigger_service_server::TriggerServiceServer;
use postern_proto::outbox::v1::outbox_service_server::OutboxServiceServer;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Uri;
use tower::service_fn;

use crate::cable::{Cable, Cables};
use crate::provider::{COPIES, Provider, is_up};
use crate::way::Way;
use crate::weather::{Climate, lock};

/// How far a machine runs before the next one does: how long what passes between two of them takes at least.
pub(crate) const TICK: Duration = Duration::from_millis(40);
/// How often retention is seen to.
const TRIM_INTERVAL: Duration = Duration::from_secs(2);
/// How queued mails are tried.
const OUTBOX: OutboxSettings = OutboxSettings {
    back_off: Duration::from_secs(2),
    give_up: Duration::from_secs(3_600),
    keep: Duration::from_secs(7 * 86_400),
    max_emails: 100_000,
    max_bytes: 1 << 30,
};
/// How long a stop may take.
const GRACE: Duration = Duration::from_secs(5);

/// A machine.
pub(crate) struct Machine {
    runtime: Option<Runtime>,
    begin: Duration,
    /// By how many milliseconds its clock is ahead.
    pub(crate) ahead: i64,
}

impl Machine {
    pub(crate) fn start(begin: Duration, ahead: i64) -> std::io::Result<Self> {
        postern_chance::enter(begin, ahead);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        Ok(Self { runtime: Some(runtime), begin, ahead })
    }

    /// Does something on it.
    pub(crate) fn on<T, F: Future<Output = T>>(&self, does: F) -> Option<T> {
        postern_chance::enter(self.begin, self.ahead);
        self.runtime.as_ref().map(|runtime| runtime.block_on(does))
    }

    /// Has it run for a while.
    pub(crate) fn run(&self) {
        self.on(async { tokio::time::sleep(TICK).await });
    }

    pub(crate) fn handle(&self) -> Option<&tokio::runtime::Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        postern_chance::enter(self.begin, self.ahead);
        self.runtime.take();
    }
}

/// What is around a gateway.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) way: Arc<Way>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) cables: Arc<Cables>,
    /// Where each copy of the connector takes connections.
    pub(crate) copies: Vec<mpsc::UnboundedSender<Cable>>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) climate: Climate,
    pub(crate) gateway: usize,
    pub(crate) stop: CancellationToken,
}

/// A gateway that is ready.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) doors: Once<Doors>,
    pub(crate) leases: Arc<Leases>,
}

/// Where a gateway shows up once it is ready.
pub(crate) type Ready = Arc<Mutex<Option<Gateway>>>;

/// Starts a gateway and keeps it until it is told to stop.
pub(crate) async fn gateway(around: Around, ready: Ready) -> Result<(), BoxError> {
    let Around { way, provider, cables, copies, keys, climate, gateway, stop } = around;
    let addresses: Result<Vec<ConnectorAddress>, _> =
        (0..COPIES).map(|copy| format!("http://connector:{}", 1_000 + copy).parse()).collect();
    let dial = service_fn(move |uri: Uri| {
        let copy = usize::from(uri.port_u16().unwrap_or(1_000)) - 1_000;
        let sender = copies.get(copy).filter(|_| is_up(&provider, copy));
        let connected = sender.and_then(|sender| {
            let (near, far) = cables.lay(gateway, copy);
            sender.send(far).ok()?;
            Some(near)
        });
        std::future::ready(connected.ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into()))
    });
    let connectors = Arc::new(Connectors::dialled(addresses?, dial, Watchfulness::default())?);
    let digests = keys.digest_key()?;
    let leases = Leases::start(way.clone(), format!("gateway-{gateway}")).await?;
    leases.id().clone_into(&mut lock(&way.id));
    let connections =
        Connections::among(Some(leases.clone()), way.clone(), way.clone(), connectors.clone(), keys.clone());
    let connections = Arc::new(connections);
    let (schedule, scheduling) =
        Schedule::start(connections.clone(), leases.clone(), way.clone(), way.clone(), stop.clone());
    let trimming = climate.retention.map(|kept| {
        tokio::spawn(retention::every(TRIM_INTERVAL, way.clone(), kept, leases.clone(), stop.clone()))
    });
    let (outbox, delivering) = Outbox::start(
        connections.clone(),
        way.clone(),
        way.clone(),
        leases.clone(),
        digests,
        OUTBOX,
        (stop.clone(), GRACE),
    );
    let ledger = Ledger::new(leases.clone(), way.clone(), keys)?;
    let sweeping = tokio::spawn(ledger.clone().sweep(stop.clone()));
    let subscriptions = Subscriptions::start(way.clone(), way.clone(), Clock::default(), stop.clone());
    let triggers = Triggers::new(connections.clone(), way.clone(), way.clone(), schedule);
    connectors.all_described(GRACE).await;
    let routes = Routes::new(connections.service())
        .add_service(TriggerServiceServer::new(triggers))
        .add_service(subscriptions.service())
        .add_service(EventServer::new(way.clone(), stop.clone()).with(subscriptions.clone()))
        .add_service(OutboxServiceServer::new(outbox))
        .prepare();
    let doors = Doors::new(routes, Forwarder::new(connections, connectors, stop.clone()));
    let doors = Once::new(doors, ledger.clone());
    *lock(&ready) = Some(Gateway { doors, leases: leases.clone() });
    stop.cancelled().await;
    *lock(&ready) = None;
    let _ = tokio::join!(scheduling, sweeping, OptionFuture::from(trimming));
    leases.retire().await;
    let _ = tokio::time::timeout(GRACE, ledger.finished()).await;
    let _ = tokio::time::timeout(GRACE, subscriptions.finished()).await;
    let _ = delivering.await;
    leases.end().await;
    Ok(())
}
