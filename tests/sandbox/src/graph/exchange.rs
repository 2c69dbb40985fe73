//! One request and its answer: read, faults shown, answered, recorded.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::faults::Fault;
use super::listener::Cut;
use super::recorder::Exchanged;
use super::refusal::{Answered, Refusal};
use super::tokens::Token;
use super::{Shared, batch, refusal, sign_in, subscriptions, uploads};

/// The largest request body taken; Graph's own bound is about 4 MB.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// What was asked.
pub(super) struct Exchange {
    pub(super) method: Method,
    /// Path and query as they came.
    pub(super) target: String,
    /// The decoded segments of the path, below the version for Graph.
    pub(super) segments: Vec<String>,
    /// The decoded options of the query.
    pub(super) options: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Exchange {
    /// A request made without a network. `body`: JSON, or null for none.
    pub(super) fn of(method: Method, target: &str, body: &Value) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("prefer", HeaderValue::from_static("IdType=\"ImmutableId\""));
        Self {
            method,
            target: target.to_owned(),
            segments: segments(path).1,
            options: options(query),
            headers,
            body: if body.is_null() { Bytes::new() } else { body.to_string().into() },
        }
    }

    /// The same request with other options.
    pub(super) fn with_options(&self, options: Vec<(String, String)>) -> Self {
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            segments: self.segments.clone(),
            options,
            headers: self.headers.clone(),
            body: self.body.clone(),
        }
    }

    /// The time zone that times are preferred in.
    pub(super) fn preferred_zone(&self) -> Option<String> {
        self.preferences().find_map(|stated| {
            let zone = stated.strip_prefix("outlook.timezone=")?;
            Some(zone.trim_matches('"').to_owned())
        })
    }

    /// Whether a preference was stated.
    pub(super) fn prefers(&self, preference: &str) -> bool {
        self.preferences().any(|stated| stated.eq_ignore_ascii_case(preference))
    }

    /// The page size that was preferred.
    pub(super) fn preferred_page(&self) -> Option<usize> {
        self.preferences().find_map(|stated| stated.strip_prefix("odata.maxpagesize=")?.parse().ok())
    }

    fn preferences(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
        headers.flat_map(|value| value.split(',').map(str::trim))
    }

    /// Whether ids are to be immutable.
    pub(super) fn immutable(&self) -> bool {
        self.prefers("IdType=\"ImmutableId\"")
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Refusal> {
        let content_type = self.headers.get("content-type").and_then(|value| value.to_str().ok());
        if !content_type.unwrap_or_default().starts_with("application/json") {
            return Err(refusal::bad("A supported content type is expected."));
        }
        serde_json::from_slice(&self.body).map_err(|_| {
            refusal::bad("Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.")
        })
    }
}

/// Reads, answers and records one request.
pub(super) async fn run(shared: &Shared, cut: &Cut, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let read = to_bytes(body, MAX_BODY_BYTES).await;
    let (signs_in, segments) = segments(parts.uri.path());
    let asked = Exchange {
        method: parts.method,
        options: options(parts.uri.query().unwrap_or_default()),
        segments,
        headers: parts.headers,
        body: read.as_ref().map(Bytes::clone).unwrap_or_default(),
        target,
    };
    let uploads = asked.segments.first().is_some_and(|segment| segment == uploads::PATH);
    let fault = shared.faults.take(&asked.method, &asked.target);
    // Drawn at random it may be one that follows the request; planned ones are taken when it is done.
    let (fault, drawn) = match fault {
        Some(fault) if fault.comes_after() => (None, Some(fault)),
        fault => (fault, None),
    };
    if !uploads {
        shared.recorder.count(&asked, signs_in);
    }
    let on_demand = matches!(fault, Some(Fault::Answer { .. }));
    let mut answered = match fault {
        Some(Fault::Cut) => {
            cut.cut();
            return Response::new(Body::empty());
        }
        Some(Fault::CutWithin(bytes)) => {
            uploads::take_part(shared, &asked, bytes);
            cut.cut();
            return Response::new(Body::empty());
        }
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Answer { status, headers, body }) => Answered::raw(status, &headers, body),
        _ if read.is_err() => refusal::too_large().into(),
        _ if uploads => uploads::answer(shared, &asked),
        _ if signs_in => sign_in::answer(shared, &asked),
        _ => graph(shared, &asked).await,
    };
    finish(shared, &asked, &mut answered);
    if !signs_in && !uploads {
        shared.recorder.record(&asked, &answered, on_demand);
    }
    match drawn.or_else(|| shared.faults.take_after(&asked.method, &asked.target)) {
        Some(Fault::CutAfter) => cut.cut(),
        Some(Fault::CutAt(bytes)) => return answered.cut_at(bytes),
        Some(Fault::CutInAnswer(bytes)) => cut.cut_after(bytes),
        _ => {}
    }
    answered.into_response()
}

/// Graph's answer, once the token is known.
async fn graph(shared: &Shared, asked: &Exchange) -> Answered {
    let token = match shared.tokens.check(&asked.headers) {
        Ok(token) => token,
        Err(refused) => return refused.into(),
    };
    match asked.segments.first().map(String::as_str) {
        Some("$batch") => batch::run(shared, asked, &token).await.unwrap_or_else(Into::into),
        Some("subscriptions") => subscriptions::route(shared, asked).await.unwrap_or_else(Into::into),
        _ => of_mailbox(shared, asked, &token).await,
    }
}

