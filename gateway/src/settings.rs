//! The gateway's settings: read once, before anything is bound.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use postern_chassis::serve::ServeSettings;
use postern_chassis::settings::{SettingsError, duration};
use postern_chassis::telemetry::LogSettings;
use postern_chassis::tls::client_config;
use rustls::ClientConfig;
use tokio::net::TcpListener;

use crate::all_in_one::Limits;
use crate::approvals::ApprovalSettings;
use crate::auth::{self, Callers};
use crate::connectors::ConnectorAddress;
use crate::http;
use crate::notifications::PublicUrl;
use crate::outbox::OutboxSettings;
use crate::seal::KeyRing;
use crate::store::Retention;
use crate::store::engine::Place;
use crate::store::nats::{NatsSettings, Servers};

/// Where HTTP is listened for unless told otherwise: a proxy on the same machine is what providers then reach.
const HTTP_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7028);

/// Keeps connections, forwards actions to connectors, watches triggers and streams their events.
///
/// Settings are read from flags, then variables, then the settings file: the earlier wins.
#[derive(Parser, Debug, Clone)]
#[command(name = "gateway", version)]
pub struct Settings {
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// A settings file (TOML): its keys are the long flags' names
    #[arg(long, env = "POSTERN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where to listen. Without --tokens-file and --tls-client-ca-file this must be a loopback address
    #[arg(long, env = "POSTERN_LISTEN", default_value = "127.0.0.1:7025", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// The URL under which providers and people reach this gateway from outside, such as `https://postern.example.org`:
    /// providers then push what happens to {URL}/notifications/…, and triggers are looked after at once; users who sign in
    /// are led back to {URL}/sign-in/callback; links of approvals lead there. Absent: providers are polled alone, users
    /// sign in by device codes alone, and nobody can be asked for approval
    #[arg(long, env = "POSTERN_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,

    /// Where to listen for HTTP: the console, what --public-url leads to, and what providers push; with TLS where the gRPC
    /// listener has it, but without certificates of clients. The console needs --tokens-file; without it, it answers on
    /// loopback addresses only, and neither with --public-url nor with --tls-client-ca-file. Absent: 127.0.0.1:7028 with
    /// --public-url, else nowhere
    #[arg(long, env = "POSTERN_HTTP_LISTEN", value_name = "ADDRESS")]
    pub http_listen: Option<SocketAddr>,

    /// Addresses of connectors, http://HOST:PORT or https://HOST:PORT, separated by commas. Absent: the connectors run
    /// in this process (all-in-one)
    #[arg(long = "connectors", env = "POSTERN_CONNECTORS", value_delimiter = ',', value_name = "URL")]
    pub connectors: Vec<ConnectorAddress>,

    /// Certificates of the authorities to trust for https:// connectors, PEM. Absent: those of the machine
    #[arg(long, env = "POSTERN_CONNECTORS_CA_FILE", value_name = "FILE")]
    pub connectors_ca_file: Option<PathBuf>,

    /// The limits of the connectors that run in this process. Those that run apart are told their own
    #[command(flatten)]
    pub limits: Limits,

    /// What keeps all that lasts, and is shared by several gateways: nats://HOST:PORT[,HOST:PORT…] or tls://…, servers of
    /// NATS with JetStream, version 2.12 or newer, that sync each write or keep three copies. Absent: --data-dir, for
    /// one gateway
    #[arg(long, env = "POSTERN_STORE", value_name = "URL")]
    pub store: Option<Servers>,

    /// How NATS is used
    #[command(flatten)]
    pub nats: NatsSettings,

    /// The folder that keeps all that lasts, where --store names nothing else. Made where it is missing
    #[arg(long, env = "POSTERN_DATA_DIR", default_value = "postern-data", value_name = "FOLDER")]
    pub data_dir: PathBuf,

    /// The key ring that seals credentials: a line a key, the last one seals (see `gateway key`). Absent: `keys` in the
    /// data folder, made on first start; with --store it must be named, for all gateways there need the same
    #[arg(long, env = "POSTERN_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// The callers that are let in: a line a caller (see `gateway token`), read again when it changes. Absent: whoever
    /// reaches the loopback address
    #[arg(long, env = "POSTERN_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,

    /// How long events are kept
    #[arg(long, env = "POSTERN_RETENTION_AGE", default_value = "7d", value_parser = duration, value_name = "DURATION")]
    pub retention_age: Duration,

    /// How many bytes of events are kept
    #[arg(long, env = "POSTERN_RETENTION_BYTES", default_value_t = 4 * 1024 * 1024 * 1024, value_name = "BYTES")]
    pub retention_bytes: u64,

    /// How queued mails are tried, and how many are kept
    #[command(flatten)]
    pub outbox: OutboxSettings,

