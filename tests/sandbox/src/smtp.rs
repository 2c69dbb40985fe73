//! A small SMTP server (RFC 5321) on real sockets: STARTTLS, AUTH and the extensions that Postern uses, with replies
//! and faults on demand. It keeps what it takes in memory and hands it on to whoever it is told to.

mod authority;
mod control;
mod conversation;
mod sign_in;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use crate::smtp::authority::Authority;
pub use crate::smtp::control::{Action, Control, Stage, Times};
use crate::smtp::conversation::Conversation;
use crate::smtp::stream::Stream;

/// The most conversations at once: a caller that leaks sockets is found out before the machine is.
const MAX_CONVERSATIONS: usize = 2_000;
/// How much a client can send that is not read yet.
const RECEIVE_BUFFER_BYTES: u32 = 128 * 1024;
/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;
/// How long [`SmtpServer::delivered`] waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A mail that the server took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients that were accepted.
    pub to: Vec<String>,
    /// The message, its dots as they were before it was sent.
    pub message: Bytes,
}

/// Where mail that was taken goes.
pub type Deliver = Arc<dyn Fn(Delivery) + Send + Sync>;

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// In the clear.
    None,
    /// In the clear at first; STARTTLS is offered, and AUTH only after it.
    StartTls,
    /// Under TLS from the first byte.
    Implicit,
}

/// How the server is set up.
#[derive(Clone)]
pub struct SmtpSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How it is reached.
    pub tls: Tls,
    /// The names in its certificate: host names and addresses.
    pub host_names: Vec<String>,
    /// Who signs its certificate. None: an authority of its own.
    pub authority: Option<Authority>,
    /// Users and their passwords. Not empty: AUTH is needed before MAIL.
    pub users: Vec<(String, String)>,
    /// The largest message taken, in bytes.
    pub max_size: usize,
    /// What is called with each mail that is taken, before the final dot is answered.
    pub deliver: Deliver,
}

impl Default for SmtpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: Tls::StartTls,
            host_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            authority: None,
            users: Vec::new(),
            max_size: 50 * 1024 * 1024,
            deliver: Arc::new(|_| {}),
        }
    }
}

/// A server that runs until it is dropped.
pub struct SmtpServer {
    address: SocketAddr,
    ca_certificate: String,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// What all conversations of a server share.
struct Shared {
    tls: Tls,
    tls_config: Arc<ServerConfig>,
    users: Vec<(String, String)>,
    max_size: usize,
    deliver: Deliver,
    control: Control,
    accepted: watch::Sender<Vec<Delivery>>,
}

impl SmtpServer {
    /// Starts a server on the current runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or no certificate can be made for the names.
    pub async fn start(settings: SmtpSettings) -> io::Result<Self> {
        let authority = match settings.authority {
            Some(authority) => authority,
            None => Authority::new()?,
        };
        let listener = bind(settings.listen)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            tls: settings.tls,
            tls_config: authority.server_config(&settings.host_names)?,
            users: settings.users,
            max_size: settings.max_size,
            deliver: settings.deliver,
            control: Control::default(),
            accepted: watch::Sender::new(Vec::new()),
        });
        let stop = CancellationToken::new();
        tokio::spawn(listen(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self { address, ca_certificate: authority.certificate().to_owned(), shared, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority, PEM.
    #[must_use]
    pub fn ca_certificate(&self) -> &str {
        &self.ca_certificate
    }

    /// What makes it misbehave, and what tells what was said to it.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.shared.control
    }

    /// All mail taken so far.
    #[must_use]
    pub fn accepted(&self) -> Vec<Delivery> {
        self.shared.accepted.borrow().clone()
    }

    /// How many mails were taken so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.accepted.borrow().len()
    }

    /// Waits until more than so many mails were taken.
    pub async fn grown(&self, beyond: usize) {
        let mut accepted = self.shared.accepted.subscribe();
        // The sender is this server's own.
        let _ = accepted.wait_for(|accepted| accepted.len() > beyond).await;
    }

    /// Waits until so many mails have been taken, and gives all.
    ///
    /// # Errors
    /// They were not taken within 20 seconds.
    pub async fn delivered(&self, count: usize) -> io::Result<Vec<Delivery>> {
        let mut accepted = self.shared.accepted.subscribe();
        let enough = accepted.wait_for(|accepted| accepted.len() >= count);
        match tokio::time::timeout(PATIENCE, enough).await {
            Ok(Ok(accepted)) => Ok(accepted.clone()),
            _ => Err(io::Error::new(io::ErrorKind::TimedOut, "the mails did not come")),
        }
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Listens with a small receive buffer: a client that writes a long message then has to wait for what is read of it,
/// as it has on a real network.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let _ = socket.set_nodelay(true);
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        let counted = shared.control.opened();
        tokio::spawn(async move {
            let mut hung_up = shared.control.hang_ups();
            let serving = serve(Stream::plain(socket), &shared);
            tokio::select! {
                () = stop.cancelled() => {}
                _ = hung_up.changed() => {}
                // The client went, or was made to: there is nobody to tell.
                _ = serving => {}
            }
            drop((counted, place));
        });
    }
}

async fn serve(stream: Stream, shared: &Shared) -> io::Result<()> {
    let stream = match shared.tls {
        Tls::Implicit => stream.secure(Arc::clone(&shared.tls_config)).await?,
        Tls::None | Tls::StartTls => stream,
    };
    Conversation::new(stream, shared).run().await
}
