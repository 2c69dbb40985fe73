//! Several gateways on one store, before a fake provider: each on a runtime of its own, so that it can be killed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use postern_gateway::seal::KeyRing;
use postern_gateway::serve::{Listeners, serve_on};
use postern_gateway::settings::Settings;
use postern_gateway::store::{EventLog, Store};
use postern_proto::event::v1::TriggerStatus;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::way::Way;
use crate::edge::{Fake, outlook};
use crate::store::conformance::Engine;
use crate::world::{OUTLOOK, connect, create, triggers, until};

/// A gateway.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) channel: Channel,
    pub(crate) way: Arc<Way>,
    stop: CancellationToken,
    serving: Option<tokio::task::JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Gateway {
    /// Ends it at once, with every socket it has.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Stops it in good order.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.serving.take().unwrap().await.unwrap();
    }

    pub(crate) fn triggers(&self) -> TriggerServiceClient<Channel> {
        TriggerServiceClient::new(self.channel.clone())
    }

    /// How a trigger fares, as this gateway says.
    pub(crate) async fn status(&self, id: &str) -> TriggerStatus {
        triggers::status(&self.channel, id).await
    }

    /// Whether it looks after a trigger: only then does it know when that is due.
    pub(crate) async fn looks_after(&self, id: &str) -> bool {
        self.status(id).await.next_poll_time.is_some()
    }

    pub(crate) async fn nudge(&self, id: &str) {
        triggers::nudge(&self.channel, id).await;
    }

    /// Makes a trigger on the folder of its own name.
    pub(crate) async fn make(&self, id: &str, interval: Duration) {
        self.make_on(id, id, interval).await;
    }

    /// Makes a trigger on a folder.
    pub(crate) async fn make_on(&self, folder: &str, id: &str, interval: Duration) {
        triggers::make(&self.channel, id, interval, triggers::mail_in(folder, "")).await;
    }
}

/// A store that gateways share.
pub(crate) struct Shared<E> {
    engine: E,
    one: Option<(Arc<dyn Store>, Arc<dyn EventLog>)>,
}

impl<E: Engine> Shared<E> {
    /// `apart`: each gateway opens it for itself, which an engine that one process uses alone does not take. `None`: it was
    /// said that this engine is not to be tried.
    pub(crate) async fn start(apart: bool) -> Option<Self> {
        let mut shared = Self { engine: E::start().await?, one: None };
        if !apart {
            shared.one = Some(shared.open().await);
        }
        Some(shared)
    }

    /// What one more gateway runs on.
    pub(crate) async fn open(&self) -> (Arc<dyn Store>, Arc<dyn EventLog>) {
        match &self.one {
            Some(one) => one.clone(),
            None => {
                let opened = self.engine.open().await;
                (opened.store, opened.log)
            }
        }
    }
}

/// A store, and the fake before which gateways on it are started.
pub(crate) struct Stage<E> {
    pub(crate) fake: Fake,
    shared: Shared<E>,
    folder: tempfile::TempDir,
}

impl<E: Engine> Stage<E> {
    /// A stage with so many gateways and a connection. `apart` and `None`: as for [`Shared::start`].
    pub(crate) async fn set(fake: Fake, count: usize, apart: bool) -> Option<(Self, Vec<Gateway>)> {
        let folder = tempfile::tempdir().unwrap();
        KeyRing::read_or_make(&folder.path().join("keys")).unwrap();
        let stage = Self { fake, shared: Shared::start(apart).await?, folder };
        let mut gateways = Vec::new();
        for _ in 0..count {
            gateways.push(stage.start().await);
        }
        let connection = outlook();
        let parts = (connection.settings.unwrap(), connection.credentials.unwrap());
        create(&gateways[0].channel, OUTLOOK, parts).await.unwrap();
        Some((stage, gateways))
    }

    /// Starts one more gateway.
    pub(crate) async fn start(&self) -> Gateway {
        let (store, log) = self.shared.open().await;
        let arguments: [OsString; 4] = [
            "--connectors".into(),
            format!("http://{}", self.fake.address()).into(),
            "--key-file".into(),
            self.folder.path().join("keys").into(),
        ];
        launch(Way::new(store, log), arguments, None).await
    }
}

/// Starts a gateway on a store.
pub(crate) async fn launch(
    way: Arc<Way>,
    arguments: impl IntoIterator<Item = OsString>,
    http: Option<std::net::TcpListener>,
) -> Gateway {
    let lead: [OsString; 3] = ["gateway".into(), "--stop-grace".into(), "5s".into()];
    let settings = Settings::parse_from(lead.into_iter().chain(arguments));
    let grpc = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = grpc.local_addr().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (own, stop) = (way.clone(), CancellationToken::new());
    let stopped = stop.clone();
    let serving = runtime.spawn(async move {
        let listen = |listener: std::net::TcpListener| {
            listener.set_nonblocking(true).unwrap();
            TcpListener::from_std(listener).unwrap()
        };
        let listeners = Listeners { grpc: listen(grpc), http: http.map(listen) };
        serve_on(own.clone(), own, listeners, &settings, stopped).await.unwrap();
    });
    let channel = connect(address).await;
    Gateway { address, channel, way, stop, serving: Some(serving), runtime: Some(runtime) }
}

/// Waits until the gateways, and no others, have divided all between them, and nothing moves any more.
async fn at_rest(gateways: &[&Gateway]) {
    let way = &gateways[0].way;
    until("leases are at rest", || async {
        let members = way.list("gateways/", "", 100).await.unwrap();
        let before = way.list("leases/", "", 100).await.unwrap();
        // Longer than it takes to give a lease and to take it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let after = way.list("leases/", "", 100).await.unwrap();
        let owners: BTreeSet<_> = after.iter().map(|lease| lease.value.clone()).collect();
        let counts = (members.len(), owners.len(), after.len());
        (before == after && counts == (gateways.len(), gateways.len(), 64)).then_some(())
    })
    .await;
}

/// Waits until each trigger is looked after by exactly one gateway. Gives which, by trigger.
pub(crate) async fn divided(gateways: &[&Gateway], ids: &[String]) -> BTreeMap<String, usize> {
    at_rest(gateways).await;
    until("each trigger is one gateway's", || async {
        let mut owners = BTreeMap::new();
        for id in ids {
            let mut found = Vec::new();
            for (number, gateway) in gateways.iter().enumerate() {
                if gateway.looks_after(id).await {
                    found.push(number);
                }
            }
            let [owner] = found[..] else { return None };
            owners.insert(id.clone(), owner);
        }
        Some(owners)
    })
    .await
}
