//! `postern.event.v1.EventService` as a gRPC service. Written by hand, where the generated one would decode and encode
//! each event for each subscriber.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::BoxStream;
use http::{Request, Response};
use postern_proto::event::v1::{SubscribeRequest, event_service_server};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError};
use tonic::server::{Grpc, NamedService, ServerStreamingService};

use super::reading::Reading;
use super::wire::Answer;
use super::wish::Wish;
use crate::store::EventLog;

/// The largest request taken: a filter at its bounds fits.
const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// Serves a log to subscribers.
#[derive(Clone)]
pub struct EventServer {
    log: Arc<dyn EventLog>,
    stop: CancellationToken,
}

impl EventServer {
    /// A service over a log. Once `stop` is cancelled its streams end, each after the answer that it is at.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, stop: CancellationToken) -> Self {
        Self { log, stop }
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
        let subscribe = Subscribe(self.clone());
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<Answer, SubscribeRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_REQUEST_BYTES);
            Ok(grpc.server_streaming(subscribe, request).await)
        })
    }
}

/// The method `Subscribe`.
struct Subscribe(EventServer);

impl ServerStreamingService<SubscribeRequest> for Subscribe {
    type Response = Answer;
    type ResponseStream = BoxStream<'static, Result<Answer, Status>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<SubscribeRequest>) -> Self::Future {
        let EventServer { log, stop } = self.0.clone();
        Box::pin(async move {
            let wish = Wish::parse(request.into_inner())?;
            let reading = Reading::open(log, wish, stop).await?;
            let answers: Self::ResponseStream = Box::pin(reading.into_stream());
            Ok(tonic::Response::new(answers))
        })
    }
}
