//! TriggerService over gRPC: decode, call, encode.

use postern_proto::event::v1::trigger_service_server::TriggerService;
use postern_proto::event::v1::{
    CreateTriggerRequest, CreateTriggerResponse, DeleteTriggerRequest, DeleteTriggerResponse,
    GetTriggerRequest, GetTriggerResponse, ListTriggersRequest, ListTriggersResponse, NudgeTriggerRequest,
    NudgeTriggerResponse, PauseTriggerRequest, PauseTriggerResponse, ResumeTriggerRequest,
    ResumeTriggerResponse, TriggerState, TryTriggerRequest, TryTriggerResponse, UpdateTriggerRequest,
    UpdateTriggerResponse,
};
use tonic::{Request, Response, Status};

use super::change::Triggers;

#[tonic::async_trait]
impl TriggerService for Triggers {
    async fn create_trigger(
        &self,
        request: Request<CreateTriggerRequest>,
    ) -> Result<Response<CreateTriggerResponse>, Status> {
        let trigger = self.create(request.into_inner()).await?;
        Ok(Response::new(CreateTriggerResponse { trigger }))
    }

    async fn get_trigger(
        &self,
        request: Request<GetTriggerRequest>,
    ) -> Result<Response<GetTriggerResponse>, Status> {
        let trigger = self.get(&request.into_inner().name).await?;
        Ok(Response::new(GetTriggerResponse { trigger }))
    }

    async fn list_triggers(
        &self,
        request: Request<ListTriggersRequest>,
    ) -> Result<Response<ListTriggersResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn update_trigger(
        &self,
        request: Request<UpdateTriggerRequest>,
    ) -> Result<Response<UpdateTriggerResponse>, Status> {
        let trigger = self.update(request.into_inner()).await?;
        Ok(Response::new(UpdateTriggerResponse { trigger }))
    }

    async fn delete_trigger(
        &self,
        request: Request<DeleteTriggerRequest>,
    ) -> Result<Response<DeleteTriggerResponse>, Status> {
        self.delete(request.into_inner()).await?;
        Ok(Response::new(DeleteTriggerResponse {}))
    }

    async fn pause_trigger(
        &self,
        request: Request<PauseTriggerRequest>,
    ) -> Result<Response<PauseTriggerResponse>, Status> {
        let trigger = self.turn(&request.into_inner().name, TriggerState::Paused).await?;
        Ok(Response::new(PauseTriggerResponse { trigger }))
    }

    async fn resume_trigger(
        &self,
        request: Request<ResumeTriggerRequest>,
    ) -> Result<Response<ResumeTriggerResponse>, Status> {
        let trigger = self.turn(&request.into_inner().name, TriggerState::Active).await?;
        Ok(Response::new(ResumeTriggerResponse { trigger }))
    }

    async fn try_trigger(
        &self,
        request: Request<TryTriggerRequest>,
    ) -> Result<Response<TryTriggerResponse>, Status> {
        Ok(Response::new(self.try_now(request.into_inner()).await?))
    }

    async fn nudge_trigger(
        &self,
        request: Request<NudgeTriggerRequest>,
    ) -> Result<Response<NudgeTriggerResponse>, Status> {
        self.nudge(&request.into_inner().name).await?;
        Ok(Response::new(NudgeTriggerResponse {}))
    }
}
