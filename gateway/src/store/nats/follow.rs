//! Follows the stream: at the start by headers alone, then message by message as they come, whoever writes them. Lost
//! connections are taken up again where the mirror stands, so that those who watch miss no last change.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::link::{BROKEN, Link, failed};
use super::message::{self, DELETED_FOR, Record};
use super::mirror::{Mirror, State};
use crate::store::{Change, Entry, StoreError};

/// How often the server says that it is there when there is nothing new. Two such silences end a reading.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long one request for messages stands.
const EXPIRES: Duration = Duration::from_secs(15);
/// Messages asked for at once, and at the start, where they have no payload.
const AHEAD: usize = 1_000;
const AHEAD_AT_START: usize = 10_000;
/// How long the server keeps a reading that nobody asks for.
const INACTIVE: Duration = Duration::from_secs(30);
/// The pause before a reading is begun anew, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Messages applied at once.
const APPLIED_AT_ONCE: usize = 256;

/// When the stream was last heard, by both clocks: one may stand still while the machine sleeps, the other may be set
/// back. Marks of deletions go by the server's time.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    time: SystemTime,
}

impl Heard {
    fn now() -> Self {
        Self { at: Instant::now(), time: SystemTime::now() }
    }

    /// Whether marks of deletions may have gone since.
    fn is_long_ago(&self) -> bool {
        let by_time = self.time.elapsed().unwrap_or_default();
        self.at.elapsed().max(by_time) > DELETED_FOR / 2
    }
}

/// One reading of the stream's messages, in order and without holes but for those that are gone.
struct Reading {
    messages: pull::Stream,
    /// What was given last, by the reading's own count.
    given: u64,
    /// How many messages there were when it began.
    pending: u64,
}

/// A message.
struct Next {
    place: u64,
    /// What it does.
    record: Option<Record>,
    /// The commit that wrote it.
    commit: Option<String>,
    /// How many are left.
    left: u64,
}

impl Reading {
    async fn begin(link: &Link, after: u64, headers_only: bool) -> Result<Self, StoreError> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            ack_policy: AckPolicy::None,
            headers_only,
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let reading = |error: &dyn std::fmt::Display| failed("the stream cannot be followed", error);
        let made = link.unbroken(link.stream.create_consumer(config)).await;
        let consumer = made.ok_or_else(|| reading(&BROKEN))?.map_err(|error| reading(&error))?;
        let pending = consumer.cached_info().num_pending;
        let ahead = if headers_only { AHEAD_AT_START } else { AHEAD };
        let messages = consumer.stream().max_messages_per_batch(ahead).heartbeat(HEARTBEAT).expires(EXPIRES);
        let messages = messages.messages().await.map_err(|error| reading(&error))?;
        Ok(Self { messages, given: 0, pending })
    }

    /// The next message.
    async fn next(&mut self, link: &Link, headers_only: bool) -> Result<Next, StoreError> {
        let broken = |error: &dyn std::fmt::Display| failed("following the stream broke off", error);
        let message = match self.messages.next().await {
            Some(message) => message.map_err(|error| broken(&error))?,
            None => return Err(broken(&"it ended")),
        };
        let (place, count, left) = match message.info() {
            Ok(numbers) => (numbers.stream_sequence, numbers.consumer_sequence, numbers.pending),
            Err(error) => return Err(broken(&error)),
        };
        if count != self.given + 1 {
            return Err(broken(&"a message was lost"));
        }
        self.given = count;
        let headers = message.headers.clone().unwrap_or_default();
        let payload = (!headers_only).then(|| message.payload.clone());
        let commit = message::commit_of(&headers).map(str::to_owned);
        let record = message::read(&link.subjects, &message.subject, &headers, payload);
        Ok(Next { place, record, commit, left })
    }
}

/// Reads what the stream holds, by headers alone.
pub(super) async fn state(link: &Link) -> Result<State, StoreError> {
    let mut state = State::new(link.epoch);
    // What is written from here on comes again when the stream is followed.
    let last = link.last().await?;
    let mut reading = Reading::begin(link, 0, true).await?;
    let mut left = reading.pending;
    while left > 0 {
        let next = reading.next(link, true).await?;
        left = next.left;
        if let Some(record) = next.record {
            state.apply(next.place, record);
        }
        state.at = next.place;
    }
    // The last messages may be gone: nothing is to be waited for there.
    state.at = state.at.max(last);
    state.counters.revision = state.at;
    Ok(state)
}

