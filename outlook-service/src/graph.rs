//! Microsoft Graph as a client sees it: requests for one mailbox, repeated where that is safe, and failures classified.
//! What a failure means is the caller's to decide. It knows nothing of mail.

mod challenges;
mod clients;
mod download;
mod failure;
mod gates;
pub(crate) mod model;
mod upload;
mod verbs;
mod window;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_chassis::untrusted::is_untrusted;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{metrics, times};

pub(crate) use challenges::Challenges;
pub(crate) use clients::Clients;
pub(crate) use failure::{Failure, Refusal};
pub(crate) use gates::{Gate, Gates};
pub(crate) use upload::Stand;
pub(crate) use verbs::Again;

/// How often a request is made at most.
const MAX_TRIES: u32 = 4;
/// The first pause where the provider names none; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// How long one request may take: Graph itself gives up earlier.
const REQUEST_PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is read: a page of messages with their bodies.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Ids that stay as they are while an item stays in its mailbox.
const IMMUTABLE_IDS: &str = "IdType=\"ImmutableId\"";

/// A mailbox, for the time of one call.
#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(crate) http: reqwest::Client,
    /// Graph's base URL with version, ending in a slash.
    pub(crate) base: Url,
    /// The mailbox's address; absent: the signed-in user's own.
    pub(crate) user: Option<String>,
    pub(crate) token: SecretString,
    /// A preference that goes with each request, beside the one for immutable ids.
    pub(crate) prefer: Option<&'static str>,
    /// Lets as many requests through as Outlook allows.
    pub(crate) gate: Gate,
    /// What Graph wants the next token to claim.
    pub(crate) challenges: Arc<Challenges>,
    /// When the call must be done.
    pub(crate) until: Instant,
}

/// A request.
struct Ask {
    method: Method,
    url: Url,
    /// How many items a page is to hold at most.
    page: Option<usize>,
    /// The version that an item must still have.
    if_match: Option<String>,
    body: Option<Vec<u8>>,
    again: Again,
}

impl Ask {
    fn new(method: Method, url: Url, again: Again) -> Self {
        Self { method, url, page: None, if_match: None, body: None, again }
    }
}

/// An answer of success.
struct Reply {
    status: u16,
    date: Option<Timestamp>,
    body: Vec<u8>,
}

impl Mailbox {
    /// The mailbox with a preference that goes with each request.
    pub(crate) fn preferring(self, prefer: &'static str) -> Self {
        Self { prefer: Some(prefer), ..self }
    }

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

