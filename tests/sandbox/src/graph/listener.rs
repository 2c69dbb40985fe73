//! A listener whose connections can be cut in the middle of an answer, as networks do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Without end: the connection is not to be cut.
const WHOLE: u64 = u64::MAX;

/// Cuts the connection that it belongs to. It holds how many bytes may yet be written.
#[derive(Debug, Clone)]
pub(super) struct Cut(Arc<AtomicU64>);

impl Default for Cut {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(WHOLE)))
    }
}

impl Cut {
    /// From now on nothing more is written: the peer sees the connection end.
    pub(super) fn cut(&self) {
        self.cut_after(0);
    }

    /// So many bytes more are written, then the peer sees the connection end.
    pub(super) fn cut_after(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Release);
    }
}

/// A TCP listener whose connections can be cut.
pub(super) struct CuttingListener(pub(super) TcpListener);

/// A connection that can be cut.
pub(super) struct CuttingStream {
    stream: TcpStream,
    cut: Cut,
}

impl Listener for CuttingListener {
    type Io = CuttingStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        let _ = stream.set_nodelay(true);
        (CuttingStream { stream, cut: Cut::default() }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, CuttingListener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, CuttingListener>) -> Self {
        stream.io().cut.clone()
    }
}

impl AsyncRead for CuttingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for CuttingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.cut.0.load(Ordering::Acquire);
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let written = Pin::new(&mut self.stream).poll_write(context, bytes.get(..most).unwrap_or(bytes));
        if let (Poll::Ready(Ok(written)), true) = (&written, left != WHOLE) {
            self.cut.0.fetch_sub(*written as u64, Ordering::AcqRel);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
