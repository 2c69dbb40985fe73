//! A connector's answer on its way to the caller: passed on as it is, but for metadata that is between gateway and
//! connector, and for an end that is none: that becomes a status.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::{headers, interrupted};

/// The body.
pub(super) struct Returning {
    inner: Body,
    uri: Uri,
    is_over: bool,
}

impl Returning {
    /// The answer to a call of a path.
    pub(super) fn wrap(inner: Body, uri: &Uri) -> Body {
        if inner.is_end_stream() {
            inner
        } else {
            Body::new(Self { inner, uri: uri.clone(), is_over: false })
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
