//! The edge: gRPC in, gRPC out. Each method opens the connection that came with the call, calls the inside, and
//! answers; what goes wrong is logged once, here, by its reason.

use std::sync::Arc;

use postern_chassis::fault::Fault;
use postern_chassis::opened;
use postern_proto::connection::v1::Connection as Stored;
use postern_proto::connector::v1::connector_service_server::ConnectorService;
use postern_proto::connector::v1::{
    CheckConnectionRequest, CheckConnectionResponse, CheckTriggerRequest, CheckTriggerResponse,
    DescribeRequest, DescribeResponse, PollRequest, PollResponse, RefreshCredentialsRequest,
    RefreshCredentialsResponse, ValidateConnectionRequest, ValidateConnectionResponse,
};
use postern_proto::smtp::v1::smtp_service_server::{SERVICE_NAME, SmtpService};
use postern_proto::smtp::v1::{SendEmailRequest, SendEmailResponse};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::clock::Clock;
use crate::connection::Connection;
use crate::error::Error;
use crate::message::Mail;
use crate::pool::Pool;
use crate::pools::Pools;
use crate::send;

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

    fn pool(&self, metadata: &MetadataMap) -> Result<Arc<Pool>, Status> {
        Ok(self.pools.of(&stored(metadata)?)?)
    }
}

/// The connection that came with a call.
fn stored(metadata: &MetadataMap) -> Result<Stored, Status> {
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
}

#[tonic::async_trait]
impl ConnectorService for Service {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(DescribeResponse {
            kind: "smtp".to_owned(),
            services: vec![SERVICE_NAME.to_owned()],
            trigger_kinds: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            needs_grant: false,
        }))
    }

    async fn validate_connection(
        &self,
        request: Request<ValidateConnectionRequest>,
    ) -> Result<Response<ValidateConnectionResponse>, Status> {
        Connection::check(&stored(request.metadata())?)?;
        Ok(Response::new(ValidateConnectionResponse {}))
    }

    async fn check_connection(
        &self,
        request: Request<CheckConnectionRequest>,
    ) -> Result<Response<CheckConnectionResponse>, Status> {
        let began = Instant::now();
        let pool = self.pool(request.metadata())?;
        let clock = Clock::of_call(request.metadata(), pool.connection().command_timeout);
        let lease = pool.lend_new(clock).await;
        let lease = lease.map_err(|error| told("CheckConnection", pool.connection(), began, error))?;
        let details = lease.conversation.details();
        lease.give_back();
        let account = pool.connection().login.as_ref().map(|login| login.username.clone());
        Ok(Response::new(CheckConnectionResponse { account: account.unwrap_or_default(), details }))
    }

    async fn refresh_credentials(
        &self,
        _: Request<RefreshCredentialsRequest>,
    ) -> Result<Response<RefreshCredentialsResponse>, Status> {
        Err(Error::NotServed("has no grants to refresh: a password does not expire by itself").into())
    }

    async fn check_trigger(
        &self,
        _: Request<CheckTriggerRequest>,
    ) -> Result<Response<CheckTriggerResponse>, Status> {
        Err(Error::NotServed("serves no triggers: SMTP only sends").into())
    }

    async fn poll(&self, _: Request<PollRequest>) -> Result<Response<PollResponse>, Status> {
        Err(Error::NotServed("serves no triggers: SMTP only sends").into())
    }
}

/// Logs why a call failed, without the server's text, which may name people, and makes the answer of it.
fn told(method: &'static str, connection: &Connection, began: Instant, error: Error) -> Status {
    let (stage, reply_code) = match &error {
        Error::Refused { stage, reply, .. } => (stage.as_str(), reply.code),
        Error::Broken { stage, .. } | Error::Certificate { stage, .. } => (stage.as_str(), 0),
        _ => ("", 0),
    };
    let fault = Fault::from(error);
    tracing::warn!(
        connection.name = connection.name(),
        method,
        reason = fault.reason(),
        smtp.stage = stage,
        smtp.code = reply_code,
        duration_ms = began.elapsed().as_millis(),
        "a call failed"
    );
    fault.into()
}
