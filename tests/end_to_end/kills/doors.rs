//! The doors before gateways that come and go: where callers call, and where providers push to.

use std::net::{Ipv4Addr, SocketAddr};

use postern_sandbox::child::Gateway;

use crate::client::Relay;

/// Nobody listens there.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Where a gateway listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listening {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Listening {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        Self { grpc: gateway.address().parse().unwrap(), http: gateway.http().unwrap().parse().unwrap() }
    }
}

/// The doors.
pub(crate) struct Doors {
    calls: Relay,
    pushes: Relay,
}

impl Doors {
    /// Doors that lead nowhere yet.
    pub(crate) async fn new() -> Self {
        Self { calls: Relay::before(NOWHERE).await, pushes: Relay::before(NOWHERE).await }
    }

    /// What each gateway behind them is started with.
    pub(crate) fn flags(&self) -> Vec<String> {
        let url = format!("{}/postern", self.pushes.url());
        let flags = ["--outbox-back-off", "50ms", "--http-listen", "127.0.0.1:0", "--public-url", &url];
        flags.map(ToOwned::to_owned).to_vec()
    }

    /// Where callers call.
    pub(crate) fn url(&self) -> String {
        self.calls.url()
    }

    /// Leads to a gateway from the next connection on.
    pub(crate) fn lead_to(&self, gateway: Listening) {
        self.calls.lead_to(gateway.grpc);
        self.pushes.lead_to(gateway.http);
    }
}
