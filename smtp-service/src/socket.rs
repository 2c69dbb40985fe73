//! One socket to an SMTP server, in the clear or under TLS: bytes out, replies in. It knows lines and replies, no
//! commands, and puts no bound on time.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::reply::{MAX_LINE_BYTES, Partial, Reply};

/// How much is read at once.
const READ_BYTES: usize = 4 * 1024;

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    /// What has been read and not yet used.
    unread: BytesMut,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A way within the process, so that tests can pause time.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

/// Why TLS did not come about.
#[derive(Debug)]
pub(crate) enum TlsFailure {
    /// The certificate did not stand the check.
    Certificate(String),
    /// Anything else: the handshake broke.
    Handshake(String),
}

impl Socket {
    /// Connects to the first of a host's addresses that answers, each given its share of the time until `end`.
    ///
    /// Nagle's algorithm is off: with it, a message whose last bytes go out alone waits for the server's delayed ACK.
    pub(crate) async fn connect(host: &str, port: u16, end: Instant) -> io::Result<Self> {
        #[cfg(test)]
        if let Some(stream) = memory::dial(host, port) {
            return Ok(Self { stream: Stream::Memory(stream?), unread: BytesMut::new() });
        }
        let addresses: Vec<_> = tokio::time::timeout_at(end, tokio::net::lookup_host((host, port)))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time"))??
            .collect();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (tried, address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share: Duration = (end - Instant::now()) / left;
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self { stream: Stream::Plain(stream), unread: BytesMut::new() });
                }
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
            }
        }
        Err(failure)
    }

    /// The same socket under TLS, the server's certificate checked for `name`.
    ///
    /// What the server sent before the handshake must have been used: anything left may come from somebody in
    /// between, and would be taken for the server's own word under TLS.
    pub(crate) async fn secure(
        self,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> Result<Self, TlsFailure> {
        if !self.unread.is_empty() {
            return Err(TlsFailure::Handshake("the server sent data in the clear ahead of TLS".to_owned()));
        }
        let Stream::Plain(stream) = self.stream else {
            return Err(TlsFailure::Handshake("it is under TLS already".to_owned()));
        };
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(Self { stream: Stream::Tls(Box::new(stream)), unread: BytesMut::new() }),
            Err(error) => Err(tls_failure(&error)),
        }
    }

    /// Whether TLS is on.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Our own address on this socket.
    pub(crate) fn local_ip(&self) -> io::Result<IpAddr> {
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
            #[cfg(test)]
            Stream::Memory(_) => return Ok(IpAddr::from([127, 0, 0, 1])),
        };
        stream.local_addr().map(|address| address.ip())
    }

    /// Hands all bytes to the system. An error means that the last of them was not handed over.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            #[cfg(test)]
            Stream::Memory(stream) => stream.write_all(bytes).await,
        }
    }

    /// Reads the next reply.
    pub(crate) async fn read_reply(&mut self) -> io::Result<Reply> {
        let mut partial = Partial::default();
        loop {
            let line = self.read_line().await?;
            let read = partial.line(&line).map_err(|problem| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the server's reply is malformed: {problem}"),
                )
            })?;
            if let Some(reply) = read {
                return Ok(reply);
            }
        }
    }

    /// Whether the server has said nothing of its own accord: no end of stream, no 421, no left-over reply. It asks
    /// what has arrived and waits for nothing.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.unread.is_empty() && self.fill().now_or_never().is_none()
    }

    /// Reads a line, without its line end.
    async fn read_line(&mut self) -> io::Result<BytesMut> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.unread[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.unread.split_to(searched + at);
                self.unread.advance(1);
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                return Ok(line);
            }
            searched = self.unread.len();
            if searched > MAX_LINE_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the server's reply has too long a line",
                ));
            }
            self.fill().await?;
        }
    }

    /// Reads what has arrived, at least one byte.
    async fn fill(&mut self) -> io::Result<()> {
        self.unread.reserve(READ_BYTES);
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.unread).await?,
            Stream::Tls(stream) => stream.read_buf(&mut self.unread).await?,
            #[cfg(test)]
            Stream::Memory(stream) => stream.read_buf(&mut self.unread).await?,
        };
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(())
    }
}

/// Tells a certificate that was refused from every other end of a handshake.
fn tls_failure(error: &io::Error) -> TlsFailure {
    match error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(problem)) => TlsFailure::Certificate(problem.to_string()),
        Some(rustls::Error::NoCertificatesPresented) => TlsFailure::Certificate("there is none".to_owned()),
        _ => TlsFailure::Handshake(error.to_string()),
    }
}

/// Servers within the process, by port: what listens on the host `memory`.
#[cfg(test)]
pub(crate) mod memory {
    use std::collections::HashMap;
    use std::io;
    use std::sync::Mutex;

    use tokio::io::DuplexStream;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    static SERVERS: Mutex<Option<HashMap<u16, UnboundedSender<DuplexStream>>>> = Mutex::new(None);
    /// What a socket's buffers hold.
    const BUFFER: usize = 64 * 1024;

    /// Listens on a free port.
    pub(crate) fn listen() -> (u16, UnboundedReceiver<DuplexStream>) {
        let (sender, receiver) = unbounded_channel();
        let mut servers = SERVERS.lock().unwrap();
        let servers = servers.get_or_insert_default();
        servers.retain(|_, server| !server.is_closed());
        let port = (1..=u16::MAX).find(|port| !servers.contains_key(port)).unwrap();
        servers.insert(port, sender);
        (port, receiver)
    }

    pub(super) fn dial(host: &str, port: u16) -> Option<io::Result<DuplexStream>> {
        if host != "memory" {
            return None;
        }
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let server = SERVERS.lock().unwrap().as_ref().and_then(|servers| servers.get(&port).cloned());
        let reached = server.is_some_and(|server| server.send(theirs).is_ok());
        Some(if reached { Ok(ours) } else { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_goes_out_without_waiting_for_an_acknowledgement() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let end = Instant::now() + Duration::from_secs(20);
        let socket = Socket::connect("127.0.0.1", port, end).await.unwrap();
        let Stream::Plain(stream) = &socket.stream else { panic!("{socket:?}") };
        assert!(stream.nodelay().unwrap(), "Nagle's algorithm is on");
    }
}
