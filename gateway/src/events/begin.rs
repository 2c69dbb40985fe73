//! Where a subscriber's stream begins, and the gap that it begins with where what was asked for is no longer kept.

use bytes::Bytes;
use postern_proto::event::v1::{Gap, GapReason};

use super::cursor::Cursor;
use super::wish::Start;
use crate::error::Error;
use crate::store::{Bounds, EventLog, Sequence, StoreError};

/// Where a stream begins.
pub(crate) struct Begin {
    /// The cursor of `Opened`. Taken to a new call it leads to the same gap, so that a gap is not lost with a stream
    /// that broke before telling it.
    pub(crate) opened: Bytes,
    /// The place to read from.
    pub(crate) after: Cursor,
    /// What is told before anything else.
    pub(crate) gap: Option<Gap>,
}

/// Finds the place.
///
/// # Errors
/// Storage fails.
pub(crate) async fn begin(log: &dyn EventLog, start: Start) -> Result<Begin, Error> {
    // Before the bounds: should retention pass the place in between, the stream finds the hole.
    let timed = match start {
        Start::At(time) => Some(log.place_at(time).await?),
        _ => None,
    };
    let Bounds { epoch, first, last, trimmed } = log.bounds().await?;
    let beginning = Cursor { epoch, sequence: first - 1, fingerprint: 0 };
    let at = |after: Cursor| Begin { opened: after.encode(), after, gap: None };
    let with_gap = |opened: Bytes, from_cursor: Bytes, missed: Sequence, reason: GapReason| {
        let missed = missed.cast_signed();
        let gap = Gap {
            from_cursor,
            to_cursor: beginning.encode(),
            missed,
            reason: reason.into(),
            ..Gap::default()
        };
        Begin { opened, after: beginning, gap: Some(gap) }
    };
    Ok(match start {
        Start::Latest => at(cursor_at(log, epoch, last).await?),
        Start::Earliest => at(beginning),
        Start::After(place, given) => {
            if place.epoch != epoch || place.sequence > last || is_replaced(log, place).await? {
                with_gap(given.clone(), given, 0, GapReason::LogReset)
            } else if let Some(missed @ 1..) = beginning.sequence.checked_sub(place.sequence) {
                with_gap(given.clone(), given, missed, GapReason::Retention)
            } else {
                at(place)
            }
        }
        // The last event removed was one that was asked for; how many more there were is not known.
        Start::At(time) if trimmed.is_some_and(|trimmed| trimmed >= time) => {
            let before = Cursor { sequence: beginning.sequence.saturating_sub(1), ..beginning };
            with_gap(before.encode(), Bytes::new(), 0, GapReason::Retention)
        }
        Start::At(_) => at(cursor_at(log, epoch, timed.unwrap_or(last)).await?),
    })
}

/// The cursor after the event at a place, as far as that is kept.
async fn cursor_at(log: &dyn EventLog, epoch: u64, sequence: Sequence) -> Result<Cursor, StoreError> {
    let unknown = Cursor { epoch, sequence, fingerprint: 0 };
    let Some(before) = sequence.checked_sub(1) else { return Ok(unknown) };
    let found = log.read(before, 1, 1).await?;
    let event = found.first().filter(|event| event.sequence == sequence);
    Ok(event.map_or(unknown, |event| Cursor { fingerprint: event.fingerprint, ..unknown }))
}

/// Whether another event is now at a cursor's place: the log went back to a backup and was filled anew.
async fn is_replaced(log: &dyn EventLog, cursor: Cursor) -> Result<bool, StoreError> {
    let now = cursor_at(log, cursor.epoch, cursor.sequence).await?.fingerprint;
    Ok(now != 0 && cursor.fingerprint != 0 && now != cursor.fingerprint)
}
