//! The HTTP listener: what the world outside sends that speaks no gRPC. It bounds who may come, how long they may take
//! and how much they may say; what is served is given as a router.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use postern_chassis::serve::ServeSettings;
use postern_chassis::settings::SettingsError;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Connections at once: each holds a socket and up to [`MAX_HEAD_BYTES`].
const MAX_CONNECTIONS: usize = 1_024;
/// How long a TLS handshake, and the head of a request, may take; a connection that is idle longer is closed.
const PATIENCE: Duration = Duration::from_secs(15);
/// The largest head of a request.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long to wait after no connection could be accepted, such as for want of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the listener.
///
/// # Errors
/// The setting `--http-listen`: the address cannot be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, SettingsError> {
    let wrong = |error| SettingsError::value("--http-listen", format!("cannot listen on {address}: {error}"));
    TcpListener::bind(address).await.map_err(wrong)
}

/// How the listener speaks TLS: as the gRPC listener does, but that clients need no certificate. `None`: it does not.
///
/// # Errors
/// The setting whose file cannot be read or used.
pub fn tls(settings: &ServeSettings) -> Result<Option<TlsAcceptor>, SettingsError> {
    let (Some(chain), Some(key)) = (&settings.tls_cert_file, &settings.tls_key_file) else { return Ok(None) };
    let wrong = |name, problem: String| SettingsError::value(name, problem);
    let read = |name, path: &std::path::Path| {
        std::fs::read(path).map_err(|error| wrong(name, format!("file {}: {error}", path.display())))
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read("--tls-cert-file", chain)?)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong("--tls-cert-file", "not certificates, PEM".to_owned()))?;
    let key = PrivateKeyDer::from_pem_slice(&read("--tls-key-file", key)?)
        .map_err(|_| wrong("--tls-key-file", "not a private key, PEM".to_owned()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong("--tls-cert-file", format!("not a certificate with its key: {error}")))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Serves a router until `stop` is cancelled, then lets requests in flight finish for `grace`.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let open = TaskTracker::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        open.spawn(async move {
            let _place = place;
            match tls {
                None => converse(stream, router, stop).await,
                Some(tls) => {
                    // Whoever breaks off in the handshake is of no interest.
                    if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                        converse(stream, router, stop).await;
                    }
                }
            }
        });
    }
    open.close();
    if tokio::time::timeout(grace, open.wait()).await.is_err() {
        tracing::warn!(grace = ?grace, "HTTP requests in flight were ended at the end of the grace period");
    }
}

async fn converse<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(conversation);
    tokio::select! {
        _ = conversation.as_mut() => {}
        () = stop.cancelled() => {
            conversation.as_mut().graceful_shutdown();
            let _ = conversation.await;
        }
    }
}
