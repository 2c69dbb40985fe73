//! One address of a connector: its channels, whether it is reached, and the asking of what it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::Uri;
use http::uri::Scheme;
use postern_chassis::settings::SettingsError;
use postern_chassis::tls::client_config;
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::connector::v1::{DescribeRequest, DescribeResponse};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tower::Service;

use super::channel::{BoxError, Channel, Dial};
use crate::metrics;

/// HTTP/2 connections to an address: one lock each, and two are enough for the cores that a gateway has.
const CHANNELS: usize = 2;
/// How long it is left in peace between two answers, however many calls doubt it.
const DESCRIBE_APART: Duration = Duration::from_millis(500);
/// The first and the longest wait before an address that did not answer is asked again.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// How closely the addresses of connectors are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchfulness {
    /// How long a connection may be silent before it is asked for a sign of life (an HTTP/2 PING), and how long that may
    /// take. A peer that vanished without a word is found out within the sum, and the calls on its connection end.
    pub keepalive_interval: Duration,
    /// See `keepalive_interval`.
    pub keepalive_timeout: Duration,
    /// How often an address that answers is asked again what it is: it may have been replaced by a newer version.
    pub describe_interval: Duration,
    /// How long that answer may take: one that takes longer hangs, even where its connections give signs of life.
    pub describe_timeout: Duration,
    /// How long a call may be without an answer before its address is asked.
    pub suspicion: Duration,
}

impl Default for Watchfulness {
    fn default() -> Self {
        Self {
            // As soon as gRPC's own guide allows; ours bear it, and it is one frame. A connector's event loop that is
            // held up for five seconds together is as good as gone.
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            describe_interval: Duration::from_secs(30),
            describe_timeout: Duration::from_secs(5),
            // Most calls are over by then, so that few ask without need.
            suspicion: Duration::from_secs(5),
        }
    }
}

/// One address of a connector. A name is resolved anew with each connection that is made to it.
#[derive(Debug)]
pub struct Replica {
    uri: Uri,
    channels: [Channel; CHANNELS],
    next: AtomicUsize,
    watchfulness: Watchfulness,
    reached: AtomicBool,
    lost: Notify,
    doubted: Notify,
}

impl Replica {
    /// A replica whose channels connect when they are first used. One of `https://` is checked by `tls`, or against the
    /// machine's authorities where it is `None`.
    pub(super) fn new(
        uri: Uri,
        tls: Option<Arc<ClientConfig>>,
        watchfulness: Watchfulness,
    ) -> Result<Self, SettingsError> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            let dial = Dial::tcp(&uri, watchfulness);
            return Ok(Self::of(uri, &dial, watchfulness));
        }
        let dial = tls
            .map_or_else(|| client_config(None), Ok)
            .and_then(|tls| Dial::tls(&uri, &tls, watchfulness).map_err(|error| error.to_string()))
            .map_err(|problem| {
                SettingsError::value("--connectors", format!("{uri}: TLS cannot be used: {problem}"))
            })?;
        Ok(Self::of(uri, &dial, watchfulness))
    }

    /// A replica whose channels are made over `sockets` when they are first used.
    pub(super) fn dialled<D>(uri: Uri, sockets: D, watchfulness: Watchfulness) -> Self
    where
        D: Service<Uri, Future: Send, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
        D::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let dial = Dial::by(&uri, sockets, watchfulness);
        Self::of(uri, &dial, watchfulness)
    }

    fn of(uri: Uri, dial: &Dial, watchfulness: Watchfulness) -> Self {
        metrics::reached(&uri, true);
        Self {
            channels: std::array::from_fn(|_| Channel::new(uri.clone(), dial.clone())),
            next: AtomicUsize::new(0),
            watchfulness,
            reached: AtomicBool::new(true),
            lost: Notify::new(),
            doubted: Notify::new(),
            uri,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// A channel to it: the two take turns.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channels[self.next.fetch_add(1, Ordering::Relaxed) % CHANNELS]
    }

    /// Whether it answered when it was last asked. True until it is known not to.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// A call could not connect to it: others come first until it answers again.
    pub fn mark_lost(&self) {
        if self.reached.swap(false, Ordering::Relaxed) {
            tracing::warn!(connector.address = %self.uri, "a connector is not reached");
            metrics::reached(&self.uri, false);
            self.lost.notify_waiters();
            self.doubted.notify_one();
        }
    }

    /// A call broke off, or takes long: it is asked whether it is still there.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// How long a call may be without an answer before it is doubted.
    #[must_use]
    pub fn suspicion(&self) -> Duration {
        self.watchfulness.suspicion
    }

    /// Waits until it is not reached.
    pub async fn lost(&self) {
        loop {
            let mut lost = std::pin::pin!(self.lost.notified());
            lost.as_mut().enable();
            if !self.is_reached() {
                return;
            }
            lost.await;
        }
    }

    /// Asks what it is, for as long as the future lives: until it answers, again in an interval, and as soon as a call
    /// found it gone or doubts it.
    pub(super) async fn keep_asking(self: Arc<Self>, answered: impl Fn(&Arc<Self>, DescribeResponse)) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            match self.describe().await {
                Ok(answer) => {
                    if !self.reached.swap(true, Ordering::Relaxed) {
                        tracing::info!(connector.address = %self.uri, "a connector is reached again");
                        metrics::reached(&self.uri, true);
                    }
                    back_off = FIRST_BACK_OFF;
                    answered(&self, answer);
                    tokio::time::sleep(DESCRIBE_APART).await;
                    let interval = jittered(self.watchfulness.describe_interval);
                    let _ = tokio::time::timeout(interval, self.doubted.notified()).await;
                }
                Err(status) => {
                    tracing::debug!(connector.address = %self.uri, code = ?status.code(), "a connector did not say what it is");
                    self.mark_lost();
                    tokio::time::sleep(jittered(back_off)).await;
                    back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                }
            }
        }
    }

    /// Asks what it is, over each of its channels: one whose connection has gone finds out when it is used, and only then
    /// ends a call that was put to it just when the connection went.
    async fn describe(&self) -> Result<DescribeResponse, tonic::Status> {
        let asked = self.channels.iter().map(|channel| async {
            let mut client = ConnectorServiceClient::new(channel.clone());
            let asking = client.describe(DescribeRequest {});
            match tokio::time::timeout(self.watchfulness.describe_timeout, asking).await {
                Ok(answer) => Ok(answer?.into_inner()),
                Err(_) => Err(tonic::Status::deadline_exceeded("no answer in time")),
            }
        });
        let nobody = Err(tonic::Status::unavailable("not asked"));
        join_all(asked).await.into_iter().fold(nobody, Result::or)
    }
}

/// A wait between half and all of what is given, so that many do not come at once.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}
