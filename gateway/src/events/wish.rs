//! What a subscriber wishes, checked.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{GapPolicy, StartPosition, SubscribeRequest};
use prost_types::Timestamp;

use super::cursor::Cursor;
use super::filter::Filter;
use crate::error::Error;

/// The heartbeat interval where none is wished: half the minute after which proxies cut silent streams.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);
/// Shorter would be traffic for its own sake; longer would not tell a dead peer from a silent one.
const HEARTBEATS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);

/// A checked `SubscribeRequest`.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Which events.
    pub(super) filter: Filter,
    /// From where.
    pub(super) start: Start,
    /// The longest silence.
    pub(super) heartbeat: Duration,
    /// Whether the stream ends where a gap would be told.
    pub(super) ends_at_gap: bool,
}

/// Where a stream starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// After the last event.
    Latest,
    /// Before the first event kept.
    Earliest,
    /// After a cursor: as read and as given.
    After(Cursor, Bytes),
    /// Before the first event that became durable at or after a time.
    At(SystemTime),
}

impl Wish {
    /// Checks a request.
    ///
    /// # Errors
    /// The fields that are wrong; the cursor that is none.
    pub(super) fn parse(request: SubscribeRequest) -> Result<Self, Error> {
        let mut wrong = Vec::new();
        let filter = Filter::parse(request.filter.unwrap_or_default(), &mut wrong);
        let heartbeat = heartbeat(request.heartbeat_interval, &mut wrong);
        let ends_at_gap = ends_at_gap(request.gap_policy, &mut wrong);
        let start = Start::parse("start", request.start, &mut wrong)?;
        if wrong.is_empty() {
            Ok(Self { filter, start, heartbeat, ends_at_gap })
        } else {
            Err(Error::Fields(wrong))
        }
    }
}

impl Start {
    /// Reads a place. Adds what is wrong to `wrong`.
    ///
    /// # Errors
    /// The cursor that is none.
    pub(crate) fn parse(
        field: &str,
        start: Option<StartPosition>,
        wrong: &mut Vec<(String, String)>,
    ) -> Result<Self, Error> {
        Ok(match start.and_then(|start| start.position) {
            None | Some(Position::Latest(())) => Self::Latest,
            Some(Position::Earliest(())) => Self::Earliest,
            Some(Position::Cursor(given)) => Self::After(Cursor::decode(&given)?, given),
            Some(Position::Time(time)) => time_of(time).map_or_else(
                || {
                    wrong.push((format!("{field}.time"), "expected a time from 1970 to 9999".to_owned()));
                    Self::Latest
                },
                Self::At,
            ),
        })
    }
}

/// The heartbeat interval wished for. Adds what is wrong to `wrong`.
pub(crate) fn heartbeat(
    interval: Option<prost_types::Duration>,
    wrong: &mut Vec<(String, String)>,
) -> Duration {
    let interval = interval.map_or(Ok(DEFAULT_HEARTBEAT), Duration::try_from);
    interval.ok().filter(|interval| HEARTBEATS.contains(interval)).unwrap_or_else(|| {
        wrong.push(("heartbeat_interval".to_owned(), "expected 5 s to 300 s".to_owned()));
        DEFAULT_HEARTBEAT
    })
}

/// Whether a gap is an end. Adds what is wrong to `wrong`.
pub(crate) fn ends_at_gap(policy: i32, wrong: &mut Vec<(String, String)>) -> bool {
    match GapPolicy::try_from(policy) {
        Ok(policy) => policy == GapPolicy::Fail,
        Err(_) => {
            wrong.push(("gap_policy".to_owned(), "expected a policy of this contract".to_owned()));
            false
        }
    }
}

/// The time, where it is one that an event can have.
fn time_of(time: Timestamp) -> Option<SystemTime> {
    /// 9999-12-31T23:59:59Z, the last second that a `Timestamp` may hold.
    const LAST_SECOND: i64 = 253_402_300_799;
    let valid = (0..=LAST_SECOND).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    valid.then(|| SystemTime::try_from(time).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    fn with_start(position: Position) -> SubscribeRequest {
        let start = Some(StartPosition { position: Some(position) });
        SubscribeRequest { start, ..SubscribeRequest::default() }
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let wish = Wish::parse(SubscribeRequest::default()).unwrap();
        assert_eq!((wish.start, wish.heartbeat, wish.ends_at_gap), (Start::Latest, DEFAULT_HEARTBEAT, false));
    }

    #[test]
    fn each_start_is_read() {
        let cursor = Cursor { epoch: 5, sequence: 6, fingerprint: 7 };
        let starts = [
            (Position::Earliest(()), Start::Earliest),
            (Position::Cursor(cursor.encode()), Start::After(cursor, cursor.encode())),
            (
                Position::Time(Timestamp { seconds: 12, nanos: 500 }),
                Start::At(SystemTime::UNIX_EPOCH + Duration::new(12, 500)),
            ),
        ];
        for (position, start) in starts {
            assert_eq!(Wish::parse(with_start(position)).unwrap().start, start);
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        let mut request = with_start(Position::Time(Timestamp { seconds: 1, nanos: -1 }));
        request.heartbeat_interval = Some(prost_types::Duration { seconds: 4, nanos: 999_999_999 });
        request.gap_policy = 9;
        let Err(Error::Fields(wrong)) = Wish::parse(request) else { panic!("it was taken") };
        let fields: Vec<_> = wrong.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["heartbeat_interval", "gap_policy", "start.time"]);
        let too_long = prost_types::Duration { seconds: 301, nanos: 0 };
        let request = SubscribeRequest { heartbeat_interval: Some(too_long), ..SubscribeRequest::default() };
        assert!(Wish::parse(request).is_err());
    }

    #[test]
    fn a_cursor_that_is_none_is_refused_as_such() {
        let error = Wish::parse(with_start(Position::Cursor(Bytes::from_static(b"42")))).unwrap_err();
        assert_eq!(postern_chassis::fault::reason_of(&Status::from(error)), "CURSOR_INVALID");
    }
}
