//! The gateway assembled: storage, connectors, connections, triggers, events and the listeners, started in that order and
//! stopped in the other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use postern_chassis::metrics::Counted;
use postern_chassis::serve::{self as chassis, BoxError};
use postern_chassis::settings::SettingsError;
use postern_proto::approval::v1::approval_service_server::ApprovalServiceServer;
use postern_proto::event::v1::trigger_service_server::TriggerServiceServer;
use postern_proto::outbox::v1::outbox_service_server::OutboxServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use crate::all_in_one::AllInOne;
use crate::approvals::{Approvals, Needs};
use crate::auth::{Callers, Guarded};
use crate::connections::Connections;
use crate::connectors::Connectors;
use crate::console::Console;
use crate::doors::Doors;
use crate::events::{EventServer, retention};
use crate::forward::Forwarder;
use crate::leases::Leases;
use crate::ledger::{Ledger, Once};
use crate::notifications::{Notifications, PublicUrl};
use crate::outbox::Outbox;
use crate::seal::KeyRing;
use crate::settings::Settings;
use crate::store::engine::Engine;
use crate::store::metered::Metered;
use crate::store::{EventLog, Store};
use crate::subscriptions::{Clock, Subscriptions};
use crate::triggers::{Schedule, Triggers};
use crate::{pages, pulse};

/// What its metrics call it.
const PROGRAM: &str = "gateway";
/// The key file in the data folder, where no other is named.
const KEYS: &str = "keys";
/// How long a start waits for its connectors to say what they are. Later ones are taken when they come.
const CONNECTORS_PATIENCE: Duration = Duration::from_secs(5);

/// Where a gateway listens.
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For HTTP. Absent: nowhere.
    pub http: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(grpc: TcpListener) -> Self {
        Self { grpc, http: None }
    }
}

/// Serves on its listeners until `stop` is cancelled.
///
/// # Errors
/// The store, the keys or the tokens cannot be used, or the listener failed.
pub async fn serve(
    listeners: impl Into<Listeners>,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let listeners = listeners.into();
    let place = settings.place();
    let engine = tokio::select! {
        engine = Engine::open(&place, &settings.nats) => engine?,
        () = stop.cancelled() => return Ok(()),
    };
    let metered = Metered::new(engine.store(), engine.log());
    let served = serve_on(metered.clone(), metered, listeners, &settings, stop).await;
    let closed = engine.close().await;
    served?;
    Ok(closed?)
}

/// The key ring: in the data folder it is made where it is missing.
///
/// # Errors
/// The setting `--key-file`.
pub(crate) fn keys(settings: &Settings) -> Result<KeyRing, SettingsError> {
    match &settings.key_file {
        Some(path) => KeyRing::read(path),
        None => KeyRing::read_or_make(&settings.data_dir.join(KEYS)),
    }
}

