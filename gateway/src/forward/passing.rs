//! A request's body on its way to a connector, and the record of what of it was handed over. A body that was never
//! read proves that the connector got nothing; one of which the first message alone was read can be made again: it gives
//! its rest back when it is dropped.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use crate::metrics;

/// How long a connection that broke may take to let go of a body: it does so at once, in a task of its own.
const LET_GO: Duration = Duration::from_secs(1);

/// What of a request was handed over.
#[derive(Debug, Default)]
pub(super) struct Handed {
    touched: AtomicBool,
    ended: AtomicBool,
    went_on: AtomicBool,
    cut: AtomicBool,
    rest: Mutex<Option<Body>>,
    gone: Notify,
}

impl Handed {
    /// Whether the body was read: some of it may have reached the connector.
    pub(super) fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Acquire)
    }

    /// Whether the request was no more than what had been buffered.
    pub(super) fn is_whole(&self) -> bool {
        self.ended.load(Ordering::Acquire) && !self.went_on.load(Ordering::Acquire)
    }

    /// Whether the request's end was handed over, or may have been.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether the gateway ended the request, for it stops: the caller had not.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Waits until the body is dropped.
    pub(super) async fn let_go(&self) {
        let _ = tokio::time::timeout(LET_GO, self.gone.notified()).await;
    }

    /// What a body gave back of which no more than the first message was read.
    pub(super) fn rest(&self) -> Option<Body> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The body.
pub(super) struct Passing {
    buffered: Option<Bytes>,
    rest: Option<Body>,
    handed: Arc<Handed>,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Passing {
    pub(super) fn new(buffered: Bytes, rest: Option<Body>, handed: Arc<Handed>) -> Self {
        if rest.is_none() {
            handed.ended.store(true, Ordering::Release);
        }
        Self { buffered: Some(buffered), rest, handed, stop: None }
    }

    /// Makes the body end at a stop: the connector then finishes what it was given, and ends its answers.
    pub(super) fn end_at(&mut self, stop: CancellationToken) {
        self.stop = Some(Box::pin(stop.cancelled_owned()));
    }
}

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.handed.touched.store(true, Ordering::Release);
        if let Some(buffered) = self.buffered.take() {
            metrics::FORWARDED.to_connectors.add(buffered.len() as u64);
            return Poll::Ready(Some(Ok(Frame::data(buffered))));
        }
        let this = &mut *self;
        if let (Some(stop), true) = (&mut this.stop, this.rest.is_some())
            && stop.as_mut().poll(cx).is_ready()
        {
            (this.stop, this.rest) = (None, None);
            this.handed.cut.store(true, Ordering::Release);
            this.handed.went_on.store(true, Ordering::Release);
        }
        let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *rest).poll_frame(cx));
        match &frame {
            None => this.handed.ended.store(true, Ordering::Release),
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            Some(frame) => {
                let bytes = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                metrics::FORWARDED.to_connectors.add(bytes as u64);
                this.handed.went_on.store(true, Ordering::Release);
            }
        }
        // Said before the frame goes on: whoever is handed the last one need not ask for more.
        if rest.is_end_stream() {
            this.handed.ended.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.buffered.is_none() && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.buffered, &self.rest) {
            (Some(buffered), None) => SizeHint::with_exact(buffered.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if self.handed.is_touched() && self.is_end_stream() {
            // Whoever reads a body to its end need not ask whether it has ended.
            self.handed.ended.store(true, Ordering::Release);
        }
        if !self.handed.went_on.load(Ordering::Acquire) {
            *self.handed.rest.lock().unwrap_or_else(PoisonError::into_inner) = self.rest.take();
        }
        self.handed.gone.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn rest() -> Option<Body> {
        Some(Body::new(http_body_util::Full::new(Bytes::from_static(b"rest"))))
    }

    #[tokio::test]
    async fn a_body_that_was_never_read_gives_its_rest_back() {
        let handed = Arc::new(Handed::default());
        drop(Passing::new(Bytes::from_static(b"first"), rest(), handed.clone()));
        assert!(!handed.is_touched());
        assert_eq!(handed.rest().unwrap().collect().await.unwrap().to_bytes(), "rest");
    }

    #[tokio::test]
    async fn a_body_that_was_read_says_how_far() {
        let handed = Arc::new(Handed::default());
        let mut body = Passing::new(Bytes::from_static(b"first"), rest(), handed.clone());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        assert!(handed.is_touched() && !handed.is_whole());
        body.frame().await.unwrap().unwrap();
        assert!(body.frame().await.is_none() && !handed.is_whole(), "there was more than the first message");
        drop(body);
        assert!(handed.rest().is_none());

        let handed = Arc::new(Handed::default());
        let mut body = Passing::new(Bytes::from_static(b"first"), Some(Body::empty()), handed.clone());
        while body.frame().await.is_some() {}
        assert!(handed.is_whole());
    }

    #[tokio::test]
    async fn a_body_of_which_the_first_message_alone_was_read_gives_the_rest_back() {
        let handed = Arc::new(Handed::default());
        let mut body = Passing::new(Bytes::from_static(b"first"), rest(), handed.clone());
        body.frame().await.unwrap().unwrap();
        drop(body);
        handed.let_go().await;
        assert!(handed.is_touched() && !handed.is_ended());
        assert_eq!(handed.rest().unwrap().collect().await.unwrap().to_bytes(), "rest");
    }
}
