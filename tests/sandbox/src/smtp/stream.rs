//! A client's socket, in the clear or under TLS, read by lines and by messages.

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Control;

/// The longest line taken.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// What ends a message.
const FINAL_DOT: &[u8] = b"\r\n.\r\n";

/// A client's socket.
pub(super) struct Stream {
    socket: Socket,
    unread: BytesMut,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self { socket: Socket::Plain(socket), unread: BytesMut::new() }
    }

    /// The same socket under TLS. What the client sent ahead is forgotten.
    pub(super) async fn secure(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let Socket::Plain(socket) = self.socket else { return Err(io::Error::other("TLS is on already")) };
        let socket = TlsAcceptor::from(config).accept(socket).await?;
        Ok(Self { socket: Socket::Tls(Box::new(socket)), unread: BytesMut::new() })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.socket, Socket::Tls(_))
    }

    /// Makes the coming close a TCP reset.
    pub(super) fn set_reset(&mut self) {
        let socket = match &self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(socket) => socket.get_ref().0,
        };
        let _ = socket.set_zero_linger();
    }

    /// Says that nothing more will come.
    pub(super) async fn shut_down(&mut self) {
        let _ = match &mut self.socket {
            Socket::Plain(socket) => socket.shutdown().await,
            Socket::Tls(socket) => socket.shutdown().await,
        };
    }

    pub(super) async fn write(&mut self, text: &str) -> io::Result<()> {
        match &mut self.socket {
            Socket::Plain(socket) => socket.write_all(text.as_bytes()).await,
            Socket::Tls(socket) => {
                socket.write_all(text.as_bytes()).await?;
                socket.flush().await
            }
        }
    }

    /// The next line, without its line end.
    pub(super) async fn line(&mut self, control: &Control) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(end);
                self.unread.advance(1);
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            if self.unread.len() > MAX_LINE_BYTES {
                return Err(io::Error::other("too long a line"));
            }
            control.waited();
            self.fill().await?;
        }
    }

    /// Waits for the first bytes of a message.
    pub(super) async fn first_bytes(&mut self) -> io::Result<()> {
        if self.unread.is_empty() { self.fill().await } else { Ok(()) }
    }

    /// A whole message, up to its final dot, with its doubled dots made single. None: it is over the limit; it has
    /// been read to its end.
    pub(super) async fn message(&mut self, max_size: usize) -> io::Result<Option<Bytes>> {
        if self.unread.starts_with(b".\r\n") {
            self.unread.advance(3);
            return Ok(Some(Bytes::new()));
        }
        let (mut searched, mut too_large) = (0, false);
        loop {
            let from = searched;
            if let Some(at) = self.unread[from..].windows(FINAL_DOT.len()).position(|end| end == FINAL_DOT) {
                let text = self.unread.split_to(from + at + 2).freeze();
                self.unread.advance(3);
                let message = single_dots(&text);
                return Ok(Some(message).filter(|message| !too_large && message.len() <= max_size));
            }
            searched = self.unread.len().saturating_sub(FINAL_DOT.len() - 1);
            if searched > max_size.saturating_mul(2).max(READ_BYTES) {
                // No more than the end matters now.
                too_large = true;
                self.unread.advance(searched);
                searched = 0;
            }
            self.fill().await?;
        }
    }

    /// Reads to the end and forgets it.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        loop {
            self.unread.clear();
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.unread.reserve(READ_BYTES);
        let read = match &mut self.socket {
            Socket::Plain(socket) => socket.read_buf(&mut self.unread).await?,
            Socket::Tls(socket) => socket.read_buf(&mut self.unread).await?,
        };
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

fn single_dots(text: &Bytes) -> Bytes {
    if !text.starts_with(b".") && !text.windows(3).any(|bytes| bytes == b"\r\n.") {
        return text.clone();
    }
    let mut message = BytesMut::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_dots_are_made_single() {
        let text = Bytes::from_static(b"..a\r\nb.\r\n..\r\n...\r\n");
        assert_eq!(single_dots(&text), &b".a\r\nb.\r\n.\r\n..\r\n"[..]);
    }
}
