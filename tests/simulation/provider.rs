//! A simulated provider and the copies of its connector: folders into which things come, and a server that takes mail,
//! refuses it, or takes it and says nothing. What it has done is what counts.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use postern_chassis::fault::Fault;
use postern_proto::connector::v1::connector_service_server::{ConnectorService, ConnectorServiceServer};
use postern_proto::connector::v1::*;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::{EventData, Trigger, event_data};
use postern_proto::mail::v1::{Email, ReceivedEmail, RecipientResult, RecipientState};
use postern_proto::smtp::v1 as smtp;
use postern_proto::smtp::v1::smtp_service_server::{SmtpService, SmtpServiceServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::cable::Cable;
use crate::weather::{Weather, lock};

/// How many things a look gives at most.
const AT_ONCE: usize = 3;
/// How many copies there are of its connector.
pub(crate) const COPIES: usize = 2;

/// What the provider holds.
pub(crate) struct Provider {
    weather: Arc<Weather>,
    /// How many things have come into each folder.
    pub(crate) folders: Mutex<BTreeMap<String, usize>>,
    /// How often each mail was taken, by its subject.
    pub(crate) taken: Mutex<BTreeMap<String, usize>>,
    pub(crate) is_down: [AtomicBool; COPIES],
}

impl Provider {
    pub(crate) fn new(weather: &Arc<Weather>) -> Arc<Self> {
        let weather = weather.clone();
        let is_down = Default::default();
        Arc::new(Self { weather, folders: Mutex::default(), taken: Mutex::default(), is_down })
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
    async fn take(&self, email: Option<Email>) -> Result<RecipientResult, Status> {
        let email = email.unwrap_or_default();
        self.weather.wait(100, 8_000).await;
        if self.weather.strikes(120) {
            let fault = Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "not now");
            return Err(fault.into());
        }
        *lock(&self.taken).entry(email.subject.clone()).or_default() += 1;
        self.weather.trace(format_args!("taken {}", email.subject));
        if self.weather.strikes(50) {
            return Err(Fault::new(Code::Unknown, "OUTCOME_UNKNOWN", "it broke off").into());
        }
        self.weather.wait(100, 40_000).await;
        let address = email.to.first().cloned().unwrap_or_default();
        Ok(RecipientResult { address, state: RecipientState::Accepted.into(), reply: None })
    }

    async fn poll(&self, asked: PollRequest) -> Result<PollResponse, Status> {
        self.weather.wait(50, 12_000).await;
        if self.weather.strikes(40) {
            return Err(Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "not now").into());
        }
        let Some(folder) = asked.triggers.first().and_then(|watched| folder(watched.trigger.as_ref())) else {
            return Ok(PollResponse { next_cursor: asked.cursor, ..PollResponse::default() });
        };
        let there = lock(&self.folders).get(&folder).copied().unwrap_or(0);
        let from = String::from_utf8_lossy(&asked.cursor).parse().unwrap_or(0);
        let end = there.min(from + AT_ONCE);
        let names = asked.triggers.iter().filter_map(|watched| watched.trigger.as_ref());
        let triggers: Vec<_> = names.map(|trigger| trigger.name.clone()).collect();
        let occurrences = (from..end).map(|number| Occurrence {
            triggers: triggers.clone(),
            key: number.to_string(),
            r#type: "email.received".into(),
            time: None,
            data: Some(EventData {
                kind: Some(event_data::Kind::NewEmail(ReceivedEmail {
                    subject: number.to_string(),
                    ..ReceivedEmail::default()
                })),
            }),
        });
        let response = PollResponse {
            occurrences: occurrences.collect(),
            next_cursor: end.to_string().into(),
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
            ..DescribeResponse::default()
        }))
    }

    async fn validate_connection(
        &self,
        _: Request<ValidateConnectionRequest>,
    ) -> Result<Response<ValidateConnectionResponse>, Status> {
        Ok(Response::new(ValidateConnectionResponse::default()))
    }

    async fn check_connection(
        &self,
        _: Request<CheckConnectionRequest>,
    ) -> Result<Response<CheckConnectionResponse>, Status> {
        not_served()
    }

    async fn refresh_credentials(
        &self,
        _: Request<RefreshCredentialsRequest>,
    ) -> Result<Response<RefreshCredentialsResponse>, Status> {
        not_served()
    }

    async fn start_sign_in(
        &self,
        _: Request<StartSignInRequest>,
    ) -> Result<Response<StartSignInResponse>, Status> {
        not_served()
    }

    async fn complete_sign_in(
        &self,
        _: Request<CompleteSignInRequest>,
    ) -> Result<Response<CompleteSignInResponse>, Status> {
        not_served()
    }

    async fn send_email(
        &self,
        request: Request<SendEmailRequest>,
    ) -> Result<Response<SendEmailResponse>, Status> {
        let result = self.0.take(request.into_inner().email).await?;
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
        self.0.poll(request.into_inner()).await.map(Response::new)
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
        let email = match request.into_inner().content {
            Some(smtp::send_email_request::Content::Email(email)) => Some(email),
            _ => None,
        };
        let recipients = vec![self.0.take(email).await?];
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
