//! The listener for whoever collects metrics: `GET /metrics` over HTTP/1.1, and nothing else. It is apart from all other
//! listeners, so that it can stay within.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::page::{Tell, written};
use super::{calls, process};
use crate::settings::SettingsError;

/// Where the page is.
const PATH: &str = "/metrics";
/// The page's type (OpenMetrics 1.0).
const KIND: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
/// Connections at once: collectors are few.
const MAX_CONNECTIONS: usize = 32;
/// How long the head of a request may take, and a connection may be idle: collectors come every minute at the latest.
const PATIENCE: Duration = Duration::from_secs(75);
/// The largest head of a request.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long to wait after no connection could be accepted, such as for want of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the metrics of the process and of these rooms at an address, until `stop` is cancelled. Without an address it
/// does nothing.
///
/// # Errors
/// The setting `--metrics-listen`: the address cannot be bound.
pub async fn serve(
    address: Option<SocketAddr>,
    rooms: &[Tell],
    stop: CancellationToken,
) -> Result<Option<JoinHandle<()>>, SettingsError> {
    let Some(address) = address else { return Ok(None) };
    let wrong =
        |error| SettingsError::value("--metrics-listen", format!("cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let bound = listener.local_addr().map_err(wrong)?;
    tracing::info!(address = %bound, "metrics are told");
    let rooms: Arc<[Tell]> = [process::tell, calls::tell].iter().chain(rooms).copied().collect();
    Ok(Some(tokio::spawn(async move {
        stop.run_until_cancelled(accept(listener, rooms)).await;
    })))
}

async fn accept(listener: TcpListener, rooms: Arc<[Tell]>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let rooms = rooms.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(&request, &rooms);
                async move { Ok::<_, Infallible>(answer) }
            });
            // Whoever breaks off is of no interest.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer<B>(request: &Request<B>, rooms: &[Tell]) -> Response<Full<Bytes>> {
    let refused = |status, why: &'static str| {
        let mut refused = Response::new(Full::from(why));
        *refused.status_mut() = status;
        refused
    };
    if request.uri().path() != PATH {
        return refused(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n");
    }
    match written(rooms) {
        Ok(text) => {
            let mut page = Response::new(Full::from(text));
            page.headers_mut().insert(CONTENT_TYPE, KIND);
            page
        }
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be written\n"),
    }
}
