//! Where providers push to: `{public URL}/notifications/{connection}/{watch}`. What was sent is its connector's to read;
//! here it is only answered in time, and what follows from it done.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::post;
use http::{HeaderValue, StatusCode, header};
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::connector::v1::{NotificationResult, ReadNotificationRequest, ReadNotificationResponse};
use tokio::sync::Semaphore;

use super::record::{self, Stored, Wanted};
use super::{Notifications, PublicUrl};
use crate::error::Error;
use crate::store::StoreError;
use crate::triggers::WatchName;

/// The largest body taken.
const MAX_BODY: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connector may take to read what was sent: providers want an answer within three seconds.
const READ_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Requests at once: each holds a body of up to 1 MiB. Who comes beyond is to come again.
const MAX_AT_ONCE: usize = 128;
/// How often a wish is written that meets another write.
const TRIES: usize = 4;

/// What the door needs.
#[derive(Clone)]
struct Door {
    notifications: Arc<Notifications>,
    places: Arc<Semaphore>,
}

/// The routes that providers push to.
pub(super) fn router(notifications: Arc<Notifications>, url: &PublicUrl) -> Router {
    let door = Door { notifications, places: Arc::new(Semaphore::new(MAX_AT_ONCE)) };
    let path = format!("{}/notifications/{{connection}}/{{watch}}", url.path());
    Router::new().route(&path, post(take).get(take)).with_state(door)
}

async fn take(
    State(door): State<Door>,
    Path((connection, watch)): Path<(String, String)>,
    request: Request,
) -> Response {
    let Some(watch) = WatchName::parse(&format!("{connection}/{watch}")) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let Ok(_place) = door.places.try_acquire() else { return plain(StatusCode::SERVICE_UNAVAILABLE) };
    match door.notifications.taken(&watch, request).await {
        Ok(response) => response,
        Err(status) => plain(status),
    }
}

impl Notifications {
    /// Takes what was sent for a watch.
    async fn taken(&self, watch: &WatchName, request: Request) -> Result<Response, StatusCode> {
        let unavailable = |error: StoreError| {
            tracing::error!(%error, "a notification cannot be taken");
            StatusCode::SERVICE_UNAVAILABLE
        };
        // Before the body is read: who does not know of a watch is to cost nothing.
        let stored = record::read(self.store.as_ref(), watch).await.map_err(unavailable)?;
        let secret = record::open(&self.connections, watch, &stored.record.secret);
        let secret = secret.ok_or(StatusCode::NOT_FOUND)?;
        let (parts, body) = request.into_parts();
        let body = tokio::time::timeout(BODY_PATIENCE, to_bytes(body, MAX_BODY)).await;
        let body = body.map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let asked = ReadNotificationRequest {
            query: parts.uri.query().unwrap_or_default().to_owned(),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?,
            secret,
            notification: stored.record.notification.clone(),
        };
        let call = |mut connector: ConnectorServiceClient<_>, request| async move {
            connector.read_notification(request).await
        };
        let read = self.connections.call(&watch.connection(), READ_TIMEOUT, asked, call).await;
        let read = read.map_err(|error: Error| {
            let code = tonic::Status::from(error).code();
            tracing::warn!(watch.name = %watch, ?code, "a notification cannot be read");
            StatusCode::SERVICE_UNAVAILABLE
        })?;
        self.follow(watch, stored, &read).await.map_err(unavailable)?;
        answer(read)
    }

    /// Does what follows.
    async fn follow(
        &self,
        watch: &WatchName,
        mut stored: Stored,
        read: &ReadNotificationResponse,
    ) -> Result<(), StoreError> {
        let wants = |result| match result {
            NotificationResult::Reauthorize => Wanted::Reauthorize,
            NotificationResult::Recreate => Wanted::Recreate,
            NotificationResult::Look | NotificationResult::Unspecified => Wanted::Nothing,
        };
        if read.results().any(|result| result == NotificationResult::Look) {
            self.schedule.pushed_to(watch.clone());
        }
        let wanted = read.results().map(wants).max().unwrap_or(Wanted::Nothing);
        for _ in 0..TRIES {
            // Stored rather than told: whoever renews, here or elsewhere, now or after a death, sees it.
            if stored.revision == 0 || stored.record.wanted() >= wanted {
                return Ok(());
            }
            let changed = record::Record { wanted: wanted.into(), ..stored.record };
            match record::write(self.store.as_ref(), watch, stored.revision, changed).await {
                Err(StoreError::Conflict { .. }) => {
                    stored = record::read(self.store.as_ref(), watch).await?;
                }
                other => return other.map(drop),
            }
        }
        Err(StoreError::Conflict { key: record::key(watch) })
    }
}

/// The answer that the connector gave, as text that nobody takes for a page.
fn answer(read: ReadNotificationResponse) -> Result<Response, StatusCode> {
    let status = u16::try_from(read.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response =
        plain(status.filter(|status| !status.is_informational()).ok_or(StatusCode::BAD_GATEWAY)?);
    if !read.content_type.is_empty() {
        let kind = HeaderValue::from_str(&read.content_type).map_err(|_| StatusCode::BAD_GATEWAY)?;
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    *response.body_mut() = Body::from(read.body);
    Ok(response)
}

fn plain(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