    /// How long approvals last, and where their answers may be posted
    #[command(flatten)]
    pub approvals: ApprovalSettings,

    /// A file to write when ready: JSON with the address that is listened on
    #[arg(long, env = "POSTERN_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// How it logs
    #[command(flatten)]
    pub log: LogSettings,

    /// How it listens
    #[command(flatten)]
    pub serve: ServeSettings,
}

/// What to do instead of serving.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Ask the gateway that runs with these settings for its health: exit code 0 when it serves
    Healthcheck,
    /// Read and check the settings, say what is wrong, and end
    CheckConfig,
    /// Make a caller's token: it is printed with the line for the tokens file, and kept nowhere
    Token {
        /// The caller's name, for people and logs
        name: String,
    },
    /// Make a key: a line for the key file
    Key,
    /// Copy everything from one store to another that is empty, with all gateways on both stopped. Cursors of before are
    /// answered with a gap (LOG_RESET). The keys that seal credentials stay where they are: take the key file along
    Migrate {
        /// The folder, or nats://HOST:PORT, to copy from
        #[arg(long, value_name = "PLACE")]
        from: Place,
        /// The folder, or nats://HOST:PORT, to copy to
        #[arg(long, value_name = "PLACE")]
        to: Place,
    },
    /// Print the secret that signs the answers posted to notification URLs: the one that is set, or the one made of the
    /// key ring
    NotificationSecret,
}

impl Settings {
    /// How long events are kept.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention { age: self.retention_age, bytes: self.retention_bytes }
    }

    /// Where to listen for HTTP. `None`: nowhere.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_listen.or_else(|| self.public_url.as_ref().map(|_| HTTP_LISTEN))
    }

    /// Why the console is not served where HTTP is listened for; `None`: it is. It is served behind tokens, or, where
    /// nothing says who may call, to this machine alone.
    #[must_use]
    pub fn console_missing(&self, http: &TcpListener) -> Option<&'static str> {
        if self.tokens_file.is_some() {
            return None;
        }
        // Browsers are asked for no certificate: they would have all rights without any.
        if self.serve.tls_client_ca_file.is_some() {
            return Some(
                "callers are told apart by client certificates alone: set --tokens-file for the console",
            );
        }
        if self.public_url.is_some() {
            return Some("nothing says who may call, and the gateway has a public URL: set --tokens-file");
        }
        let is_loopback = http.local_addr().is_ok_and(|address| address.ip().is_loopback());
        (!is_loopback)
            .then_some("nothing says who may call, and the address is not loopback: set --tokens-file")
    }

    /// Where the store is.
    #[must_use]
    pub fn place(&self) -> Place {
        match &self.store {
            Some(servers) => Place::Nats(servers.clone()),
            None => Place::Folder(self.data_dir.clone()),
        }
    }

    /// Whether the connectors run in this process.
    #[must_use]
    pub fn all_in_one(&self) -> bool {
        self.connectors.is_empty()
    }

    /// How `https://` connectors are checked; `None`: against the machine's authorities.
    ///
    /// # Errors
    /// The setting `--connectors-ca-file`.
    pub fn connectors_tls(&self) -> Result<Option<Arc<ClientConfig>>, SettingsError> {
        let Some(path) = &self.connectors_ca_file else { return Ok(None) };
        let wrong = |problem: String| {
            SettingsError::value("--connectors-ca-file", format!("file {}: {problem}", path.display()))
        };
        let authorities = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Ok(Some(client_config(Some(&authorities)).map_err(wrong)?))
    }

    /// Checks what no single setting can tell.
    ///
    /// # Errors
    /// The first setting found wrong, by name.
    pub fn check(&self) -> Result<(), SettingsError> {
        let (tokens, authority) = (self.tokens_file.is_some(), self.serve.tls_client_ca_file.is_some());
        auth::check_listen(self.listen, tokens, authority)?;
        self.connectors_tls()?;
        self.nats.check()?;
        if self.store.is_some() && self.key_file.is_none() {
            let problem =
                "expected a key file with --store: all gateways there need the same keys (see gateway key)";
            return Err(SettingsError::value("--key-file", problem));
        }
        // Read here for what is wrong with them alone: a key file in the data folder may have to be made yet.
        self.key_file.as_deref().map(KeyRing::read).transpose()?;
        self.tokens_file.as_deref().map(Callers::read).transpose()?;
        if self.retention_age < Duration::from_secs(60) {
            return Err(SettingsError::value("--retention-age", "expected 1m or longer"));
        }
        self.outbox.check()?;
        self.approvals.check()?;
        self.serve.server()?;
        http::tls(&self.serve)?;
        Ok(())
    }
}
