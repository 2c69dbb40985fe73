//! The connection with NATS and the stream there: opened once, checked for what this engine needs, and asked for single
//! messages. Questions go to the stream's leader, so that an answer is never older than what was acknowledged before.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, ConnectOptions, Event};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use super::message::Subjects;
use super::settings::{NatsSettings, Servers};
use crate::store::{MAX_KEY_BYTES, MAX_VALUE_BYTES, StoreError};

/// The oldest server that commits several messages as one.
const OLDEST: (u64, u64) = (2, 12);
/// What a message must be allowed to have: the largest value with its headers and its subject.
const MESSAGE_BYTES: usize = MAX_VALUE_BYTES + 2 * MAX_KEY_BYTES + 1024;
/// How long a server is waited for at the start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one question takes at most.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two tries to reach a server again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// The form of the stream that this version writes, kept in what NATS stores along with the stream.
const FORMAT: &str = "1";
const FORMAT_NAME: &str = "postern-format";
/// The log's epoch, kept there too.
const EPOCH_NAME: &str = "postern-epoch";

/// A connection with a stream.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) stream: Stream<()>,
    pub(super) name: String,
    pub(super) subjects: Subjects,
    pub(super) epoch: u64,
    /// Counts how often it was connected.
    pub(super) connected: watch::Receiver<u64>,
}

/// An error of a question: nothing was changed by it.
pub(super) fn failed(what: &str, error: impl Display) -> StoreError {
    StoreError::Failed(format!("NATS: {what}: {error}"))
}

impl Link {
    /// Connects, and makes the stream where it is missing, if it may.
    pub(super) async fn open(
        servers: &Servers,
        settings: &NatsSettings,
        make: bool,
    ) -> Result<Self, StoreError> {
        let place = format!("{servers} stream {}", settings.stream);
        let unusable = |problem: String| StoreError::Unusable { place: place.clone(), problem };
        let (client, connected) = connect(servers, settings).await.map_err(unusable)?;
        check_server(&client).map_err(unusable)?;
        let mut context = async_nats::jetstream::new(client.clone());
        context.set_timeout(ANSWER_TIMEOUT);
        let config = open_stream(&context, settings, make).await.map_err(unusable)?;
        check_stream(&config, &wanted(settings)).map_err(unusable)?;
        let epoch = config.metadata.get(EPOCH_NAME).and_then(|epoch| u64::from_str_radix(epoch, 16).ok());
        let epoch =
            epoch.ok_or_else(|| unusable("the stream has no epoch: it is none of Postern's".to_owned()))?;
        let name = settings.stream.clone();
        let stream = context.get_stream_no_info(&name).await.map_err(|error| unusable(error.to_string()))?;
        if config.num_replicas < 2 {
            tracing::warn!(
                stream = name,
                "the stream has one replica: what is acknowledged survives a crash of the machine only where the server \
                 has sync_interval: always, which a client cannot see"
            );
        }
        Ok(Self { client, stream, subjects: Subjects::new(&name), name, epoch, connected })
    }

    /// The place of the stream's last message, by its leader, and whether the stream is still the one that was opened.
    pub(super) async fn last(&self) -> Result<u64, StoreError> {
        let found = self.stream.get_info().await.map_err(|error| failed("the stream's state", error))?;
        let epoch = found.config.metadata.get(EPOCH_NAME);
        if epoch.and_then(|epoch| u64::from_str_radix(epoch, 16).ok()) != Some(self.epoch) {
            return Err(failed("the stream's state", "it is another stream than was opened: start anew"));
        }
        Ok(found.state.last_sequence)
    }

    /// The last message of a subject, by the stream's leader.
    pub(super) async fn last_of(&self, subject: &str) -> Result<Option<StreamMessage>, StoreError> {
        found(self.stream.get_last_raw_message_by_subject(subject).await)
    }

    /// A message by its place, by the stream's leader. `None`: there is none any more.
    pub(super) async fn message(&self, place: u64) -> Result<Option<StreamMessage>, StoreError> {
        found(self.stream.get_raw_message(place).await)
    }
}

fn found(
    answer: Result<StreamMessage, async_nats::jetstream::stream::RawMessageError>,
) -> Result<Option<StreamMessage>, StoreError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                Ok(None)
            }
            _ => Err(failed("a message", error)),
        },
    }
}

