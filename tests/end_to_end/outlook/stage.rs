//! What every test of the Outlook connector stands on: a world, its Graph, and the connector, each its own.

use std::time::Duration;

use postern_chassis::opened::{CONNECTION_METADATA, encode};
use postern_outlook_service::LimitSettings;
use postern_proto::connection::v1::Connection;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::connector::v1::{
    OpenConnection, PollRequest, PollResponse, RefreshCredentialsRequest, ValidateConnectionRequest,
    WatchedTrigger,
};
use postern_proto::event::v1::{Trigger, trigger};
use postern_proto::mail::v1::ReceivedEmail;
use postern_proto::outlook::v1::mail_service_client::MailServiceClient;
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{
    Cloud, CustomCloud, GetEmailsRequest, GetEmailsResponse, NewEmailTrigger, OutlookCredentials,
    OutlookSettings,
};
use postern_sandbox::graph::{GraphServer, GraphSettings};
use postern_sandbox::world::World;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::outside;

/// Whose mailbox the connection is for.
pub(super) const ANN: &str = "ann@contoso.example";
/// Another account.
pub(super) const BO: &str = "bo@contoso.example";

/// A world, its Graph and the connector.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) graph: GraphServer,
    pub(super) connection: OpenConnection,
    pub(super) mail: MailServiceClient<Channel>,
    pub(super) connector: ConnectorServiceClient<Channel>,
    /// To the connector.
    pub(super) channel: Channel,
    _stop: DropGuard,
}

impl Stage {
    /// Sets it up, and signs in.
    pub(super) async fn set() -> Self {
        let mut stage = Self::set_signed_out().await;
        stage.refresh().await.unwrap();
        stage
    }

    /// Sets it up.
    pub(super) async fn set_signed_out() -> Self {
        Self::set_signed_out_with(LimitSettings::default()).await
    }

    /// Sets it up with a connector that asks no more of Graph than this.
    pub(super) async fn set_signed_out_with(limits: LimitSettings) -> Self {
        let world = World::new();
        world.add_account(ANN, "Ann");
        world.add_account(BO, "Bo");
        let settings = GraphSettings::default();
        let graph = GraphServer::start(settings.clone(), world.clone()).await.unwrap();
        if let Some(folder) = outside::traffic() {
            let name = format!("{}.jsonl", graph.address().port());
            graph.recorder().write_on(&folder.join(name)).unwrap();
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(postern_outlook_service::serve(
            listener,
            postern_outlook_service::Settings { limits, ..Default::default() },
            stop.clone(),
        ));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let connection = OpenConnection {
            connection: Some(Connection {
                name: "connections/ann".into(),
                settings: Some(Settings::Outlook(OutlookSettings {
                    tenant: settings.tenant,
                    client_id: settings.client_id,
                    mailbox: ANN.into(),
                    cloud: Cloud::Custom.into(),
                    max_concurrent_requests: 0,
                    scopes: Vec::new(),
                    custom_cloud: Some(CustomCloud {
                        graph_url: graph.url().into(),
                        login_url: graph.url().into(),
                        allow_plaintext: true,
                        ..CustomCloud::default()
                    }),
                })),
                credentials: Some(Credentials::OutlookCredentials(OutlookCredentials {
                    sign_in: Some(SignIn::ClientSecret(settings.client_secret)),
                })),
                ..Connection::default()
            }),
            ..OpenConnection::default()
        };
        Self {
            world,
            graph,
            connection,
            mail: MailServiceClient::new(channel.clone()).max_decoding_message_size(4 * 1024 * 1024),
            connector: ConnectorServiceClient::new(channel.clone()),
            channel,
            _stop: stop.drop_guard(),
        }
    }

    /// A request with the connection in its metadata.
    pub(super) fn with_connection<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert_bin(CONNECTION_METADATA, encode(&self.connection));
        request
    }

