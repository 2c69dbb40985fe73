//! A stream that is handed over once: its digest is made as it passes, and written down before its end goes on. So a
//! record tells, whenever the gateway may die, whether the connector can have been given all of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use postern_chassis::fault::Fault;
use ring::hmac;
use tonic::body::Body;
use tonic::{Code, Status};

use super::record::Whole;
use super::ticket::Entry;
use super::{Ledger, reused};
use crate::error::Error;
use crate::store::StoreError;

/// How long a caller may take from one piece of a repeat to the next.
const PATIENCE: Duration = Duration::from_secs(60);

/// The digest and length of a stream, as far as it came.
pub(super) struct Tally {
    context: hmac::Context,
    length: u64,
}

impl Tally {
    pub(super) fn new(ledger: &Ledger) -> Self {
        Self { context: hmac::Context::with_key(&ledger.digests), length: 0 }
    }

    fn add(&mut self, frame: &Frame<Bytes>) {
        if let Some(bytes) = frame.data_ref() {
            self.context.update(bytes);
            self.length += bytes.len() as u64;
        }
    }

    fn whole(&self) -> Whole {
        let digest = Bytes::copy_from_slice(self.context.clone().sign().as_ref());
        Whole { digest, length: self.length }
    }
}

/// Reads the stream of a repeat to its end, which is no further than that of the first.
///
/// # Errors
/// INVALID_ARGUMENT (REQUEST_ID_REUSED): it is another one. Or the caller broke it off, or stalled.
pub(super) async fn compare(mut tally: Tally, mut body: Body, first: &Whole) -> Result<(), Fault> {
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(|_| {
            let message = format!("no more of the request came within {} s", PATIENCE.as_secs());
            Fault::new(Code::DeadlineExceeded, "MESSAGE_MISSING", message)
        })?;
        let Some(frame) = frame else { break };
        let ended = |_| Fault::new(Code::Cancelled, "CALL_CANCELLED", "the caller ended the call");
        tally.add(&frame.map_err(ended)?);
        if tally.length > first.length {
            return Err(reused());
        }
    }
    if tally.whole() == *first { Ok(()) } else { Err(reused()) }
}

/// The body of a stream on its way to the connector.
pub(super) struct Tallied {
    inner: Body,
    tally: Tally,
    entry: Arc<Entry>,
    state: State,
}

/// How far a stream came.
enum State {
    /// There may be more.
    Passing,
    /// All has come: it is written down before the last of it goes on.
    Ending(Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>, Option<Frame<Bytes>>),
    /// It has ended, or broken off.
    Over,
}

impl Tallied {
    /// A body whose whole is written down in a record.
    pub(super) fn wrap(inner: Body, tally: Tally, entry: Arc<Entry>) -> Body {
        Body::new(Self { inner, tally, entry, state: State::Passing })
    }

    fn ending(&self, last: Option<Frame<Bytes>>) -> State {
        let (entry, whole) = (self.entry.clone(), self.tally.whole());
        State::Ending(Box::pin(async move { entry.write_whole(whole).await }), last)
    }
}

impl http_body::Body for Tallied {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Over => return Poll::Ready(None),
                State::Passing => match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        this.tally.add(&frame);
                        if !this.inner.is_end_stream() {
                            return Poll::Ready(Some(Ok(frame)));
                        }
                        this.state = this.ending(Some(frame));
                    }
                    None => this.state = this.ending(None),
                    Some(Err(status)) => {
                        this.state = State::Over;
                        return Poll::Ready(Some(Err(status)));
                    }
                },
                State::Ending(writing, last) => {
                    let written = ready!(writing.as_mut().poll(cx));
                    let last = last.take();
                    this.state = State::Over;
                    return Poll::Ready(match written {
                        Ok(()) => last.map(Ok),
                        Err(error) => Some(Err(Error::from(error).into())),
                    });
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over)
    }
}
