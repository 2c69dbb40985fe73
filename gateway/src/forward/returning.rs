//! A connector's answer on its way to the caller: passed on as it is, but for metadata that is between gateway and
//! connector, and for an end that is none: that becomes a status.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::body::Body;
use tonic::{Code, Status};

use super::breaks::{interrupted, out_of_time};
use super::headers;
use super::passing::Handed;
use crate::connectors::{AnswerBody, unavailable};
use crate::contract::Terms;
use crate::metrics;

/// The body.
pub(super) struct Returning {
    /// The first frames, where they were taken from the body already.
    begun: VecDeque<Frame<Bytes>>,
    inner: AnswerBody,
    terms: Terms,
    handed: Arc<Handed>,
    bound: Option<Bound>,
    /// Made once there is something to wait for: mostly all is there at once.
    sleep: Option<Pin<Box<Sleep>>>,
    is_late: bool,
    is_over: bool,
}

/// Until when an answer may take to come whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) until: Instant,
    /// Whether the caller said so.
    pub(super) is_deadline: bool,
}

/// An answer that does not come whole.
struct BrokenOff;

impl Returning {
    /// The answer to a call, what of its request was handed over, and until when it may take.
    pub(super) fn wrap(
        begun: VecDeque<Frame<Bytes>>,
        inner: AnswerBody,
        terms: Terms,
        handed: Arc<Handed>,
        bound: Option<Bound>,
    ) -> Body {
        if begun.is_empty() && inner.is_end_stream() {
            return Body::new(inner);
        }
        Body::new(Self { begun, inner, terms, handed, bound, sleep: None, is_late: false, is_over: false })
    }

    /// The next frame; an error where there is none in time.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(begun) = self.begun.pop_front() {
            return Poll::Ready(Some(Ok(begun)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| BrokenOff)));
        }
        let Some(bound) = self.bound else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(bound.until)));
        ready!(sleep.as_mut().poll(cx));
        self.is_late = bound.is_deadline;
        Poll::Ready(Some(Err(BrokenOff)))
    }
}

impl http_body::Body for Returning {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Some(frame) = ready!(self.next(cx)) else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(mut frame) => {
                if let Some(bytes) = frame.data_ref() {
                    metrics::FORWARDED.to_callers.add(bytes.len() as u64);
                }
                if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_own(trailers);
                    let is_good = Status::from_header_map(trailers).is_some_and(|it| it.code() == Code::Ok);
                    if is_good && self.handed.is_cut() {
                        // To the connector the stream ended as it should; its caller had not ended it.
                        let stopping = unavailable("the gateway stops: what was not answered was not done");
                        trailers.clear();
                        Status::from(stopping).add_header(trailers)?;
                    }
                }
                frame
            }
            Err(BrokenOff) => {
                self.is_over = true;
                let mut trailers = HeaderMap::new();
                let fault = if self.is_late { out_of_time() } else { interrupted(self.terms) };
                Status::from(fault).add_header(&mut trailers)?;
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || (self.begun.is_empty() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.begun.is_empty() { self.inner.size_hint() } else { SizeHint::default() }
    }
}
