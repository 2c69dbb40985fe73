//! One subscriber's way through the log. It reads when it is asked for the next answer and at no other time, so a
//! subscriber that does not read costs at most one batch and slows nobody.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use postern_chassis::fault::Fault;
use postern_proto::event::v1::{Gap, GapReason, Heartbeat, Opened};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::ahead::Ahead;
use super::begin::{Begin, begin};
use super::cursor::Cursor;
use super::pulse::{self, Pulse};
use super::stretch::{Next, Shelf, Stretches};
use super::wire::{Answer, Kind};
use super::wish::Wish;
use crate::error::Error;
use crate::metrics::{DELIVERED, Subscriber};
use crate::store::{EventLog, Sequence, StoreError};

/// How long a subscriber is asked to wait before it goes on elsewhere when the gateway stops.
const RESUME_AFTER: Duration = Duration::from_secs(1);

/// What all streams of a log share.
pub(super) struct Feed {
    log: Arc<dyn EventLog>,
    stretches: Arc<Stretches>,
    pulse: watch::Receiver<Pulse>,
    stop: CancellationToken,
}

impl Feed {
    /// Starts to look after the log's growth. Once `stop` is cancelled its streams end.
    pub(super) fn start(log: Arc<dyn EventLog>, stop: CancellationToken) -> Self {
        let pulse = pulse::start(&log, stop.clone());
        Self { stretches: Arc::new(Stretches::new(log.clone())), log, pulse, stop }
    }
}

/// A stream's place and what it says next.
pub(super) struct Reading {
    stretches: Arc<Stretches>,
    shelf: Arc<Shelf>,
    /// What is read for it already, while it is far behind.
    ahead: Option<Ahead>,
    pulse: watch::Receiver<Pulse>,
    heartbeat: Duration,
    ends_at_gap: bool,
    /// Everything up to here was given or dropped by the filter.
    after: Cursor,
    /// When the last answer was given.
    spoke: Instant,
    /// Kept from one wait to the next: setting a timer on costs less than making one.
    silence: Pin<Box<Sleep>>,
    state: State,
    subscriber: Subscriber,
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

/// What a stream says.
#[derive(Debug)]
pub(super) enum Said {
    /// A batch, as it goes over the wire.
    Batch(Bytes),
    /// Anything else.
    Other(Kind),
}

impl Said {
    /// As it goes over the wire.
    fn framed(self) -> Bytes {
        match self {
            Self::Batch(framed) => framed,
            Self::Other(kind) => Answer::from(kind).framed(),
        }
    }
}

impl Reading {
    /// Finds the place where a subscriber wishes to start.
    ///
    /// # Errors
    /// UNAVAILABLE (DRAINING); OUT_OF_RANGE (CURSOR_EXPIRED) where a gap ends the stream; storage fails.
    pub(super) async fn open(feed: &Feed, wish: Wish) -> Result<Self, Error> {
        if feed.stop.is_cancelled() {
            return Err(draining().into());
        }
        let Begin { opened, after, gap } = begin(&*feed.log, wish.start).await?;
        if let Some(gap) = gap.as_ref().filter(|_| wish.ends_at_gap) {
            return Err(expired(gap).into());
        }
        let spoke = Instant::now();
        Ok(Self {
            stretches: feed.stretches.clone(),
            shelf: feed.stretches.shelf(wish.filter),
            ahead: None,
            pulse: feed.pulse.clone(),
            heartbeat: wish.heartbeat,
            ends_at_gap: wish.ends_at_gap,
            subscriber: Subscriber::at(after.sequence),
            after,
            spoke,
            silence: Box::pin(tokio::time::sleep_until(spoke + wish.heartbeat)),
            state: State::Opening(opened, gap),
        })
    }

    /// The answers as gRPC frames, each made when it is asked for.
    pub(super) fn into_frames(self) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
        futures_util::stream::unfold(self, |mut reading| async move {
            let said = reading.next().await?;
            Some((said.map(Said::framed), reading))
        })
    }

    async fn next(&mut self) -> Option<Result<Said, Status>> {
        let said = match std::mem::replace(&mut self.state, State::Following) {
            State::Opening(cursor, gap) => {
                self.state = gap.map_or(State::Following, State::Telling);
                let heartbeat_interval = prost_types::Duration::try_from(self.heartbeat).ok();
                Ok(Said::Other(Kind::Opened(Opened { cursor, heartbeat_interval })))
            }
            State::Telling(gap) => Ok(Said::Other(Kind::Gap(gap))),
            State::Following => self.follow().await,
            State::Ended => {
                self.state = State::Ended;
                return None;
            }
        };
        self.spoke = Instant::now();
        if said.is_err() {
            self.state = State::Ended;
        }
        Some(said.map_err(Status::from))
    }