/// Serves on a store and a log that are open, and that other gateways may use at the same time, until `stop` is
/// cancelled. What this gateway looks after is then given to them, and all that was taken is answered. The engine is the
/// caller's to close.
///
/// # Errors
/// As [`serve`].
pub async fn serve_on(
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
    listeners: impl Into<Listeners>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let Listeners { grpc: listener, http } = listeners.into();
    let keys = Arc::new(keys(settings)?);
    let callers = settings.tokens_file.as_deref().map(Callers::read).transpose()?.map(Arc::new);
    let within = match settings.all_in_one() {
        true => Some(AllInOne::start(&settings.limits, settings.serve.stop_grace).await?),
        false => None,
    };
    let addresses = match &within {
        Some(within) => within.addresses().to_vec(),
        None => settings.connectors.clone(),
    };
    let connectors = Arc::new(Connectors::new(addresses, settings.connectors_tls()?)?);
    let digests = keys.digest_key()?;
    let leases = tokio::select! {
        leases = Leases::start(store.clone(), listener.local_addr()?.to_string()) => leases?,
        () = stop.cancelled() => return Ok(()),
    };
    let connections = Connections::among(
        Some(leases.clone()),
        store.clone(),
        log.clone(),
        connectors.clone(),
        keys.clone(),
    );
    let connections = Arc::new(connections);
    let (schedule, scheduling) =
        Schedule::start(connections.clone(), leases.clone(), store.clone(), log.clone(), stop.clone());
    let trimming = retention::run(log.clone(), settings.retention(), leases.clone(), stop.clone());
    let trimming = tokio::spawn(trimming);

    let (outbox, delivering) = Outbox::start(
        connections.clone(),
        store.clone(),
        log.clone(),
        leases.clone(),
        digests.clone(),
        settings.outbox.clone(),
        (stop.clone(), settings.serve.stop_grace),
    );
    let ledger = Ledger::new(leases.clone(), store.clone(), keys.clone())?;
    let sweeping = tokio::spawn(ledger.clone().sweep(stop.clone()));

    let notifications = settings.public_url.clone().map(|url| {
        let (store, log) = (store.clone(), log.clone());
        Notifications::new(connections.clone(), store, log, schedule.clone(), url)
    });
    let root = settings.public_url.as_ref().map_or("", PublicUrl::path);
    let (approvals, minding) = Approvals::start(Needs {
        connections: connections.clone(),
        outbox: outbox.clone(),
        store: store.clone(),
        log: log.clone(),
        leases: leases.clone(),
        digests: digests.clone(),
        public_url: settings.public_url.clone(),
        settings: settings.approvals.clone(),
        stop: stop.clone(),
    });
    let mut router = pages::assets(root).merge(approvals.router());
    if let Some(notifications) = &notifications {
        router = router.merge(notifications.router());
    }
    let missing = http.as_ref().map(|http| settings.console_missing(http));
    if let Some(Some(why)) = missing {
        tracing::warn!(why, "the console is not served");
    }
    let has_console = missing == Some(None);
    if let Some(url) = &settings.public_url {
        router = router.merge(connections.reached_at(url, has_console));
    }
    let console = has_console.then(|| {
        let url = settings.public_url.as_ref();
        let secure = url.is_some_and(PublicUrl::is_https) || settings.serve.tls_cert_file.is_some();
        Console::new(root, callers.clone(), keys, secure)
    });
    if let Some(console) = &console {
        router = router.merge(console.router());
    }
    let http_address = http.as_ref().map(TcpListener::local_addr).transpose()?;
    // Before anything is asked of providers: they call back at once.
    let (tls, grace) = (crate::http::tls(&settings.serve)?, settings.serve.stop_grace);
    let hearing = tokio::spawn(OptionFuture::from(
        http.map(|http| crate::http::serve(http, tls, router, stop.clone(), grace)),
    ));
    let renewing =
        tokio::spawn(OptionFuture::from(notifications.map(|notifications| notifications.run(stop.clone()))));
    // Others take over at once, while calls here still come to their ends.
    let (leaving, given) = (stop.clone(), leases.clone());
    let retiring = tokio::spawn(async move {
        leaving.cancelled().await;
        let _ = tokio::join!(scheduling, trimming, sweeping, renewing);
        given.retire().await;
    });

    let subscriptions = Subscriptions::start(store.clone(), log.clone(), Clock::default(), stop.clone());
    let triggers = Triggers::new(connections.clone(), store, log.clone(), schedule);
    let connection_service = connections.service();
    let trigger_service = TriggerServiceServer::new(triggers);
    let subscription_service = subscriptions.service();
    let event_service = EventServer::new(log, stop.clone()).with(subscriptions.clone());
    let outbox_service = OutboxServiceServer::new(outbox);
    let approval_service = ApprovalServiceServer::new(approvals);
    tokio::select! {
        silent = connectors.all_described(CONNECTORS_PATIENCE) => for address in silent {
            tracing::warn!(address, "a connector is not reached yet");
        },
        () = stop.cancelled() => {}
    }
    let mut names = vec![
        chassis::name_of(&connection_service).to_owned(),
        chassis::name_of(&trigger_service).to_owned(),
        chassis::name_of(&subscription_service).to_owned(),
        chassis::name_of(&event_service).to_owned(),
        chassis::name_of(&outbox_service).to_owned(),
        chassis::name_of(&approval_service).to_owned(),
    ];
    names.extend(connectors.services());
    let (routes, health) = chassis::edges(&names).await?;
    let routes = routes
        .add_service(connection_service.max_decoding_message_size(chassis::MAX_MESSAGE_BYTES))
        .add_service(trigger_service.max_decoding_message_size(chassis::MAX_MESSAGE_BYTES))
        .add_service(subscription_service.max_decoding_message_size(chassis::MAX_MESSAGE_BYTES))
        .add_service(event_service)
        .add_service(outbox_service.max_decoding_message_size(chassis::MAX_MESSAGE_BYTES))
        .add_service(approval_service.max_decoding_message_size(chassis::MAX_MESSAGE_BYTES))
        .prepare();
    let doors = Doors::new(routes, Forwarder::new(connections, connectors.clone(), stop.clone()));
    let doors = Once::new(doors, ledger.clone());
    if let Some(console) = &console {
        // What people do there is counted as what any caller does.
        let counted = Counted::new(doors.clone(), PROGRAM).telling(pulse::heed);
        let counted = counted.map_response(|response| response.map(Body::new));
        console.open(BoxCloneSyncService::new(counted), connectors);
    }

    let address = listener.local_addr()?;
    tracing::info!(%address, all_in_one = settings.all_in_one(), "the gateway is ready");
    if let Some(path) = &settings.ready_file {
        let http = http_address.map(|http| format!(",\"http\":\"{http}\"")).unwrap_or_default();
        chassis::write_ready(path, &format!("{{\"address\":\"{address}\"{http}}}\n"))?;
    }
    let doors = Counted::new(Guarded::new(doors, callers), PROGRAM).telling(pulse::heed);
    let served = chassis::serve(listener, &settings.serve, doors, stop.clone()).await;
    drop(health);
    stop.cancel();
    // Changes whose callers have gone are no open calls, and yet are made: their answers are wanted by repeats.
    if tokio::time::timeout(settings.serve.stop_grace, ledger.finished()).await.is_err() {
        tracing::warn!(
            "changes were still being made at the end of the grace period: their outcome is not known"
        );
    }
    if tokio::time::timeout(settings.serve.stop_grace, subscriptions.finished()).await.is_err() {
        tracing::warn!(
            "subscribers were still served at the end of the grace period: they get again what they had"
        );
    }
    let _ = tokio::join!(retiring, hearing, delivering, minding);
    leases.end().await;
    if let Some(within) = within {
        within.stop().await;
    }
    served
}
