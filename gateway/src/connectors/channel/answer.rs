//! The body of an answer, as it comes from the connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame};
use tokio_util::task::AbortOnDropHandle;

use super::ChannelError;
use super::link::Signs;

/// The body of an answer. Dropped before its end, it ends the call.
#[derive(Debug)]
pub struct AnswerBody {
    stream: RecvStream,
    has_trailers_left: bool,
    signs: Signs,
    /// What passes the rest of the request on.
    _passing: Option<AbortOnDropHandle<()>>,
}

impl AnswerBody {
    pub(super) fn new(stream: RecvStream, signs: Signs, passing: Option<AbortOnDropHandle<()>>) -> Self {
        Self { stream, has_trailers_left: true, signs, _passing: passing }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ChannelError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ChannelError>>> {
        let this = &mut *self;
        if !this.has_trailers_left {
            return Poll::Ready(None);
        }
        let frame = match ready!(this.stream.poll_data(cx)) {
            Some(data) => data.and_then(|data| {
                this.stream.flow_control().release_capacity(data.len())?;
                Ok(Some(Frame::data(data)))
            }),
            None => {
                let trailers = ready!(this.stream.poll_trailers(cx));
                this.has_trailers_left = false;
                trailers.map(|trailers| trailers.map(Frame::trailers))
            }
        };
        Poll::Ready(frame.map_err(|error| this.signs.error(error)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        !self.has_trailers_left || self.stream.is_end_stream()
    }
}
