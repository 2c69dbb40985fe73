//! The sandbox as one place: both servers over one world, and what one must know to connect to them.

use std::net::SocketAddr;
use std::path::Path;

use postern_chassis::serve::BoxError;
use postern_chassis::settings::SettingsError;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{Cloud, CustomCloud, OutlookCredentials, OutlookSettings};
use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings};
use serde_json::json;

use crate::graph::{GraphServer, GraphSettings};
use crate::smtp::{SmtpServer, SmtpSettings as ServerSettings, Tls};
use crate::world::World;

/// Whose mailbox receives.
pub const ANNA: &str = "anna@example.org";
/// Who sends.
pub const BO: &str = "bo@example.org";
/// Whom the SMTP server refuses.
pub const NOBODY: &str = "nobody@example.org";

const USERNAME: &str = "postern";
const PASSWORD: &str = "sandbox-password";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT_ID: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const CLIENT_SECRET: &str = "sandbox-client-secret";

/// Where the sandbox listens and how others reach it.
#[derive(Debug, Clone)]
pub struct PlaceSettings {
    /// Where the SMTP server listens.
    pub listen_smtp: SocketAddr,
    /// Where the small Graph listens.
    pub listen_graph: SocketAddr,
    /// The host name under which the gateway reaches both. Absent: the addresses they are bound to.
    pub host: Option<String>,
}

/// Both servers, running.
pub struct Place {
    /// The mailboxes.
    pub world: World,
    /// The SMTP server.
    pub smtp: SmtpServer,
    /// The small Graph.
    pub graph: GraphServer,
    host: Option<String>,
}

impl Place {
    /// Starts both servers over a world with two accounts.
    ///
    /// # Errors
    /// An address cannot be bound: it is named.
    pub async fn start(settings: PlaceSettings) -> Result<Self, BoxError> {
        let world = World::new();
        world.add_account(ANNA, "Anna Example");
        world.add_account(BO, "Bo Example");

        let mailboxes = world.clone();
        let mut host_names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        host_names.extend(settings.host.clone());
        let smtp = SmtpServer::start(ServerSettings {
            listen: settings.listen_smtp,
            tls: Tls::StartTls,
            host_names,
            users: vec![(USERNAME.into(), PASSWORD.into())],
            deliver: std::sync::Arc::new(move |delivery| {
                mailboxes.deliver(&delivery.from, &delivery.to, &delivery.message);
            }),
            ..ServerSettings::default()
        })
        .await
        .map_err(|error| format!("--listen-smtp: cannot listen on {}: {error}", settings.listen_smtp))?;
        smtp.control().refuse(NOBODY, "550 5.1.1 no such user here");

        let graph_settings = GraphSettings {
            listen: settings.listen_graph,
            host: settings.host.clone(),
            tenant: TENANT.into(),
            client_id: CLIENT_ID.into(),
            client_secret: CLIENT_SECRET.into(),
            plain_notifications: true,
        };
        let graph = GraphServer::start(graph_settings, world.clone()).await.map_err(|error| {
            format!("--listen-graph: cannot listen on {}: {error}", settings.listen_graph)
        })?;
        Ok(Self { world, smtp, graph, host: settings.host })
    }

    /// The settings and credentials of a connection to the SMTP server.
    #[must_use]
    pub fn smtp_connection(&self) -> (Settings, Credentials) {
        let settings = SmtpSettings {
            server: self.host().to_owned(),
            port: self.smtp.address().port().into(),
            username: USERNAME.into(),
            ca_certificates: self.smtp.ca_certificate().to_owned(),
            ..SmtpSettings::default()
        };
        let credentials = SmtpCredentials { password: PASSWORD.into(), ..SmtpCredentials::default() };
        (Settings::Smtp(settings), Credentials::SmtpCredentials(credentials))
    }

    /// The settings and credentials of a connection to Anna's account.
    #[must_use]
    pub fn outlook_connection(&self) -> (Settings, Credentials) {
        let url = self.graph.url().to_owned();
        let settings = OutlookSettings {
            tenant: TENANT.into(),
            client_id: CLIENT_ID.into(),
            mailbox: ANNA.into(),
            cloud: Cloud::Custom.into(),
            custom_cloud: Some(CustomCloud {
                graph_url: url.clone(),
                login_url: url,
                allow_plaintext: true,
                ..CustomCloud::default()
            }),
            ..OutlookSettings::default()
        };
        let sign_in = Some(SignIn::ClientSecret(CLIENT_SECRET.into()));
        (Settings::Outlook(settings), Credentials::OutlookCredentials(OutlookCredentials { sign_in }))
    }

    /// Writes what a client in any language must know, as JSON, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_ready(&self, path: &Path) -> Result<(), SettingsError> {
        let described = json!({
            "smtp": {
                "host": self.host(),
                "port": self.smtp.address().port(),
                "username": USERNAME,
                "password": PASSWORD,
                "ca_certificates": self.smtp.ca_certificate(),
            },
            "graph": {
                "graph_url": self.graph.url(),
                "login_url": self.graph.url(),
                "tenant": TENANT,
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
            },
            "accounts": [ANNA, BO],
            "refused": NOBODY,
        });
        postern_chassis::serve::write_ready(path, &format!("{described:#}\n"))
    }

    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }
}
