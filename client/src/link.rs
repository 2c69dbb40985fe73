//! What each call passes through on its way: it shows the token, sets the deadline, and notes for retries whether the
//! call may be made again.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, stream};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, StdError};
use tonic::transport::Channel;

use crate::contract::{Repeats, terms};
use crate::retry::Witness;
use crate::settings::SettingsError;

/// The field of every request that holds its id.
const REQUEST_ID: u32 = 2;
/// The header of a call's deadline.
const TIMEOUT: &str = "grpc-timeout";
/// What stands before each message of gRPC: a flag and four bytes of length.
const PREFIX: usize = 5;

/// The token to show, which may be replaced while calls are made.
#[derive(Clone, Default)]
pub(crate) struct Token(Arc<RwLock<Option<HeaderValue>>>);

impl Token {
    /// # Errors
    /// The setting `token`, where it cannot travel in a header.
    pub(crate) fn replace(&self, token: Option<&SecretString>) -> Result<(), SettingsError> {
        let value = token.map(|token| {
            let token = token.expose_secret();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(SettingsError::new("token", "is no token: expected visible ASCII characters"));
            }
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| SettingsError::new("token", "is no token"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value.transpose()?;
        Ok(())
    }

    fn value(&self) -> Option<HeaderValue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The way to a gateway, beneath each service's client. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    channel: Channel,
    token: Token,
    call_timeout: Duration,
    witness: Option<Arc<Witness>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("call_timeout", &self.call_timeout).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(channel: Channel, token: Token, call_timeout: Duration) -> Self {
        Self { channel, token, call_timeout, witness: None }
    }

    /// The same way over another connection.
    pub(crate) fn on(&self, channel: Channel) -> Self {
        Self { channel, ..self.clone() }
    }

    /// The same way, with somebody who notes what is called.
    pub(crate) fn watched(&self, witness: Arc<Witness>) -> Self {
        Self { witness: Some(witness), ..self.clone() }
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, StdError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = self.token.value() {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        let terms = terms(request.uri().path());
        let is_unary = terms.is_some_and(|terms| !terms.streams);
        let has_own = request.headers().contains_key(TIMEOUT);
        let patience = (is_unary && !has_own).then_some(self.call_timeout);
        if let Some(patience) = patience {
            request.headers_mut().insert(TIMEOUT, timeout_value(patience));
        }
        // The channel that was made ready is the one to use; the copy takes its place.
        let copy = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, copy);
        let witness = self.witness.clone();
        let calling = async move {
            if let Some(witness) = witness {
                let (parts, body) = request.into_parts();
                let (has_id, body) = look_for_id(body).await;
                let may_repeat = terms.is_some_and(|terms| {
                    terms.repeats == Repeats::ChangeNothing || has_id && terms.is_ledgered
                });
                let can_be_asked = terms.is_some_and(|terms| terms.repeats != Repeats::Change);
                witness.note(may_repeat, can_be_asked);
                request = Request::from_parts(parts, body);
            }
            channel.call(request).await.map_err(StdError::from)
        };
        Box::pin(async move {
            let Some(patience) = patience else { return calling.await };
            // The gateway keeps the deadline too; this one also covers the way to it.
            tokio::time::timeout(patience, calling).await.unwrap_or_else(|_| Err(late().into()))
        })
    }
}

/// A deadline that passed on this side, by which it is told from one that the gateway kept.
#[derive(Debug, thiserror::Error)]
#[error("the call's deadline passed")]
struct Late;

fn late() -> Status {
    let mut status = Status::deadline_exceeded(Late.to_string());
    status.set_source(Arc::new(Late));
    status
}

/// A timeout as gRPC writes it: at most eight digits and a unit.
fn timeout_value(patience: Duration) -> HeaderValue {
    let milliseconds = patience.as_millis().max(1);
    let text = if milliseconds < 100_000_000 {
        format!("{milliseconds}m")
    } else {
        format!("{}S", patience.as_secs().min(99_999_999))
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("99999999S"))
}

/// Whether the first message of a body carries a request id, and the body as it was.
async fn look_for_id(mut body: Body) -> (bool, Body) {
    let Some(first) = body.frame().await else { return (false, body) };
    let has_id = first.as_ref().ok().and_then(|frame| frame.data_ref()).is_some_and(carries_id);
    let whole = stream::once(std::future::ready(first)).chain(BodyStream::new(body));
    (has_id, Body::new(StreamBody::new(whole)))
}

/// Whether a gRPC message, given with its prefix, has a request id. What cannot be read has none.
fn carries_id(framed: &Bytes) -> bool {
    let Some((prefix, rest)) = framed.split_at_checked(PREFIX) else { return false };
    let &[0, a, b, c, d] = prefix else { return false };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let Some(mut left) = rest.get(..length) else { return false };
    let mut has_id = false;
    while left.has_remaining() {
        let Ok((tag, wire_type)) = decode_key(&mut left) else { return false };
        if (tag, wire_type) == (REQUEST_ID, WireType::LengthDelimited) {
            // An empty text is as none; the last value counts.
            has_id = left.first().is_some_and(|length| *length != 0);
        }
        if skip_field(wire_type, tag, &mut left, DecodeContext::default()).is_err() {
            return false;
        }
    }
    has_id
}

#[cfg(test)]
mod tests {
    use postern_proto::smtp::v1::SendEmailRequest;
    use prost::Message as _;

    use super::*;

    fn framed(request_id: &str) -> Bytes {
        let request = SendEmailRequest {
            connection: "connections/mail".to_owned(),
            request_id: request_id.to_owned(),
            ..SendEmailRequest::default()
        };
        let message = request.encode_to_vec();
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).expect("it is short").to_be_bytes());
        framed.extend(message);
        framed.into()
    }

    #[test]
    fn a_request_id_is_found_where_there_is_one() {
        assert!(carries_id(&framed("invoice-1")));
        assert!(!carries_id(&framed("")));
        let whole = framed("invoice-1");
        for end in 0..whole.len() {
            assert!(!carries_id(&whole.slice(..end)), "cut at {end}");
        }
    }

    #[tokio::test]
    async fn a_body_that_was_looked_at_is_as_it_was() {
        let message = framed("invoice-1");
        let full = http_body_util::Full::new(message.clone());
        let (has_id, body) = look_for_id(Body::new(full)).await;
        assert!(has_id);
        assert_eq!(body.collect().await.expect("it is whole").to_bytes(), message);
    }

    #[test]
    fn timeouts_are_written_as_grpc_wants_them() {
        assert_eq!(timeout_value(Duration::from_secs(100)), "100000m");
        assert_eq!(timeout_value(Duration::from_nanos(1)), "1m");
        assert_eq!(timeout_value(Duration::from_secs(200_000)), "200000S");
    }

    #[test]
    fn a_token_is_not_shown_by_debug_and_a_wrong_one_is_refused() {
        let token = Token::default();
        token.replace(Some(&"sesame".into())).expect("a token");
        assert!(!format!("{:?}", token.value()).contains("sesame"));
        assert_eq!(token.replace(Some(&"a b".into())).err().map(|error| error.setting), Some("token"));
    }
}