    /// The next batch, heartbeat or gap.
    async fn follow(&mut self) -> Result<Said, Error> {
        let silent_until = self.spoke + self.heartbeat;
        loop {
            let felt = *self.pulse.borrow_and_update();
            let next = match felt {
                Pulse::Stopping => return Err(draining().into()),
                Pulse::Closed => return Err(StoreError::Failed("the log is closed".to_owned()).into()),
                Pulse::UpTo(last) if self.after.sequence >= last => Next::Nothing,
                Pulse::UpTo(last) => self.stretch(last).await?,
            };
            match next {
                Next::Gap(place) => return self.skip_to(place),
                Next::Stretch(stretch) => {
                    self.after = stretch.to;
                    self.subscriber.reach(self.after.sequence);
                    if let Some(framed) = &stretch.framed {
                        DELIVERED.add(stretch.count as u64);
                        return Ok(Said::Batch(framed.clone()));
                    }
                    // Much may be dropped before anything matches: others get their turn.
                    tokio::task::consume_budget().await;
                    if Instant::now() < silent_until {
                        continue;
                    }
                }
                Next::Nothing if self.beats(silent_until).await => continue,
                Next::Nothing => {}
            }
            return Ok(Said::Other(Kind::Heartbeat(Heartbeat { cursor: self.after.encode() })));
        }
    }

    /// What comes next, up to a place; then begins to read what comes after that.
    async fn stretch(&mut self, last: Sequence) -> Result<Next, StoreError> {
        if let Some(ahead) = &self.ahead {
            if let Some(stretch) = ahead.take(self.after).await {
                return Ok(Next::Stretch(stretch));
            }
            self.ahead = None;
        }
        let next = self.stretches.after(&self.shelf, self.after, last).await?;
        if let Next::Stretch(stretch) = &next {
            self.ahead = Ahead::begin(&self.stretches, &self.shelf, stretch.to, last);
        }
        Ok(next)
    }

    /// Waits for the next beat; false where the silence has lasted long enough before it came.
    async fn beats(&mut self, silent_until: Instant) -> bool {
        if self.silence.deadline() != silent_until {
            self.silence.as_mut().reset(silent_until);
        }
        tokio::select! {
            biased;
            // An error says that nothing beats any more, which the last beat has told.
            _ = self.pulse.changed() => true,
            () = &mut self.silence => false,
        }
    }

    /// Retention has overtaken this stream: tells of it and goes on after it, or ends.
    fn skip_to(&mut self, place: Sequence) -> Result<Said, Error> {
        // The event at that place is gone, and what told it from others with it.
        let to = Cursor { sequence: place, fingerprint: 0, ..self.after };
        let gap = Gap {
            from_cursor: self.after.encode(),
            to_cursor: to.encode(),
            missed: (place - self.after.sequence).cast_signed(),
            reason: GapReason::Retention.into(),
            ..Gap::default()
        };
        if self.ends_at_gap {
            return Err(expired(&gap).into());
        }
        self.after = to;
        Ok(Said::Other(Kind::Gap(gap)))
    }
}

/// Why streams end when the gateway stops.
pub(crate) fn draining() -> Fault {
    let message = "the gateway stops: go on elsewhere or later from the last cursor";
    Fault::new(Code::Unavailable, "DRAINING", message).retry_after(RESUME_AFTER)
}

