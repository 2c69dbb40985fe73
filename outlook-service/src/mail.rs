//! `postern.outlook.v1.MailService`: decode, call, encode.

pub(crate) mod attachments;
mod change;
mod compose;
mod get_attachment;
mod large;
mod list;
mod quote;
mod reply;
mod searches;
mod send;
mod sending;
pub(crate) mod shape;
mod upload;

use std::sync::Arc;

use postern_proto::connector::v1 as connector;
use postern_proto::outlook::v1::mail_service_server::MailService;
use postern_proto::outlook::v1::{
    DeleteEmailRequest, DeleteEmailResponse, GetAttachmentRequest, GetEmailsRequest, GetEmailsResponse,
    MarkAsReadRequest, MarkAsReadResponse, ReplyToEmailRequest, ReplyToEmailResponse, SendEmailRequest,
    SendEmailResponse, SendLargeEmailRequest, SendLargeEmailResponse,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::error::Error;
use crate::graph::Failure;
use crate::outlook::{Call, Outlook, answer};

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
        let (outlook, asked) = (Arc::clone(&self.outlook), request.into_inner());
        let sent = to_its_end(|gone| async move { send::send_email(&outlook, &call, &asked, &gone).await });
        answer("SendEmail", sent.await)
    }

    async fn send_large_email(
        &self,
        request: Request<Streaming<SendLargeEmailRequest>>,
    ) -> Result<Response<SendLargeEmailResponse>, Status> {
        let call = self.outlook.long_call(request.metadata())?;
        let (outlook, parts) = (Arc::clone(&self.outlook), request.into_inner());
        let sent =
            to_its_end(|gone| async move { large::send_large_email(&outlook, &call, parts, &gone).await });
        answer("SendLargeEmail", sent.await)
    }

    async fn delete_email(
        &self,
        request: Request<DeleteEmailRequest>,
    ) -> Result<Response<DeleteEmailResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("DeleteEmail", change::delete_email(&self.outlook, &call, request.get_ref()).await)
    }

    async fn mark_as_read(
        &self,
        request: Request<MarkAsReadRequest>,
    ) -> Result<Response<MarkAsReadResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("MarkAsRead", change::mark_as_read(&self.outlook, &call, request.get_ref()).await)
    }

    async fn reply_to_email(
        &self,
        request: Request<ReplyToEmailRequest>,
    ) -> Result<Response<ReplyToEmailResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        let (outlook, asked) = (Arc::clone(&self.outlook), request.into_inner());
        let sent =
            to_its_end(|gone| async move { reply::reply_to_email(&outlook, &call, &asked, &gone).await });
        answer("ReplyToEmail", sent.await)
    }

    type GetAttachmentStream = get_attachment::Parts;

    async fn get_attachment(
        &self,
        request: Request<GetAttachmentRequest>,
    ) -> Result<Response<Self::GetAttachmentStream>, Status> {
        let call = self.outlook.long_call(request.metadata())?;
        answer("GetAttachment", get_attachment::get_attachment(&self.outlook, &call, request.get_ref()).await)
    }
}

/// Sends a mail for the gateway itself: as a caller's, and with the same promises.
pub(crate) async fn send_for_gateway(
    outlook: &Arc<Outlook>,
    call: Call,
    asked: connector::SendEmailRequest,
) -> Result<connector::SendEmailResponse, Error> {
    if !asked.only_to.is_empty() {
        let problem = "is given: Graph tells of no recipient by itself, so that there is nobody to leave out";
        return Err(Error::field("only_to", problem));
    }
    let connector::SendEmailRequest { request_id, email, mailbox, .. } = asked;
    let asked = SendEmailRequest { request_id, email, mailbox, ..SendEmailRequest::default() };
    let outlook = Arc::clone(outlook);
    let sent = to_its_end(|gone| async move { send::send_email(&outlook, &call, &asked, &gone).await });
    let SendEmailResponse { message_id, internet_message_id } = sent.await?;
    Ok(connector::SendEmailResponse { recipients: Vec::new(), internet_message_id, message_id })
}

/// Lets a sending come to its end though its caller goes: a draft is then not left behind half done. `gone` is how the
/// work learns of it.
async fn to_its_end<T, F>(work: impl FnOnce(CancellationToken) -> F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let gone = CancellationToken::new();
    let task = tokio::spawn(work(gone.clone()));
    let _told = gone.drop_guard();
    task.await.unwrap_or_else(|_| {
        let failure = Failure::Broken { client_request_id: String::new() };
        Err(Error::OutcomeUnknown { message_id: String::new(), failure })
    })
}
