//! Those who send mail through the gateways of a simulation: each change has its request id, and is asked again, at
//! whichever gateway, until it is known what became of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_proto::mail::v1::Email;
use postern_proto::outbox::v1::QueueEmailRequest;
use postern_proto::outbox::v1::outbox_service_client::OutboxServiceClient;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use tonic::{Request, Status};

use crate::machine::Gateway;
use crate::weather::{Counted, Weather, lock};

/// The connection that all of it goes through.
pub(crate) const CONNECTION: &str = "connections/mail";
/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a caller knows of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is asked for.
    Asked,
    Done,
    /// It was said that this is not known.
    Unknown,
    /// It was refused.
    Failed(String),
}

/// A caller.
pub(crate) struct Caller {
    pub(crate) name: &'static str,
    /// Whether it queues, or sends at once.
    pub(crate) queues: bool,
    /// What it asked for, by request id.
    pub(crate) changes: Mutex<BTreeMap<String, Known>>,
    pub(crate) weather: Arc<Weather>,
}

impl Caller {
    pub(crate) fn new(name: &'static str, queues: bool, weather: &Arc<Weather>) -> Arc<Self> {
        Arc::new(Self { name, queues, changes: Mutex::default(), weather: weather.clone() })
    }

    /// Whether it waits for nothing.
    pub(crate) fn is_at_rest(&self) -> bool {
        !lock(&self.changes).values().any(|known| *known == Known::Asked)
    }

    /// Asks one gateway until it has no luck there.
    pub(crate) async fn session(self: Arc<Self>, gateway: Gateway) {
        loop {
            let asked =
                lock(&self.changes).iter().find(|(_, known)| **known == Known::Asked).map(|it| it.0.clone());
            let request_id = match asked {
                Some(request_id) => request_id,
                None if self.weather.is_calm() => return,
                None => {
                    tokio::time::sleep(self.weather.within(700)).await;
                    let mut changes = lock(&self.changes);
                    let request_id = format!("{}-{}", self.name, changes.len());
                    changes.insert(request_id.clone(), Known::Asked);
                    request_id
                }
            };
            self.weather.count(Counted::Calls, 1);
            let called = tokio::time::timeout(PATIENCE, self.call(&gateway, &request_id)).await;
            let Ok(called) = called else {
                self.weather.trace(format_args!("{request_id}: no answer"));
                return;
            };
            let known = match called {
                Ok(()) => Known::Done,
                Err(status) => {
                    let reason = postern_chassis::fault::reason_of(&status);
                    self.weather.trace(format_args!("{request_id}: {:?} {reason}", status.code()));
                    match reason.as_str() {
                        "OUTCOME_UNKNOWN" => {
                            // Asked again, it is done no more often for it.
                            let again =
                                tokio::time::timeout(PATIENCE, self.call(&gateway, &request_id)).await;
                            self.weather.trace(format_args!("{request_id}: again {}", again.is_ok()));
                            Known::Unknown
                        }
                        "PROVIDER_UNAVAILABLE" if !self.queues => Known::Failed(reason),
                        _ => return,
                    }
                }
            };
            lock(&self.changes).insert(request_id, known);
        }
    }

    async fn call(&self, gateway: &Gateway, request_id: &str) -> Result<(), Status> {
        let email = Email {
            from: "a@example.org".into(),
            to: vec!["b@example.org".into()],
            subject: request_id.to_owned(),
            body: "Hello".into(),
            ..Email::default()
        };
        let (connection, request_id) = (CONNECTION.to_owned(), request_id.to_owned());
        if self.queues {
            let request =
                QueueEmailRequest { connection, request_id, email: Some(email), ..Default::default() };
            let mut client = OutboxServiceClient::new(gateway.doors.clone());
            client.queue_email(Request::new(request)).await?;
        } else {
            let content = Some(Content::Email(email));
            let request = SendEmailRequest { connection, request_id, content, ..Default::default() };
            let mut client = SmtpServiceClient::new(gateway.doors.clone());
            client.send_email(Request::new(request)).await?;
        }
        Ok(())
    }
}
