//! Reading events that are no longer in memory: runs of chunks, fetched at once from whichever server has them, kept for
//! others who read there too, and the next run fetched ahead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{HeaderMap, Message};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;

use super::chunk;
use super::link::{ANSWER_TIMEOUT, BROKEN, Link, failed};
use super::message::{self, Record};
use super::mirror::{ChunkAt, Head, Mirror, State};
use crate::store::tail::{Budget, milliseconds};
use crate::store::{Retention, Sequence, StoreError, StoredEvent};

/// What one run has at most: enough that asking costs nothing beside sending.
const RUN_BYTES: usize = 2 * 1024 * 1024;
const RUN_CHUNKS: usize = 2_048;
/// How much of what was fetched is kept.
const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// What an event costs beyond its bytes.
const OVERHEAD_BYTES: usize = 160;
/// Runs fetched at once. More would wait for the same server.
const FETCHES: usize = 4;
/// The headers that tell what an answer is.
const SUBJECT: &str = "Nats-Subject";
/// The status that ends a row of answers, and the one for nothing found.
const END: u16 = 204;

/// Events in a row that were fetched together.
struct Run {
    events: Vec<StoredEvent>,
    bytes: usize,
}

impl Run {
    fn first(&self) -> Sequence {
        self.events.first().map_or(0, |event| event.sequence)
    }

    fn last(&self) -> Sequence {
        self.events.last().map_or(0, |event| event.sequence)
    }
}

/// What a trim is to do, but for events at its edge that must be read.
pub(super) struct Passed {
    head: Head,
    /// The chunk at the edge, and the size of all events up to which they go.
    edge: Option<(ChunkAt, u64)>,
}

pub(super) struct Events {
    link: Arc<Link>,
    mirror: Arc<Mirror>,
    runs: Mutex<VecDeque<Arc<Run>>>,
    fetches: Semaphore,
}

impl Events {
    pub(super) fn new(link: Arc<Link>, mirror: Arc<Mirror>) -> Self {
        Self { link, mirror, runs: Mutex::new(VecDeque::new()), fetches: Semaphore::new(FETCHES) }
    }

    fn runs(&self) -> MutexGuard<'_, VecDeque<Arc<Run>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run that has a place, where it was fetched; it is then the last to be forgotten.
    fn kept(&self, place: Sequence) -> Option<Arc<Run>> {
        let mut runs = self.runs();
        let found = runs.iter().position(|run| (run.first()..=run.last()).contains(&place))?;
        let run = runs.remove(found)?;
        runs.push_back(run.clone());
        Some(run)
    }

    fn keep(&self, run: Arc<Run>) {
        let mut runs = self.runs();
        runs.push_back(run);
        while runs.iter().map(|run| run.bytes).sum::<usize>() > KEPT_BYTES && runs.len() > 1 {
            runs.pop_front();
        }
    }

    /// Events after a place.
    pub(super) async fn read(
        self: &Arc<Self>,
        after: Sequence,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        // Retention may pass the place while it is fetched: then from where the log begins now.
        for _ in 0..3 {
            let bounds = self.mirror.tail.bounds();
            let begin = after.max(bounds.first - 1) + 1;
            if begin > bounds.last {
                return Ok(Vec::new());
            }
            let Some(run) = self.run(begin).await? else { continue };
            let skipped = usize::try_from(begin - run.first()).unwrap_or(usize::MAX);
            let mut budget = Budget::new(bytes);
            let found = run.events.iter().skip(skipped).take(events.max(1));
            let found = found.take_while(|event| budget.takes(event.encoded.len()));
            if skipped >= run.events.len() / 2 && run.last() < bounds.last && self.kept_not(run.last() + 1) {
                let (ahead, next) = (self.clone(), run.last() + 1);
                tokio::spawn(async move {
                    if let Err(error) = ahead.run(next).await {
                        tracing::debug!(%error, "events were not fetched ahead");
                    }
                });
            }
            return Ok(found.cloned().collect());
        }
        Err(failed("events", "retention passes them faster than they are read"))
    }

    fn kept_not(&self, place: Sequence) -> bool {
        !self.runs().iter().any(|run| (run.first()..=run.last()).contains(&place))
    }

    /// The run that has a place. `None`: the place is no longer kept.
    async fn run(&self, place: Sequence) -> Result<Option<Arc<Run>>, StoreError> {
        if let Some(run) = self.kept(place) {
            return Ok(Some(run));
        }
        let _permit = self.fetches.acquire().await.map_err(|error| failed("events", error))?;
        // Somebody else may have fetched it meanwhile.
        if let Some(run) = self.kept(place) {
            return Ok(Some(run));
        }
        let Some(chunk) = self.mirror.state().chunk_of(place) else { return Ok(None) };
        let mut events = self.fetch(chunk).await?;
        if events.first().is_none_or(|event| event.sequence != chunk.first) {
            // The server that answered lags behind the others: the leader has it.
            let Some(message) = self.link.message(chunk.message).await? else { return Ok(None) };
            events = self.events(&message.subject, &message.headers, message.payload).ok_or_else(damaged)?;
        }
        if events.last().is_none_or(|last| last.sequence < place) {
            return Err(damaged());
        }
        let bytes = events.iter().map(|event| event.encoded.len() + OVERHEAD_BYTES).sum();
        let run = Arc::new(Run { events, bytes });
        self.keep(run.clone());
        Ok(Some(run))
    }

