//! Forwarding: the calls of the services that connectors take are passed to them as bodies, frame by frame, in both
//! directions. Of a message it reads which connection is meant, and nothing else; what a method does it does not know.

pub mod first;
mod headers;
mod passing;
mod returning;
pub mod scan;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use postern_chassis::fault::{Fault, REFRESH_METADATA};
use postern_chassis::opened::{CONNECTION_METADATA, REPEAT_METADATA};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};

use crate::connections::{Connections, Opened};
use crate::connectors::{Connector, Connectors, Replica, unavailable};
use crate::contract;
use crate::error::Error;
use first::First;
pub(crate) use headers::is_grpc;
use passing::{Handed, Passing};
use returning::Returning;

/// The reason of a call whose deadline passed before anything of it was handed over.
pub(crate) const NOTHING_DONE: &str = "NOTHING_DONE";

/// Marks a request (among its extensions) that an earlier run may have handed over: its connector is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeat;

/// Forwards calls. Cheap to clone: clones share all they have.
#[derive(Debug, Clone)]
pub struct Forwarder {
    connections: Arc<Connections>,
    connectors: Arc<Connectors>,
    stop: CancellationToken,
}

/// A call on its way.
struct Call {
    uri: Uri,
    headers: HeaderMap,
    first: First,
    deadline: Option<Instant>,
    /// At what the request ends if its caller does not end it.
    stop: Option<CancellationToken>,
}

/// What became of one try to hand a call over.
enum Sent {
    /// The connector answered.
    Answered(Answer),
    /// There was no connection to it: it got nothing.
    NotConnected,
    /// The connection to it had gone before the call was handed over: it got nothing.
    Stale,
}

/// A connector's answer, and what of the request it was handed.
struct Answer {
    response: Response<Body>,
    handed: Arc<Handed>,
}

impl Forwarder {
    /// A forwarder to these connectors, through these connections.
    #[must_use]
    pub fn new(connections: Arc<Connections>, connectors: Arc<Connectors>) -> Self {
        Self { connections, connectors, stop: CancellationToken::new() }
    }

    /// The same forwarder, which ends streams that go both ways once `stop` is cancelled: what their connectors were
    /// given is still answered.
    #[must_use]
    pub fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// Whether a path is a connector's to take, or may be once every connector is reached. Never so for the gateway's
    /// own services.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        service_of(path).is_some_and(|service| self.connectors.takes(service))
    }

    async fn forward(self, request: Request<Body>) -> Result<Response<Body>, Error> {
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
        let both_ways = contract::method(parts.uri.path()).is_some_and(|method| contract::converses(&method));
        let stop = both_ways.then_some(self.stop.clone());
        let mut call = Call { uri: parts.uri, headers, first, deadline, stop };
        let answer = call.send(&connector, &opened).await?;
        let answer = self.refreshed(&mut call, &connector, &opened, answer).await?;
        let (mut head, body) = answer.response.into_parts();
        headers::strip_own(&mut head.headers);
        let body = Returning::wrap(body, &call.uri, answer.handed);
        Ok(Response::from_parts(head, body))
    }

    /// Repeats a call once with a new grant, where its access token was refused and all of it is still here.
    async fn refreshed(
        &self,
        call: &mut Call,
        connector: &Connector,
        opened: &Arc<Opened>,
        answer: Answer,
    ) -> Result<Answer, Error> {
        if !answer.response.headers().contains_key(REFRESH_METADATA) {
            return Ok(answer);
        }
        if !answer.handed.is_whole() {
            self.connections.renew(opened);
            return Ok(answer);
        }
        let Some(opened) = within(call.deadline, self.connections.refreshed(opened)).await?? else {
            return Ok(answer);
        };
        let answer = call.send(connector, &opened).await?;
        if answer.response.headers().contains_key(REFRESH_METADATA) {
            self.connections.doubt(&opened);
        }
        Ok(answer)
    }
}

