//! The ledger at the gateway's door: a service around all others that writes down the calls which the contract lets
//! carry a request id, and lets all others pass untouched.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use postern_chassis::fault::Fault;
use prost_reflect::{Kind, MethodDescriptor};
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::lasting::Lasting;
use super::record::{Answer, Keep};
use super::stream::{Tallied, Tally, compare};
use super::ticket::Ticket;
use super::{Begin, Change, Ledger, Terms, key};
use crate::auth::Caller;
use crate::contract;
use crate::forward::first::First;
use crate::forward::scan::scan;
use crate::forward::{Repeat, Repeated, is_grpc};

/// The longest request id, in characters.
const MAX_REQUEST_ID: usize = 128;

/// Makes each change of `inner` once.
#[derive(Clone)]
pub struct Once<S> {
    inner: S,
    ledger: Arc<Ledger>,
    methods: Arc<HashMap<String, Terms>>,
}

impl<S> Once<S> {
    /// `inner` with the ledger at its door.
    pub fn new(inner: S, ledger: Arc<Ledger>) -> Self {
        let methods = contract::pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let paths = methods.filter(carries_request_id).map(|method| {
            let terms =
                Terms { gathers: contract::gathers(&method), idempotent: contract::is_idempotent(&method) };
            (format!("/{}/{}", method.parent_service().full_name(), method.name()), terms)
        });
        Self { inner, ledger, methods: Arc::new(paths.collect()) }
    }
}

/// Whether a method is a change with one answer whose request may carry a request id.
fn carries_request_id(method: &MethodDescriptor) -> bool {
    let field = method.input().get_field_by_name("request_id");
    !method.is_server_streaming()
        && field.is_some_and(|field| field.number() == 2 && field.kind() == Kind::String)
}

impl<S> Service<Request<Body>> for Once<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // What is not gRPC is refused further in, before anything is changed.
        let terms = self.methods.get(request.uri().path()).copied();
        let Some(terms) = terms.filter(|_| is_grpc(request.headers())) else {
            return Box::pin(self.inner.call(request));
        };
        let (ledger, next) = (self.ledger.clone(), self.inner.clone());
        let inner = std::mem::replace(&mut self.inner, next);
        Box::pin(
            async move { Ok(once(ledger, inner, terms, request).await.unwrap_or_else(Status::into_http)) },
        )
    }
}

/// Makes one call, if it was not made before.
async fn once<S>(
    ledger: Arc<Ledger>,
    mut inner: S,
    terms: Terms,
    request: Request<Body>,
) -> Result<Response<Body>, Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    let (mut parts, body) = request.into_parts();
    let first = First::read(body).await?;
    let request_id = scan(first.message())?.request_id.to_owned();
    if request_id.is_empty() {
        return ok(inner.call(Request::from_parts(parts, first.into_body())).await);
    }
    if request_id.len() > MAX_REQUEST_ID || !request_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "is no request id: expected at most 128 visible ASCII characters";
        return Err(Fault::field("request_id", problem).into());
    }
    let caller = parts.extensions.get::<Caller>().map_or("", |caller| &caller.name);
    let key = key(caller, parts.uri.path(), &request_id);
    let change = Change { key, digest: ledger.digest(first.message()), terms };
    let (mut waited_for, _waiting) = oneshot::channel();
    let tasks = ledger.tasks.clone();
    let making = async move {
        let ticket = match ledger.begin(change, &mut waited_for).await? {
            Begin::Run(ticket) => ticket,
            Begin::Answer(answer, whole) => {
                if let Some(whole) = whole.filter(|_| terms.gathers) {
                    compare(Tally::new(&ledger), first.into_body(), &whole).await?;
                }
                return Ok(answer);
            }
        };
        if ticket.is_repeat {
            parts.extensions.insert(Repeat);
        }
        let mut body = first.into_body();
        if terms.gathers {
            body = Tallied::wrap(body, Tally::new(&ledger), ticket.entry());
        }
        let call = inner.call(Request::from_parts(parts, body));
        make(ticket, terms, ok(call.await)).await
    };
    // A caller that goes away must not leave a change that was begun without its answer.
    let made = Lasting::new(making, &tasks).await;
    let broken = |_| Fault::new(Code::Internal, "INTERNAL", "the call broke off").into();
    Ok(made.map_err::<Status, _>(broken)??.into_response())
}

/// Reads the answer of a change, which is given while it is written down: nobody waits for the disk to hear what is true.
/// A repeat waits until it is written. Where it never is, a repeat is told that the outcome is not known, as it would be
/// had the gateway ended before anybody was answered.
async fn make(
    ticket: Ticket,
    terms: Terms,
    response: Result<Response<Body>, Status>,
) -> Result<Answer, Status> {
    let response = response?;
    let is_repeat = ticket.is_repeat || response.extensions().get::<Repeated>().is_some();
    let (answer, mut keep) = Answer::read(response).await;
    if keep == Keep::Nothing && is_repeat {
        // This try changed nothing; what an earlier one left is for the next repeat to find.
        return Ok(answer);
    }
    if let Keep::Unknown(_) = keep {
        if terms.gathers && !ticket.is_whole() {
            // The connector was never given the end of the stream, without which it changes nothing.
            keep = Keep::Nothing;
        } else if terms.idempotent {
            // A repeat, at whichever gateway, asks the connector again.
            keep = Keep::Begun;
        }
    }
    ticket.end(keep).await;
    Ok(answer)
}

fn ok(response: Result<Response<Body>, Infallible>) -> Result<Response<Body>, Status> {
    response.map_err(|never| match never {})
}
