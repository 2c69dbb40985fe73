//! `postern.event.v1.EventService` as a gRPC service. Written by hand, where the generated one would decode and encode
//! each event for each subscriber.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use postern_proto::event::v1::{
    AcknowledgeRequest, AcknowledgeResponse, ConsumeRequest, ListEventsRequest, PullRequest,
    SubscribeRequest, event_service_server,
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::{Codec as _, Streaming};
use tonic::codegen::{BoxFuture, StdError};
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::answers;
use super::listing::{self, Listed};
use super::reading::{Feed, Reading};
use super::wire::Answer;
use super::wish::Wish;
use crate::error::Error;
use crate::store::EventLog;
use crate::subscriptions::{ConsumeAnswer, PullAnswer, Subscriptions};

/// The largest request taken: a filter at its bounds fits, and what is said of a thousand deliveries.
const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;

/// Serves a log to subscribers.
#[derive(Clone)]
pub struct EventServer {
    log: Arc<dyn EventLog>,
    feed: Arc<Feed>,
    subscriptions: Option<Arc<Subscriptions>>,
}

impl EventServer {
    /// A service over a log, made where tokio runs. Once `stop` is cancelled its streams end, each after the answer that
    /// it is at.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, stop: CancellationToken) -> Self {
        let feed = Arc::new(Feed::start(log.clone(), stop));
        Self { log, feed, subscriptions: None }
    }

    /// The same with stored subscriptions. Without them the methods that read one are not served.
    #[must_use]
    pub fn with(self, subscriptions: Arc<Subscriptions>) -> Self {
        Self { subscriptions: Some(subscriptions), ..self }
    }

    /// One of the methods that end with one answer, or of a stored subscription.
    async fn other<B>(self, method: &str, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        match (method, self.subscriptions) {
            ("ListEvents", _) => {
                let log = self.log;
                let list = service_fn(move |request: tonic::Request<ListEventsRequest>| {
                    let log = log.clone();
                    async move { answered(listing::list(&*log, request.into_inner()).await) }
                });
                grpc::<Listed, _>().unary(list, request).await
            }
            ("Consume", Some(subscriptions)) => {
                let consume = service_fn(move |request: tonic::Request<Streaming<ConsumeRequest>>| {
                    let answers = subscriptions.consume(request.into_inner());
                    std::future::ready(Ok(tonic::Response::new(answers)))
                });
                grpc::<ConsumeAnswer, _>().streaming(consume, request).await
            }
            ("Pull", Some(subscriptions)) => {
                let pull = service_fn(move |request: tonic::Request<PullRequest>| {
                    let subscriptions = subscriptions.clone();
                    async move { answered(subscriptions.pull(request.into_inner()).await) }
                });
                grpc::<PullAnswer, _>().unary(pull, request).await
            }
            ("Acknowledge", Some(subscriptions)) => {
                let acknowledge = service_fn(move |request: tonic::Request<AcknowledgeRequest>| {
                    let subscriptions = subscriptions.clone();
                    async move { answered(subscriptions.acknowledge(request.into_inner()).await) }
                });
                grpc::<AcknowledgeResponse, _>().unary(acknowledge, request).await
            }
            _ => Status::unimplemented("no such method").into_http(),
        }
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
        let service = "/postern.event.v1.EventService/";
        let method = request.uri().path().strip_prefix(service).unwrap_or_default().to_owned();
        let server = self.clone();
        Box::pin(async move {
            if method != "Subscribe" {
                return Ok(server.other(&method, request).await);
            }
            Ok(subscribe(&server.feed, request).await.unwrap_or_else(Status::into_http))
        })
    }
}

fn grpc<A, Q>() -> Grpc<ProstCodec<A, Q>>
where
    A: prost::Message + Send + 'static,
    Q: prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_REQUEST_BYTES)
}

fn answered<T>(answer: Result<T, Error>) -> Result<tonic::Response<T>, Status> {
    answer.map(tonic::Response::new).map_err(Status::from)
}

/// The method `Subscribe`.
async fn subscribe<B>(feed: &Feed, request: Request<B>) -> Result<Response<Body>, Status>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    let decoder = ProstCodec::<Answer, SubscribeRequest>::default().decoder();
    let body = request.into_body();
    let mut requests = Streaming::new_request(decoder, body, None, Some(MAX_REQUEST_BYTES));
    let missing = || Status::new(Code::Internal, "the call has no request: expected one message");
    let wish = Wish::parse(requests.message().await?.ok_or_else(missing)?)?;
    let reading = Reading::open(feed, wish).await?;
    Ok(answers::response(Box::pin(reading.into_frames())))
}
