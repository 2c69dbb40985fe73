//! A subscriber as users would write one: it keeps the last cursor it saw.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use postern_chassis::serve::BoxError;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::{Event, EventFilter, StartPosition, SubscribeRequest, SubscribeResponse};
use tonic::Streaming;

use super::{Authorized, OUTLOOK};

/// A stream of the Outlook connection's events: mails and calendar entries.
pub(super) struct Subscriber {
    stream: Streaming<SubscribeResponse>,
    cursor: Bytes,
    seen: HashSet<String>,
    ready: std::collections::VecDeque<Event>,
}

impl Subscriber {
    /// Opens a stream: from now on, or after a cursor.
    pub(super) async fn open(channel: Authorized, after: Option<Bytes>) -> Result<Self, BoxError> {
        let request = SubscribeRequest {
            filter: Some(EventFilter {
                sources: vec![OUTLOOK.to_owned()],
                types: vec!["email.received".to_owned(), "calendar_event".to_owned()],
            }),
            start: after.map(|cursor| StartPosition { position: Some(Position::Cursor(cursor)) }),
            ..SubscribeRequest::default()
        };
        let mut stream = EventServiceClient::new(channel).subscribe(request).await?.into_inner();
        match stream.message().await?.and_then(|answer| answer.kind) {
            Some(Answer::Opened(opened)) => Ok(Self {
                stream,
                cursor: opened.cursor,
                seen: HashSet::new(),
                ready: std::collections::VecDeque::new(),
            }),
            other => Err(format!("the stream did not begin with opened: {other:?}").into()),
        }
    }

    /// The last cursor seen.
    pub(super) fn cursor(&self) -> &[u8] {
        &self.cursor
    }

    /// Ends the stream, and keeps the last cursor.
    pub(super) fn leave(self) -> Bytes {
        self.cursor
    }

    /// Whether an event came.
    pub(super) fn saw(&self, id: &str) -> bool {
        self.seen.contains(id)
    }

    /// Waits for the event of the mail or calendar entry with this subject.
    pub(super) async fn next_of(&mut self, subject: &str, patience: Duration) -> Result<Event, BoxError> {
        tokio::time::timeout(patience, self.find(subject))
            .await
            .map_err(|_| format!("no event of {subject:?} within {} s", patience.as_secs()))?
    }

    async fn find(&mut self, subject: &str) -> Result<Event, BoxError> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.cursor = event.cursor.clone();
                if !self.seen.insert(event.id.clone()) {
                    return Err(format!("event {} came twice", event.id).into());
                }
                let found = match event.data.as_ref().and_then(|data| data.kind.as_ref()) {
                    Some(Kind::NewEmail(email)) => email.subject == subject,
                    Some(Kind::EventCreated(entry)) => entry.subject == subject,
                    _ => false,
                };
                if found {
                    return Ok(event);
                }
            }
            match self.stream.message().await?.and_then(|answer| answer.kind) {
                Some(Answer::Batch(batch)) => self.ready.extend(batch.events),
                Some(Answer::Heartbeat(heartbeat)) => self.cursor = heartbeat.cursor,
                Some(Answer::Gap(gap)) => return Err(format!("a gap: {gap:?}").into()),
                other => return Err(format!("the stream ended or opened twice: {other:?}").into()),
            }
        }
    }
}