impl Call {
    /// Hands the call to the replica that the connection sticks to; to the next one as long as it is certain that
    /// nothing was handed over; in the end once more to one whose connection had only gone stale.
    async fn send(&mut self, connector: &Connector, opened: &Opened) -> Result<Answer, Error> {
        let replicas = connector.replicas_for(opened.name());
        let mut stale = None;
        for replica in &replicas {
            match self.send_to(replica, opened).await? {
                Sent::Answered(answer) => return Ok(answer),
                Sent::NotConnected => replica.mark_lost(),
                Sent::Stale => stale = stale.or(Some(replica)),
            }
        }
        if let Some(replica) = stale
            && let Sent::Answered(answer) = self.send_to(replica, opened).await?
        {
            return Ok(answer);
        }
        Err(unavailable("it is not reached").into())
    }

    async fn send_to(&mut self, replica: &Replica, opened: &Opened) -> Result<Sent, Error> {
        let handed = Arc::new(Handed::default());
        let request = self.request(opened, &handed);
        let mut channel = replica.channel();
        let sending = async { channel.ready().await?.call(request).await };
        // Once the deadline has passed it is not certain that nothing more is read of the request.
        let error = match within(self.deadline, sending).await.map_err(|_| out_of_time())? {
            Ok(response) => return Ok(Sent::Answered(Answer { response, handed })),
            Err(error) => error,
        };
        tracing::debug!(connector.address = %replica.uri(), %error, "a call broke off");
        if is_caused_by::<tonic::TimeoutExpired>(&error) {
            return Err(out_of_time().into());
        }
        if handed.is_touched() {
            return Err(if handed.is_ended() { interrupted(&self.uri) } else { cut_short(&self.uri) }.into());
        }
        // What was not read of the request is needed for the next try.
        if !self.first.take_back(&handed) {
            return Err(unavailable("the call to it broke off").into());
        }
        Ok(if is_caused_by::<tonic::ConnectError>(&error) { Sent::NotConnected } else { Sent::Stale })
    }

    fn request(&mut self, opened: &Opened, handed: &Arc<Handed>) -> Request<Body> {
        let mut body = Passing::new(self.first.buffered(), self.first.rest(), handed.clone());
        if let Some(stop) = &self.stop {
            body.end_at(stop.clone());
        }
        let mut request = Request::new(Body::new(body));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(CONNECTION_METADATA, opened.header());
        if let Some(deadline) = self.deadline {
            headers::set_timeout(request.headers_mut(), deadline);
        }
        request
    }
}

/// The service in a path `/{service}/{method}`.
fn service_of(path: &str) -> Option<&str> {
    Some(path.strip_prefix('/')?.split_once('/')?.0)
}

/// What a future gives, if it does so by the deadline.
///
/// # Errors
/// DEADLINE_EXCEEDED (NOTHING_DONE).
async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Result<T, Fault> {
    let Some(deadline) = deadline else { return Ok(future.await) };
    timeout_at(deadline, future).await.map_err(|_| {
        let message = "the call's deadline passed before it was handed to its connector: nothing was done";
        Fault::new(Code::DeadlineExceeded, NOTHING_DONE, message)
    })
}

/// The error of a call that was being handed over, or had been, when its deadline passed.
fn out_of_time() -> Fault {
    Fault::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the call's deadline has passed")
}

/// Whether an error of this type is behind another.
fn is_caused_by<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error of a call that broke off once it was handed over: whether it was carried out is not known. Where that
/// makes no difference, it is worth a repeat.
fn interrupted(uri: &Uri) -> Fault {
    if contract::is_safe(uri.path()) {
        return unavailable("the call to it broke off");
    }
    let message = "the call to the connector broke off: it may or may not have been carried out";
    Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", message)
}

/// The error of a call that broke off before the end of its request was handed over.
fn cut_short(uri: &Uri) -> Fault {
    if contract::method(uri.path()).is_some_and(|method| contract::gathers(&method)) {
        return unavailable("the call to it broke off before the end of its stream: nothing was done");
    }
    interrupted(uri)
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
        let forwarding = self.clone().forward(request);
        Box::pin(async move {
            Ok(forwarding.await.unwrap_or_else(|error| {
                let mut response = Status::from(error).into_http();
                headers::say_encodings(response.headers_mut());
                response
            }))
        })
    }
}
