//! Whom answers are posted to: it keeps what it is sent, and answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::{standing_still, until};

/// What was posted.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How a receiver answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It takes what it is sent.
    #[default]
    Taking,
    /// It says that it is busy.
    Busy,
    /// It never answers.
    Silent,
}

#[derive(Default)]
struct Kept {
    posted: Vec<Posted>,
    /// How it answers what it has no script for.
    mood: Mood,
    /// The answers to come first.
    script: VecDeque<(u16, String)>,
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    _stop: DropGuard,
}

impl Receiver {
    /// A receiver that answers so first: a status each, and where a redirect leads.
    pub(crate) async fn start(script: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = script.iter().map(|(status, to)| (*status, (*to).to_owned())).collect();
        let kept = Arc::new(Mutex::new(Kept { script, ..Kept::default() }));
        let router = Router::new().fallback(take).with_state(kept.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Self { address, kept, _stop: stop.drop_guard() }
    }

    pub(crate) fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/hook", self.address.port())
    }

    /// How it answers from now on. What was posted so far is forgotten.
    pub(crate) fn turns(&self, mood: Mood) {
        let mut kept = self.kept.lock().unwrap();
        kept.posted.clear();
        kept.mood = mood;
    }

    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.kept.lock().unwrap().posted.clone()
    }

    /// Waits until nothing more comes of what was on its way from somebody who is gone.
    pub(crate) async fn is_at_rest(&self) {
        standing_still("what was on its way comes", 0, || self.posted().len()).await;
    }

    /// Waits until so much was posted.
    pub(crate) async fn wait(&self, count: usize) -> Vec<Posted> {
        until("the answer is posted", || async { Some(self.posted()).filter(|it| it.len() >= count) }).await
    }
}

async fn take(State(kept): State<Arc<Mutex<Kept>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (scripted, mood) = {
        let mut kept = kept.lock().unwrap();
        kept.posted.push(Posted { path: uri.path().to_owned(), headers, body });
        (kept.script.pop_front(), kept.mood)
    };
    let (status, to) = match (scripted, mood) {
        (Some(scripted), _) => scripted,
        (None, Mood::Taking) => (204, String::new()),
        (None, Mood::Busy) => (503, String::new()),
        (None, Mood::Silent) => std::future::pending().await,
    };
    let status = StatusCode::from_u16(status).unwrap();
    if to.is_empty() { status.into_response() } else { (status, [(header::LOCATION, to)]).into_response() }
}
