//! One address of a connector: its channels, whether it is reached, and the asking of what it is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postern_chassis::settings::SettingsError;
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::connector::v1::{DescribeRequest, DescribeResponse};
use tokio::sync::Notify;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};

/// HTTP/2 connections to an address: one lock each, and two are enough for the cores that a gateway has.
const CHANNELS: usize = 2;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A dead peer is found out within the sum of these while calls are open.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Flow-control windows, as on the serving side.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// How long the answer to Describe may take.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an address that answers is asked again: it may have been replaced by a newer version.
const DESCRIBE_INTERVAL: Duration = Duration::from_secs(30);
/// The first and the longest wait before an address that did not answer is asked again.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// One address of a connector.
#[derive(Debug)]
pub struct Replica {
    uri: Uri,
    channels: [Channel; CHANNELS],
    next: AtomicUsize,
    reached: AtomicBool,
    lost: Notify,
}

impl Replica {
    /// A replica whose channels connect when they are first used.
    pub(super) fn new(uri: Uri, tls: Option<ClientTlsConfig>) -> Result<Self, SettingsError> {
        let mut endpoint = Endpoint::from(uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .tcp_nodelay(true);
        if uri.scheme_str() == Some("https") {
            let tls = tls.unwrap_or_else(|| ClientTlsConfig::new().with_native_roots());
            endpoint = endpoint.tls_config(tls).map_err(|error| {
                SettingsError::value("--connectors", format!("{uri}: TLS cannot be used: {error:?}"))
            })?;
        }
        Ok(Self {
            uri,
            channels: [endpoint.connect_lazy(), endpoint.connect_lazy()],
            next: AtomicUsize::new(0),
            reached: AtomicBool::new(true),
            lost: Notify::new(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// A channel to it: the two take turns.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channels[self.next.fetch_add(1, Ordering::Relaxed) % CHANNELS].clone()
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
            self.lost.notify_one();
        }
    }

    /// Asks what it is, for as long as the future lives: until it answers, again in an interval, and as soon as a call
    /// found it gone.
    pub(super) async fn keep_asking(
        self: std::sync::Arc<Self>,
        answered: impl Fn(&std::sync::Arc<Self>, DescribeResponse),
    ) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            match self.describe().await {
                Ok(answer) => {
                    if !self.reached.swap(true, Ordering::Relaxed) {
                        tracing::info!(connector.address = %self.uri, "a connector is reached again");
                    }
                    back_off = FIRST_BACK_OFF;
                    answered(&self, answer);
                    let _ = tokio::time::timeout(jittered(DESCRIBE_INTERVAL), self.lost.notified()).await;
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

    async fn describe(&self) -> Result<DescribeResponse, tonic::Status> {
        let mut client = ConnectorServiceClient::new(self.channel());
        let asking = client.describe(DescribeRequest {});
        match tokio::time::timeout(DESCRIBE_TIMEOUT, asking).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(tonic::Status::deadline_exceeded("no answer in time")),
        }
    }
}

/// A wait between half and all of what is given, so that many do not come at once.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}
