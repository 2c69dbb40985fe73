//! SubscriptionService over gRPC: decode, call, encode.

use std::sync::Arc;

use postern_proto::event::v1::subscription_service_server::{SubscriptionService, SubscriptionServiceServer};
use postern_proto::event::v1::{
    CreateSubscriptionRequest, CreateSubscriptionResponse, DeleteSubscriptionRequest,
    DeleteSubscriptionResponse, DropSetAsideEventsRequest, DropSetAsideEventsResponse,
    GetSubscriptionRequest, GetSubscriptionResponse, ListSetAsideEventsRequest, ListSetAsideEventsResponse,
    ListSubscriptionsRequest, ListSubscriptionsResponse, ReplaySetAsideEventsRequest,
    ReplaySetAsideEventsResponse, SeekSubscriptionRequest, SeekSubscriptionResponse,
    UpdateSubscriptionRequest, UpdateSubscriptionResponse,
};
use tonic::{Request, Response, Status};

use super::Subscriptions;

/// The service over the subscriptions of a gateway.
pub struct Door(Arc<Subscriptions>);

impl Subscriptions {
    /// `postern.event.v1.SubscriptionService`.
    #[must_use]
    pub fn service(self: &Arc<Self>) -> SubscriptionServiceServer<Door> {
        SubscriptionServiceServer::new(Door(self.clone()))
    }
}

#[tonic::async_trait]
impl SubscriptionService for Door {
    async fn create_subscription(
        &self,
        request: Request<CreateSubscriptionRequest>,
    ) -> Result<Response<CreateSubscriptionResponse>, Status> {
        let subscription = Some(self.0.create(request.into_inner()).await?);
        Ok(Response::new(CreateSubscriptionResponse { subscription }))
    }

    async fn get_subscription(
        &self,
        request: Request<GetSubscriptionRequest>,
    ) -> Result<Response<GetSubscriptionResponse>, Status> {
        let subscription = Some(self.0.get(&request.into_inner().name).await?);
        Ok(Response::new(GetSubscriptionResponse { subscription }))
    }

    async fn list_subscriptions(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        Ok(Response::new(self.0.list(request.into_inner()).await?))
    }

    async fn update_subscription(
        &self,
        request: Request<UpdateSubscriptionRequest>,
    ) -> Result<Response<UpdateSubscriptionResponse>, Status> {
        let subscription = Some(self.0.update(request.into_inner()).await?);
        Ok(Response::new(UpdateSubscriptionResponse { subscription }))
    }

    async fn delete_subscription(
        &self,
        request: Request<DeleteSubscriptionRequest>,
    ) -> Result<Response<DeleteSubscriptionResponse>, Status> {
        self.0.delete(request.into_inner()).await?;
        Ok(Response::new(DeleteSubscriptionResponse {}))
    }

    async fn seek_subscription(
        &self,
        request: Request<SeekSubscriptionRequest>,
    ) -> Result<Response<SeekSubscriptionResponse>, Status> {
        let subscription = Some(self.0.seek(request.into_inner()).await?);
        Ok(Response::new(SeekSubscriptionResponse { subscription }))
    }

    async fn list_set_aside_events(
        &self,
        request: Request<ListSetAsideEventsRequest>,
    ) -> Result<Response<ListSetAsideEventsResponse>, Status> {
        Ok(Response::new(self.0.list_set_aside(request.into_inner()).await?))
    }

    async fn replay_set_aside_events(
        &self,
        request: Request<ReplaySetAsideEventsRequest>,
    ) -> Result<Response<ReplaySetAsideEventsResponse>, Status> {
        Ok(Response::new(self.0.replay(request.into_inner()).await?))
    }

    async fn drop_set_aside_events(
        &self,
        request: Request<DropSetAsideEventsRequest>,
    ) -> Result<Response<DropSetAsideEventsResponse>, Status> {
        Ok(Response::new(self.0.drop_set_aside(request.into_inner()).await?))
    }
}
