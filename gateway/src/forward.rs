//! Forwarding: the calls of the services that connectors take are passed to them as bodies, frame by frame, in both
//! directions. Of a message it reads which connection is meant, and nothing else; what a method does it does not know.

mod breaks;
mod call;
pub mod first;
mod headers;
mod passing;
mod returning;
pub mod scan;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode};
use postern_chassis::fault::{Fault, REFRESH_METADATA};
use postern_chassis::opened::REPEAT_METADATA;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::connections::{Connections, Opened};
use crate::connectors::{Connector, Connectors};
use crate::contract;
use crate::error::Error;
use breaks::{out_of_time, within};
use call::{Answer, Call};
use first::First;
pub(crate) use headers::is_grpc;
use returning::Returning;

/// The reason of a call whose deadline passed before anything of it was handed over.
pub(crate) const NOTHING_DONE: &str = "NOTHING_DONE";

/// Marks a request (among its extensions) that an earlier run may have handed over: its connector is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeat;

/// Marks an answer (among its extensions) of a call that was handed over again: whatever it says, an earlier try may have
/// made the change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeated;

/// Forwards calls. Cheap to clone: clones share all they have.
#[derive(Debug, Clone)]
pub struct Forwarder(Arc<Ways>);

/// What calls are forwarded by.
#[derive(Debug)]
struct Ways {
    connections: Arc<Connections>,
    connectors: Arc<Connectors>,
    stop: CancellationToken,
}

impl Forwarder {
    /// A forwarder to these connectors, through these connections. It ends streams that go both ways once `stop` is
    /// cancelled: what their connectors were given is still answered.
    #[must_use]
    pub fn new(connections: Arc<Connections>, connectors: Arc<Connectors>, stop: CancellationToken) -> Self {
        Self(Arc::new(Ways { connections, connectors, stop }))
    }

    /// Whether a path is a connector's to take, or may be once every connector is reached. Never so for the gateway's
    /// own services.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        service_of(path).is_some_and(|service| self.0.connectors.takes(service))
    }
}

impl Ways {
    async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let (parts, body) = request.into_parts();
        if !is_grpc(&parts.headers) {
            let mut refused = Response::new(Body::empty());
            *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Ok(refused);
        }
        let deadline = headers::deadline(&parts.headers);
        let connector = self.connectors.for_service(service_of(parts.uri.path()).unwrap_or_default())?;
        let first = within(deadline, First::read(body)).await??;
        // The one place where a request is known before it is handed over: what is to be done once is told by its
        // `request_id` here.
        let wanted = scan::scan(first.message())?;
        let opened = within(deadline, self.connections.open(wanted.connection)).await??;
        if opened.kind() != connector.kind() {
            return Err(wrong_kind(&opened, &connector).into());
        }
        let mut headers = headers::cleaned(parts.headers);
        if parts.extensions.get::<Repeat>().is_some() {
            headers.insert(REPEAT_METADATA, HeaderValue::from_static("1"));
        }
        let terms = contract::terms(parts.uri.path());
        let stop = (terms.takes_stream && terms.gives_stream).then(|| self.stop.clone());
        let has_id = !wanted.request_id.is_empty();
        let mut call = Call::new(terms, has_id, parts.uri, headers, first, deadline, stop);
        let mut answer = call.send(&connector, &opened).await?;
        if answer.head.headers.contains_key(REFRESH_METADATA) {
            // In a box, as all that is rare: a call has room for it while it runs.
            answer = Box::pin(self.refreshed(&mut call, &connector, &opened, answer)).await?;
        }
        let mut head = answer.head;
        headers::strip_own(&mut head.headers);
        if call.is_doubtful() {
            head.extensions.insert(Repeated);
        }
        let bound = call.answer_bound();
        let body = Returning::wrap(answer.begun, answer.body, terms, answer.handed, bound);
        Ok(Response::from_parts(head, body))
    }

    /// Repeats a call whose access token was refused, once and with a new grant, where all of it is still here.
    async fn refreshed(
        &self,
        call: &mut Call,
        connector: &Connector,
        opened: &Arc<Opened>,
        answer: Answer,
    ) -> Result<Answer, Error> {
        if !answer.handed.is_whole() {
            self.connections.renew(opened);
            return Ok(answer);
        }
        let refreshing = within(call.deadline(), self.connections.refreshed(opened)).await;
        let refreshed = refreshing.map_err(|fault| if call.is_doubtful() { out_of_time() } else { fault })?;
        let Some(opened) = refreshed? else { return Ok(answer) };
        let answer = call.send(connector, &opened).await?;
        if answer.head.headers.contains_key(REFRESH_METADATA) {
            self.connections.doubt(&opened);
        }
        Ok(answer)
    }
}

/// The service in a path `/{service}/{method}`.
fn service_of(path: &str) -> Option<&str> {
    Some(path.strip_prefix('/')?.split_once('/')?.0)
}

fn wrong_kind(opened: &Opened, connector: &Connector) -> Fault {
    let (name, kind, expected) = (opened.name(), opened.kind(), connector.kind());
    let message = format!("{name} is of the kind {kind}: this method needs one of the kind {expected}");
    Fault::new(Code::FailedPrecondition, "CONNECTION_WRONG_KIND", message)
        .with("connection", name)
        .with("kind", kind)
        .with("expected_kind", expected)
}

impl Service<Request<Body>> for Forwarder {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let ways = self.0.clone();
        Box::pin(async move {
            Ok(ways.forward(request).await.unwrap_or_else(|error| {
                let mut response = Status::from(error).into_http();
                headers::say_encodings(response.headers_mut());
                response
            }))
        })
    }
}
