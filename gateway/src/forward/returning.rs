//! A connector's answer on its way to the caller: passed on as it is, but for metadata that is between gateway and
//! connector, and for an end that is none: that becomes a status.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use http_body::{Body as _, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::passing::Handed;
use super::{headers, interrupted};
use crate::connectors::unavailable;

/// The body.
pub(super) struct Returning {
    inner: Body,
    uri: Uri,
    handed: Arc<Handed>,
    is_over: bool,
}

impl Returning {
    /// The answer to a call of a path, and what of its request was handed over.
    pub(super) fn wrap(inner: Body, uri: &Uri, handed: Arc<Handed>) -> Body {
        if inner.is_end_stream() {
            inner
        } else {
            Body::new(Self { inner, uri: uri.clone(), handed, is_over: false })
        }
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
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(mut frame) => {
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
            Err(_) => {
                self.is_over = true;
                let mut trailers = HeaderMap::new();
                Status::from(interrupted(&self.uri)).add_header(&mut trailers)?;
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
