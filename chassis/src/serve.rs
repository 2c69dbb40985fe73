//! Serving gRPC on a listener given from outside: TLS, bounds, health, reflection and a stop that is bounded.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::server::HealthReporter;
use tower::Service;

use crate::gather::Gathering;
use crate::linger::Lingering;
use crate::settings::SettingsError;

/// The largest header list taken: the connection that travels with a call must fit, base64 and all.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Calls at once on one HTTP/2 connection. tonic's own default is no bound.
const MAX_CONCURRENT_STREAMS: u32 = 1_000;
/// Flow-control windows: what a peer may send unread, a stream and a connection. A connection takes many streams that
/// stand still, such as those of mails for a slow server, before they hold up the others on it.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// Dead peers are found out within the sum of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest message taken inline: 3 MiB of content with its envelope.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Where and how a service listens.
#[derive(Args, Debug, Clone)]
pub struct ServeSettings {
    /// The server's certificate chain, PEM; with --tls-key-file. Absent: no TLS
    #[arg(long, env = "POSTERN_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The server's private key, PEM
    #[arg(long, env = "POSTERN_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Certificates of the authorities whose clients are let in (mTLS), PEM. The healthcheck shows the
    /// server's own. Absent: clients need no certificate
    #[arg(long, env = "POSTERN_TLS_CLIENT_CA_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_client_ca_file: Option<PathBuf>,
    /// How long calls in flight may take to finish at a stop
    #[arg(long, env = "POSTERN_STOP_GRACE", default_value = "10s", value_parser = crate::settings::duration, value_name = "DURATION")]
    pub stop_grace: Duration,
    /// Where to tell metrics: GET /metrics over plain HTTP, for Prometheus. Whoever reaches it may read it, without a
    /// token: they name methods and connectors' addresses, never a caller, a connection or a mail. Absent: nowhere
    #[arg(long, env = "POSTERN_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
            stop_grace: Duration::from_secs(10),
            metrics_listen: None,
        }
    }
}

impl ServeSettings {
    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.tls_cert_file.is_some()
    }

    /// Reads the TLS files and builds the server.
    ///
    /// # Errors
    /// The setting whose file cannot be read or used.
    pub fn server(&self) -> Result<Server, SettingsError> {
        let server = Server::builder()
            .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
        let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_key_file) else {
            return Ok(server);
        };
        // Two rustls providers cannot be told apart by rustls itself once both are linked: say which.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = read("--tls-cert-file", certificate)?;
        let key = read("--tls-key-file", key)?;
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        if let Some(authorities) = &self.tls_client_ca_file {
            tls = tls.client_ca_root(Certificate::from_pem(read("--tls-client-ca-file", authorities)?));
        }
        server.tls_config(tls).map_err(|error| {
            SettingsError::value("--tls-cert-file", format!("not a certificate with its key: {error:?}"))
        })
    }
}

fn read(name: &'static str, path: &std::path::Path) -> Result<Vec<u8>, SettingsError> {
    std::fs::read(path)
        .map_err(|error| SettingsError::value(name, format!("file {}: {error}", path.display())))
}

/// Writes a ready file whole or not at all: whoever waits for it never reads half of it.
///
/// # Errors
/// The setting `--ready-file`: it cannot be written.
pub fn write_ready(path: &std::path::Path, text: &str) -> Result<(), SettingsError> {
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, path)).map_err(|error| {
        SettingsError::value("--ready-file", format!("file {} cannot be written: {error}", path.display()))
    })
}

/// Binds a listener.
///
/// # Errors
/// The address cannot be bound, such as a port that is taken; the setting is named.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, SettingsError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| SettingsError::value("--listen", format!("cannot listen on {address}: {error}")))
}

/// Health and reflection, and the reporter that tells of the service's health. Reflection (v1 and v1alpha) shows the
/// services named.
///
/// # Errors
/// The contract's descriptors cannot be read.
pub async fn edges(services: &[impl AsRef<str>]) -> Result<(Routes, HealthReporter), BoxError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in services {
        reporter.set_service_status(service.as_ref(), tonic_health::ServingStatus::Serving).await;
    }
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(postern_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // With the details of errors, so that clients which know only reflection can show them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        for service in services {
            builder = builder.with_service_name(service.as_ref());
        }
        builder
    };
    let routes = Routes::new(health)
        .add_service(builder().with_service_name("grpc.reflection.v1.ServerReflection").build_v1()?)
        .add_service(
            builder().with_service_name("grpc.reflection.v1alpha.ServerReflection").build_v1alpha()?,
        );
    Ok((routes, reporter))
}

/// The full name of a generated service.
#[must_use]
pub fn name_of<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves until `stop` is cancelled, then lets calls in flight finish for the grace period, then ends them.
///
/// # Errors
/// The listener failed.
pub async fn serve<S, B>(
    listener: TcpListener,
    settings: &ServeSettings,
    service: S,
    stop: CancellationToken,
) -> Result<(), BoxError>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send + 'static,
    B: http_body_bound::Body,
{
    // Who calls while it stops learns what was not taken, and can repeat it.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let incoming = incoming.map(|io| io.map(|io| Gathering::new(Lingering::new(io))));
    let serving =
        settings.server()?.serve_with_incoming_shutdown(service, incoming, stop.clone().cancelled_owned());
    let out_of_time = async {
        stop.cancelled().await;
        tokio::time::sleep(settings.stop_grace).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = out_of_time => {
            tracing::warn!(grace = ?settings.stop_grace, "calls in flight were ended at the end of the grace period");
            Ok(())
        }
    }
}

/// A name for the bound that tonic puts on response bodies.
mod http_body_bound {
    use super::BoxError;

    /// A body that can be served.
    pub trait Body: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static {}

    impl<T: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static> Body for T {}
}
