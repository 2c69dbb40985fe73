//! ApprovalService over gRPC: decode, call, encode.

use futures_util::stream::BoxStream;
use postern_proto::approval::v1::approval_service_server::ApprovalService;
use postern_proto::approval::v1::{
    AwaitResponseRequest, AwaitResponseResponse, CancelApprovalRequest, CancelApprovalResponse,
    GetApprovalRequest, GetApprovalResponse, ListApprovalsRequest, ListApprovalsResponse,
    SendApprovalEmailRequest, SendApprovalEmailResponse, SendEmailWithOptionsRequest,
    SendEmailWithOptionsResponse,
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::Approvals;
use super::question::Asked;
use super::record::id_of;
use super::waiting::Waiting;
use crate::auth::Caller;

fn caller<T>(request: &Request<T>) -> String {
    request.extensions().get::<Caller>().map(|caller| caller.name.to_string()).unwrap_or_default()
}

#[tonic::async_trait]
impl ApprovalService for Approvals {
    async fn send_approval_email(
        &self,
        request: Request<SendApprovalEmailRequest>,
    ) -> Result<Response<SendApprovalEmailResponse>, Status> {
        let (caller, request) = (caller(&request), request.into_inner());
        let encoded = request.encode_to_vec();
        let SendApprovalEmailRequest { connection, request_id, question, options } = request;
        let asked = Asked::read(connection, request_id, true, question, options)?;
        let sent = self.ask(&caller, asked, encoded).await?;
        Ok(Response::new(SendApprovalEmailResponse {
            id: id_of(&sent.approval.name).to_owned(),
            resource: sent.approval.name.clone(),
            notification_type: "approval".to_owned(),
            notification_url: sent.notification_url,
            approval: Some(sent.approval),
        }))
    }

    async fn send_email_with_options(
        &self,
        request: Request<SendEmailWithOptionsRequest>,
    ) -> Result<Response<SendEmailWithOptionsResponse>, Status> {
        let (caller, request) = (caller(&request), request.into_inner());
        let encoded = request.encode_to_vec();
        let SendEmailWithOptionsRequest { connection, request_id, question, options } = request;
        let asked = Asked::read(connection, request_id, false, question, options)?;
        let sent = self.ask(&caller, asked, encoded).await?;
        Ok(Response::new(SendEmailWithOptionsResponse {
            id: id_of(&sent.approval.name).to_owned(),
            resource: sent.approval.name.clone(),
            notification_type: "options".to_owned(),
            notification_url: sent.notification_url,
            approval: Some(sent.approval),
        }))
    }

    async fn get_approval(
        &self,
        request: Request<GetApprovalRequest>,
    ) -> Result<Response<GetApprovalResponse>, Status> {
        let approval = self.0.get(&request.into_inner().name).await?;
        Ok(Response::new(GetApprovalResponse { approval: Some(approval) }))
    }

    async fn list_approvals(
        &self,
        request: Request<ListApprovalsRequest>,
    ) -> Result<Response<ListApprovalsResponse>, Status> {
        Ok(Response::new(self.0.list(request.into_inner()).await?))
    }

    async fn cancel_approval(
        &self,
        request: Request<CancelApprovalRequest>,
    ) -> Result<Response<CancelApprovalResponse>, Status> {
        let approval = self.0.cancel(&request.into_inner().name).await?;
        Ok(Response::new(CancelApprovalResponse { approval: Some(approval) }))
    }

    type AwaitResponseStream = BoxStream<'static, Result<AwaitResponseResponse, Status>>;

    async fn await_response(
        &self,
        request: Request<AwaitResponseRequest>,
    ) -> Result<Response<Self::AwaitResponseStream>, Status> {
        let waiting = Waiting::open(self.0.clone(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(waiting.into_stream())))
    }
}
