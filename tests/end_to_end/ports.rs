//! Ports that stay a test's own while nobody listens on them.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::world::until;

/// A port of this machine. Nobody is given it, for listening or for calling from, as long as this is there: who comes back
/// to it finds it free. Whoever names it may listen on it, as all listeners here do: with SO_REUSEADDR.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    /// Bound, and never listening.
    _socket: TcpSocket,
}

impl Port {
    /// One that was free.
    pub(crate) fn keep() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { address: socket.local_addr().unwrap(), _socket: socket }
    }
}

/// Listens at an address of one's own, where somebody may have listened just before: a program that another test starts at
/// this very moment has copies of all sockets until it runs.
pub(crate) async fn listen(address: SocketAddr) -> TcpListener {
    until("the address is free", || async { TcpListener::bind(address).await.ok() }).await
}

#[tokio::test]
async fn a_port_is_its_keepers_over_and_over_and_nobody_elses() {
    let port = Port::keep();
    for _ in 0..2 {
        let listener = listen(port.address).await;
        let (called, taken) = tokio::join!(tokio::net::TcpStream::connect(port.address), listener.accept());
        drop((called.unwrap(), taken.unwrap()));
    }
    assert!(tokio::net::TcpStream::connect(port.address).await.is_err(), "nobody listens");
    // It is taken for all who do not name it and say that they know: those whom the system gives a port of its choosing.
    let another = TcpSocket::new_v4().unwrap();
    assert_eq!(another.bind(port.address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}
