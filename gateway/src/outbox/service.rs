//! OutboxService over gRPC: decode, call, encode.

use postern_proto::outbox::v1::outbox_service_server::OutboxService;
use postern_proto::outbox::v1::{
    CancelQueuedEmailRequest, CancelQueuedEmailResponse, GetQueuedEmailRequest, GetQueuedEmailResponse,
    ListQueuedEmailsRequest, ListQueuedEmailsResponse, QueueEmailRequest, QueueEmailResponse,
    RetryQueuedEmailRequest, RetryQueuedEmailResponse,
};
use tonic::{Request, Response, Status};

use super::Outbox;
use crate::auth::Caller;

#[tonic::async_trait]
impl OutboxService for Outbox {
    async fn queue_email(
        &self,
        request: Request<QueueEmailRequest>,
    ) -> Result<Response<QueueEmailResponse>, Status> {
        let caller = request.extensions().get::<Caller>().map(|caller| caller.name.clone());
        let queued = self.queue(caller.as_deref().unwrap_or_default(), request.into_inner()).await?;
        Ok(Response::new(QueueEmailResponse { queued_email: Some(queued) }))
    }

    async fn get_queued_email(
        &self,
        request: Request<GetQueuedEmailRequest>,
    ) -> Result<Response<GetQueuedEmailResponse>, Status> {
        let found = self.get(&request.into_inner().name).await?;
        Ok(Response::new(GetQueuedEmailResponse { queued_email: Some(found) }))
    }

    async fn list_queued_emails(
        &self,
        request: Request<ListQueuedEmailsRequest>,
    ) -> Result<Response<ListQueuedEmailsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn cancel_queued_email(
        &self,
        request: Request<CancelQueuedEmailRequest>,
    ) -> Result<Response<CancelQueuedEmailResponse>, Status> {
        let cancelled = self.cancel(&request.into_inner().name).await?;
        Ok(Response::new(CancelQueuedEmailResponse { queued_email: Some(cancelled) }))
    }

    async fn retry_queued_email(
        &self,
        request: Request<RetryQueuedEmailRequest>,
    ) -> Result<Response<RetryQueuedEmailResponse>, Status> {
        let due = self.retry(&request.into_inner().name).await?;
        Ok(Response::new(RetryQueuedEmailResponse { queued_email: Some(due) }))
    }
}
