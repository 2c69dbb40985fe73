//! A connector that does nothing but answer, so that what is measured is the way to it. Where it is polled, nothing has
//! happened.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use postern_chassis::serve::{self as chassis, BoxError, ServeSettings};
use postern_proto::connector::v1 as connector;
use postern_proto::connector::v1::connector_service_server::{ConnectorService, ConnectorServiceServer};
use postern_proto::connector::v1::{
    CheckConnectionRequest, CheckConnectionResponse, CheckTriggerRequest, CheckTriggerResponse,
    DescribeRequest, DescribeResponse, EndNotificationRequest, EndNotificationResponse, PollRequest,
    PollResponse, ReadNotificationRequest, ReadNotificationResponse, RefreshCredentialsRequest,
    RefreshCredentialsResponse, RenewNotificationRequest, RenewNotificationResponse,
    ValidateConnectionRequest, ValidateConnectionResponse,
};
use postern_proto::mail::v1::Reply;
use postern_proto::smtp::v1::smtp_service_server::{SmtpService, SmtpServiceServer};
use postern_proto::smtp::v1::{
    CheckEmailRequest, CheckEmailResponse, SendEmailRequest, SendEmailResponse, SendEmailsRequest,
    SendEmailsResponse, SendLargeEmailRequest, SendLargeEmailResponse,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// How long the text in an answer is: an answer is about as large as the request.
const TEXT_BYTES: usize = 980;

/// The answer to every call.
pub(crate) fn answer() -> SendEmailResponse {
    SendEmailResponse {
        message_id: "<echo@bench.invalid>".into(),
        recipients: Vec::new(),
        reply: Some(Reply { code: 250, enhanced_code: "2.0.0".into(), text: "x".repeat(TEXT_BYTES) }),
    }
}

/// Serves on a listener until `stop` is cancelled.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(
    listener: TcpListener,
    polled: Polled,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let action = SmtpServiceServer::new(Echo::default());
    let connector = ConnectorServiceServer::new(Echo { polled });
    let names = [chassis::name_of(&action), chassis::name_of(&connector)];
    let (routes, health) = chassis::edges(&names).await?;
    let routes = routes.add_service(action).add_service(connector).prepare();
    let served = chassis::serve(listener, &ServeSettings::default(), routes, stop).await;
    drop(health);
    served
}

/// When triggers were last looked for, by their names; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Polled {
    last: Arc<Mutex<HashMap<String, SystemTime>>>,
    looks: Arc<AtomicU64>,
    noted: Arc<Notify>,
    answer_after: Duration,
}

impl Polled {
    /// Where each answer takes a time.
    pub(crate) fn answering_after(answer_after: Duration) -> Self {
        Self { answer_after, ..Self::default() }
    }

    fn note(&self, trigger: String) {
        self.last().insert(trigger, SystemTime::now());
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.noted.notify_waiters();
    }

    /// How many triggers were looked for.
    pub(crate) fn count(&self) -> usize {
        self.last().len()
    }

    /// How often triggers were looked for.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// When a trigger was last looked for.
    pub(crate) fn last_of(&self, trigger: &str) -> Option<SystemTime> {
        self.last().get(trigger).copied()
    }

    /// Waits until a trigger was looked for after a time. Gives how long after.
    pub(crate) async fn come(&self, trigger: &str, after: SystemTime) -> Duration {
        loop {
            let mut noted = std::pin::pin!(self.noted.notified());
            noted.as_mut().enable();
            if let Some(took) = self.last_of(trigger).and_then(|last| last.duration_since(after).ok()) {
                return took;
            }
            noted.await;
        }
    }

    fn last(&self) -> MutexGuard<'_, HashMap<String, SystemTime>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Echo {
    polled: Polled,
}

#[tonic::async_trait]
impl SmtpService for Echo {
    async fn send_email(&self, _: Request<SendEmailRequest>) -> Result<Response<SendEmailResponse>, Status> {
        Ok(Response::new(answer()))
    }

    type SendEmailsStream = tokio_stream::Empty<Result<SendEmailsResponse, Status>>;

