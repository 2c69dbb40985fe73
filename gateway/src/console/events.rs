//! Events as they happen, and each in full.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use askama::Template;
use axum::body::Body;
use axum::extract::Query;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use postern_proto::FILE_DESCRIPTOR_SET;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::{Event, EventFilter, ListEventsRequest, StartPosition, SubscribeRequest};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::Deserialize;
use std::sync::LazyLock;

use super::failure::{failed, status_of};
use super::session::Session;
use super::show::{clock, exact};
use crate::pages::{page, plain, whole};

const HERE: &str = "/events";
/// How many events the page begins with, and of what time.
const FIRST: usize = 50;
const FIRST_AGE: Duration = Duration::from_secs(3_600);
/// How many pages of the log are read for them at most.
const FIRST_PAGES: usize = 20;
/// The longest silence of the stream: proxies close what is silent for a minute.
const HEARTBEAT_SECONDS: i64 = 20;

static DESCRIPTORS: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// Which events are wanted.
#[derive(Deserialize, Default)]
pub(super) struct Wanted {
    #[serde(default)]
    source: String,
    #[serde(default, rename = "type")]
    event_type: String,
}

impl Wanted {
    fn filter(&self) -> EventFilter {
        let words = |text: &str| {
            let words = text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        };
        EventFilter { sources: words(&self.source), types: words(&self.event_type) }
    }

    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("source", &self.source).append_pair("type", &self.event_type).finish()
    }
}

/// An event as it is shown.
pub(crate) struct Shown {
    pub(crate) time: String,
    pub(crate) exact: String,
    pub(crate) event_type: String,
    pub(crate) source: String,
    /// What it is about, in a few words.
    pub(crate) about: String,
    /// The whole of it, as JSON.
    pub(crate) json: String,
    /// The body of a mail, where it is HTML: shown in a frame that may do nothing.
    pub(crate) html: String,
}

impl Shown {
    pub(crate) fn of(event: Event) -> Self {
        let kind = event.data.as_ref().and_then(|data| data.kind.as_ref());
        let html = match kind {
            Some(Kind::NewEmail(email)) if email.is_html => email.body.clone(),
            _ => String::new(),
        };
        let about = kind.map(about).unwrap_or_default();
        Self {
            time: clock(event.record_time.as_ref().or(event.time.as_ref())),
            exact: exact(event.record_time.as_ref().or(event.time.as_ref())),
            about,
            json: json(&event),
            html,
            event_type: event.r#type,
            source: event.source,
        }
    }
}

fn about(kind: &Kind) -> String {
    match kind {
        Kind::NewEmail(email) => {
            let from = email.from.as_ref().map(|from| from.address.as_str()).unwrap_or_default();
            format!("{from}: {}", email.subject)
        }
        Kind::EventCreated(entry) | Kind::EventStartingSoon(entry) => entry.subject.clone(),
        Kind::EventModified(modified) => {
            let subject = modified.event.as_ref().map(|entry| entry.subject.as_str()).unwrap_or_default();
            format!("{subject} ({})", modified.changed_fields.join(", "))
        }
        Kind::ConnectionStateChanged(changed) => {
            format!("{} {}", changed.state().as_str_name(), changed.reason)
        }
        Kind::TriggerGap(gap) => gap.reason.clone(),
        Kind::EmailDelivered(it) => it.queued_email.clone(),
        Kind::EmailDeferred(it) => why(&it.queued_email, it.failure.as_ref()),
        Kind::EmailFailed(it) => why(&it.queued_email, it.failure.as_ref()),
        Kind::ApprovalResponded(it) => format!("{}: {}", it.subject, it.selected_option),
        Kind::ApprovalEnded(it) => format!("{}: {}", it.subject, it.state().as_str_name()),
    }
}

fn why(name: &str, failure: Option<&postern_proto::mail::v1::Failure>) -> String {
    format!("{name}: {}", failure.map(|failure| failure.message.as_str()).unwrap_or_default())
}

/// An event as JSON, in the proto3 mapping.
fn json(event: &Event) -> String {
    let descriptor = DESCRIPTORS.as_ref().and_then(|pool| pool.get_message_by_name("postern.event.v1.Event"));
    let message = descriptor
        .and_then(|descriptor| DynamicMessage::decode(descriptor, event.encode_to_vec().as_slice()).ok());
    message.and_then(|message| serde_json::to_string_pretty(&message).ok()).unwrap_or_default()
}

#[derive(Template)]
#[template(path = "console/events.html")]
struct Events<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    wanted: &'a Wanted,
    source: String,
    events: Vec<Shown>,
}

/// One event of a list.
#[derive(Template)]
#[template(path = "console/event.html")]
struct One<'a> {
    event: &'a Shown,
}

/// `GET /console/events`
pub(super) async fn show(session: Session, Query(wanted): Query<Wanted>) -> Response {
    let mut events: Vec<Event> = Vec::new();
    let since = Position::Time((SystemTime::now() - FIRST_AGE).into());
    let mut request = ListEventsRequest {
        filter: Some(wanted.filter()),
        start: Some(StartPosition { position: Some(since) }),
        page_size: 500,
        page_token: String::new(),
    };
    for _ in 0..FIRST_PAGES {
        match session.api.events().list_events(request.clone()).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                events.extend(answer.events);
                events.drain(..events.len().saturating_sub(FIRST));
                if answer.next_page_token.is_empty() {
                    break;
                }
                request.page_token = answer.next_page_token;
            }
            Err(status) => return failed(&session, "", &status),
        }
    }
    let events: Vec<_> = events.into_iter().rev().map(Shown::of).collect();
    let source = format!("{}/console/events/stream?{}", session.root, wanted.query());
    let (root, session) = (&session.root, &session);
    page(StatusCode::OK, &Events { root, here: HERE, session, wanted: &wanted, source, events })
}

/// `GET /console/events/stream`: each event from now on as a list item (Server-Sent Events).
pub(super) async fn stream(session: Session, Query(wanted): Query<Wanted>) -> Response {
    let heartbeat = prost_types::Duration { seconds: HEARTBEAT_SECONDS, nanos: 0 };
    let request = SubscribeRequest {
        filter: Some(wanted.filter()),
        heartbeat_interval: Some(heartbeat),
        ..Default::default()
    };
    let answers = match session.api.events().subscribe(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return plain(status_of(&status), status.message()),
    };
    let messages = answers.map(|answer| {
        Ok::<_, Infallible>(match answer.map(|answer| answer.kind) {
            Ok(Some(Answer::Batch(batch))) => {
                let items: Vec<_> = batch.events.into_iter().map(Shown::of).map(item).collect();
                items.concat().into()
            }
            Ok(_) => Bytes::from_static(b": alive\n\n"),
            // The browser comes again by itself.
            Err(status) if status.code() == tonic::Code::Unavailable => Bytes::new(),
            Err(status) => message("failed", status.message()).into(),
        })
    });
    whole(StatusCode::OK, "text/event-stream", Body::from_stream(messages))
}

fn item(event: Shown) -> Bytes {
    message("event", &One { event: &event }.render().unwrap_or_default()).into()
}

/// A message of a stream of Server-Sent Events.
fn message(kind: &str, text: &str) -> String {
    let mut message = format!("event: {kind}\n");
    for line in text.lines() {
        message.push_str("data: ");
        message.push_str(line);
        message.push('\n');
    }
    message.push('\n');
    message
}
