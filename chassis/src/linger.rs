//! Sockets that wait a moment for their peer when they are closed. A socket that is closed while something for it is
//! unread is reset, and a reset may reach the peer before what was said last (RFC 9112, section 9.6): the peer would not
//! learn which of its calls were not taken, and could repeat none of them.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

/// How long a peer may take to close its side: whoever reads what was said last does so at once.
const LONGEST: Duration = Duration::from_secs(1);
/// How much of what comes too late is thrown away at a time.
const READ_BYTES: usize = 4 * 1024;

/// A socket.
#[derive(Debug)]
pub(crate) struct Lingering<IO> {
    inner: IO,
    /// Until when it waits, once its own side is closed.
    until: Option<Pin<Box<Sleep>>>,
}

impl<IO> Lingering<IO> {
    pub(crate) fn new(inner: IO) -> Self {
        Self { inner, until: None }
    }
}

impl<IO: Connected> Connected for Lingering<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Lingering<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Closes its own side, then reads until the peer has closed the other, for a moment.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.until.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        let until = this.until.get_or_insert_with(|| Box::pin(sleep(LONGEST)));
        // First, lest a peer that sends without end be read without end.
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut late = [0; READ_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut late);
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

    async fn pair() -> (Lingering<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Lingering::new(listener.accept().await.unwrap().0), peer)
    }

    #[tokio::test]
    async fn what_was_said_last_reaches_a_peer_that_still_talks() {
        let (mut own, mut peer) = pair().await;
        peer.write_all(&[1; 3 * READ_BYTES]).await.unwrap();
        let closing = tokio::spawn(async move {
            own.write_all(b"goodbye").await.unwrap();
            own.shutdown().await.unwrap();
        });
        let mut said = String::new();
        peer.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "goodbye");
        for _ in 0..3 {
            peer.write_all(b"too late").await.unwrap();
        }
        drop(peer);
        closing.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stays_or_talks_without_end_is_left() {
        let begun = Instant::now();
        let (mut own, peer) = pair().await;
        own.shutdown().await.unwrap();
        assert!(begun.elapsed() >= LONGEST && begun.elapsed() < 2 * LONGEST, "{:?}", begun.elapsed());
        drop(peer);
    }
}
