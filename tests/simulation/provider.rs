//! A simulated provider and the copies of its connector: folders into which things come, a server that takes mail,
//! refuses it, or takes it and says nothing, and an account whose user signs in. What it has done is what counts.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use postern_chassis::fault::Fault;
use postern_proto::connection::v1::SignInKind;
use postern_proto::connector::v1::connector_service_server::{ConnectorService, ConnectorServiceServer};
use postern_proto::connector::v1::*;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::{EventData, Trigger, TriggerGap, event_data};
use postern_proto::mail::v1::{Email, ReceivedEmail, RecipientResult, RecipientState};
use postern_proto::smtp::v1 as smtp;
use postern_proto::smtp::v1::smtp_service_server::{SmtpService, SmtpServiceServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::account::Account;
use crate::cable::Cable;
use crate::weather::{Weather, lock};

/// How many things a look gives at most.
const AT_ONCE: usize = 3;
/// How many things at most are listed again that were told, where a cursor was forgotten. Retention may have passed what
/// was told: then none is.
const LISTED_AGAIN: usize = 4;
/// How many copies there are of its connector.
pub(crate) const COPIES: usize = 2;

/// What the provider holds.
pub(crate) struct Provider {
    weather: Arc<Weather>,
    /// How many things have come into each folder.
    pub(crate) folders: Mutex<BTreeMap<String, usize>>,
    /// How often each mail was taken, by its subject.
    pub(crate) taken: Mutex<BTreeMap<String, usize>>,
    /// How often it has forgotten all cursors.
    pub(crate) forgotten: AtomicUsize,
    pub(crate) account: Account,
    pub(crate) is_down: [AtomicBool; COPIES],
}

impl Provider {
    pub(crate) fn new(weather: &Arc<Weather>) -> Arc<Self> {
        Arc::new(Self {
            weather: weather.clone(),
            folders: Mutex::default(),
            taken: Mutex::default(),
            forgotten: AtomicUsize::new(0),
            account: Account::new(weather),
            is_down: Default::default(),
        })
    }

    /// Something comes into a folder.
    pub(crate) fn put(&self, folder: &str) {
        *lock(&self.folders).entry(folder.to_owned()).or_default() += 1;
    }

    /// Serves the connections of one copy of the connector.
    pub(crate) async fn serve(self: Arc<Self>, cables: mpsc::UnboundedReceiver<Cable>) {
        let incoming = UnboundedReceiverStream::new(cables).map(Ok::<_, std::io::Error>);
        let served = tonic::transport::Server::builder()
            .add_service(ConnectorServiceServer::new(Connector(self.clone())))
            .add_service(SmtpServiceServer::new(Connector(self.clone())))
            .serve_with_incoming(incoming)
            .await;
        if let Err(error) = served {
            self.weather.wrong(format!("a connector ended: {error}"));
        }
    }

    /// The provider's answer to a mail.
    async fn take(&self, metadata: &MetadataMap, email: Option<Email>) -> Result<RecipientResult, Status> {
        let email = email.unwrap_or_default();
        self.weather.wait(100, 8_000).await;
        self.account.admits(metadata)?;
        if self.weather.strikes(120) {
            let fault = Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "not now");
            return Err(fault.into());
        }
        *lock(&self.taken).entry(email.subject.clone()).or_default() += 1;
        self.weather.trace(format_args!("taken {}", email.subject));
        if self.weather.strikes(50) {
            return Err(Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", "it broke off").into());
        }
        self.weather.wait(100, 20_000).await;
        let address = email.to.first().cloned().unwrap_or_default();
        Ok(RecipientResult { address, state: RecipientState::Accepted.into(), reply: None })
    }

    async fn poll(&self, metadata: &MetadataMap, asked: PollRequest) -> Result<PollResponse, Status> {
        self.weather.wait(50, 12_000).await;
        self.account.admits(metadata)?;
        if self.weather.strikes(40) {
            return Err(Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "not now").into());
        }
        let Some(folder) = asked.triggers.first().and_then(|watched| folder(watched.trigger.as_ref())) else {
            return Ok(PollResponse { next_cursor: asked.cursor, ..PollResponse::default() });
        };
        let there = lock(&self.folders).get(&folder).copied().unwrap_or(0);
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        let cursor = String::from_utf8_lossy(&asked.cursor).into_owned();
        let (is_lost, from): (bool, usize) = match cursor.split_once(' ') {
            None => (false, 0),
            Some((of, place)) => (of != forgotten.to_string(), place.parse().unwrap_or(0)),
        };
        let names = asked.triggers.iter().filter_map(|watched| watched.trigger.as_ref());
        let triggers: Vec<_> = names.map(|trigger| trigger.name.clone()).collect();
        let occurrence = |key: String, r#type: &str, kind| Occurrence {
            triggers: triggers.clone(),
            key,
            r#type: r#type.to_owned(),
            time: None,
            data: Some(EventData { kind: Some(kind) }),
        };
        let (mut occurrences, mut begin) = (Vec::new(), from);
        if is_lost {
            let gap = TriggerGap { reason: "PROVIDER_RESYNC".to_owned(), ..TriggerGap::default() };
            let key = format!("gap {cursor}");
            occurrences.push(occurrence(key, "trigger.gap", event_data::Kind::TriggerGap(gap)));
            let again = if self.weather.climate.retention.is_some() { 0 } else { LISTED_AGAIN };
            begin = from.saturating_sub(again);
        }
        let end = there.min(from + AT_ONCE);
        occurrences.extend((begin..end).map(|number| {
            let email = ReceivedEmail { subject: number.to_string(), ..ReceivedEmail::default() };
            occurrence(number.to_string(), "email.received", event_data::Kind::NewEmail(email))
        }));
        let response = PollResponse {
            occurrences,
            next_cursor: format!("{forgotten} {end}").into(),
            more: end < there,
            retry_after: None,
        };
        self.weather.wait(50, 12_000).await;
        Ok(response)
    }
}

