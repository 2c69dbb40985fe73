//! Leaves a server of NATS that is no use any more and goes over to one that is: one that is cut off from the others keeps
//! its clients and makes no write of theirs, and so does a connection of which the other end has gone silently.

use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::connection::State;
use futures_util::future::select_ok;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connect;
use super::link::{Link, context};

/// How long a write waits before it is looked why: longer than a busy disk takes, shorter than any vote on a leader.
const STALLED: Duration = Duration::from_secs(2);
/// How long a server may take to say that it reaches the stream's leader.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// How long going over may take before it is looked again.
const MOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Watches over a link until `stop` is cancelled.
pub(super) async fn run(link: Arc<Link>, stop: CancellationToken) {
    let watching = async {
        loop {
            link.stalls(STALLED).await;
            // Where there is no connection at all the client itself tries every server.
            if link.client.connection_state() == State::Connected && !reaches_leader(&link).await {
                look_elsewhere(&link).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = stop.cancelled() => {}
    }
}

/// Whether the stream's leader answers by way of the link, and still is one.
async fn reaches_leader(link: &Link) -> bool {
    matches!(timeout(LOOK_TIMEOUT, link.led(&link.stream)).await, Ok(Ok(_)))
}

/// Goes over to a server by which the leader answers. Where there is none, a vote on one may be under way.
async fn look_elsewhere(link: &Link) {
    let Ok(servers) = link.client.server_pool().await else { return };
    let looks = servers.into_iter().map(|server| Box::pin(answers_by(link, server.addr)));
    let Ok((server, _)) = select_ok(looks).await else { return };
    let (host, port) = (server.host().to_owned(), server.port());
    tracing::warn!(host, port, "NATS makes no write here: going over to a server where the stream is led");
    let mut made = link.connected.made.clone();
    made.borrow_and_update();
    if link.connected.go_over_to(server).await {
        // Either way it is looked again.
        let _ = timeout(MOVE_TIMEOUT, made.changed()).await;
    }
}

/// A server, where the stream's leader answers by way of it.
async fn answers_by(link: &Link, server: ServerAddr) -> Result<ServerAddr, ()> {
    let asking = async {
        let client = connect::only_with(server.clone(), &link.settings).await.map_err(drop)?;
        let stream = context(&client).get_stream_no_info(&link.name).await.map_err(drop)?;
        link.led(&stream).await.map_err(drop)?;
        Ok(server)
    };
    timeout(LOOK_TIMEOUT, asking).await.map_err(drop)?
}
