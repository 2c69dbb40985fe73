//! A sandbox server and a connector, each on a free port, and a mail to send.

use std::time::Duration;

use postern_chassis::fault::{detail_of, reason_of};
use postern_chassis::opened::{CONNECTION_METADATA, encode};
use postern_proto::connection::v1::Connection;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connector::v1::OpenConnection;
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::mail::v1::{Email, RecipientResults};
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{
    SendEmailRequest, SendEmailResponse, SmtpCredentials, SmtpSettings as Stored, TlsMode,
};
use postern_sandbox::smtp::{Control, SmtpServer, SmtpSettings, Tls};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

pub(crate) const USER: &str = "postern";
pub(crate) const PASSWORD: &str = "open sesame";
/// Who mails are from that name nobody.
pub(crate) const SENDER: &str = "Sender <sender@example.org>";

/// Everything a test needs.
pub(crate) struct World {
    pub(crate) server: SmtpServer,
    /// The settings of the connection that calls are made through. Tests change them as they like.
    pub(crate) stored: Stored,
    pub(crate) password: String,
    /// Credentials in place of the password, and the grant that comes with them.
    pub(crate) credentials: Option<SmtpCredentials>,
    pub(crate) grant: Vec<u8>,
    /// The key that the connection signs with. Empty: none.
    pub(crate) dkim_private_key: String,
    channel: Channel,
    connector: Option<JoinHandle<()>>,
    stop: Option<DropGuard>,
}

impl World {
    /// A server that wants STARTTLS and a user, and a connection that has both.
    pub(crate) async fn start() -> Self {
        let users = vec![(USER.to_owned(), PASSWORD.to_owned())];
        Self::with(SmtpSettings { users, ..Default::default() }).await
    }

    /// A server in the clear that knows no users: for what has nothing to do with either.
    pub(crate) async fn plain() -> Self {
        Self::with(SmtpSettings { tls: Tls::None, ..Default::default() }).await
    }

    /// A server set up like this, and a connection that fits it.
    pub(crate) async fn with(settings: SmtpSettings) -> Self {
        Self::between(settings, Default::default()).await
    }

    /// The same, with a connector set up like that.
    pub(crate) async fn between(settings: SmtpSettings, connector: postern_smtp_service::Settings) -> Self {
        let (tls, with_user) = (settings.tls, !settings.users.is_empty());
        let server = SmtpServer::start(settings).await.unwrap();
        let tls_mode = match tls {
            Tls::None => TlsMode::None,
            Tls::StartTls => TlsMode::Unspecified,
            Tls::Implicit => TlsMode::Implicit,
        };
        let stored = Stored {
            server: "127.0.0.1".to_owned(),
            port: server.address().port().into(),
            tls_mode: tls_mode.into(),
            ca_certificates: server.ca_certificate().to_owned(),
            username: if with_user { USER.to_owned() } else { String::new() },
            default_from: SENDER.to_owned(),
            ..Default::default()
        };
        let password = if with_user { PASSWORD.to_owned() } else { String::new() };

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = postern_smtp_service::serve(listener, connector, stop.clone());
        let connector = tokio::spawn(async move { serving.await.unwrap() });
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let stop = Some(stop.drop_guard());
        let (credentials, grant, connector) = (None, Vec::new(), Some(connector));
        let dkim_private_key = String::new();
        Self { server, stored, password, credentials, grant, dkim_private_key, channel, connector, stop }
    }

    pub(crate) fn control(&self) -> &Control {
        self.server.control()
    }

    /// The connection as it travels with a call.
    pub(crate) fn opened(&self) -> OpenConnection {
        let by_password = SmtpCredentials {
            password: self.password.clone(),
            dkim_private_key: self.dkim_private_key.clone(),
            ..Default::default()
        };
        let credentials = self.credentials.clone().unwrap_or(by_password);
        OpenConnection {
            grant: self.grant.clone().into(),
            connection: Some(Connection {
                name: "connections/test".to_owned(),
                settings: Some(Settings::Smtp(self.stored.clone())),
                credentials: Some(Credentials::SmtpCredentials(credentials)),
                ..Default::default()
            }),
        }
    }

    /// A request with the connection in its metadata.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert_bin(CONNECTION_METADATA, encode(&self.opened()));
        request
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn smtp(&self) -> SmtpServiceClient<Channel> {
        SmtpServiceClient::new(self.channel.clone())
    }

    pub(crate) fn connector(&self) -> ConnectorServiceClient<Channel> {
        ConnectorServiceClient::new(self.channel.clone())
    }

    /// Sends a mail.
    pub(crate) async fn send(&self, email: Email) -> Result<SendEmailResponse, Status> {
        self.send_request(sending(email)).await
    }

    pub(crate) async fn send_request(&self, request: SendEmailRequest) -> Result<SendEmailResponse, Status> {
        self.smtp().send_email(self.request(request)).await.map(tonic::Response::into_inner)
    }

    /// Sends a mail with a deadline.
    pub(crate) async fn send_within(
        &self,
        deadline: Duration,
        email: Email,
    ) -> Result<SendEmailResponse, Status> {
        let mut request = self.request(sending(email));
        request.set_timeout(deadline);
        self.smtp().send_email(request).await.map(tonic::Response::into_inner)
    }

    /// Stops the connector and waits until it has ended.
    pub(crate) async fn stop_connector(&mut self) {
        drop(self.stop.take());
        self.connector.take().unwrap().await.unwrap();
    }
}

/// A request to send a mail.
pub(crate) fn sending(email: Email) -> SendEmailRequest {
    SendEmailRequest { content: Some(Content::Email(email)), ..Default::default() }
}

/// A mail to these.
pub(crate) fn mail(to: &[&str]) -> Email {
    Email {
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        subject: "Hello".to_owned(),
        body: "A few words.\r\n".to_owned(),
        ..Default::default()
    }
}

/// What an error says, in the parts that callers look at.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: tonic::Code,
    pub(crate) reason: String,
    pub(crate) metadata: std::collections::HashMap<String, String>,
    pub(crate) fields: Vec<String>,
    pub(crate) recipients: Option<RecipientResults>,
    pub(crate) retry: bool,
}

impl Said {
    pub(crate) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: reason_of(status),
            metadata: details.error_info().map(|info| info.metadata.clone()).unwrap_or_default(),
            fields: violations.into_iter().map(|violation| violation.field).collect(),
            recipients: detail_of(status, "postern.mail.v1.RecipientResults"),
            retry: details.retry_info().is_some(),
        }
    }

    pub(crate) fn stage(&self) -> &str {
        self.metadata.get("smtp.stage").map_or("", String::as_str)
    }
}

/// Asserts an error's code and reason, and gives what it says.
#[track_caller]
pub(crate) fn refused(sent: Result<SendEmailResponse, Status>, code: tonic::Code, reason: &str) -> Said {
    let status = sent.expect_err("it should have been refused");
    let said = Said::of(&status);
    assert_eq!((said.code, said.reason.as_str()), (code, reason), "{status:?}");
    said
}
