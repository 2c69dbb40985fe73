//! `POST /$batch`: up to twenty requests in one, as Graph's documentation of JSON batching has it. Each is throttled on
//! its own, at most four are in work at once, and the answers come as they are done.

use std::collections::{HashMap, HashSet};

use axum::http::Uri;
use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Shared;
use super::exchange::{self, Exchange};
use super::faults::Fault;
use super::refusal::{self, Answer, Answered, Refusal};
use super::tokens::Token;

/// How many requests a batch holds at most.
const MOST: usize = 20;
/// How many of them Outlook works on at once.
const AT_ONCE: usize = 4;

/// A request of a batch.
struct Inner {
    id: String,
    after: Vec<String>,
    asked: Exchange,
}

/// Answers a batch.
pub(super) async fn run(shared: &Shared, asked: &Exchange, token: &Token) -> Answer {
    if asked.method != Method::POST {
        return Err(refusal::method());
    }
    let body = asked.json()?;
    let mut waiting = read(&body)?;
    let mut statuses: HashMap<String, u16> = HashMap::new();
    let mut answers = Vec::new();
    let mut in_work = FuturesUnordered::new();
    while !waiting.is_empty() || !in_work.is_empty() {
        let mut position = 0;
        while in_work.len() < AT_ONCE && position < waiting.len() {
            let ready =
                waiting.get(position).map(|inner| inner.after.iter().all(|id| statuses.contains_key(id)));
            if ready != Some(true) {
                position += 1;
                continue;
            }
            let inner = waiting.remove(position);
            let failed = inner.after.iter().any(|id| statuses.get(id).is_none_or(|status| *status >= 400));
            in_work.push(async move {
                let answered = if failed {
                    refusal::failed_dependency().into()
                } else {
                    one(shared, &inner.asked, token).await
                };
                (inner.id, inner.asked, answered)
            });
        }
        // Nothing in work and nothing ready: they wait for one another.
        let Some((id, asked, mut answered)) = in_work.next().await else {
            return Err(refusal::bad("The dependsOn of the requests form a cycle."));
        };
        exchange::finish(shared, &asked, &mut answered);
        statuses.insert(id.clone(), answered.status.as_u16());
        answers.push(shape(&id, &answered));
    }
    Ok(Answered::ok(json!({"responses": answers})))
}

async fn one(shared: &Shared, asked: &Exchange, token: &Token) -> Answered {
    match shared.faults.take(&asked.method, &asked.target) {
        Some(Fault::Answer { status, headers, body }) => Answered::raw(status, &headers, body),
        _ => exchange::of_mailbox(shared, asked, token).await,
    }
}

fn read(body: &Value) -> Result<Vec<Inner>, Refusal> {
    let requests = body["requests"].as_array().ok_or_else(|| refusal::bad("'requests' is absent."))?;
    if requests.is_empty() || requests.len() > MOST {
        return Err(refusal::bad(format!(
            "Number of batch request steps exceeds the maximum value of {MOST}."
        )));
    }
    let mut seen = HashSet::new();
    let mut read = Vec::new();
    for request in requests {
        let inner = inner(request)?;
        if !seen.insert(inner.id.clone()) {
            return Err(refusal::bad("Request ids have to be unique in a batch."));
        }
        read.push(inner);
    }
    if read.iter().flat_map(|inner| &inner.after).any(|id| !seen.contains(id)) {
        return Err(refusal::bad("A dependsOn names a request that is not in the batch."));
    }
    Ok(read)
}

fn inner(request: &Value) -> Result<Inner, Refusal> {
    let text = |name: &str| {
        request[name].as_str().ok_or_else(|| refusal::bad(format!("'{name}' of a batch request is no text.")))
    };
    let method =
        Method::from_bytes(text("method")?.as_bytes()).map_err(|_| refusal::bad("Unknown method."))?;
    let url = text("url")?;
    let target = format!("/v1.0/{}", url.trim_start_matches('/'));
    let uri: Uri = target.parse().map_err(|_| refusal::bad("The url of a batch request is none."))?;
    let mut headers = HeaderMap::new();
    for (name, value) in request["headers"].as_object().unwrap_or(&Map::new()) {
        let value = HeaderValue::from_str(value.as_str().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value) {
            headers.insert(name, value);
        }
    }
    let body = match &request["body"] {
        Value::Null => Bytes::new(),
        _ if !headers.contains_key("content-type") => {
            return Err(refusal::bad("A batch request with a body needs a Content-Type header."));
        }
        Value::String(text) => text.clone().into(),
        body => body.to_string().into(),
    };
    let after = request["dependsOn"].as_array().cloned().unwrap_or_default();
    Ok(Inner {
        id: text("id")?.to_owned(),
        after: after.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        asked: Exchange {
            method,
            options: exchange::options(uri.query().unwrap_or_default()),
            segments: exchange::segments(uri.path()).1,
            headers,
            body,
            target,
        },
    })
}

fn shape(id: &str, answered: &Answered) -> Value {
    let headers: Map<String, Value> = answered
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let mut shaped = json!({"id": id, "status": answered.status.as_u16(), "headers": headers});
    if answered.status != StatusCode::NO_CONTENT {
        shaped["body"] = match answered.json() {
            Some(body) => body.clone(),
            None => base64::engine::general_purpose::STANDARD.encode(answered.bytes()).into(),
        };
    }
    shaped
}
