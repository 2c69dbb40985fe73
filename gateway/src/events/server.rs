//! `postern.event.v1.EventService` as a gRPC service. Written by hand, where the generated one would decode and encode
//! each event for each subscriber.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use postern_proto::event::v1::{SubscribeRequest, event_service_server};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::{Codec as _, Streaming};
use tonic::codegen::{BoxFuture, StdError};
use tonic::server::NamedService;
use tonic::{Code, Status};

use super::answers;
use super::reading::{Feed, Reading};
use super::wire::Answer;
use super::wish::Wish;
use crate::store::EventLog;

/// The largest request taken: a filter at its bounds fits.
const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// Serves a log to subscribers.
#[derive(Clone)]
pub struct EventServer(Arc<Feed>);

impl EventServer {
    /// A service over a log, made where tokio runs. Once `stop` is cancelled its streams end, each after the answer that
    /// it is at.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, stop: CancellationToken) -> Self {
        Self(Arc::new(Feed::start(log, stop)))
    }
}

impl NamedService for EventServer {
    const NAME: &'static str = event_service_server::SERVICE_NAME;
}

impl<B> tower::Service<Request<B>> for EventServer
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() != "/postern.event.v1.EventService/Subscribe" {
            return Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) });
        }
        let feed = self.0.clone();
        Box::pin(async move { Ok(subscribe(&feed, request).await.unwrap_or_else(Status::into_http)) })
    }
}

/// The method `Subscribe`.
async fn subscribe<B>(feed: &Feed, request: Request<B>) -> Result<Response<Body>, Status>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    let decoder = tonic_prost::ProstCodec::<Answer, SubscribeRequest>::default().decoder();
    let body = request.into_body();
    let mut requests = Streaming::new_request(decoder, body, None, Some(MAX_REQUEST_BYTES));
    let missing = || Status::new(Code::Internal, "the call has no request: expected one message");
    let wish = Wish::parse(requests.message().await?.ok_or_else(missing)?)?;
    let reading = Reading::open(feed, wish).await?;
    Ok(answers::response(Box::pin(reading.into_frames())))
}
