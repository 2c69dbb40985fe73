//! Microsoft Graph as a client sees it: requests for one mailbox, repeated where that is safe, and failures classified.
//! What a failure means is the caller's to decide. It knows nothing of mail.

mod clients;
mod failure;
mod gates;
mod items;
pub(crate) mod model;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::times;

pub(crate) use clients::Clients;
pub(crate) use failure::{Failure, Refusal, is_untrusted};
pub(crate) use gates::{Gate, Gates};
pub(crate) use items::Again;

/// How often a request is made at most.
const MAX_TRIES: u32 = 4;
/// The first pause where Graph names none; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// How long one request may take: Graph itself gives up earlier.
const REQUEST_PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is read: a page of messages with their bodies.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Ids that stay as they are while an item stays in its mailbox.
const IMMUTABLE_IDS: &str = "IdType=\"ImmutableId\"";

/// A mailbox, for the time of one call.
pub(crate) struct Mailbox {
    pub(crate) http: reqwest::Client,
    /// Graph's base URL with version, ending in a slash.
    pub(crate) base: Url,
    /// The mailbox's address; absent: the signed-in user's own.
    pub(crate) user: Option<String>,
    pub(crate) token: SecretString,
    /// Lets as many requests through as Outlook allows at once.
    pub(crate) gate: Arc<Gate>,
    /// When the call must be done.
    pub(crate) until: Instant,
}

/// What was read, and when Graph said so by its own clock.
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) date: Option<Timestamp>,
}

/// A request.
struct Ask<'a> {
    method: Method,
    url: Url,
    /// A preference beside the one for immutable ids.
    prefer: Option<String>,
    /// The version that an item must still have.
    if_match: Option<String>,
    body: Option<&'a [u8]>,
    /// Whether it may be made twice without harm.
    safe: bool,
}

/// An answer of success.
struct Reply {
    status: u16,
    date: Option<Timestamp>,
    body: Vec<u8>,
}

