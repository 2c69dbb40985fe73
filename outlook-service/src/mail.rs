//! `postern.outlook.v1.MailService`: decode, call, encode.

pub(crate) mod attachments;
mod compose;
mod list;
mod send;
pub(crate) mod shape;
mod skip_token;

use std::sync::Arc;

use postern_proto::outlook::v1::mail_service_server::MailService;
use postern_proto::outlook::v1::{
    DeleteEmailRequest, DeleteEmailResponse, GetAttachmentRequest, GetAttachmentResponse, GetEmailsRequest,
    GetEmailsResponse, MarkAsReadRequest, MarkAsReadResponse, ReplyToEmailRequest, ReplyToEmailResponse,
    SendEmailRequest, SendEmailResponse, SendLargeEmailRequest, SendLargeEmailResponse,
};
use tonic::{Request, Response, Status, Streaming};

use crate::outlook::{Outlook, answer};

/// The mail service.
pub(crate) struct Mail {
    outlook: Arc<Outlook>,
}

impl Mail {
    pub(crate) fn new(outlook: Arc<Outlook>) -> Self {
        Self { outlook }
    }
}

#[tonic::async_trait]
impl MailService for Mail {
    async fn get_emails(
        &self,
        request: Request<GetEmailsRequest>,
    ) -> Result<Response<GetEmailsResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("GetEmails", list::get_emails(&self.outlook, &call, request.get_ref()).await)
    }

    async fn send_email(
        &self,
        request: Request<SendEmailRequest>,
    ) -> Result<Response<SendEmailResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("SendEmail", send::send_email(&self.outlook, &call, request.get_ref()).await)
    }

    async fn send_large_email(
        &self,
        _: Request<Streaming<SendLargeEmailRequest>>,
    ) -> Result<Response<SendLargeEmailResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn delete_email(
        &self,
        _: Request<DeleteEmailRequest>,
    ) -> Result<Response<DeleteEmailResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn mark_as_read(
        &self,
        _: Request<MarkAsReadRequest>,
    ) -> Result<Response<MarkAsReadResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn reply_to_email(
        &self,
        _: Request<ReplyToEmailRequest>,
    ) -> Result<Response<ReplyToEmailResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    type GetAttachmentStream = tokio_stream::Empty<Result<GetAttachmentResponse, Status>>;

    async fn get_attachment(
        &self,
        _: Request<GetAttachmentRequest>,
    ) -> Result<Response<Self::GetAttachmentStream>, Status> {
        Err(Status::unimplemented("not served yet"))
    }
}
