//! A door before a gateway: its address stays while gateways come and go behind it, and it can fall silent.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A door on a port of its own. Gone when dropped, with all that goes through it.
pub(crate) struct Relay {
    address: SocketAddr,
    behind: watch::Sender<SocketAddr>,
    silent: watch::Sender<u64>,
    cut: watch::Sender<u64>,
    serving: tokio::task::JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (behind, gateway) = watch::channel(behind);
        let silent = watch::Sender::new(0);
        let cut = watch::Sender::new(0);
        let (silences, cuts) = (silent.clone(), cut.clone());
        let serving = tokio::spawn(async move {
            // Whoever is passed on goes with the door.
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((outside, _)) = listener.accept().await {
                let gateway = *gateway.borrow();
                passing.spawn(pass(outside, gateway, silences.subscribe(), cuts.subscribe()));
            }
        });
        Self { address, behind, silent, cut, serving }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where to call.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads to another gateway from the next connection on.
    pub(crate) fn lead_to(&self, behind: SocketAddr) {
        self.behind.send_replace(behind);
    }

    /// Breaks all that is open.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|times| *times += 1);
    }

    /// Passes nothing more of what is open, and keeps it open. New connections are passed on.
    pub(crate) fn fall_silent(&self) {
        self.silent.send_modify(|times| *times += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(
    mut outside: TcpStream,
    gateway: SocketAddr,
    mut silent: watch::Receiver<u64>,
    mut cut: watch::Receiver<u64>,
) {
    let Ok(mut inside) = TcpStream::connect(gateway).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut outside, &mut inside) => {}
        Ok(()) = silent.changed() => drop(cut.changed().await),
        Ok(()) = cut.changed() => {}
    }
}

/// The URL of an address that takes callers and drops them, as one does behind which a gateway is dead.
pub(crate) async fn dropping() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    url
}