    /// The URL of something that belongs to no mailbox.
    pub(crate) fn service(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
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

    /// Makes a request until it succeeds, fails for good, or time or tries run out.
    async fn run(&self, ask: Ask) -> Result<Reply, Failure> {
        let mut tries = 1;
        loop {
            let failure = match self.once(&ask).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let worth = failure.did_nothing() || (ask.again == Again::Harmless && failure.is_passing());
            let pause = pause_after(tries, failure.retry_after());
            if !worth || tries == MAX_TRIES || Instant::now() + pause >= self.until {
                let (request_id, client_request_id) = failure.ids();
                tracing::debug!(
                    tries,
                    method = %ask.method,
                    graph.request_id = request_id,
                    graph.client_request_id = client_request_id,
                    %failure,
                    "request to Graph failed"
                );
                return Err(failure);
            }
            tries += 1;
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, ask: &Ask) -> Result<Reply, Failure> {
        let upload = ask.body.as_ref().map_or(0, Vec::len);
        let _place = self.gate.pass(upload as u64, self.until).await?;
        let client_request_id = request_id();
        self.in_time(&client_request_id, self.converse(ask, &client_request_id)).await
    }

    /// Ends a conversation that takes too long, and heeds the pause that its end asks for.
    async fn in_time<T>(
        &self,
        client_request_id: &str,
        conversation: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let broken = || Failure::Broken { client_request_id: client_request_id.to_owned() };
        let until = self.until.min(Instant::now() + REQUEST_PATIENCE);
        let answered = tokio::time::timeout_at(until, conversation).await.unwrap_or_else(|_| Err(broken()));
        if let Err(failure) = &answered
            && let Some(pause) = failure.pause()
        {
            metrics::THROTTLED.inc();
            self.gate.shut(pause);
        }
        answered
    }

    async fn converse(&self, ask: &Ask, client_request_id: &str) -> Result<Reply, Failure> {
        self.reply(self.request(ask, client_request_id), client_request_id).await
    }

    /// Sends a request and gives the answer of success, its body not read yet.
    async fn send(&self, request: RequestBuilder, client_request_id: &str) -> Result<Response, Failure> {
        let id = || client_request_id.to_owned();
        let begun = Instant::now();
        let mut answer = request.send().await.map_err(|error| {
            metrics::UNANSWERED.inc();
            if is_untrusted(&error) {
                Failure::Untrusted
            } else if error.is_connect() || error.is_builder() {
                Failure::Unreached { client_request_id: id() }
            } else {
                Failure::Broken { client_request_id: id() }
            }
        })?;
        metrics::SECONDS.record(begun.elapsed());
        let status = answer.status().as_u16();
        metrics::answered(status);
        if answer.status().is_success() {
            return Ok(answer);
        }
        let body = read(&mut answer, client_request_id).await?;
        let headers = answer.headers();
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.challenges.heed(&self.token, headers);
        }
        let date = text(headers, "date").and_then(times::from_http);
        let retry_after = text(headers, "retry-after").and_then(|text| times::retry_after(text, date));
        let request_id = text(headers, "request-id").map(failure::plain);
        Err(Failure::Refused(Box::new(Refusal::read(status, &body, request_id, id(), retry_after))))
    }

    /// Sends a request and reads the answer of success whole.
    async fn reply(&self, request: RequestBuilder, client_request_id: &str) -> Result<Reply, Failure> {
        let mut answer = self.send(request, client_request_id).await?;
        let date = text(answer.headers(), "date").and_then(times::from_http);
        let body = read(&mut answer, client_request_id).await?;
        Ok(Reply { status: answer.status().as_u16(), date, body })
    }

    fn request(&self, ask: &Ask, client_request_id: &str) -> RequestBuilder {
        let request = self
            .http
            .request(ask.method.clone(), ask.url.clone())
            .headers(self.headers(ask, client_request_id));
        match &ask.body {
            Some(body) => request.header("content-type", "application/json").body(body.clone()),
            None if ask.method == Method::POST => request.header("content-length", "0"),
            None => request,
        }
    }

    fn headers(&self, ask: &Ask, client_request_id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut prefer = IMMUTABLE_IDS.to_owned();
        for wish in self.prefer.map(str::to_owned).into_iter().chain(ask.page.map(page_size)) {
            prefer.push_str(", ");
            prefer.push_str(&wish);
        }
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

/// How long to wait after so many tries: as long as was asked for, else longer each time. Jitter keeps callers that
/// were turned away together from coming back together.
pub(crate) fn pause_after(tries: u32, asked: Option<Duration>) -> Duration {
    let doubling = FIRST_PAUSE * 2_u32.pow(tries - 1);
    asked.unwrap_or(doubling) + doubling.mul_f64(fastrand::f64())
}

fn page_size(size: usize) -> String {
    format!("odata.maxpagesize={size}")
}

async fn read(answer: &mut Response, client_request_id: &str) -> Result<Vec<u8>, Failure> {
    let broken = |_| Failure::Broken { client_request_id: client_request_id.to_owned() };
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(Failure::unreadable(answer.status().as_u16()));
        }
    }
    Ok(body)
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
pub(crate) fn request_id() -> String {
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
            prefer: None,
            gate: Gates::new(crate::settings::LimitSettings::default()).gate("", 1),
            challenges: Arc::default(),
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
        // Bytes are put where Graph says, but not in the clear.
        assert!(mailbox.upload_link("https://outlook.example/upload?t=1").is_ok());
        for unsafe_one in ["http://outlook.example/upload", "ftp://outlook.example/upload", "upload"] {
            assert!(mailbox.upload_link(unsafe_one).is_err(), "{unsafe_one}");
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
