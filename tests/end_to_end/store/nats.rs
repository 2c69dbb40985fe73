//! What the engine on NATS promises of its own: gateways that share a stream see each other's doings, servers that die
//! and connections that break lose nothing, and what cannot be used is refused clearly.

mod bounds;
mod faults;
mod moving;
mod refusals;
mod sharing;
mod trimming;
mod waiting;

use std::sync::Arc;

use postern_gateway::store::nats::Nats;

use super::nats_server::{NatsServer, of_stream};

/// A store on a server, for one gateway of several.
async fn open(server: &NatsServer) -> Arc<Nats> {
    Nats::open(&server.servers(), &of_stream("postern")).await.expect("the server is there")
}
