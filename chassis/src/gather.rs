//! Sockets that gather what is written to them while there is other work at hand, and write it as one. HTTP/2 flushes after
//! each message: where many calls are answered at the same moment, a system call for each message would cost as much as all
//! that is done for it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tonic::transport::server::Connected;

/// What is gathered at most. More waits until it is written.
const MOST_BYTES: usize = 64 * 1024;
/// What is written by itself: a copy of it costs as much as a system call.
const LARGE_BYTES: usize = 16 * 1024;

/// The room that a socket keeps while nothing is written: there may be thousands of them.
const KEPT_BYTES: usize = 4 * 1024;

/// A socket of one task, which reads and writes: it is the one that is woken to write what was gathered.
#[derive(Debug)]
pub struct Gathering<IO> {
    inner: IO,
    gathered: BytesMut,
    turn: Arc<Turn>,
    /// Whether a turn is waited for.
    is_waiting: bool,
}

impl<IO> Gathering<IO> {
    /// A socket on top of another.
    pub fn new(inner: IO) -> Self {
        Self { inner, gathered: BytesMut::new(), turn: Arc::default(), is_waiting: false }
    }
}

/// The moment when the runtime has seen to all tasks that were ready.
#[derive(Debug, Default)]
struct Turn {
    has_come: AtomicBool,
    /// The task that writes.
    task: AtomicWaker,
}

impl Turn {
    /// Begins to wait until the others have had their turn.
    fn begin(self: &Arc<Self>) {
        self.has_come.store(false, Ordering::Relaxed);
        // The runtime wakes it as it does whoever yields; nobody waits for the yielding itself.
        let waker = Waker::from(self.clone());
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
    }

    /// Waits for it. The task is woken that asks last, for a socket may pass from one to another.
    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        // Looked at after that: whoever sets it wakes the task that is there then.
        if self.has_come.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.has_come.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<IO: AsyncWrite + Unpin> Gathering<IO> {
    /// Writes what was gathered.
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        if self.gathered.capacity() > KEPT_BYTES {
            self.gathered = BytesMut::new();
        }
        self.is_waiting = false;
        Poll::Ready(Ok(()))
    }
}

impl<IO: Connected> Connected for Gathering<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathering<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Whoever waits for an answer, as in a handshake, may not flush again.
        if this.is_waiting
            && this.turn.poll(cx).is_ready()
            && let Poll::Ready(Err(error)) = this.poll_empty(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.inner).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gathering<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        if bytes >= LARGE_BYTES {
            ready!(this.poll_empty(cx))?;
            return Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        }
        if this.gathered.len() + bytes > MOST_BYTES {
            ready!(this.poll_empty(cx))?;
        }
        slices.iter().for_each(|slice| this.gathered.extend_from_slice(slice));
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Says at once that it is done, and has the task come back for it in its turn: whenever it is woken it flushes or
    /// reads. An error is told then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.gathered.is_empty() {
            if !this.is_waiting {
                this.is_waiting = true;
                this.turn.begin();
            }
            if this.turn.poll(cx).is_pending() {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_empty(cx))?;
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_empty(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// What was written, write by write.
    #[derive(Default)]
    struct Written(Vec<Vec<u8>>, bool);

    impl AsyncWrite for Written {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(if self.1 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes and flushes a message, as HTTP/2 does.
    async fn say(socket: &mut Gathering<Written>, message: &[u8]) {
        socket.write_all(message).await.unwrap();
        socket.flush().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_said_before_others_had_their_turn_is_one_write() {
        let mut socket = Gathering::new(Written::default());
        for message in [&b"one"[..], b"two", b"three"] {
            say(&mut socket, message).await;
        }
        assert!(socket.inner.0.is_empty());
        // It is woken by itself, and flushes then.
        poll_fn(|cx| {
            let _ = Pin::new(&mut socket).poll_flush(cx);
            if socket.gathered.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(socket.inner.0, [b"onetwothree".to_vec()]);
        say(&mut socket, b"four").await;
        assert_eq!(socket.inner.0.len(), 1);
        socket.shutdown().await.unwrap();
        assert_eq!(socket.inner.0[1], b"four");
    }

    #[tokio::test]
    async fn what_is_large_goes_at_once_and_after_what_was_said_before() {
        let mut socket = Gathering::new(Written::default());
        let large = vec![7; LARGE_BYTES];
        say(&mut socket, b"small").await;
        say(&mut socket, &large).await;
        assert_eq!(socket.inner.0, [b"small".to_vec(), large.clone()]);
        let slices = [io::IoSlice::new(b"head"), io::IoSlice::new(&large)];
        say(&mut socket, b"more").await;
        let written = socket.write_vectored(&slices).await.unwrap();
        assert!(written > 0 && socket.inner.0[2] == b"more");
        // No more is gathered than the bound.
        for _ in 0..MOST_BYTES / 1024 + 1 {
            say(&mut socket, &[1; 1024]).await;
            assert!(socket.gathered.len() <= MOST_BYTES);
        }
        assert_eq!(socket.inner.0.last().unwrap().len(), MOST_BYTES);
    }

    #[tokio::test]
    async fn a_socket_that_broke_says_so() {
        let mut socket = Gathering::new(Written(Vec::new(), true));
        say(&mut socket, b"one").await;
        let broken = poll_fn(|cx| match Pin::new(&mut socket).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error.kind()),
            _ => Poll::Pending,
        });
        assert_eq!(broken.await, io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn whoever_flushes_once_and_waits_for_an_answer_gets_it() {
        let (near, mut far) = tokio::io::duplex(100);
        let answering = tokio::spawn(async move {
            let mut asked = [0; 3];
            far.read_exact(&mut asked).await.unwrap();
            far.write_all(b"yes").await.unwrap();
            asked
        });
        let mut socket = Gathering::new(near);
        socket.write_all(b"who").await.unwrap();
        socket.flush().await.unwrap();
        let mut answer = [0; 3];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!((&answer, &answering.await.unwrap()), (b"yes", b"who"));
    }

    #[tokio::test]
    async fn a_socket_may_pass_to_another_task_before_its_turn() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut socket = Gathering::new(near);
        socket.write_all(b"who").await.unwrap();
        socket.flush().await.unwrap();
        assert!(!socket.gathered.is_empty());
        let reading = tokio::spawn(async move {
            let mut answer = [0; 3];
            socket.read_exact(&mut answer).await.unwrap();
            answer
        });
        let mut asked = [0; 3];
        far.read_exact(&mut asked).await.unwrap();
        far.write_all(b"yes").await.unwrap();
        assert_eq!((&asked, &reading.await.unwrap()), (b"who", b"yes"));
    }

    #[tokio::test]
    async fn all_of_it_arrives_through_a_narrow_pipe() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut socket = Gathering::new(near);
        let all: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let sent = all.clone();
        let sending = tokio::spawn(async move {
            for part in sent.chunks(777) {
                socket.write_all(part).await.unwrap();
                socket.flush().await.unwrap();
            }
            socket.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        sending.await.unwrap();
        assert!(received == all);
    }
}
