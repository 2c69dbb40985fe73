//! Events as they happen: the page begins with the newest, and its stream goes on right behind them.

mod shown;

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use askama::Template;
use axum::body::Body;
use axum::extract::Query;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::{
    Batch, Event, EventFilter, ListEventsRequest, StartPosition, SubscribeRequest, SubscribeResponse,
};
use serde::Deserialize;
use tonic::{Code, Status, Streaming};

use super::failure::{failed, status_of};
use super::session::Session;
use super::show::many;
use crate::pages::{page, plain, whole};

pub(crate) use shown::Shown;

const HERE: &str = "/events";
/// How many events the page begins with.
const FIRST: usize = 50;
/// Of what time they are: the shortest that holds as many is read, so that what is shown is the newest, and the last is
/// the longest.
const AGES: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
    HOUR,
];
const HOUR: Duration = Duration::from_secs(3_600);
/// How often a time is halved in which more happened than is read.
const HALVES: usize = 10;
/// How many pages of the log, and of how many events, are read for an age at most.
const PAGES: usize = 20;
const PAGE: i32 = 500;
/// The longest silence of the stream: proxies close what is silent for a minute.
const HEARTBEAT_SECONDS: i64 = 20;

/// Which events are wanted.
#[derive(Deserialize, Default)]
pub(super) struct Wanted {
    #[serde(default)]
    source: String,
    #[serde(default, rename = "type")]
    event_type: String,
    /// After which cursor: what the stream is asked for.
    #[serde(default)]
    after: String,
}

impl Wanted {
    fn filter(&self) -> EventFilter {
        let words = |text: &str| {
            let words = text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        };
        EventFilter { sources: words(&self.source), types: words(&self.event_type) }
    }

    fn query(&self, after: &[u8]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("source", &self.source).append_pair("type", &self.event_type);
        query.append_pair("after", &URL_SAFE_NO_PAD.encode(after)).finish()
    }

    fn is_filter(&self) -> bool {
        !self.source.is_empty() || !self.event_type.is_empty()
    }
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
    let (newest, cursor) = match newest(&session, &wanted).await {
        Ok(newest) => newest,
        Err(status) => return failed(&session, "", &status),
    };
    let mut events = Vec::with_capacity(newest.len());
    for event in newest.into_iter().rev() {
        events.push(Shown::of(event, &session.api).await);
    }
    let source = format!("{}/console/events/stream?{}", session.root, wanted.query(&cursor));
    let (root, session) = (&session.root, &session);
    page(StatusCode::OK, &Events { root, here: HERE, session, wanted: &wanted, source, events })
}

/// The newest events, oldest first, and the cursor right behind the last of them.
async fn newest(session: &Session, wanted: &Wanted) -> Result<(Vec<Event>, Vec<u8>), Status> {
    // Where the log stands before it is read: what comes later is read, or the stream's.
    let request = SubscribeRequest { filter: Some(wanted.filter()), ..Default::default() };
    let mut answers = session.api.events().subscribe(request).await?.into_inner();
    let mut cursor = match answers.message().await?.and_then(|answer| answer.kind) {
        Some(Answer::Opened(opened)) => opened.cursor,
        _ => Vec::new().into(),
    };
    drop(answers);
    let newest = of_the_last(session, wanted).await?;
    if let Some(last) = newest.last() {
        cursor.clone_from(&last.cursor);
    }
    Ok((newest, cursor.to_vec()))
}

/// The events of the shortest time that holds as many as are shown, or of the longest.
async fn of_the_last(session: &Session, wanted: &Wanted) -> Result<Vec<Event>, Status> {
    let now = SystemTime::now();
    let (mut newest, mut whole) = (Vec::new(), Duration::ZERO);
    for age in AGES {
        let (events, is_whole) = since(session, wanted, now - age).await?;
        if !is_whole {
            // What was read ends before the newest: they lie in a shorter time, which is looked for by halves.
            let mut too_long = age;
            for _ in 0..HALVES {
                let half = whole + (too_long - whole) / 2;
                match since(session, wanted, now - half).await? {
                    (events, true) => (newest, whole) = (events, half),
                    (_, false) => too_long = half,
                }
                if newest.len() >= FIRST {
                    break;
                }
            }
            return Ok(if newest.is_empty() { events } else { newest });
        }
        (newest, whole) = (events, age);
        if newest.len() >= FIRST {
            break;
        }
    }
    Ok(newest)
}

