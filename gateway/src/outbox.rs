//! The outbox: mails that the gateway hands over by itself, when they are due, again where that fails for now, and never
//! twice. It knows no provider: what it sends goes through `ConnectorService.SendEmail`.
//!
//! What is queued lies in the store alone; the courier, one task, hears of it there and owns the times.

mod attempt;
mod change;
mod content;
mod courier;
mod event;
mod lines;
mod queue;
mod record;
mod service;
mod settings;
mod sweep;
mod tally;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use ring::hmac;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use attempt::{Bench, cannot_send};
use courier::Courier;
pub use queue::{NewMail, Prepared};
pub use settings::OutboxSettings;
use tally::Tally;

use crate::connections::Connections;
use crate::connectors::Channel;
use crate::leases::Leases;
use crate::store::{EventLog, Store};

type ConnectorClient = ConnectorServiceClient<Channel>;

/// The running outbox. Clones are the same one.
#[derive(Clone)]
pub struct Outbox {
    bench: Arc<Bench>,
    tally: Tally,
    /// Keys the digests of requests, which hold what nobody should guess.
    digests: hmac::Key,
}

impl Outbox {
    /// Starts it: the courier and the sweep, until `stop` is cancelled. Mails that are being handed over then have `grace`
    /// to come to their end.
    pub fn start(
        connections: Arc<Connections>,
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        leases: Arc<Leases>,
        digests: hmac::Key,
        settings: OutboxSettings,
        (stop, grace): (CancellationToken, Duration),
    ) -> (Self, JoinHandle<()>) {
        let tally = Tally::new(&settings);
        let bench = Arc::new(Bench { store, log, connections, leases, settings });
        let outbox = Self { bench: bench.clone(), tally: tally.clone(), digests };
        let running = tokio::spawn(async move {
            let courier = Courier::new(bench.clone(), tally).run(stop.clone(), grace);
            tokio::join!(courier, sweep::run(bench, stop.clone()));
        });
        (outbox, running)
    }

    fn store(&self) -> &dyn Store {
        self.bench.store.as_ref()
    }
}
