//! Connections between simulated gateways and connectors: pipes in memory that can be broken and stalled.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tonic::transport::server::Connected;

use crate::weather::lock;

/// How many bytes are on their way at most.
const PIPE_BYTES: usize = 256 * 1024;

/// What both ends of a connection share.
#[derive(Default)]
struct Link {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_broken: bool,
    is_stalled: bool,
    wakers: Vec<Waker>,
}

/// One end.
pub(crate) struct Cable {
    pipe: DuplexStream,
    link: Arc<Link>,
}

impl Cable {
    fn passes(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.link.state);
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        if state.is_stalled { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncRead for Cable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.passes(context))?;
        Pin::new(&mut self.pipe).poll_read(context, into)
    }
}

impl AsyncWrite for Cable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.passes(context))?;
        Pin::new(&mut self.pipe).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}

impl Connected for Cable {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// All connections, by the gateway and the copy of the connector that they join.
#[derive(Default)]
pub(crate) struct Cables(Mutex<Vec<(usize, usize, Weak<Link>)>>);

impl Cables {
    /// Lays one.
    pub(crate) fn lay(&self, gateway: usize, copy: usize) -> (Cable, Cable) {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let link = Arc::new(Link::default());
        let mut all = lock(&self.0);
        all.retain(|(.., link)| link.strong_count() > 0);
        all.push((gateway, copy, Arc::downgrade(&link)));
        (Cable { pipe: near, link: link.clone() }, Cable { pipe: far, link })
    }

    /// Breaks those that are chosen.
    pub(crate) fn break_off(&self, chosen: impl Fn(usize, usize) -> bool) {
        self.each(chosen, |state| state.is_broken = true);
    }

    /// Has nothing more pass those that are chosen, or all again.
    pub(crate) fn stall(&self, is_stalled: bool, chosen: impl Fn(usize, usize) -> bool) {
        self.each(chosen, |state| state.is_stalled = is_stalled);
    }

    fn each(&self, chosen: impl Fn(usize, usize) -> bool, change: impl Fn(&mut State)) {
        for (gateway, copy, link) in lock(&self.0).iter() {
            let Some(link) = link.upgrade().filter(|_| chosen(*gateway, *copy)) else { continue };
            let wakers = {
                let mut state = lock(&link.state);
                change(&mut state);
                std::mem::take(&mut state.wakers)
            };
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}
