//! The edge for callers: gRPC in, gRPC out. Each method opens the connection that came with the call, calls the inside, and
//! answers; what goes wrong is logged once, here, by its reason.

use std::sync::Arc;

use postern_chassis::fault::Fault;
use postern_chassis::opened;
use postern_proto::connection::v1::Connection as Stored;
use postern_proto::smtp::v1::smtp_service_server::SmtpService;
use postern_proto::smtp::v1::{
    CheckEmailRequest, CheckEmailResponse, SendEmailRequest, SendEmailResponse, SendEmailsRequest,
    SendEmailsResponse, SendLargeEmailRequest, SendLargeEmailResponse,
};
use tokio::time::Instant;
use tokio_stream::Empty;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::Clock;
use crate::connection::Connection;
use crate::error::Error;
use crate::message::Mail;
use crate::pool::Pool;
use crate::pools::Pools;
use crate::send;
use crate::stage::Stage;

/// The connector's services.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pools: Arc<Pools>,
}

impl Service {
    /// The services over these pools.
    pub(crate) fn new(pools: Arc<Pools>) -> Self {
        Self { pools }
    }

    pub(crate) fn pool(&self, metadata: &MetadataMap) -> Result<Arc<Pool>, Status> {
        let opened = opened::decode(metadata)?;
        let pool = self.pools.of(&opened.connection.unwrap_or_default())?;
        pool.take_grant(&opened.grant);
        Ok(pool)
    }
}

/// The connection that came with a call.
pub(crate) fn stored(metadata: &MetadataMap) -> Result<Stored, Status> {
    let opened = opened::decode(metadata)?;
    Ok(opened.connection.unwrap_or_default())
}

#[tonic::async_trait]
impl SmtpService for Service {
    async fn send_email(
        &self,
        request: Request<SendEmailRequest>,
    ) -> Result<Response<SendEmailResponse>, Status> {
        let began = Instant::now();
        let pool = self.pool(request.metadata())?;
        let clock = Clock::of_call(request.metadata(), pool.connection().command_timeout);
        let mail = Mail::compose(request.get_ref(), pool.connection())?;
        let taken = send::send(&pool, &mail, clock).await;
        let taken = taken.map_err(|error| told("SendEmail", pool.connection(), began, error))?;
        tracing::debug!(
            connection.name = pool.connection().name(),
            duration_ms = began.elapsed().as_millis(),
            "a mail was handed over"
        );
        Ok(Response::new(SendEmailResponse {
            message_id: mail.message_id().to_owned(),
            recipients: taken.recipients,
            reply: Some((&taken.reply).into()),
        }))
    }

    type SendEmailsStream = Empty<Result<SendEmailsResponse, Status>>;

    async fn send_emails(
        &self,
        _: Request<Streaming<SendEmailsRequest>>,
    ) -> Result<Response<Self::SendEmailsStream>, Status> {
        Err(Error::NotServed("does not serve SendEmails yet").into())
    }

    async fn send_large_email(
        &self,
        _: Request<Streaming<SendLargeEmailRequest>>,
    ) -> Result<Response<SendLargeEmailResponse>, Status> {
        Err(Error::NotServed("does not serve SendLargeEmail yet").into())
    }

    async fn check_email(
        &self,
        _: Request<CheckEmailRequest>,
    ) -> Result<Response<CheckEmailResponse>, Status> {
        Err(Error::NotServed("does not serve CheckEmail yet").into())
    }
}

/// Logs why a call failed, without the server's text, which may name people, and makes the answer of it.
pub(crate) fn told(method: &'static str, connection: &Connection, began: Instant, error: Error) -> Status {
    let (stage, code) = error.place();
    let fault = Fault::from(error);
    tracing::warn!(
        connection.name = connection.name(),
        method,
        reason = fault.reason(),
        smtp.stage = stage.map(Stage::as_str),
        smtp.code = code,
        duration_ms = began.elapsed().as_millis(),
        "a call failed"
    );
    fault.into()
}