    /// The events of a chunk and of those behind it, without holes.
    async fn fetch(&self, chunk: ChunkAt) -> Result<Vec<StoredEvent>, StoreError> {
        let request = serde_json::json!({
            "seq": chunk.message,
            "next_by_subj": self.link.subjects.every_chunk(),
            "batch": RUN_CHUNKS,
            "max_bytes": RUN_BYTES,
        });
        let mut events: Vec<StoredEvent> = Vec::new();
        for message in direct(&self.link, &request).await? {
            let Some(headers) = &message.headers else { break };
            let subject = headers.get(SUBJECT).map_or("", async_nats::HeaderValue::as_str);
            let Some(found) = self.events(subject, headers, message.payload) else { break };
            let follows = events
                .last()
                .is_none_or(|last| found.first().is_some_and(|first| first.sequence == last.sequence + 1));
            if !follows {
                break;
            }
            events.extend(found);
        }
        Ok(events)
    }

    fn events(&self, subject: &str, headers: &HeaderMap, payload: bytes::Bytes) -> Option<Vec<StoredEvent>> {
        match message::read(&self.link.subjects, subject, headers, Some(payload))? {
            Record::Chunk(chunk) => chunk::events(chunk.first, chunk.payload),
            _ => None,
        }
    }

    /// The place before the first kept event recorded at or after a time; the last place where there is none.
    pub(super) fn place_at(&self, time: SystemTime) -> Sequence {
        // Recorded times are whole milliseconds: one that is at or after the time is so after rounding the time up.
        let age = time.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_nanos(999_999);
        let recorded = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let state = self.mirror.state();
        let before = state.chunks.partition_point(|chunk| chunk.recorded < recorded);
        let place = state.chunks.get(before).map_or(state.counters.last, |chunk| chunk.first - 1);
        place.max(state.counters.first - 1)
    }

    /// What retention has passed. `None`: nothing.
    pub(super) fn passed(&self, state: &State, retention: Retention) -> Option<Passed> {
        let counters = state.counters;
        let age = i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX);
        // The machine's time, whatever was recorded: after events of a clock that had gone ahead, all before them would
        // seem old.
        let oldest = milliseconds(SystemTime::now()).saturating_sub(age);
        let by_age = state.chunks.partition_point(|chunk| chunk.recorded < oldest);
        // Events before this size go.
        let size = state.total.saturating_sub(retention.bytes);
        let by_size = state.chunks.partition_point(|chunk| chunk.before < size);
        if by_age == 0 && size <= state.before {
            return None;
        }
        // By size, part of the last chunk that begins before it may go; by age all of a chunk or nothing does.
        let edge =
            by_size.checked_sub(1).filter(|place| *place >= by_age).and_then(|place| state.chunks.get(place));
        let next = state.chunks.get(by_age.max(by_size));
        let first = next.map_or(counters.last + 1, |chunk| chunk.first);
        let gone = by_age.max(by_size).checked_sub(1).and_then(|place| state.chunks.get(place));
        let head = Head {
            first,
            last: counters.last,
            before: next.map_or(state.total, |chunk| chunk.before),
            total: state.total,
            recorded: counters.recorded,
            trimmed: gone.map_or(counters.recorded, |chunk| chunk.recorded),
        };
        Some(Passed { head, edge: edge.map(|chunk| (*chunk, size)) })
    }

    /// Finds how much of the chunk at the edge is kept.
    pub(super) async fn exactly(&self, passed: Passed) -> Result<Head, StoreError> {
        let Passed { mut head, edge } = passed;
        let Some((chunk, size)) = edge else { return Ok(head) };
        let Some(run) = self.run(chunk.first).await? else { return Ok(head) };
        let mut before = chunk.before;
        for event in run.events.iter().filter(|event| (chunk.first..head.first).contains(&event.sequence)) {
            if before >= size {
                (head.first, head.before) = (event.sequence, before);
                break;
            }
            before += event.encoded.len() as u64;
        }
        Ok(head)
    }
}

fn damaged() -> StoreError {
    failed("events", "a chunk of events is damaged")
}

/// Asks whichever server has the stream for several messages.
pub(super) async fn direct(link: &Link, request: &serde_json::Value) -> Result<Vec<Message>, StoreError> {
    let wrong = |error: &dyn std::fmt::Display| failed("messages", error);
    let inbox = link.client.new_inbox();
    let mut answers = link.client.subscribe(inbox.clone()).await.map_err(|error| wrong(&error))?;
    let subject = format!("$JS.API.DIRECT.GET.{}", link.name);
    let request = request.to_string().into();
    link.client.publish_with_reply(subject, inbox, request).await.map_err(|error| wrong(&error))?;
    let mut found = Vec::new();
    loop {
        let answer = link.unbroken(tokio::time::timeout(ANSWER_TIMEOUT, answers.next())).await;
        let answer = answer.ok_or_else(|| wrong(&BROKEN))?.map_err(|_| wrong(&"no answer in time"))?;
        let answer = answer.ok_or_else(|| wrong(&"not connected"))?;
        match answer.status.map(|status| status.as_u16()) {
            None => found.push(answer),
            Some(END | 404) => return Ok(found),
            Some(status) => {
                return Err(wrong(&format!("{status} {}", answer.description.unwrap_or_default())));
            }
        }
    }
}
