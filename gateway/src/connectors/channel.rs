//! The way to one address of a connector: an HTTP/2 connection that is made when it is first needed, and anew once it has
//! gone. A call goes from its own task straight to the connection's, with nothing between the two.

mod answer;
mod dial;
mod link;

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response, Uri, Version};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::body::Body;
use tower::Service;

pub use answer::AnswerBody;
pub(super) use dial::Dial;
use link::Link;

/// How long a connection may take to come about: its name's address, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Who asks, where a caller does not say so itself.
const OURSELVES: HeaderValue =
    HeaderValue::from_static(concat!("postern-gateway/", env!("CARGO_PKG_VERSION")));

/// An error of whatever made a connection.
pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChannelError {
    /// There was no connection to make the call on: nothing was handed over.
    #[error("no connection came about")]
    NotConnected(#[source] Arc<dyn StdError + Send + Sync>),
    /// The connection was given up, for the other side gave no sign of life.
    #[error("the other side gave no sign of life")]
    Silent,
    /// The call broke off.
    #[error("the call broke off")]
    Broken(#[source] Arc<h2::Error>),
}

impl ChannelError {
    fn not_connected(error: impl Into<BoxError>) -> Self {
        Self::NotConnected(error.into().into())
    }

    /// Whether there was no connection to make the call on.
    #[must_use]
    pub fn is_not_connected(&self) -> bool {
        matches!(self, Self::NotConnected(_))
    }

    /// Whether the connection was given up because the connector no longer answered pings: it may still be at work.
    /// Where its process had died, the system would have closed the connection.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent)
    }

    /// Whether nothing was processed of the call, as far as the way to the connector can tell: there was no connection,
    /// or the connector said so. It refused the stream, or it went away (GOAWAY) and the stream is behind the last that
    /// it took (RFC 9113, sections 8.7 and 6.8). h2 gives a peer's GOAWAY as the error of those alone.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::NotConnected(_) => true,
            Self::Silent => false,
            Self::Broken(error) => {
                let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
                error.is_remote() && (is_refused || error.is_go_away())
            }
        }
    }
}

/// The way to one address. Cheap to clone: clones share the connection.
#[derive(Debug, Clone)]
pub struct Channel(Arc<Way>);

#[derive(Debug)]
struct Way {
    address: Uri,
    dial: Dial,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// There is no connection.
    Down,
    /// One is being made; whoever needs it is told what became of it.
    Dialling(watch::Receiver<Option<Result<Link, ChannelError>>>),
    /// There is one, or was when it was last used.
    Up(Link),
}

impl Channel {
    /// A channel to an address (scheme, host and port), whose connections are made by `dial`.
    pub(super) fn new(address: Uri, dial: Dial) -> Self {
        Self(Arc::new(Way { address, dial, state: Mutex::new(State::Down) }))
    }

    /// Makes a call. The request's first frame goes with its head; the others are passed on as they come, whether the
    /// answer is read or not. Whoever drops the future or the answer ends the call.
    ///
    /// # Errors
    /// There is no connection, or the call broke off before its answer began.
    pub(crate) async fn exchange<B>(
        &self,
        mut request: Request<B>,
    ) -> Result<Response<AnswerBody>, ChannelError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Send,
    {
        let mut uri = self.0.address.clone().into_parts();
        uri.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(uri).map_err(ChannelError::not_connected)?;
        *request.version_mut() = Version::HTTP_2;
        self.0.link().await?.exchange(request).await
    }
}

impl Way {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection; a new one where there is none that takes calls. All who need one wait for the same.
    async fn link(self: &Arc<Self>) -> Result<Link, ChannelError> {
        let mut dialling = {
            let mut state = self.state();
            if let State::Up(link) = &*state {
                let mut link = link.clone();
                if link.takes_calls() {
                    return Ok(link);
                }
            }
            match &*state {
                // One whose maker is gone without a word will not come about.
                State::Dialling(dialling) if dialling.has_changed().is_ok() => dialling.clone(),
                _ => {
                    let dialling = self.dial();
                    *state = State::Dialling(dialling.clone());
                    dialling
                }
            }
        };
        let outcome = dialling.wait_for(Option::is_some).await;
        let outcome = outcome.map_err(ChannelError::not_connected)?.clone();
        outcome.unwrap_or_else(|| Err(ChannelError::not_connected("it was not made")))
    }

    /// Begins to make a connection, in a task of its own: it is of use even if who needed it has given up.
    fn dial(self: &Arc<Self>) -> watch::Receiver<Option<Result<Link, ChannelError>>> {
        let (tell, told) = watch::channel(None);
        let way = self.clone();
        tokio::spawn(async move {
            let outcome = match timeout(CONNECT_TIMEOUT, way.dial.link()).await {
                Ok(made) => made.map_err(ChannelError::not_connected),
                Err(elapsed) => Err(ChannelError::not_connected(elapsed)),
            };
            if let Err(error) = &outcome {
                tracing::debug!(connector.address = %way.address, error = error.source(), "no connection came about");
            }
            *way.state() = outcome.as_ref().map_or(State::Down, |link| State::Up(link.clone()));
            tell.send_replace(Some(outcome));
        });
        told
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<AnswerBody>;
    type Error = ChannelError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, ChannelError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let channel = self.clone();
        request.headers_mut().entry(USER_AGENT).or_insert(OURSELVES);
        Box::pin(async move { channel.exchange(request).await })
    }
}

#[cfg(test)]
mod tests;
