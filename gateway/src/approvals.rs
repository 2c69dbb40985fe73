//! Approvals: questions put to people by mail, answered on pages of the gateway. The mails go through the outbox; nothing
//! here knows how one is sent.
//!
//! All that lasts lies in the store and changes by compare-and-set: an answer, its event and the notice of it are one
//! durable step.

mod addresses;
mod answer;
mod ask;
mod clock;
mod door;
mod doubt;
mod event;
mod language;
mod letter;
mod link;
mod list;
mod notice;
mod policy;
mod question;
mod record;
mod service;
mod settings;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use ring::hmac;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use notice::notification_secret;
pub use settings::ApprovalSettings;

use crate::connections::Connections;
use crate::leases::Leases;
use crate::notifications::PublicUrl;
use crate::outbox::Outbox;
use crate::store::{EventLog, Guard, Store};
use link::Links;
use notice::Notices;

/// What approvals need of the gateway.
pub struct Needs {
    /// The connections that mails go through.
    pub connections: Arc<Connections>,
    /// Where the mails are queued.
    pub outbox: Outbox,
    /// Where approvals lie.
    pub store: Arc<dyn Store>,
    /// Where their answers are told.
    pub log: Arc<dyn EventLog>,
    /// Tell which approvals this gateway ends when their time is over, and whose answers it posts.
    pub leases: Arc<Leases>,
    /// Keys links and the digests of requests.
    pub digests: hmac::Key,
    /// Where links lead. Absent: nobody can be asked.
    pub public_url: Option<PublicUrl>,
    /// How they are kept.
    pub settings: ApprovalSettings,
    /// Ends streams and the clock.
    pub stop: CancellationToken,
}

/// The approvals of a gateway. Clones are the same ones.
#[derive(Clone)]
pub struct Approvals(Arc<Inner>);

struct Inner {
    connections: Arc<Connections>,
    outbox: Outbox,
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
    leases: Arc<Leases>,
    digests: hmac::Key,
    links: Links,
    notices: Notices,
    settings: ApprovalSettings,
    public_url: Option<PublicUrl>,
    /// How many are pending, as far as the clock has heard.
    pending: AtomicUsize,
    stop: CancellationToken,
}

impl Inner {
    /// What must hold of the store for what this gateway does with an approval. `None`: it is another's.
    fn guards(&self, name: &str) -> Option<Vec<Guard>> {
        self.leases.guard(name).map(|guard| vec![guard])
    }
}

impl Approvals {
    /// Starts them: the clock that ends those whose time is over and posts answers, until `stop` is cancelled.
    #[must_use]
    pub fn start(needs: Needs) -> (Self, JoinHandle<()>) {
        let Needs { connections, outbox, store, log, leases, digests, public_url, settings, stop } = needs;
        let (links, notices) = (Links::new(&digests), Notices::new(&settings, &digests));
        let approvals = Self(Arc::new(Inner {
            connections,
            outbox,
            store,
            log,
            leases,
            digests,
            links,
            notices,
            settings,
            public_url,
            pending: AtomicUsize::new(0),
            stop: stop.clone(),
        }));
        let clock = clock::Clock::new(approvals.0.clone());
        let running = tokio::spawn(clock.run(stop));
        (approvals, running)
    }

    /// The pages that links lead to.
    pub fn router(&self) -> Router {
        door::router(self.0.clone())
    }
}