    async fn send_emails(
        &self,
        _: Request<Streaming<SendEmailsRequest>>,
    ) -> Result<Response<Self::SendEmailsStream>, Status> {
        Err(Status::unimplemented("an echo answers SendEmail alone"))
    }

    async fn send_large_email(
        &self,
        _: Request<Streaming<SendLargeEmailRequest>>,
    ) -> Result<Response<SendLargeEmailResponse>, Status> {
        Err(Status::unimplemented("an echo answers SendEmail alone"))
    }

    async fn check_email(
        &self,
        _: Request<CheckEmailRequest>,
    ) -> Result<Response<CheckEmailResponse>, Status> {
        Err(Status::unimplemented("an echo answers SendEmail alone"))
    }
}

#[tonic::async_trait]
impl ConnectorService for Echo {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(DescribeResponse {
            kind: "smtp".into(),
            services: vec!["postern.smtp.v1.SmtpService".into()],
            trigger_kinds: vec!["new_email".into()],
            version: "echo".into(),
            ..DescribeResponse::default()
        }))
    }

    async fn validate_connection(
        &self,
        _: Request<ValidateConnectionRequest>,
    ) -> Result<Response<ValidateConnectionResponse>, Status> {
        Ok(Response::new(ValidateConnectionResponse { needs_grant: false, needs_sign_in: false }))
    }

    async fn check_connection(
        &self,
        _: Request<CheckConnectionRequest>,
    ) -> Result<Response<CheckConnectionResponse>, Status> {
        Ok(Response::new(CheckConnectionResponse::default()))
    }

    async fn refresh_credentials(
        &self,
        _: Request<RefreshCredentialsRequest>,
    ) -> Result<Response<RefreshCredentialsResponse>, Status> {
        Err(Status::unimplemented("an echo needs no grant"))
    }

    async fn start_sign_in(
        &self,
        _: Request<connector::StartSignInRequest>,
    ) -> Result<Response<connector::StartSignInResponse>, Status> {
        Err(Status::unimplemented("not served"))
    }

    async fn complete_sign_in(
        &self,
        _: Request<connector::CompleteSignInRequest>,
    ) -> Result<Response<connector::CompleteSignInResponse>, Status> {
        Err(Status::unimplemented("not served"))
    }

    async fn send_email(
        &self,
        _: Request<connector::SendEmailRequest>,
    ) -> Result<Response<connector::SendEmailResponse>, Status> {
        Err(Status::unimplemented("not served"))
    }

    async fn check_trigger(
        &self,
        request: Request<CheckTriggerRequest>,
    ) -> Result<Response<CheckTriggerResponse>, Status> {
        // No two watch the same.
        let watch_key = request.into_inner().trigger.unwrap_or_default().name;
        Ok(Response::new(CheckTriggerResponse { watch_key }))
    }

    async fn poll(&self, request: Request<PollRequest>) -> Result<Response<PollResponse>, Status> {
        let PollRequest { triggers, cursor, .. } = request.into_inner();
        for trigger in triggers.into_iter().filter_map(|watched| watched.trigger) {
            self.polled.note(trigger.name);
        }
        if !self.polled.answer_after.is_zero() {
            tokio::time::sleep(self.polled.answer_after).await;
        }
        // Nothing happened, and nothing changes in where the look ended.
        Ok(Response::new(PollResponse { next_cursor: cursor, ..PollResponse::default() }))
    }

    async fn renew_notification(
        &self,
        _: Request<RenewNotificationRequest>,
    ) -> Result<Response<RenewNotificationResponse>, Status> {
        Err(Status::unimplemented("an echo has no triggers"))
    }

    async fn end_notification(
        &self,
        _: Request<EndNotificationRequest>,
    ) -> Result<Response<EndNotificationResponse>, Status> {
        Err(Status::unimplemented("an echo has no triggers"))
    }

    async fn read_notification(
        &self,
        _: Request<ReadNotificationRequest>,
    ) -> Result<Response<ReadNotificationResponse>, Status> {
        Err(Status::unimplemented("an echo has no triggers"))
    }
}