/// The last events of those since a time, and whether these are all.
async fn since(session: &Session, wanted: &Wanted, time: SystemTime) -> Result<(Vec<Event>, bool), Status> {
    let mut events: Vec<Event> = Vec::new();
    let mut request = ListEventsRequest {
        filter: Some(wanted.filter()),
        start: Some(StartPosition { position: Some(Position::Time(time.into())) }),
        page_size: PAGE,
        page_token: String::new(),
    };
    for _ in 0..PAGES {
        let answer = session.api.events().list_events(request.clone()).await?.into_inner();
        events.extend(answer.events);
        events.drain(..events.len().saturating_sub(FIRST));
        if answer.next_page_token.is_empty() {
            return Ok((events, true));
        }
        request.page_token = answer.next_page_token;
    }
    Ok((events, false))
}

/// `GET /console/events/stream`: each event after a cursor as a list item (Server-Sent Events). A browser that comes again
/// says which it had last.
pub(super) async fn stream(session: Session, headers: HeaderMap, Query(wanted): Query<Wanted>) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let Ok(cursor) = URL_SAFE_NO_PAD.decode(last.unwrap_or(&wanted.after)) else {
        return plain(StatusCode::BAD_REQUEST, "after is no cursor of this page");
    };
    let position = (!cursor.is_empty()).then(|| Position::Cursor(cursor.into()));
    let request = SubscribeRequest {
        filter: Some(wanted.filter()),
        start: Some(StartPosition { position }),
        heartbeat_interval: Some(prost_types::Duration { seconds: HEARTBEAT_SECONDS, nanos: 0 }),
        ..Default::default()
    };
    let answers = match session.api.events().subscribe(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return plain(status_of(&status), status.message()),
    };
    let messages = stream::unfold(Some((answers, session)), |going| async move {
        let (mut answers, session) = going?;
        let answer = next(&mut answers).await?;
        if session.is_over() {
            return Some((Ok::<_, Infallible>(message("signed-out", &[], "signed out")), None));
        }
        let message = match answer {
            Ok(Answer::Batch(batch)) => items(batch, &session).await,
            Ok(Answer::Opened(opened)) => message("alive", &opened.cursor, "alive"),
            Ok(Answer::Heartbeat(heartbeat)) => message("alive", &heartbeat.cursor, "alive"),
            Ok(Answer::Gap(gap)) => {
                let missed = usize::try_from(gap.missed).unwrap_or_default();
                let missed = if missed > 0 {
                    many(missed, "event is", "events are")
                } else {
                    "some events are".into()
                };
                message("gap", &gap.to_cursor, &format!("{missed} no longer kept"))
            }
            Err(status) => return Some((Ok(message("failed", &[], status.message())), None)),
        };
        Some((Ok(message), Some((answers, session))))
    });
    whole(StatusCode::OK, "text/event-stream", Body::from_stream(messages))
}

/// The next answer that says something. `None`: the stream has ended, and the browser comes again by itself.
async fn next(answers: &mut Streaming<SubscribeResponse>) -> Option<Result<Answer, Status>> {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => match answer.kind {
                Some(kind) => return Some(Ok(kind)),
                None => continue,
            },
            Ok(None) => return None,
            Err(status) if status.code() == Code::Unavailable => return None,
            Err(status) => return Some(Err(status)),
        }
    }
}

async fn items(batch: Batch, session: &Session) -> Bytes {
    let mut items = Vec::new();
    for event in batch.events {
        let cursor = event.cursor.clone();
        let event = Shown::of(event, &session.api).await;
        items.push(message("event", &cursor, &One { event: &event }.render().unwrap_or_default()));
    }
    items.concat().into()
}

/// A message of a stream of Server-Sent Events. Its id is the cursor to go on after.
fn message(kind: &str, cursor: &[u8], text: &str) -> Bytes {
    let mut message = format!("event: {kind}\n");
    if !cursor.is_empty() {
        message.push_str(&format!("id: {}\n", URL_SAFE_NO_PAD.encode(cursor)));
    }
    for line in text.lines() {
        message.push_str("data: ");
        message.push_str(line);
        message.push('\n');
    }
    message.push('\n');
    message.into()
}