    /// A request that the gateway makes where it does not know how an earlier run of it ended.
    pub(super) fn as_repeat<T>(&self, message: T) -> Request<T> {
        let mut request = self.with_connection(message);
        request.metadata_mut().insert("postern-repeat", "1".parse().unwrap());
        request
    }

    /// Gets a new grant and keeps it, as the gateway does.
    pub(super) async fn refresh(&mut self) -> Result<(), Status> {
        let request = self.with_connection(RefreshCredentialsRequest {});
        let answer = self.connector.refresh_credentials(request).await?.into_inner();
        assert!(answer.expire_time.is_some());
        self.connection.grant = answer.grant;
        Ok(())
    }

    /// Puts other credentials in the place of the connection's.
    pub(super) fn sign_in_by(&mut self, sign_in: Option<SignIn>) {
        let credentials = Credentials::OutlookCredentials(OutlookCredentials { sign_in });
        self.connection.connection.as_mut().unwrap().credentials = Some(credentials);
    }

    /// Says whether the connection is well-formed, and if not, which fields are wrong.
    pub(super) async fn wrong_fields(&self) -> Vec<String> {
        let request = self.with_connection(ValidateConnectionRequest {});
        match self.connector.clone().validate_connection(request).await {
            Ok(_) => Vec::new(),
            Err(refused) => {
                let violations = refused.get_details_bad_request().unwrap().field_violations;
                violations.into_iter().map(|violation| violation.field).collect()
            }
        }
    }

    /// The Outlook settings of the connection.
    pub(super) fn settings(&mut self) -> &mut OutlookSettings {
        match self.connection.connection.as_mut().and_then(|connection| connection.settings.as_mut()) {
            Some(Settings::Outlook(settings)) => settings,
            _ => panic!("the stage is set with Outlook settings"),
        }
    }

    /// Calls GetEmails.
    pub(super) async fn get_emails(&self, asked: GetEmailsRequest) -> Result<GetEmailsResponse, Status> {
        let answer = self.mail.clone().get_emails(self.with_connection(asked)).await?;
        Ok(answer.into_inner())
    }

    /// Calls GetEmails with a connection whose requests stop waiting after a while.
    pub(super) async fn get_emails_within(
        &self,
        patience: Duration,
        asked: GetEmailsRequest,
    ) -> Result<GetEmailsResponse, Status> {
        let mut request = self.with_connection(asked);
        request.set_timeout(patience);
        Ok(self.mail.clone().get_emails(request).await?.into_inner())
    }

    /// The subjects that GetEmails lists.
    pub(super) async fn subjects(&self, asked: GetEmailsRequest) -> Vec<String> {
        subjects(&self.get_emails(asked).await.unwrap().emails)
    }

    /// Delivers a plain mail to Ann and gives its id.
    pub(super) fn deliver(&self, subject: &str) -> String {
        self.deliver_with(subject, "")
    }

    /// Delivers a plain mail to Ann an hour ago.
    pub(super) fn deliver_old(&self, subject: &str) -> String {
        self.world.set_clock_ahead(jiff::SignedDuration::from_hours(-1));
        let id = self.deliver(subject);
        self.world.set_clock_ahead(jiff::SignedDuration::ZERO);
        id
    }

    /// Delivers a plain mail with further header lines to Ann and gives its id.
    pub(super) fn deliver_with(&self, subject: &str, headers: &str) -> String {
        let raw = format!(
            "From: Bo <{BO}>\r\nTo: {ANN}\r\nSubject: {subject}\r\n{headers}\
             Content-Type: text/plain; charset=utf-8\r\n\r\nabout {subject}\r\n"
        );
        self.world.deliver(BO, &[ANN.into()], raw.as_bytes()).remove(0)
    }

