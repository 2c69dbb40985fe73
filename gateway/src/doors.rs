//! What a call comes in by: the gateway's own services, and those that it forwards.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Service, ServiceExt as _};

use crate::forward::Forwarder;

/// The gateway's own services, and those that it forwards.
#[derive(Clone)]
pub struct Doors {
    routes: Routes,
    forwarder: Forwarder,
}

impl Doors {
    /// `routes` for all that the forwarder does not take.
    #[must_use]
    pub fn new(routes: Routes, forwarder: Forwarder) -> Self {
        Self { routes, forwarder }
    }
}

impl Service<Request<Body>> for Doors {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.forwarder.takes(request.uri().path()) {
            self.forwarder.call(request)
        } else {
            Box::pin(self.routes.clone().oneshot(request))
        }
    }
}
