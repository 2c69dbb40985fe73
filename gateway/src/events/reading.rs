//! One subscriber's way through the log. It reads when it is asked for the next answer and at no other time, so a
//! subscriber that does not read costs at most one batch and slows nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use postern_chassis::fault::Fault;
use postern_proto::event::v1::{Gap, GapReason, Heartbeat, Opened};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::cursor::Cursor;
use super::filter::Filter;
use super::wire::{Answer, Batch, Kind};
use super::wish::{Start, Wish};
use crate::error::Error;
use crate::store::{Bounds, EventLog, Sequence, StoreError};

/// The most events of one batch, as the contract promises.
const BATCH_EVENTS: usize = 256;
/// The most bytes of one batch that has more than one event. Well under what the contract allows: this much is held for
/// each subscriber that has stopped reading, and larger batches are not faster.
const BATCH_BYTES: usize = 64 * 1024;
/// How long a subscriber is asked to wait before it goes on elsewhere when the gateway stops.
const RESUME_AFTER: Duration = Duration::from_secs(1);

/// A stream's place and what it says next.
pub struct Reading {
    log: Arc<dyn EventLog>,
    tail: watch::Receiver<Sequence>,
    stop: CancellationToken,
    filter: Filter,
    heartbeat: Duration,
    ends_at_gap: bool,
    epoch: u64,
    /// Everything up to here was given or dropped by the filter.
    after: Sequence,
    /// When the last answer was given.
    spoke: Instant,
    state: State,
}

/// What comes next.
enum State {
    /// The first answer, with the cursor it gives, and then the gap, where there is one.
    Opening(Bytes, Option<Gap>),
    /// A gap that was found at the start.
    Telling(Gap),
    /// Events as they come.
    Following,
    /// Nothing: an error was given.
    Ended,
}

impl Reading {
    /// Finds the place where a subscriber wishes to start.
    ///
    /// # Errors
    /// UNAVAILABLE (DRAINING); OUT_OF_RANGE (CURSOR_EXPIRED) where a gap ends the stream; storage fails.
    pub async fn open(log: Arc<dyn EventLog>, wish: Wish, stop: CancellationToken) -> Result<Self, Error> {
        if stop.is_cancelled() {
            return Err(draining().into());
        }
        let tail = log.tail();
        let Begin { opened, after, gap, epoch } = begin(&*log, wish.start).await?;
        if let Some(gap) = gap.as_ref().filter(|_| wish.ends_at_gap) {
            return Err(expired(gap).into());
        }
        Ok(Self {
            log,
            tail,
            stop,
            filter: wish.filter,
            heartbeat: wish.heartbeat,
            ends_at_gap: wish.ends_at_gap,
            epoch,
            after,
            spoke: Instant::now(),
            state: State::Opening(opened, gap),
        })
    }