    /// Delivers a mail with files: name and content each; inline ones have a Content-ID.
    pub(super) fn deliver_files(&self, subject: &str, files: &[(&str, Option<&str>, &[u8])]) -> String {
        use base64::Engine as _;
        let mut raw = format!(
            "From: {BO}\r\nTo: {ANN}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=edge\r\n\r\n--edge\r\nContent-Type: text/html\r\n\r\n"
        );
        for (_, cid, _) in files {
            raw.push_str(&cid.map(|cid| format!("<img src=\"cid:{cid}\">")).unwrap_or_default());
        }
        for (name, cid, content) in files {
            let disposition = if cid.is_some() { "inline" } else { "attachment" };
            let cid = cid.map(|cid| format!("Content-ID: <{cid}>\r\n")).unwrap_or_default();
            let content = base64::engine::general_purpose::STANDARD.encode(content);
            let lines: Vec<&str> =
                content.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
            raw.push_str(&format!(
                "\r\n--edge\r\nContent-Type: image/png; name={name}\r\n{cid}Content-Disposition: {disposition}; \
                 filename={name}\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
                lines.join("\r\n")
            ));
        }
        raw.push_str("\r\n--edge--\r\n");
        self.world.deliver(BO, &[ANN.into()], raw.as_bytes()).remove(0)
    }

    /// A watch that begins now.
    pub(super) fn watch(&self, asked: NewEmailTrigger) -> Watch<'_> {
        Watch {
            stage: self,
            triggers: vec![WatchedTrigger {
                trigger: Some(Trigger {
                    name: "connections/ann/triggers/mail".into(),
                    kind: Some(trigger::Kind::NewEmail(asked)),
                    ..Trigger::default()
                }),
                since: Some(prost_types::Timestamp { seconds: self.world.now().as_second(), nanos: 0 }),
            }],
            cursor: prost::bytes::Bytes::new(),
            max_occurrences: 0,
            failed_looks: 0,
        }
    }
}

/// Polls as the gateway does: each look goes on from the cursor that the one before gave.
pub(super) struct Watch<'a> {
    pub(super) stage: &'a Stage,
    pub(super) triggers: Vec<WatchedTrigger>,
    pub(super) cursor: prost::bytes::Bytes,
    pub(super) max_occurrences: i32,
    pub(super) failed_looks: i32,
}

impl Watch<'_> {
    /// One look, without going on.
    pub(super) async fn look(&self) -> Result<PollResponse, Status> {
        let asked = PollRequest {
            triggers: self.triggers.clone(),
            cursor: self.cursor.clone(),
            max_occurrences: self.max_occurrences,
            failed_looks: self.failed_looks,
        };
        let request = self.stage.with_connection(asked);
        Ok(self.stage.connector.clone().poll(request).await?.into_inner())
    }

    /// Looks until there is no more, and gives all that was told.
    pub(super) async fn look_all(&mut self) -> Result<Vec<postern_proto::connector::v1::Occurrence>, Status> {
        let mut told = Vec::new();
        for _ in 0..1_000 {
            let looked = self.look().await?;
            self.cursor = looked.next_cursor;
            told.extend(looked.occurrences);
            if !looked.more {
                return Ok(told);
            }
        }
        panic!("there is always more");
    }

    /// The subjects of the mails that are told.
    pub(super) async fn subjects(&mut self) -> Vec<String> {
        let told = self.look_all().await.unwrap();
        let emails: Vec<ReceivedEmail> = told.into_iter().map(email).collect();
        subjects(&emails)
    }
}

/// The mail of an occurrence.
pub(super) fn email(occurrence: postern_proto::connector::v1::Occurrence) -> ReceivedEmail {
    assert_eq!(occurrence.r#type, "email.received");
    match occurrence.data.and_then(|data| data.kind) {
        Some(postern_proto::event::v1::event_data::Kind::NewEmail(email)) => email,
        other => panic!("a mail was expected, not {other:?}"),
    }
}

/// The subjects of mails.
pub(super) fn subjects(emails: &[ReceivedEmail]) -> Vec<String> {
    emails.iter().map(|email| email.subject.clone()).collect()
}
