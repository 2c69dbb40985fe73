//! Postern as a sender: the connector's code in this process, the connector as a process, and the gateway before it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use postern_chassis::opened::{CONNECTION_METADATA, encode};
use postern_chassis::serve::BoxError;
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest, connection};
use postern_proto::smtp::v1::send_emails_response::Outcome;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::smtp_service_server::SmtpService;
use postern_proto::smtp::v1::{SendEmailRequest, SendEmailsRequest, send_email_request, send_emails_request};
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{LEVELS, connector, mails};
use crate::peers::{self, Peer};

/// How many callers of unary methods wait at once for each connection to the server.
pub(crate) const CALLERS_TO_A_CONNECTION: u32 = 4;
/// How many HTTP/2 connections calls come over.
const CHANNELS: usize = 4;

/// A way to send with Postern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Alone,
    SendEmail,
    SendEmails,
    GatewaySendEmail,
    GatewaySendEmails,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alone => "Postern's sender alone (no gRPC)",
            Self::SendEmail => "`SendEmail`, the connector",
            Self::SendEmails => "`SendEmails`, the connector",
            Self::GatewaySendEmail => "`SendEmail`, the gateway and the connector",
            Self::GatewaySendEmails => "`SendEmails`, the gateway and the connector",
        }
    }
}

/// What sends. Its processes end when it is dropped.
pub(crate) struct Ours {
    server: SocketAddr,
    connector: Vec<Channel>,
    gateway: Vec<Channel>,
    body: Arc<str>,
    connector_process: Child,
    gateway_process: Peer,
}

impl Ours {
    /// Starts the connector and a gateway before it, with a connection for each level.
    pub(crate) async fn start(folder: &Path, server: SocketAddr) -> Result<Self, BoxError> {
        let (process, address) = connector().await?;
        let gateway = peers::gateway(folder, address.parse()?).await?;
        let ours = Self {
            server,
            connector: channels(&address).await?,
            gateway: channels(&gateway.address.to_string()).await?,
            body: mails::body().into(),
            connector_process: process,
            gateway_process: gateway,
        };
        let mut connections = ConnectionServiceClient::new(ours.gateway[0].clone());
        for level in LEVELS {
            let settings = connection::Settings::Smtp(mails::settings(server, level));
            let request = CreateConnectionRequest {
                connection_id: mails::name(level).trim_start_matches("connections/").to_owned(),
                connection: Some(Connection { settings: Some(settings), ..Connection::default() }),
                ..CreateConnectionRequest::default()
            };
            connections.create_connection(request).await?;
        }
        Ok(ours)
    }

    /// Sends so many mails, and gives how many seconds that took.
    pub(super) async fn run(&self, way: Way, connections: u32, count: u32) -> Result<f64, BoxError> {
        let begun = Instant::now();
        match way {
            Way::Alone => self.alone(connections, count).await?,
            Way::SendEmail => self.one_by_one(&self.connector, connections, count, true).await?,
            Way::GatewaySendEmail => self.one_by_one(&self.gateway, connections, count, false).await?,
            Way::SendEmails => self.as_stream(&self.connector[0], connections, count, true).await?,
            Way::GatewaySendEmails => self.as_stream(&self.gateway[0], connections, count, false).await?,
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// The processor time that has been used so far by this process, its children that have ended, the connector and the
    /// gateway, in seconds.
    pub(super) fn processor_seconds(&self) -> Result<f64, BoxError> {
        let connector = self.connector_process.id().ok_or("the connector has ended")?;
        Ok(peers::processor_seconds_of(std::process::id())?
            + peers::processor_seconds_of(connector)?
            + self.gateway_process.processor_seconds()?)
    }

    async fn alone(&self, connections: u32, count: u32) -> Result<(), BoxError> {
        let service = Arc::new(postern_smtp_service::in_process());
        self.call(connections, count, true, move |_, request| {
            let service = Arc::clone(&service);
            async move { service.send_email(request).await.map(drop) }
        })
        .await
    }

    async fn one_by_one(
        &self,
        channels: &[Channel],
        connections: u32,
        count: u32,
        direct: bool,
    ) -> Result<(), BoxError> {
        let clients: Vec<_> = channels.iter().cloned().map(SmtpServiceClient::new).collect();
        self.call(connections, count, direct, move |caller, request| {
            let mut client = clients[caller % clients.len()].clone();
            async move { client.send_email(request).await.map(drop) }
        })
        .await
    }

    /// Calls so often, by so many callers at once.
    async fn call<Call, Answer>(
        &self,
        connections: u32,
        count: u32,
        direct: bool,
        call: Call,
    ) -> Result<(), BoxError>
    where
        Call: Fn(usize, Request<SendEmailRequest>) -> Answer + Clone + Send + 'static,
        Answer: Future<Output = Result<(), Status>> + Send,
    {
        let given = Arc::new(AtomicU32::new(0));
        let opened = encode(&mails::opened(self.server, connections));
        let mut callers = JoinSet::new();
        for caller in 0..connections * CALLERS_TO_A_CONNECTION {
            let (given, opened, body, call) =
                (Arc::clone(&given), opened.clone(), Arc::clone(&self.body), call.clone());
            callers.spawn(async move {
                while given.fetch_add(1, Ordering::Relaxed) < count {
                    let mut request = Request::new(SendEmailRequest {
                        connection: mails::name(connections),
                        content: Some(send_email_request::Content::Email(mails::email(&body))),
                        ..SendEmailRequest::default()
                    });
                    if direct {
                        request.metadata_mut().insert_bin(CONNECTION_METADATA, opened.clone());
                    }
                    call(caller as usize, request).await?;
                }
                Ok::<_, Status>(())
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn as_stream(
        &self,
        channel: &Channel,
        connections: u32,
        count: u32,
        direct: bool,
    ) -> Result<(), BoxError> {
        let body = Arc::clone(&self.body);
        let requests = (0..count).map(move |number| SendEmailsRequest {
            connection: if number == 0 { mails::name(connections) } else { String::new() },
            request_id: number.to_string(),
            content: Some(send_emails_request::Content::Email(mails::email(&body))),
            ..SendEmailsRequest::default()
        });
        let mut request = Request::new(tokio_stream::iter(requests));
        if direct {
            let opened = encode(&mails::opened(self.server, connections));
            request.metadata_mut().insert_bin(CONNECTION_METADATA, opened);
        }
        let mut answers = SmtpServiceClient::new(channel.clone()).send_emails(request).await?.into_inner();
        let mut sent = 0;
        while let Some(answer) = answers.message().await? {
            match answer.outcome {
                Some(Outcome::Sent(_)) => sent += 1,
                other => return Err(format!("a mail was not sent: {other:?}").into()),
            }
        }
        if sent == count { Ok(()) } else { Err(format!("{sent} of {count} were answered").into()) }
    }
}

async fn channels(address: &str) -> Result<Vec<Channel>, BoxError> {
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        channels.push(Channel::from_shared(format!("http://{address}"))?.connect().await?);
    }
    Ok(channels)
}