/// Graph's answer of one mailbox, within what a mailbox bears.
pub(super) async fn of_mailbox(shared: &Shared, asked: &Exchange, token: &Token) -> Answered {
    let mailbox = match (asked.segments.first().map(String::as_str), asked.segments.get(1), &token.user) {
        (Some("me"), _, Some(user)) => user.clone(),
        (_, named, _) => named.map(|user| user.to_lowercase()).unwrap_or_default(),
    };
    let _in_work = match shared.throttle.enter(&mailbox, asked.body.len() as u64) {
        Ok(in_work) => in_work,
        Err(refused) => return refused.into(),
    };
    if let Some(delay) = shared.faults.delay() {
        tokio::time::sleep(delay).await;
    }
    shared.graph(asked, token).unwrap_or_else(Into::into)
}

/// Adds what every answer of Graph's carries.
pub(super) fn finish(shared: &Shared, asked: &Exchange, answered: &mut Answered) {
    let now = shared.world.now();
    let text = |value: String| HeaderValue::from_str(&value).ok();
    let id = format!("{:08x}-0000-4000-8000-{:012x}", fastrand::u32(..), fastrand::u32(..));
    if let Some(Value::Object(error)) = answered.json_mut().and_then(|body| body.get_mut("error"))
        && !error.keys().any(|name| name.eq_ignore_ascii_case("innerError"))
    {
        let client = asked.headers.get("client-request-id").and_then(|value| value.to_str().ok());
        error.insert(
            "innerError".to_owned(),
            serde_json::json!({
                "date": now.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
                "request-id": id,
                "client-request-id": client.unwrap_or(&id),
            }),
        );
    }
    if let Some(date) = text(now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()) {
        answered.headers.insert("date", date);
    }
    if let Some(id) = text(id) {
        answered.headers.insert("request-id", id);
    }
    if let Some(id) = asked.headers.get("client-request-id") {
        answered.headers.insert("client-request-id", id.clone());
    }
}

/// Names in paths, whose case Graph does not heed.
pub(super) const SEGMENTS: [&str; 23] = [
    "users",
    "me",
    "mailFolders",
    "childFolders",
    "messages",
    "attachments",
    "sendMail",
    "calendar",
    "calendars",
    "calendarView",
    "events",
    "instances",
    "delta",
    "accept",
    "tentativelyAccept",
    "decline",
    "cancel",
    "dismissReminder",
    "snoozeReminder",
    "contactFolders",
    "contacts",
    "forward",
    "singleValueExtendedProperties",
];

/// The decoded segments of a path, and whether it is one of the identity platform's. `messages('id')` is taken as
/// `messages/id`.
pub(super) fn segments(path: &str) -> (bool, Vec<String>) {
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = decode(segment, false);
        match segment.split_once("('").and_then(|(name, rest)| Some((name, rest.strip_suffix("')")?))) {
            Some((name, key)) => segments.extend([name.to_owned(), key.to_owned()]),
            None => segments.push(segment.strip_suffix("()").unwrap_or(&segment).to_owned()),
        }
    }
    let signs_in = segments.get(1).is_some_and(|segment| segment == "oauth2");
    if segments.first().is_some_and(|segment| segment == "v1.0") {
        segments.remove(0);
        for name in SEGMENTS {
            for segment in segments.iter_mut().filter(|segment| segment.eq_ignore_ascii_case(name)) {
                name.clone_into(segment);
            }
        }
    }
    (signs_in, segments)
}

/// The decoded options of a query.
pub(crate) fn options(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name, true), decode(value, true)))
        .collect()
}

/// Undoes percent-encoding; in queries a plus is a space.
pub(super) fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let pair = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                std::str::from_utf8(&pair)
                    .ok()
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                    .unwrap_or(b'?')
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Exchanged {
    /// An exchange as it is recorded.
    pub(super) fn new(asked: &Exchange, answered: &Answered, on_demand: bool) -> Self {
        let pairs = |headers: &HeaderMap| {
            let pair = |(name, value): (&http::HeaderName, &HeaderValue)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            headers.iter().filter(|(name, _)| *name != "authorization").map(pair).collect()
        };
        Self {
            method: asked.method.to_string(),
            url: asked.target.clone(),
            request_headers: pairs(&asked.headers),
            request_body: serde_json::from_slice(&asked.body).unwrap_or_else(|_| {
                if asked.body.is_empty() { Value::Null } else { String::from_utf8_lossy(&asked.body).into() }
            }),
            status: answered.status.as_u16(),
            response_headers: pairs(&answered.headers),
            response_body: answered.json().cloned().unwrap_or_default(),
            on_demand,
        }
    }
}

impl Answered {
    /// The answer up to some bytes of its body, where the connection then ends.
    fn cut_at(self, bytes: usize) -> Response {
        let whole = self.bytes();
        let length = whole.len();
        let begin = whole.slice(..bytes.min(length));
        let parts = [Ok(begin), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
        let mut response = Response::new(Body::from_stream(futures_util::stream::iter(parts)));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert("content-length", HeaderValue::from(length));
        response
    }

    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.bytes()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if response.status() == StatusCode::ACCEPTED {
            response.headers_mut().insert("content-length", HeaderValue::from_static("0"));
        }
        response
    }
}
