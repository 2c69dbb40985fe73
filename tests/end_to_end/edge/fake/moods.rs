//! Ways in which a fake does not answer, or answers late, and how it stops in good order.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Response;
use http_body_util::{BodyStream, StreamBody};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::ServerStreamingService;
use tonic::{Request as Asked, Response as Answered, Status};

use super::{Echo, Fake, Said, Say, State};

/// Marks an answer of which the status does not come.
pub(super) const WITHOUT_END: &str = "without-end";

/// An answer as it is, or without its end where it is marked so.
pub(super) fn without_end(answer: Response<Body>) -> Response<Body> {
    if !answer.headers().contains_key(WITHOUT_END) {
        return answer;
    }
    answer.map(|body| {
        let frames = BodyStream::new(body).filter(|frame| frame.as_ref().is_ok_and(|frame| frame.is_data()));
        Body::new(StreamBody::new(frames.chain(tokio_stream::pending())))
    })
}

impl State {
    /// Whether a text names this port after `what`.
    pub(super) fn is_here(&self, text: &str, what: &str) -> bool {
        let port = text.strip_prefix(what);
        port.is_some_and(|port| port.parse::<u64>().unwrap() == self.port.load(Ordering::Relaxed))
    }

    /// Hangs where it is told to: always, at the first call, or at the port named; and whatever it is told when it is
    /// deaf.
    pub(super) async fn heed(&self, text: &str, number_of_call: usize) {
        let is_here = self.is_here(text, "hang-at ");
        let hangs = text == "hang" || (text == "hang-once" && number_of_call == 1);
        if hangs || is_here || self.is_deaf.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if text == "slow" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Fake {
    /// Stops it in good order: it takes no more, and ends what it has begun.
    pub(crate) async fn retire(&mut self) {
        self.stop.cancel();
        let Some(runtime) = self.runtime.take() else { return };
        // Its listener is gone at once; what it has begun ends within the grace period.
        crate::edge::until("it has ended", || async { runtime.metrics().num_alive_tasks() == 0 }).await;
        runtime.shutdown_background();
    }
}

impl ServerStreamingService<Say> for Echo {
    type Response = Said;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;
    type Future = std::future::Ready<Result<Answered<Self::ResponseStream>, Status>>;

    /// The head comes at once; what is in the stream, when it does not hang.
    fn call(&mut self, request: Asked<Say>) -> Self::Future {
        let echo = self.clone();
        let number = echo.0.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let (metadata, _, say) = request.into_parts();
        let answers = tokio_stream::once(say).then(move |say| {
            let (echo, metadata) = (echo.clone(), metadata.clone());
            async move {
                echo.0.heed(&say.text, number).await;
                Ok(echo.said(&metadata, say))
            }
        });
        std::future::ready(Ok(Answered::new(Box::pin(answers))))
    }
}
