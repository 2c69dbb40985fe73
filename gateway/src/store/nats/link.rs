//! The connection with NATS and the stream there: opened once, checked for what this engine needs, and asked for single
//! messages. Questions go to the stream's leader, so that an answer is never older than what was acknowledged before.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, RawMessageError, RawMessageErrorKind, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::{Connected, Hindrance};
use super::message::Subjects;
use super::settings::{NatsSettings, Servers};
use super::stream;
use crate::store::StoreError;

/// How long one question takes at most.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long who says that it leads the stream may take to hear most of its servers again, and the pause between two looks.
const SETTLING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

/// A connection with a stream.
pub(super) struct Link {
    pub(super) connected: Connected,
    pub(super) client: Client,
    pub(super) stream: Stream<()>,
    pub(super) name: String,
    pub(super) subjects: Subjects,
    pub(super) epoch: u64,
    pub(super) settings: NatsSettings,
    /// Since when a write waits to be made. `None`: the last one was.
    waiting: watch::Sender<Option<Instant>>,
}

/// An error of a question: nothing was changed by it.
pub(super) fn failed(what: &str, error: impl Display) -> StoreError {
    StoreError::Failed(format!("NATS: {what}: {error}"))
}

/// The stream's questions by way of a connection.
pub(super) fn context(client: &Client) -> Context {
    let mut context = async_nats::jetstream::new(client.clone());
    context.set_timeout(ANSWER_TIMEOUT);
    context
}

impl Link {
    /// Connects, and makes the stream where it is missing, if it may.
    pub(super) async fn open(
        servers: &Servers,
        settings: &NatsSettings,
        make: bool,
    ) -> Result<Self, Hindrance> {
        let connected = Connected::with(servers, settings).await?;
        let client = connected.client.clone();
        let context = context(&client);
        let found = stream::open(&context, settings, make).await?;
        let lasting = |problem: &str| Hindrance::Lasting(problem.to_owned());
        let epoch = stream::epoch(&found.config)
            .ok_or_else(|| lasting("the stream has no epoch: it is none of Postern's"))?;
        let name = settings.stream.clone();
        let stream = context.get_stream_no_info(&name).await;
        let stream = stream.map_err(|error| Hindrance::Lasting(error.to_string()))?;
        if found.config.num_replicas < 2 {
            tracing::warn!(
                stream = name,
                "the stream has one replica: what is acknowledged survives a crash of the machine only where the server \
                 has sync_interval: always, which a client cannot see"
            );
        }
        let (subjects, settings) = (Subjects::new(&name), settings.clone());
        let waiting = watch::Sender::new(None);
        Ok(Self { connected, client, stream, name, subjects, epoch, settings, waiting })
    }

    /// What the stream's leader says of it, if that still is one and the stream is the one that was opened.
    pub(super) async fn led(&self, stream: &Stream<()>) -> Result<Info, StoreError> {
        let wrong = |error: &dyn Display| failed("the stream's state", error);
        let found = stream.get_info().await.map_err(|error| wrong(&error))?;
        if stream::epoch(&found.config) != Some(self.epoch) {
            return Err(wrong(&"it is another stream than was opened: start anew"));
        }
        stream::leads(&found).map_err(|problem| wrong(&problem))?;
        Ok(found)
    }

    /// The place of the stream's last message, by its leader.
    pub(super) async fn last(&self) -> Result<u64, StoreError> {
        let until = Instant::now() + SETTLING;
        loop {
            match self.unbroken(self.led(&self.stream)).await {
                Some(Ok(found)) => return Ok(found.state.last_sequence),
                Some(Err(error)) if Instant::now() >= until => return Err(error),
                Some(Err(_)) => tokio::time::sleep(PAUSE).await,
                None => return Err(failed("the stream's state", BROKEN)),
            }
        }
    }

    /// The last message of a subject, by the stream's leader.
    pub(super) async fn last_of(&self, subject: &str) -> Result<Option<StreamMessage>, StoreError> {
        found(self.unbroken(self.stream.get_last_raw_message_by_subject(subject)).await)
    }

    /// A message by its place, by the stream's leader. `None`: there is none any more.
    pub(super) async fn message(&self, place: u64) -> Result<Option<StreamMessage>, StoreError> {
        found(self.unbroken(self.stream.get_raw_message(place)).await)
    }

    /// Waits for an answer no longer than the connection lasts by which it would come. `None`: that broke off.
    pub(super) async fn unbroken<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut broken = self.connected.broken.clone();
        broken.borrow_and_update();
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            _ = broken.changed() => None,
        }
    }

    /// A write waits to be made.
    pub(super) fn waits(&self) {
        self.waiting.send_if_modified(|since| {
            let is_first = since.is_none();
            since.get_or_insert_with(Instant::now);
            is_first
        });
    }

    /// A write was made.
    pub(super) fn wrote(&self) {
        self.waiting.send_if_modified(|since| since.take().is_some());
    }

    /// Waits until a write has waited for so long.
    pub(super) async fn stalls(&self, long: Duration) {
        let mut waiting = self.waiting.subscribe();
        loop {
            let since = *waiting.borrow_and_update();
            let changed = waiting.changed();
            match since {
                None => drop(changed.await),
                Some(since) => match tokio::time::timeout_at(since + long, changed).await {
                    Ok(_) => {}
                    Err(_) => return,
                },
            }
        }
    }
}

/// Why there is no answer, where the connection is another one meanwhile.
pub(super) const BROKEN: &str = "the connection broke off";

fn found(
    answer: Option<Result<StreamMessage, RawMessageError>>,
) -> Result<Option<StreamMessage>, StoreError> {
    match answer {
        Some(Ok(message)) => Ok(Some(message)),
        Some(Err(error)) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                Ok(None)
            }
            _ => Err(failed("a message", error)),
        },
        None => Err(failed("a message", BROKEN)),
    }
}
