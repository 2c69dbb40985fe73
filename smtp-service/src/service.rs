//! The edge for callers: gRPC in, gRPC out. Each method opens the connection that came with the call, calls the inside, and
//! answers; what goes wrong is logged once, here, by its reason.

use std::sync::Arc;

use postern_chassis::fault::Fault;
use postern_chassis::{digest, opened};
use postern_proto::connection::v1::Connection as Stored;
use postern_proto::mail::v1::Failure;
use postern_proto::smtp::v1::smtp_service_server::SmtpService;
use postern_proto::smtp::v1::{
    CheckEmailRequest, CheckEmailResponse, SendEmailRequest, SendEmailResponse, SendEmailsRequest,
    SendLargeEmailRequest, SendLargeEmailResponse,
};
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::bulk::{Answers, Bulk};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::error::Error;
use crate::large::{self, Failed};
use crate::message::Mail;
use crate::pool::Pool;
use crate::pools::Pools;
use crate::room::Room;
use crate::send;
use crate::stage::Stage;

/// The connector's services.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pools: Arc<Pools>,
    room: Room,
    /// What goes on when its caller is gone: the mails of streams.
    mails: TaskTracker,
    stop: CancellationToken,
}

impl Service {
    /// The services over these pools, with so much room for mails. Streams take no more mails once `stop` is cancelled.
    pub(crate) fn new(pools: Arc<Pools>, room: Room, mails: TaskTracker, stop: CancellationToken) -> Self {
        Self { pools, room, mails, stop }
    }

    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// The pool of the connection that came with a call.
    pub(crate) fn pool(&self, metadata: &MetadataMap) -> Result<Arc<Pool>, Status> {
        let arrival = opened::encoded(metadata).map(digest::of);
        if let Some(pool) = arrival.and_then(|arrival| self.pools.met(&arrival)) {
            return Ok(pool);
        }
        let opened = opened::decode(metadata)?;
        let stored = opened.connection.unwrap_or_default();
        let pool = self.pools.of(&stored)?;
        pool.take_grant(&opened.grant);
        // A token is to be taken from each call.
        if let Some(arrival) = arrival.filter(|_| pool.connection().provider().is_none()) {
            self.pools.meet(arrival, &stored);
        }
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
        let _held = self.room.take(request.get_ref().encoded_len())?;
        let mail = Mail::compose(request.get_ref(), pool.connection()).await?;
        let taken = send::send(&pool, &mail, clock).await;
        let taken = taken.map_err(|error| told("SendEmail", pool.connection(), began, error))?;
        tracing::debug!(
            connection.name = pool.connection().name(),
            duration_ms = began.elapsed().as_millis(),
            "a mail was handed over"
        );
        Ok(Response::new(send::response(&mail, taken)))
    }

    type SendEmailsStream = Answers;

    async fn send_emails(
        &self,
        request: Request<Streaming<SendEmailsRequest>>,
    ) -> Result<Response<Self::SendEmailsStream>, Status> {
        let (metadata, _, mails) = request.into_parts();
        let pool = self.pool(&metadata)?;
        let clock = Clock::of_call(&metadata, pool.connection().command_timeout);
        let (bulk, answers) =
            Bulk::new(pool, self.room.clone(), clock, self.mails.clone(), self.stop.clone());
        self.mails.spawn(bulk.run(mails));
        Ok(Response::new(answers))
    }

    async fn send_large_email(
        &self,
        request: Request<Streaming<SendLargeEmailRequest>>,
    ) -> Result<Response<SendLargeEmailResponse>, Status> {
        let began = Instant::now();
        let (metadata, _, parts) = request.into_parts();
        let pool = self.pool(&metadata)?;
        let clock = Clock::of_call(&metadata, pool.connection().command_timeout);
        let sent = large::send(&pool, &self.room, clock, parts).await;
        let sent = sent.map_err(|failed| match failed {
            Failed::Here(error) => told("SendLargeEmail", pool.connection(), began, error),
            Failed::Stream(status) => status,
        })?;
        tracing::debug!(
            connection.name = pool.connection().name(),
            duration_ms = began.elapsed().as_millis(),
            "a large mail was handed over"
        );
        let SendEmailResponse { message_id, recipients, reply } = sent;
        Ok(Response::new(SendLargeEmailResponse { message_id, recipients, reply }))
    }

    async fn check_email(
        &self,
        request: Request<CheckEmailRequest>,
    ) -> Result<Response<CheckEmailResponse>, Status> {
        let pool = self.pool(request.metadata())?;
        let mail = Mail::compose(request.get_ref(), pool.connection()).await?;
        Ok(Response::new(mail.shown()))
    }
}

/// Logs why a call failed and makes the answer of it.
pub(crate) fn told(method: &'static str, connection: &Connection, began: Instant, error: Error) -> Status {
    let (place, fault) = (error.place(), Fault::from(error));
    log(method, connection, began, fault.reason(), place);
    fault.into()
}

/// Logs why one of many mails failed and makes the answer of it.
pub(crate) fn told_of_one(
    method: &'static str,
    connection: &Connection,
    began: Instant,
    error: Error,
) -> Failure {
    let place = error.place();
    let failure = Failure::from(error);
    log(method, connection, began, &failure.reason, place);
    failure
}

/// Logs a failure, without the server's text, which may name people.
fn log(
    method: &'static str,
    connection: &Connection,
    began: Instant,
    reason: &str,
    (stage, code): (Option<Stage>, Option<u16>),
) {
    tracing::warn!(
        connection.name = connection.name(),
        method,
        reason,
        smtp.stage = stage.map(Stage::as_str),
        smtp.code = code,
        duration_ms = began.elapsed().as_millis(),
        "a call failed"
    );
}
