//! `postern.outlook.v1.MailService`: decode, call, encode.

pub(crate) mod attachments;
mod compose;
mod list;
mod send;
pub(crate) mod shape;
mod skip_token;

use std::sync::Arc;

use postern_proto::outlook::v1::mail_service_server::MailService;
use postern_proto::outlook::v1::{GetEmailsRequest, GetEmailsResponse, SendEmailRequest, SendEmailResponse};
use tonic::{Request, Response, Status};

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
}