impl Mailbox {
    /// The URL of something in the mailbox.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            match &self.user {
                Some(user) => path.push("users").push(user),
                None => path.push("me"),
            };
            path.extend(segments);
        }
        url
    }

    /// A link that Graph gave, to be followed as it is.
    ///
    /// # Errors
    /// It leads elsewhere: the access token must not go there.
    pub(crate) fn link(&self, link: &str) -> Result<Url, Failure> {
        let url = Url::parse(link).map_err(|_| Failure::ForeignLink)?;
        let inside = url.origin() == self.base.origin()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path().starts_with(self.base.path());
        if inside { Ok(url) } else { Err(Failure::ForeignLink) }
    }

    /// Reads JSON. `page`: how many items a page is to hold at most.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        url: Url,
        page: Option<usize>,
    ) -> Result<Read<T>, Failure> {
        let prefer = page.map(|size| format!("odata.maxpagesize={size}"));
        let reply = self
            .run(Ask { method: Method::GET, url, prefer, if_match: None, body: None, safe: true })
            .await?;
        Ok(Read { value: reply.json()?, date: reply.date })
    }

    /// Reads bytes.
    pub(crate) async fn bytes(&self, url: Url) -> Result<Vec<u8>, Failure> {
        let ask = Ask { method: Method::GET, url, prefer: None, if_match: None, body: None, safe: true };
        Ok(self.run(ask).await?.body)
    }

    /// Makes something. Repeated only where it is certain that nothing was made.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|_| Failure::unreadable(0))?;
        let ask =
            Ask { method: Method::POST, url, prefer: None, if_match: None, body: Some(&body), safe: false };
        self.run(ask).await?.json()
    }

    /// Has something done that answers nothing. Repeated only where it is certain that nothing was done.
    pub(crate) async fn act(&self, url: Url) -> Result<(), Failure> {
        self.run(Ask { method: Method::POST, url, prefer: None, if_match: None, body: None, safe: false })
            .await
            .map(drop)
    }

    /// Deletes something.
    pub(crate) async fn delete(&self, url: Url) -> Result<(), Failure> {
        self.run(Ask { method: Method::DELETE, url, prefer: None, if_match: None, body: None, safe: true })
            .await
            .map(drop)
    }

    /// Makes a request until it succeeds, fails for good, or time or tries run out.
    async fn run(&self, ask: Ask<'_>) -> Result<Reply, Failure> {
        let mut tries = 1;
        loop {
            let failure = match self.once(&ask).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let worth = failure.did_nothing() || (ask.safe && failure.is_passing());
            let asked = failure.retry_after();
            let doubling = FIRST_PAUSE * 2_u32.pow(tries - 1);
            // Jitter keeps callers that were turned away together from coming back together.
            let pause = asked.unwrap_or(doubling) + doubling.mul_f64(fastrand::f64());
            if !worth || tries == MAX_TRIES || Instant::now() + pause >= self.until {
                tracing::debug!(tries, method = %ask.method, %failure, "request to Graph failed");
                return Err(failure);
            }
            tries += 1;
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Reply, Failure> {
        let _place = self.gate.pass(self.until).await?;
        let client_request_id = request_id();
        let broken = || Failure::Broken { client_request_id: client_request_id.clone() };
        let answered = self.converse(ask, &client_request_id);
        let until = self.until.min(Instant::now() + REQUEST_PATIENCE);
        let answered = tokio::time::timeout_at(until, answered).await.unwrap_or_else(|_| Err(broken()));
        if let Err(failure) = &answered
            && failure.is_throttling()
            && let Some(pause) = failure.retry_after()
        {
            self.gate.shut(pause);
        }
        answered
    }

    async fn converse(&self, ask: &Ask<'_>, client_request_id: &str) -> Result<Reply, Failure> {
        let id = || client_request_id.to_owned();
        let request = self
            .http
            .request(ask.method.clone(), ask.url.clone())
            .headers(self.headers(ask, client_request_id));
        let request = match ask.body {
            Some(body) => request.header("content-type", "application/json").body(body.to_vec()),
            None if ask.method == Method::POST => request.header("content-length", "0"),
            None => request,
        };
        let mut answer = request.send().await.map_err(|error| {
            if is_untrusted(&error) {
                Failure::Untrusted
            } else if error.is_connect() || error.is_builder() {
                Failure::Unreached { client_request_id: id() }
            } else {
                Failure::Broken { client_request_id: id() }
            }
        })?;
        let status = answer.status();
        let headers = answer.headers().clone();
        let date = text(&headers, "date").and_then(times::from_http);
        let mut body = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|_| Failure::Broken { client_request_id: id() })?
        {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(Failure::unreadable(status.as_u16()));
            }
        }
        if status.is_success() {
            return Ok(Reply { status: status.as_u16(), date, body });
        }
        let retry_after = text(&headers, "retry-after").and_then(|text| times::retry_after(text, date));
        let request_id = text(&headers, "request-id").map(str::to_owned);
        let refusal = Refusal::read(status.as_u16(), &body, request_id, id(), retry_after);
        Err(Failure::Refused(Box::new(refusal)))
    }

    fn headers(&self, ask: &Ask<'_>, client_request_id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let prefer = match &ask.prefer {
            Some(prefer) => format!("{IMMUTABLE_IDS}, {prefer}"),
            None => IMMUTABLE_IDS.to_owned(),
        };
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", self.token.expose_secret())) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let given = [("prefer", Some(prefer.as_str())), ("client-request-id", Some(client_request_id))];
        let given = given.into_iter().chain([("if-match", ask.if_match.as_deref())]);
        for (name, value) in given.filter_map(|(name, value)| Some((name, value?))) {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

impl Reply {
    fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| Failure::unreadable(self.status))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A new id for a request, a random GUID as Graph wants it.
fn request_id() -> String {
    let (high, low) = (fastrand::u64(..), fastrand::u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff,
    )
}

/// Puts query options on a URL. The dollar is left as Graph's documentation writes it, and a space is never a plus.
pub(crate) fn with_options(mut url: Url, options: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().clear().extend_pairs(options);
    let query = url.query().unwrap_or_default().replace("%24", "$").replace('+', "%20");
    url.set_query(Some(&query));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> Mailbox {
        Mailbox {
            http: reqwest::Client::builder().build().unwrap(),
            base: Url::parse("https://graph.example/v1.0/").unwrap(),
            user: Some("ann+x@example.org".into()),
            token: String::new().into(),
            gate: Arc::new(Gate::new(1)),
            until: Instant::now(),
        }
    }

    #[tokio::test]
    async fn links_that_leave_the_configured_graph_are_not_followed() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mailbox = mailbox();
        assert!(mailbox.link("https://graph.example/v1.0/users/x/messages?$skip=1").is_ok());
        for foreign in [
            "https://graph.example.evil.example/v1.0/users",
            "http://graph.example/v1.0/users",
            "https://graph.example:444/v1.0/users",
            "https://a@graph.example/v1.0/users",
            "https://graph.example/v1.0/../beta/users",
            "https://graph.example/beta/users",
            "/v1.0/users",
        ] {
            assert!(mailbox.link(foreign).is_err(), "{foreign}");
        }
    }

    #[tokio::test]
    async fn ids_and_options_are_encoded_once() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = mailbox().url(&["messages", "AA/b="]);
        assert!(url.as_str().ends_with("/messages/AA%2Fb="), "{url}");
        let url = with_options(url, &[("$filter", "displayName eq 'a+b & $c'")]);
        assert!(url.as_str().ends_with("?$filter=displayName%20eq%20%27a%2Bb%20%26%20$c%27"), "{url}");
        let id = request_id();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
    }
}
