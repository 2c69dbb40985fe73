//! What a subscriber wishes for, and the request that says so.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{EventFilter, GapPolicy, StartPosition, SubscribeRequest};

/// Which events to give, from where, and when to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Resource names: the event's source is one of these or lies under one of these. None: any. At most 100.
    pub sources: Vec<String>,
    /// Types, whole (`email.received`) or by their first part (`calendar_event`). None: any. At most 100.
    pub types: Vec<String>,
    /// Where to begin.
    pub start: Start,
    /// The longest silence between two signs of life, 5 s to 300 s. After two and a half of them without one the stream
    /// counts as broken. Absent: 30 s.
    pub heartbeat_interval: Option<Duration>,
    /// Whether to end with OUT_OF_RANGE (`CURSOR_EXPIRED`) where events asked for are no longer kept, instead of telling
    /// of the gap and going on.
    pub fails_at_gap: bool,
    /// After how long without a sign of life the error of the last try ends the stream. Absent: it is tried for as long as
    /// somebody asks for events.
    pub give_up_after: Option<Duration>,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// With what happens once the stream is open.
    #[default]
    Latest,
    /// With the first event that is kept.
    Earliest,
    /// After a cursor: what [`Subscription::cursor`](crate::Subscription::cursor) or an event's `cursor` gave.
    After(Bytes),
    /// With the first event that became durable at or after this time.
    At(SystemTime),
}

impl Wish {
    /// All events, from a place on.
    #[must_use]
    pub fn from(start: Start) -> Self {
        Self { start, ..Self::default() }
    }

    /// The same, of this type alone or besides those named before.
    #[must_use]
    pub fn of_type(mut self, event_type: impl Into<String>) -> Self {
        self.types.push(event_type.into());
        self
    }

    /// The same, from this source alone or besides those named before.
    #[must_use]
    pub fn of_source(mut self, source: impl Into<String>) -> Self {
        self.sources.push(source.into());
        self
    }

    /// The request that says so, from the place that was reached, where one was.
    pub(super) fn request(&self, cursor: Option<&Bytes>) -> SubscribeRequest {
        let position = match (cursor, &self.start) {
            (Some(cursor), _) | (None, Start::After(cursor)) => Position::Cursor(cursor.clone()),
            (None, Start::Latest) => Position::Latest(()),
            (None, Start::Earliest) => Position::Earliest(()),
            (None, Start::At(time)) => Position::Time((*time).into()),
        };
        let policy = if self.fails_at_gap { GapPolicy::Fail } else { GapPolicy::Tell };
        SubscribeRequest {
            filter: Some(EventFilter { sources: self.sources.clone(), types: self.types.clone() }),
            start: Some(StartPosition { position: Some(position) }),
            heartbeat_interval: self.heartbeat_interval.and_then(|interval| interval.try_into().ok()),
            gap_policy: policy.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_reached_goes_before_the_one_wished_for() {
        let wish = Wish::from(Start::Earliest).of_type("email");
        let position = |cursor: Option<&Bytes>| wish.request(cursor).start.and_then(|start| start.position);
        assert_eq!(position(None), Some(Position::Earliest(())));
        let reached = Bytes::from_static(b"here");
        assert_eq!(position(Some(&reached)), Some(Position::Cursor(reached)));
        assert_eq!(wish.request(None).filter.map(|filter| filter.types), Some(vec!["email".to_owned()]));
    }
}