/// Follows the stream until `stop` is cancelled.
pub(super) async fn run(link: Arc<Link>, mirror: Arc<Mirror>, stop: CancellationToken) {
    let mut pause = PAUSE;
    let mut heard = Heard::now();
    loop {
        let (ended, begun) = tokio::select! {
            ended = follow(&link, &mirror, &mut heard) => ended,
            () = stop.cancelled() => return,
        };
        if begun {
            pause = PAUSE;
        }
        tracing::warn!(error = %ended, "the stream is followed anew");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Follows it until that breaks off. Gives whether it had begun.
async fn follow(link: &Link, mirror: &Mirror, heard: &mut Heard) -> (StoreError, bool) {
    let mut connected = link.connected.made.clone();
    connected.borrow_and_update();
    let begun = Heard::now();
    let mut reading = match begin(link, mirror, *heard).await {
        Ok(reading) => reading,
        Err(error) => return (error, false),
    };
    *heard = begun;
    loop {
        // What comes now may be what was under way before the machine slept.
        if heard.is_long_ago() {
            return (failed("following the stream broke off", "the machine slept"), true);
        }
        *heard = Heard::now();
        let next = tokio::select! {
            next = reading.next(link, false) => next,
            // What the server knew of this reading may be gone.
            _ = connected.changed() => return (failed("following the stream broke off", "connected anew"), true),
            () = tokio::time::sleep(EXPIRES) => continue,
        };
        let mut messages = Vec::new();
        let mut take = |next: Next| {
            if let Some(commit) = next.commit {
                mirror.name(next.place, commit);
            }
            messages.push((next.place, next.record));
        };
        match next {
            Ok(next) => take(next),
            Err(error) => return (error, true),
        }
        let mut broken = None;
        // What has come along with it is applied with it.
        for _ in 1..APPLIED_AT_ONCE {
            match futures_util::FutureExt::now_or_never(reading.next(link, false)) {
                Some(Ok(next)) => take(next),
                Some(Err(error)) => {
                    broken = Some(error);
                    break;
                }
                None => break,
            }
        }
        mirror.apply(messages);
        if let Some(error) = broken {
            return (error, true);
        }
    }
}

/// Begins a reading where the mirror stands, or reads everything anew where marks of deletions may have gone meanwhile.
async fn begin(link: &Link, mirror: &Mirror, heard: Heard) -> Result<Reading, StoreError> {
    // In this order: what is written while the stream's end is asked for takes the mirror past the answer.
    let at = mirror.state().at;
    let last = link.last().await?;
    if last < at {
        let problem = format!(
            "the stream ends at {last} and has been at {at}: the server has lost what it acknowledged"
        );
        tracing::error!(problem, "start the gateway anew to go on with what is left");
        mirror.state().broken = Some(problem.clone());
        return Err(failed("the stream", problem));
    }
    if heard.is_long_ago() {
        let changed = mirror.replace(state(link).await?);
        for key in changed {
            if let Some(message) = link.last_of(&link.subjects.of_key(&key)).await? {
                let value = (!message::is_deletion(&message.headers)).then(|| Entry {
                    key: key.clone(),
                    value: message.payload,
                    revision: message.sequence,
                });
                mirror.tell(Change { key, value });
            }
        }
    }
    let at = mirror.state().at;
    Reading::begin(link, at, false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silence_counts_by_whichever_clock_went_on() {
        let heard = Heard::now();
        assert!(!heard.is_long_ago());
        // The machine slept: its own time stood still.
        assert!(Heard { time: heard.time - DELETED_FOR, ..heard }.is_long_ago());
        assert!(!Heard { time: heard.time - DELETED_FOR / 3, ..heard }.is_long_ago());
        // The clock was set back.
        let ahead = Heard { time: heard.time + DELETED_FOR, ..heard };
        assert!(!ahead.is_long_ago());
        tokio::time::advance(DELETED_FOR).await;
        assert!(ahead.is_long_ago());
    }
}
