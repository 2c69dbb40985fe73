//! The answers of one stream as an HTTP/2 body: each a gRPC frame that goes out as it is, then the status. tonic's own
//! encoder would copy each batch for each subscriber.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

/// A body that gives frames as they are asked for.
struct Answers {
    frames: BoxStream<'static, Result<Bytes, Status>>,
    has_ended: bool,
}

/// The response to a call that is answered by a stream of gRPC frames.
pub(super) fn response(frames: BoxStream<'static, Result<Bytes, Status>>) -> Response<Body> {
    let mut response = Response::new(Body::new(Answers { frames, has_ended: false }));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let status = match ready!(self.frames.poll_next_unpin(context)) {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(Frame::data(frame)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.has_ended = true;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
