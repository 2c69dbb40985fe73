//! One HTTP/2 connection, and the calls on it.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{AnswerBody, ChannelError};
use crate::connectors::Watchfulness;

/// Flow-control windows, as on the serving side.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// The largest head or trailers taken: a status with its details.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// How many calls may be under way before the other side has said how many it takes: no less than it should.
const FIRST_CALLS: usize = 100;

/// A connection. Cheap to clone; it closes when the last clone and call are gone.
#[derive(Debug, Clone)]
pub(super) struct Link {
    requests: SendRequest<Bytes>,
    signs: Signs,
}

/// Whether a connection was given up because no sign of life came.
#[derive(Debug, Clone, Default)]
pub(super) struct Signs(Arc<AtomicBool>);

impl Signs {
    /// The error of a call on the connection.
    pub(super) fn error(&self, error: h2::Error) -> ChannelError {
        if self.0.load(Ordering::Acquire) { ChannelError::Silent } else { ChannelError::Broken(error.into()) }
    }
}

impl Link {
    /// A connection over a socket, seen to by a task of its own.
    ///
    /// # Errors
    /// The socket broke.
    pub(super) async fn over<IO>(socket: IO, watchfulness: Watchfulness) -> Result<Self, h2::Error>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut settings = Builder::new();
        settings.enable_push(false);
        settings.initial_window_size(STREAM_WINDOW_BYTES);
        settings.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        settings.max_header_list_size(MAX_HEADER_BYTES);
        settings.initial_max_send_streams(FIRST_CALLS);
        let (requests, connection) = settings.handshake(socket).await?;
        let signs = Signs::default();
        tokio::spawn(keep(connection, signs.clone(), watchfulness));
        Ok(Self { requests, signs })
    }

    /// Whether it takes calls: it has not broken, and the other side has not said that it goes away.
    pub(super) fn takes_calls(&mut self) -> bool {
        // It waits for nothing: what it might wait for is a request of this very handle.
        matches!(self.requests.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    /// Makes a call.
    pub(super) async fn exchange<B>(self, request: Request<B>) -> Result<Response<AnswerBody>, ChannelError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Send,
    {
        let Self { mut requests, signs } = self;
        let (head, mut body) = request.into_parts();
        let exchange = async move {
            let is_bare = body.is_end_stream();
            let (answer, mut stream) = requests.send_request(Request::from_parts(head, ()), is_bare)?;
            // Where the other side takes no more calls at the moment, nothing is read of this one until it does.
            poll_fn(|cx| requests.poll_ready(cx)).await?;
            // A message that is there whole goes at once.
            let is_over = is_bare
                || match body.frame().now_or_never() {
                    Some(frame) => give(frame, body.is_end_stream(), &mut stream)?,
                    None => false,
                };
            let passing = (!is_over).then(|| AbortOnDropHandle::new(tokio::spawn(pass(body, stream))));
            Ok((answer.await?, passing))
        };
        let (response, passing) = exchange.await.map_err(|error| signs.error(error))?;
        Ok(response.map(|stream| AnswerBody::new(stream, signs, passing)))
    }
}

/// Passes the rest of a request on, as fast as the other side takes it.
async fn pass<B>(mut body: B, mut stream: SendStream<Bytes>)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = tokio::select! {
            biased;
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
            frame = body.frame() => frame,
        };
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        if !has_room(&mut stream, bytes).await {
            return;
        }
        match give(frame, body.is_end_stream(), &mut stream) {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
    }
}

/// Waits until the other side takes some of so many bytes. False where it takes no more at all.
async fn has_room(stream: &mut SendStream<Bytes>, bytes: usize) -> bool {
    stream.reserve_capacity(bytes);
    while bytes > 0 && stream.capacity() == 0 {
        if !matches!(poll_fn(|cx| stream.poll_capacity(cx)).await, Some(Ok(_))) {
            return false;
        }
    }
    true
}

/// Hands one step of a request's body over. Says whether the request is over with it.
fn give<E>(
    frame: Option<Result<Frame<Bytes>, E>>,
    is_last: bool,
    stream: &mut SendStream<Bytes>,
) -> Result<bool, h2::Error> {
    let (data, is_last) = match frame {
        // Requests have no trailers.
        Some(Ok(frame)) => (frame.into_data().unwrap_or_default(), is_last),
        None => (Bytes::new(), true),
        Some(Err(_)) => {
            stream.send_reset(Reason::CANCEL);
            return Ok(true);
        }
    };
    if !data.is_empty() || is_last {
        stream.send_data(data, is_last)?;
    }
    Ok(is_last)
}

/// Sees to a connection until it ends, or is given up because no sign of life comes.
async fn keep<IO>(mut connection: Connection<IO, Bytes>, signs: Signs, watchfulness: Watchfulness)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let silence = pin!(silence(connection.ping_pong(), watchfulness));
    tokio::select! {
        biased;
        ended = &mut connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection to a connector broke");
        },
        () = silence => signs.0.store(true, Ordering::Release),
    }
}

/// Asks the other side for signs of life. Comes back when one stays away.
async fn silence(pings: Option<PingPong>, watchfulness: Watchfulness) {
    let Some(mut pings) = pings else { return pending().await };
    loop {
        sleep(watchfulness.keepalive_interval).await;
        match timeout(watchfulness.keepalive_timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection broke, and says so itself.
            Ok(Err(_)) => return pending().await,
            Err(_) => return,
        }
    }
}