/// Why a stream ends where a gap is not wished for.
pub(crate) fn expired(gap: &Gap) -> Fault {
    let message = "events after the cursor are no longer kept";
    Fault::new(Code::OutOfRange, "CURSOR_EXPIRED", message).with("missed", gap.missed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::filter::Filter;
    use crate::events::new_event;
    use crate::events::wish::Start;
    use crate::store::Retention;
    use crate::store::sqlite::Sqlite;
    use futures_util::StreamExt as _;
    use postern_proto::event::v1::EventFilter;

    /// Short, so that the tests are; a silence this long comes by itself.
    const HEARTBEAT: Duration = Duration::from_millis(50);

    fn of_type(event_type: &str, count: usize) -> Vec<crate::store::NewEvent> {
        let event =
            |number| new_event("connections/office", event_type, None, &format!("{number}"), None, None);
        (0..count).map(event).collect()
    }

    async fn open(log: &Arc<Sqlite>, start: Start, types: &[&str]) -> Reading {
        let types = types.iter().map(ToString::to_string).collect();
        let filter = Filter::parse(EventFilter { types, ..EventFilter::default() }, &mut Vec::new());
        let wish = Wish { filter, start, heartbeat: HEARTBEAT, ends_at_gap: false };
        let feed = Feed::start(log.clone(), CancellationToken::new());
        let mut reading = Reading::open(&feed, wish).await.unwrap();
        assert!(matches!(reading.next().await, Some(Ok(Said::Other(Kind::Opened(_))))));
        reading
    }

    fn heartbeat(said: Option<Result<Said, Status>>) -> Cursor {
        let Some(Ok(Said::Other(Kind::Heartbeat(heartbeat)))) = said else { panic!("{said:?}") };
        Cursor::decode(&heartbeat.cursor).unwrap()
    }

    #[tokio::test]
    async fn a_heartbeat_comes_after_each_silence_of_its_interval() {
        let folder = tempfile::tempdir().unwrap();
        let log = Sqlite::open(folder.path()).unwrap();
        let mut reading = open(&log, Start::Latest, &[]).await;
        for _ in 0..3 {
            let begun = Instant::now();
            assert_eq!(heartbeat(reading.next().await).sequence, 0);
            assert!(begun.elapsed() >= HEARTBEAT - Duration::from_millis(5));
        }
        log.append(of_type("email.received", 1), Vec::new()).await.unwrap();
        let batch = reading.next().await;
        assert!(matches!(batch, Some(Ok(Said::Batch(_)))), "{batch:?}");
        assert_eq!(heartbeat(reading.next().await).sequence, 1);
    }

    #[tokio::test]
    async fn what_the_filter_drops_breaks_no_silence_and_moves_the_cursor() {
        let folder = tempfile::tempdir().unwrap();
        let log = Sqlite::open(folder.path()).unwrap();
        let mut reading = open(&log, Start::Latest, &["calendar_event"]).await;
        // Events that are dropped come all the time, faster than the interval.
        let appending = async {
            for number in 0_u64.. {
                let key = number.to_string();
                let event = new_event("connections/shop", "email.received", None, &key, None, None);
                log.append(vec![event], Vec::new()).await.unwrap();
            }
        };
        let heartbeats = async {
            let mut places = vec![heartbeat(reading.next().await).sequence];
            while places.len() < 3 {
                let place = heartbeat(reading.next().await).sequence;
                assert!(*places.last().unwrap() <= place);
                places.push(place);
                // Where a commit took longer than the interval, nothing came in between.
                places.dedup();
            }
        };
        tokio::select! {
            () = appending => panic!("the appending ended"),
            told = tokio::time::timeout(Duration::from_secs(20), heartbeats) => told.unwrap(),
        }
    }

    #[tokio::test]
    async fn a_log_emptied_ahead_of_a_stream_leaves_a_gap_and_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let log = Sqlite::open(folder.path()).unwrap();
        let mut reading = open(&log, Start::Latest, &[]).await;
        log.append(of_type("email.received", 5), Vec::new()).await.unwrap();
        log.trim(Retention { age: Duration::from_secs(3_600), bytes: 0 }).await.unwrap();
        let Some(Ok(Said::Other(Kind::Gap(gap)))) = reading.next().await else { panic!("no gap") };
        assert_eq!((gap.missed, gap.reason()), (5, GapReason::Retention));
        assert_eq!(heartbeat(reading.next().await).sequence, 5);
    }

    #[tokio::test]
    async fn a_long_way_without_a_match_is_told_of_while_it_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let log = Sqlite::open(folder.path()).unwrap();
        log.append(of_type("email.received", 2_000), Vec::new()).await.unwrap();
        let mut reading = open(&log, Start::Earliest, &["calendar_event"]).await;
        // The silence is over before the way is: the answer does not wait for its end.
        reading.spoke = Instant::now() - 2 * HEARTBEAT;
        let place = heartbeat(reading.next().await).sequence;
        assert!(0 < place && place < 2_000, "{place}");
    }

    #[tokio::test]
    async fn a_stream_ends_once_after_its_error() {
        let folder = tempfile::tempdir().unwrap();
        let log = Sqlite::open(folder.path()).unwrap();
        let stop = CancellationToken::new();
        let feed = Feed::start(log, stop.clone());
        let wish = Wish {
            filter: Filter::default(),
            start: Start::Latest,
            heartbeat: HEARTBEAT,
            ends_at_gap: false,
        };
        let mut answers = Box::pin(Reading::open(&feed, wish).await.unwrap().into_frames());
        assert!(answers.next().await.unwrap().is_ok());
        stop.cancel();
        assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert!(answers.next().await.is_none());
    }
}
