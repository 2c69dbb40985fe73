//! Connecting with NATS: to any of its servers, and to a certain one where the others are to be left. Checks that a
//! server can do what this engine needs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ReconnectToServer, ServerAddr,
};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use super::link::ANSWER_TIMEOUT;
use super::settings::{NatsSettings, Servers};
use crate::store::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// The oldest server that commits several messages as one.
const OLDEST: (u64, u64) = (2, 12);
/// What a message must be allowed to have: the largest value with its headers and its subject.
const MESSAGE_BYTES: usize = MAX_VALUE_BYTES + 2 * MAX_KEY_BYTES + 1024;
/// How long one try to reach a server takes at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two tries to reach a server again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Why a store cannot be opened.
#[derive(Debug)]
pub(super) enum Hindrance {
    /// It may pass: no server is reached, or the stream has no leader.
    ForNow(String),
    /// It will not pass by itself.
    Lasting(String),
}

/// A connection, and what becomes of it.
pub(super) struct Connected {
    pub(super) client: Client,
    /// Counts how often it was made, and how often it broke.
    pub(super) made: watch::Receiver<u64>,
    pub(super) broken: watch::Receiver<u64>,
    /// Where it is made next, whatever other servers there are.
    next: Arc<Mutex<Option<ServerAddr>>>,
}

impl Connected {
    /// Connects with any of the servers, and with any again where that breaks.
    pub(super) async fn with(servers: &Servers, settings: &NatsSettings) -> Result<Self, Hindrance> {
        let (making, made) = watch::channel(0);
        let (breaking, broken) = watch::channel(0);
        let next = Arc::<Mutex<Option<ServerAddr>>>::default();
        let wished = next.clone();
        let options = options(settings)
            .map_err(Hindrance::Lasting)?
            .ping_interval(Duration::from_secs(10))
            .reconnect_delay_callback(|tries| {
                let tries = u32::try_from(tries).unwrap_or(u32::MAX);
                RECONNECT_PAUSE.min(Duration::from_millis(50).saturating_mul(tries))
            })
            .reconnect_to_server_callback(move |_, _| {
                let addr = wished.lock().unwrap_or_else(PoisonError::into_inner).take();
                let delay = Some(Duration::ZERO);
                std::future::ready(addr.map(|addr| ReconnectToServer { addr, delay }))
            })
            .event_callback(move |event| {
                match event {
                    Event::Connected => making.send_modify(|times| *times += 1),
                    Event::Disconnected => {
                        breaking.send_modify(|times| *times += 1);
                        tracing::warn!("NATS is not reached: trying again");
                    }
                    Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
                        tracing::warn!(%event, "NATS");
                    }
                    Event::LameDuckMode | Event::Draining | Event::Closed => {}
                }
                std::future::ready(())
            });
        let client = options.connect(servers.0.clone()).await.map_err(|error| unreached(&error))?;
        check_server(&client).map_err(Hindrance::Lasting)?;
        Ok(Self { client, made, broken, next })
    }

    /// Leaves the server for another one. Gives whether it could be asked for.
    pub(super) async fn go_over_to(&self, server: ServerAddr) -> bool {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        self.client.force_reconnect().await.is_ok()
    }
}

/// Connects with one server, to ask it something.
pub(super) async fn only_with(server: ServerAddr, settings: &NatsSettings) -> Result<Client, Hindrance> {
    let options =
        options(settings).map_err(Hindrance::Lasting)?.max_reconnects(1).ignore_discovered_servers();
    options.connect(server).await.map_err(|error| unreached(&error))
}

/// How to sign in, and with whom.
fn options(settings: &NatsSettings) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new()
        .name("postern-gateway")
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(ANSWER_TIMEOUT));
    if let Some(path) = &settings.ca_file {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    if let (Some(user), Some(password)) = (&settings.user, &settings.password) {
        options = options.user_and_password(user.clone(), password.expose_secret().to_owned());
    }
    if let Some(token) = &settings.token {
        options = options.token(token.expose_secret().to_owned());
    }
    if let Some(path) = &settings.creds_file {
        let wrong = |error| format!("the credentials file {} cannot be used: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(wrong)?;
        options = options.credentials(&text).map_err(wrong)?;
    }
    Ok(options)
}

fn unreached(error: &ConnectError) -> Hindrance {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            Hindrance::Lasting(format!(
                "it refuses the credentials: {error}: see --nats-creds-file, --nats-user and --nats-token"
            ))
        }
        _ => Hindrance::ForNow(format!("it cannot be reached: {error}")),
    }
}

fn check_server(client: &Client) -> Result<(), String> {
    let server = client.server_info();
    let mut numbers = server.version.split(['.', '-']).map_while(|number| number.parse::<u64>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        let (major, minor) = OLDEST;
        return Err(format!(
            "nats-server is of version {}: expected {major}.{minor} or newer",
            server.version
        ));
    }
    if server.max_payload < MESSAGE_BYTES {
        let has = server.max_payload;
        return Err(format!(
            "the server's max_payload is {has} bytes: expected {MESSAGE_BYTES} or more (1 MiB is its default)"
        ));
    }
    Ok(())
}