fn folder(trigger: Option<&Trigger>) -> Option<String> {
    match trigger?.kind.as_ref()? {
        Kind::NewEmail(wanted) => Some(wanted.folder_path.clone()),
        _ => None,
    }
}

#[derive(Clone)]
struct Connector(Arc<Provider>);

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not simulated"))
}

#[tonic::async_trait]
impl ConnectorService for Connector {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(DescribeResponse {
            kind: "smtp".into(),
            services: vec!["postern.smtp.v1.SmtpService".into()],
            trigger_kinds: vec!["new_email".into()],
            sends_email: true,
            sign_in_kinds: vec![SignInKind::DeviceCode.into()],
            ..DescribeResponse::default()
        }))
    }

    async fn validate_connection(
        &self,
        _: Request<ValidateConnectionRequest>,
    ) -> Result<Response<ValidateConnectionResponse>, Status> {
        let needed = self.0.weather.climate.signs_in;
        Ok(Response::new(ValidateConnectionResponse { needs_grant: needed, needs_sign_in: needed }))
    }

    async fn check_connection(
        &self,
        _: Request<CheckConnectionRequest>,
    ) -> Result<Response<CheckConnectionResponse>, Status> {
        not_served()
    }

    async fn refresh_credentials(
        &self,
        request: Request<RefreshCredentialsRequest>,
    ) -> Result<Response<RefreshCredentialsResponse>, Status> {
        self.0.account.renew(request.metadata()).await
    }

    async fn start_sign_in(
        &self,
        _: Request<StartSignInRequest>,
    ) -> Result<Response<StartSignInResponse>, Status> {
        self.0.account.begin().await
    }

    async fn complete_sign_in(
        &self,
        request: Request<CompleteSignInRequest>,
    ) -> Result<Response<CompleteSignInResponse>, Status> {
        self.0.account.complete(request.get_ref()).await
    }

    async fn send_email(
        &self,
        request: Request<SendEmailRequest>,
    ) -> Result<Response<SendEmailResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let result = self.0.take(&metadata, asked.email).await?;
        Ok(Response::new(SendEmailResponse { recipients: vec![result], ..SendEmailResponse::default() }))
    }

    async fn check_trigger(
        &self,
        request: Request<CheckTriggerRequest>,
    ) -> Result<Response<CheckTriggerResponse>, Status> {
        let watch_key = folder(request.get_ref().trigger.as_ref()).unwrap_or_default();
        Ok(Response::new(CheckTriggerResponse { watch_key }))
    }

    async fn poll(&self, request: Request<PollRequest>) -> Result<Response<PollResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        self.0.poll(&metadata, asked).await.map(Response::new)
    }

    async fn renew_notification(
        &self,
        _: Request<RenewNotificationRequest>,
    ) -> Result<Response<RenewNotificationResponse>, Status> {
        not_served()
    }

    async fn end_notification(
        &self,
        _: Request<EndNotificationRequest>,
    ) -> Result<Response<EndNotificationResponse>, Status> {
        not_served()
    }

    async fn read_notification(
        &self,
        _: Request<ReadNotificationRequest>,
    ) -> Result<Response<ReadNotificationResponse>, Status> {
        not_served()
    }
}

#[tonic::async_trait]
impl SmtpService for Connector {
    type SendEmailsStream = Pin<Box<dyn Stream<Item = Result<smtp::SendEmailsResponse, Status>> + Send>>;

    async fn send_email(
        &self,
        request: Request<smtp::SendEmailRequest>,
    ) -> Result<Response<smtp::SendEmailResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let email = match asked.content {
            Some(smtp::send_email_request::Content::Email(email)) => Some(email),
            _ => None,
        };
        let recipients = vec![self.0.take(&metadata, email).await?];
        Ok(Response::new(smtp::SendEmailResponse { recipients, ..smtp::SendEmailResponse::default() }))
    }

    async fn send_emails(
        &self,
        _: Request<Streaming<smtp::SendEmailsRequest>>,
    ) -> Result<Response<Self::SendEmailsStream>, Status> {
        not_served()
    }

    async fn send_large_email(
        &self,
        _: Request<Streaming<smtp::SendLargeEmailRequest>>,
    ) -> Result<Response<smtp::SendLargeEmailResponse>, Status> {
        not_served()
    }

    async fn check_email(
        &self,
        _: Request<smtp::CheckEmailRequest>,
    ) -> Result<Response<smtp::CheckEmailResponse>, Status> {
        not_served()
    }
}

/// Whether a copy takes connections.
pub(crate) fn is_up(provider: &Provider, copy: usize) -> bool {
    !provider.is_down[copy].load(Ordering::Relaxed)
}
