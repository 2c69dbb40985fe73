//! A small provider of access tokens (RFC 6749, the token endpoint alone): it rotates refresh tokens, takes only the
//! newest, and refuses on demand.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::graph::exchange::options;

/// The client that it knows.
pub const CLIENT_ID: &str = "postern";
/// Its secret.
pub const CLIENT_SECRET: &str = "client sesame";
/// The refresh token that it knows at first.
pub const REFRESH_TOKEN: &str = "refresh-0";

/// What is done with each access token that is given.
pub type Given = Arc<dyn Fn(&str) + Send + Sync>;

/// A provider that runs until it is dropped.
pub struct TokenServer {
    url: String,
    shared: Shared,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Shared {
    given: Given,
    state: Arc<Mutex<Kept>>,
}

struct Kept {
    newest: String,
    count: usize,
    rotates: bool,
    asked: Vec<Vec<(String, String)>>,
    refusals: Vec<(u16, String)>,
}

impl TokenServer {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(given: Given) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/token", listener.local_addr()?);
        let kept = Kept {
            newest: REFRESH_TOKEN.to_owned(),
            count: 0,
            rotates: true,
            asked: Vec::new(),
            refusals: Vec::new(),
        };
        let shared = Shared { given, state: Arc::new(Mutex::new(kept)) };
        let stop = CancellationToken::new();
        let routes = Router::new().route("/token", post(token)).with_state(shared.clone());
        let ended = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, routes).with_graceful_shutdown(ended).await });
        Ok(Self { url, shared, _stop: stop.drop_guard() })
    }

    /// Its token endpoint.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The forms that it was sent so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Vec<(String, String)>> {
        self.shared.state().asked.clone()
    }

    /// Keeps the refresh token as it is from now on.
    pub fn keep_refresh_token(&self) {
        self.shared.state().rotates = false;
    }

    /// Answers the next asking with this status and body.
    pub fn refuse(&self, status: u16, body: &str) {
        self.shared.state().refusals.push((status, body.to_owned()));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn token(State(shared): State<Shared>, body: String) -> Response {
    let form = options(&body);
    let field = |name: &str| {
        form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let mut state = shared.state();
    state.asked.push(form.clone());
    if !state.refusals.is_empty() {
        let (status, body) = state.refusals.remove(0);
        return (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), body).into_response();
    }
    let by_secret = field("client_secret") == CLIENT_SECRET;
    let error = match field("grant_type") {
        _ if field("client_id") != CLIENT_ID => Some("unauthorized_client"),
        "refresh_token" => (field("refresh_token") != state.newest).then_some("invalid_grant"),
        "client_credentials" => (!by_secret).then_some("invalid_client"),
        _ => Some("unsupported_grant_type"),
    };
    if let Some(error) = error {
        let body = format!(r#"{{"error":"{error}","error_description":"for people"}}"#);
        return (StatusCode::BAD_REQUEST, body).into_response();
    }
    state.count += 1;
    let access_token = format!("access-{}", state.count);
    let mut body = format!(r#"{{"access_token":"{access_token}","token_type":"Bearer","expires_in":3600"#);
    if state.rotates && field("grant_type") == "refresh_token" {
        state.newest = format!("refresh-{}", state.count);
        body.push_str(&format!(r#","refresh_token":"{}""#, state.newest));
    }
    body.push('}');
    (shared.given)(&access_token);
    (StatusCode::OK, body).into_response()
}
