//! The edge for the gateway: what this connector is, whether a connection works, and the grants that it needs.

use postern_chassis::opened;
use postern_chassis::sign_in::unsupported;
use postern_proto::connection::v1::SignInKind;
use postern_proto::connector::v1::connector_service_server::ConnectorService;
use postern_proto::connector::v1::{
    CheckConnectionRequest, CheckConnectionResponse, CheckTriggerRequest, CheckTriggerResponse,
    CompleteSignInRequest, CompleteSignInResponse, DescribeRequest, DescribeResponse, EndNotificationRequest,
    EndNotificationResponse, PollRequest, PollResponse, ReadNotificationRequest, ReadNotificationResponse,
    RefreshCredentialsRequest, RefreshCredentialsResponse, RenewNotificationRequest,
    RenewNotificationResponse, SendEmailRequest, SendEmailResponse, StartSignInRequest, StartSignInResponse,
    ValidateConnectionRequest, ValidateConnectionResponse,
};
use postern_proto::smtp::v1::smtp_service_server::SERVICE_NAME;
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::clock::Clock;
use crate::connection::Connection;
use crate::error::Error;
use crate::message::Mail;
use crate::oauth::{Grant, Provider};
use crate::send;
use crate::service::{Service, stored, told};

/// The error of a sign-in for a connection that has no use for tokens.
fn without_tokens() -> Error {
    unsupported(
        "the connection does not sign in by tokens: smtp.auth_mechanism is not AUTH_MECHANISM_XOAUTH2",
    )
    .into()
}

#[tonic::async_trait]
impl ConnectorService for Service {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(DescribeResponse {
            kind: "smtp".to_owned(),
            services: vec![SERVICE_NAME.to_owned()],
            trigger_kinds: Vec::new(),
            sign_in_kinds: vec![SignInKind::Browser.into(), SignInKind::DeviceCode.into()],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sends_email: true,
            sends_text_body: true,
            // A server does not tell whether it has a message already.
            send_is_repeatable: false,
        }))
    }

    async fn validate_connection(
        &self,
        request: Request<ValidateConnectionRequest>,
    ) -> Result<Response<ValidateConnectionResponse>, Status> {
        let connection = Connection::check(&stored(request.metadata())?)?;
        let needs_grant = connection.provider().is_some();
        let needs_sign_in = connection.provider().is_some_and(Provider::needs_user);
        Ok(Response::new(ValidateConnectionResponse { needs_grant, needs_sign_in }))
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
        request: Request<RefreshCredentialsRequest>,
    ) -> Result<Response<RefreshCredentialsResponse>, Status> {
        let began = Instant::now();
        let opened = opened::decode(request.metadata())?;
        let connection = Connection::check(&opened.connection.unwrap_or_default())?;
        let Some(provider) = connection.provider() else {
            return Err(Error::NotServed(
                "has no grant to refresh for this connection: a password does not expire by itself",
            )
            .into());
        };
        let refreshed = provider.refresh(Grant::read(&opened.grant).as_ref()).await;
        let refreshed = refreshed.map_err(|error| told("RefreshCredentials", &connection, began, error))?;
        Ok(Response::new(refreshed))
    }

    async fn start_sign_in(
        &self,
        request: Request<StartSignInRequest>,
    ) -> Result<Response<StartSignInResponse>, Status> {
        let began = Instant::now();
        let connection = Connection::check(&stored(request.metadata())?)?;
        let started = match connection.provider() {
            Some(provider) => provider.start(request.get_ref()).await,
            None => Err(without_tokens()),
        };
        started.map(Response::new).map_err(|error| told("StartSignIn", &connection, began, error))
    }

    async fn complete_sign_in(
        &self,
        request: Request<CompleteSignInRequest>,
    ) -> Result<Response<CompleteSignInResponse>, Status> {
        let began = Instant::now();
        let opened = opened::decode(request.metadata())?;
        let connection = Connection::check(&opened.connection.unwrap_or_default())?;
        let held = Grant::read(&opened.grant);
        let completed = match connection.provider() {
            Some(provider) => provider.complete(request.get_ref(), held.as_ref()).await,
            None => Err(without_tokens()),
        };
        completed.map(Response::new).map_err(|error| told("CompleteSignIn", &connection, began, error))
    }

    async fn send_email(
        &self,
        request: Request<SendEmailRequest>,
    ) -> Result<Response<SendEmailResponse>, Status> {
        let began = Instant::now();
        let pool = self.pool(request.metadata())?;
        let clock = Clock::of_call(request.metadata(), pool.connection().command_timeout);
        let _held = self.room().take(request.get_ref().encoded_len())?;
        let asked = request.get_ref();
        if !asked.mailbox.is_empty() {
            return Err(Error::field("mailbox", "is given: a connection to a server has none").into());
        }
        let mail = Mail::compose(asked, pool.connection()).await?;
        let places = send::places(&mail, &asked.only_to)?;
        let taken = send::send_to(&pool, &mail, &places, clock).await;
        let taken = taken.map_err(|error| told("SendEmail", pool.connection(), began, error))?;
        tracing::debug!(
            connection.name = pool.connection().name(),
            duration_ms = began.elapsed().as_millis(),
            "a mail was handed over"
        );
        let (recipients, internet_message_id) = (taken.recipients, mail.message_id().to_owned());
        Ok(Response::new(SendEmailResponse { recipients, internet_message_id, ..Default::default() }))
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

    async fn renew_notification(
        &self,
        _: Request<RenewNotificationRequest>,
    ) -> Result<Response<RenewNotificationResponse>, Status> {
        Err(Error::NotServed("serves no triggers: SMTP only sends").into())
    }

    async fn end_notification(
        &self,
        _: Request<EndNotificationRequest>,
    ) -> Result<Response<EndNotificationResponse>, Status> {
        Err(Error::NotServed("serves no triggers: SMTP only sends").into())
    }

    async fn read_notification(
        &self,
        _: Request<ReadNotificationRequest>,
    ) -> Result<Response<ReadNotificationResponse>, Status> {
        Err(Error::NotServed("serves no triggers: SMTP only sends").into())
    }
}