async fn connect(
    servers: &Servers,
    settings: &NatsSettings,
) -> Result<(Client, watch::Receiver<u64>), String> {
    let (counting, connected) = watch::channel(0);
    let mut options = ConnectOptions::new()
        .name("postern-gateway")
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(ANSWER_TIMEOUT))
        .ping_interval(Duration::from_secs(10))
        .reconnect_delay_callback(|tries| {
            let tries = u32::try_from(tries).unwrap_or(u32::MAX);
            RECONNECT_PAUSE.min(Duration::from_millis(50).saturating_mul(tries))
        })
        .event_callback(move |event| {
            match event {
                Event::Connected => counting.send_modify(|times| *times += 1),
                Event::Disconnected => tracing::warn!("NATS is not reached: trying again"),
                Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
                    tracing::warn!(%event, "NATS");
                }
                Event::LameDuckMode | Event::Draining | Event::Closed => {}
            }
            std::future::ready(())
        });
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
    let client = options.connect(servers.0.clone()).await.map_err(|error| {
        use async_nats::ConnectErrorKind as Kind;
        match error.kind() {
            Kind::Authentication | Kind::AuthorizationViolation => {
                format!(
                    "it refuses the credentials: {error}: see --nats-creds-file, --nats-user and --nats-token"
                )
            }
            _ => format!("it cannot be reached: {error}"),
        }
    })?;
    Ok((client, connected))
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

/// The stream as it is to be.
fn wanted(settings: &NatsSettings) -> Config {
    Config {
        name: settings.stream.clone(),
        description: Some("Postern: values, events and their places".to_owned()),
        subjects: vec![Subjects::new(&settings.stream).all().to_owned()],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        allow_direct: true,
        allow_atomic_publish: true,
        allow_message_ttl: true,
        ..Config::default()
    }
}

/// Gives the stream's settings; makes it where it is missing.
async fn open_stream(context: &Context, settings: &NatsSettings, make: bool) -> Result<Config, String> {
    use async_nats::jetstream::context::GetStreamErrorKind;
    let without = |error: &dyn Display| format!("JetStream cannot be used: {error}");
    let there = |error: &async_nats::jetstream::Error| error.error_code() == ErrorCode::STREAM_NAME_EXIST;
    match context.get_stream(&settings.stream).await {
        Ok(stream) => return Ok(stream.cached_info().config.clone()),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                if !make {
                    return Err("there is no such stream".to_owned());
                }
            }
            _ => return Err(without(&error)),
        },
    }
    let epoch = format!("{:016x}", fastrand::u64(..));
    let metadata = [(FORMAT_NAME, FORMAT.to_owned()), (EPOCH_NAME, epoch)];
    let metadata: HashMap<_, _> = metadata.map(|(name, value)| (name.to_owned(), value)).into();
    match context.create_stream(Config { metadata, ..wanted(settings) }).await {
        Ok(stream) => Ok(stream.cached_info().config.clone()),
        Err(error) => match error.kind() {
            // Another gateway was quicker.
            CreateStreamErrorKind::JetStream(refusal) if there(&refusal) => {
                let stream = context.get_stream(&settings.stream).await.map_err(|error| without(&error))?;
                Ok(stream.cached_info().config.clone())
            }
            _ => Err(format!("the stream cannot be made: {error}")),
        },
    }
}

/// Whether a stream is as it is to be. What it may differ in is left to whoever runs NATS.
fn check_stream(found: &Config, wanted: &Config) -> Result<(), String> {
    let format = found.metadata.get(FORMAT_NAME).map(String::as_str);
    match format {
        Some(FORMAT) => {}
        Some(newer) => {
            return Err(format!("a newer version made the stream: its form is {newer}, expected {FORMAT}"));
        }
        None => return Err("the stream is another program's: expected one of Postern's".to_owned()),
    }
    let is = |setting: &str, is: bool| match is {
        true => Ok(()),
        false => Err(format!("the stream's {setting} was changed: expected as Postern makes it")),
    };
    is("subjects", found.subjects == wanted.subjects)?;
    is("max_msgs_per_subject", found.max_messages_per_subject == 1)?;
    is("allow_atomic", found.allow_atomic_publish)?;
    is("allow_msg_ttl", found.allow_message_ttl)?;
    is("allow_direct", found.allow_direct)?;
    is("storage", found.storage == StorageType::File)?;
    is("max_msgs", found.max_messages <= 0)?;
    is("max_bytes", found.max_bytes <= 0)?;
    is("max_age", found.max_age.is_zero())?;
    is("sources", found.sources.is_none() && found.mirror.is_none())
}