    /// The answers, each made when it is asked for.
    pub fn into_stream(self) -> impl Stream<Item = Result<Answer, Status>> + Send + 'static {
        futures_util::stream::unfold(self, |mut reading| async move {
            let answer = reading.next().await?;
            Some((answer, reading))
        })
    }

    async fn next(&mut self) -> Option<Result<Answer, Status>> {
        let kind = match std::mem::replace(&mut self.state, State::Following) {
            State::Opening(cursor, gap) => {
                self.state = gap.map_or(State::Following, State::Telling);
                let heartbeat_interval = prost_types::Duration::try_from(self.heartbeat).ok();
                Ok(Kind::Opened(Opened { cursor, heartbeat_interval }))
            }
            State::Telling(gap) => Ok(Kind::Gap(gap)),
            State::Following => self.follow().await,
            State::Ended => {
                self.state = State::Ended;
                return None;
            }
        };
        self.spoke = Instant::now();
        if kind.is_err() {
            self.state = State::Ended;
        }
        Some(kind.map(Answer::from).map_err(Status::from))
    }

    /// The next batch, heartbeat or gap.
    async fn follow(&mut self) -> Result<Kind, Error> {
        let silent_until = self.spoke + self.heartbeat;
        loop {
            if self.stop.is_cancelled() {
                return Err(draining().into());
            }
            let events = self.log.read(self.after, BATCH_EVENTS, BATCH_BYTES).await?;
            let kept_after = match events.first() {
                Some(first) => first.sequence - 1,
                None => self.log.bounds().await?.first - 1,
            };
            if kept_after > self.after {
                return self.skip_to(kept_after);
            }
            if let Some(last) = events.last() {
                self.after = last.sequence;
                let wanted = events.into_iter().filter(|event| self.filter.matches(event));
                let events: Vec<_> = wanted.map(|event| event.encoded).collect();
                if !events.is_empty() {
                    return Ok(Kind::Batch(Batch { events }));
                }
                // Much may be dropped before anything matches: others get their turn.
                tokio::task::consume_budget().await;
                if Instant::now() < silent_until {
                    continue;
                }
            } else if self.grows(silent_until).await? {
                continue;
            }
            return Ok(Kind::Heartbeat(Heartbeat { cursor: self.cursor(self.after) }));
        }
    }

    /// Waits for more to read; false where the silence has lasted long enough before it came.
    async fn grows(&mut self, silent_until: Instant) -> Result<bool, Error> {
        let after = self.after;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(draining().into()),
            grown = self.tail.wait_for(|last| *last > after) => match grown {
                Ok(_) => Ok(true),
                Err(_) => Err(StoreError::Failed("the log is closed".to_owned()).into()),
            },
            () = tokio::time::sleep_until(silent_until) => Ok(false),
        }
    }

    /// Retention has overtaken this stream: tells of it and goes on after it, or ends.
    fn skip_to(&mut self, place: Sequence) -> Result<Kind, Error> {
        let gap = Gap {
            from_cursor: self.cursor(self.after),
            to_cursor: self.cursor(place),
            missed: (place - self.after).cast_signed(),
            reason: GapReason::Retention.into(),
        };
        if self.ends_at_gap {
            return Err(expired(&gap).into());
        }
        self.after = place;
        Ok(Kind::Gap(gap))
    }

    fn cursor(&self, sequence: Sequence) -> Bytes {
        Cursor { epoch: self.epoch, sequence }.encode()
    }
}

/// Where a stream begins.
struct Begin {
    /// The cursor of `Opened`. Taken to a new call it leads to the same gap, so that a gap is not lost with a stream
    /// that broke before telling it.
    opened: Bytes,
    /// The place to read from.
    after: Sequence,
    gap: Option<Gap>,
    epoch: u64,
}

async fn begin(log: &dyn EventLog, start: Start) -> Result<Begin, Error> {
    // Before the bounds: should retention pass the place in between, the stream finds the hole.
    let timed = match start {
        Start::At(time) => Some(log.place_at(time).await?),
        _ => None,
    };
    let Bounds { epoch, first, last, trimmed } = log.bounds().await?;
    let beginning = first - 1;
    let cursor = |sequence| Cursor { epoch, sequence }.encode();
    let at = |after| Begin { opened: cursor(after), after, gap: None, epoch };
    let with_gap = |opened: Bytes, from_cursor: Bytes, missed: Sequence, reason: GapReason| {
        let missed = missed.cast_signed();
        let gap = Gap { from_cursor, to_cursor: cursor(beginning), missed, reason: reason.into() };
        Begin { opened, after: beginning, gap: Some(gap), epoch }
    };
    Ok(match start {
        Start::Latest => at(last),
        Start::Earliest => at(beginning),
        Start::After(place, given) if place.epoch != epoch || place.sequence > last => {
            with_gap(given.clone(), given, 0, GapReason::LogReset)
        }
        Start::After(place, given) if place.sequence < beginning => {
            with_gap(given.clone(), given, beginning - place.sequence, GapReason::Retention)
        }
        Start::After(place, _) => at(place.sequence),
        // The last event removed was one that was asked for; how many more there were is not known.
        Start::At(time) if trimmed.is_some_and(|trimmed| trimmed >= time) => {
            with_gap(cursor(beginning.saturating_sub(1)), Bytes::new(), 0, GapReason::Retention)
        }
        Start::At(_) => at(timed.unwrap_or(last)),
    })
}

fn draining() -> Fault {
    let message = "the gateway stops: go on elsewhere or later from the last cursor";
    Fault::new(Code::Unavailable, "DRAINING", message).retry_after(RESUME_AFTER)
}

fn expired(gap: &Gap) -> Fault {
    let message = "events after the cursor are no longer kept";
    Fault::new(Code::OutOfRange, "CURSOR_EXPIRED", message).with("missed", gap.missed.to_string())
}
