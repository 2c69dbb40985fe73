//! The gateway's services as the console calls them: within the process, behind the ledger, as the caller who signed in.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{Request, Response};
use postern_proto::approval::v1::approval_service_client::ApprovalServiceClient;
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::subscription_service_client::SubscriptionServiceClient;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::outbox::v1::outbox_service_client::OutboxServiceClient;
use tonic::body::Body;
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::auth::Caller;

/// The gateway's services, whoever calls.
pub type Services = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The largest answer taken: a page of events fits.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The services as one caller sees them.
#[derive(Clone)]
pub(super) struct Api {
    services: Services,
    caller: Option<Caller>,
}

impl Api {
    pub(super) fn new(services: Services, caller: Option<Caller>) -> Self {
        Self { services, caller }
    }

    pub(super) fn connections(&self) -> ConnectionServiceClient<Self> {
        ConnectionServiceClient::new(self.clone())
    }

    pub(super) fn triggers(&self) -> TriggerServiceClient<Self> {
        TriggerServiceClient::new(self.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn events(&self) -> EventServiceClient<Self> {
        EventServiceClient::new(self.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn subscriptions(&self) -> SubscriptionServiceClient<Self> {
        SubscriptionServiceClient::new(self.clone())
    }

    pub(super) fn outbox(&self) -> OutboxServiceClient<Self> {
        OutboxServiceClient::new(self.clone())
    }

    pub(super) fn approvals(&self) -> ApprovalServiceClient<Self> {
        ApprovalServiceClient::new(self.clone())
    }
}

impl Service<Request<Body>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Services as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(caller) = &self.caller {
            request.extensions_mut().insert(caller.clone());
        }
        self.services.call(request)
    }
}
