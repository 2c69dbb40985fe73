//! A reader of a stored subscription that goes on by itself: the gateway keeps the place, this keeps the stream open.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::consume_response::Kind;
use postern_proto::event::v1::{
    AcknowledgeRequest, Confirmed, ConsumeRequest, ConsumeResponse, ConsumeStart, Delivery, Gap, Settle,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::client::Client;
use crate::dial::Line;
use crate::error::Error;
use crate::pause::pause;
use crate::retry::new_request_id;
use crate::streams::{self, OPEN_PATIENCE};

/// How many acknowledgements of gaps wait for the gateway to hear them.
const GAPS: usize = 8;

/// What a consumer gives.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "gaps are rare, and an allocation for each event is not")]
pub enum Consumed {
    /// An event. It comes again until it is settled: its `id` tells.
    Delivery(Delivery),
    /// Events that were not read yet are no longer kept; the stream goes on after them. SHARED: acknowledged when the next
    /// delivery or gap is asked for; it comes again, to whoever reads, where that does not reach the gateway.
    Gap(Gap),
}

/// A stream of a stored subscription that resumes by itself. See [`Client::consume`].
///
/// What was given and not settled when a stream broke comes again. It ends with an error that no repeat mends: the
/// subscription is gone, another client reads it now (`SUBSCRIPTION_TAKEN_OVER`), what was asked for is wrong.
pub struct Consumer {
    client: Client,
    start: ConsumeStart,
    line: Option<Line>,
    state: State,
    /// What is said on the stream. Dropped, it ends that, and so the stream: a dropped stream of answers alone tells the
    /// gateway nothing for as long as more may be said.
    saying: Option<mpsc::Sender<ConsumeRequest>>,
    /// What the gap is acknowledged by that was given last.
    gap: Option<String>,
    /// Deliveries that came and were not given yet: the rest of one answer.
    ready: VecDeque<Delivery>,
    silence: Duration,
    /// When the silence that is waited through began.
    waiting: Option<Instant>,
    /// Breaks in a row without a delivery, heartbeat or gap in between.
    failures: u32,
}

enum State {
    Idle,
    Pausing(Instant),
    /// Locked by nobody: it lets tasks share a consumer, and so spawn what acknowledges.
    Opening(Mutex<BoxFuture<'static, Result<Streaming<ConsumeResponse>, Status>>>),
    Open(Box<Streaming<ConsumeResponse>>),
    Ended,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("start", &self.start)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    pub(crate) fn new(client: Client, mut start: ConsumeStart) -> Self {
        if start.client_id.is_empty() {
            // Its own streams must not be told from each other.
            start.client_id = new_request_id();
        }
        Self {
            client,
            start,
            line: None,
            state: State::Idle,
            saying: None,
            gap: None,
            ready: VecDeque::new(),
            silence: OPEN_PATIENCE,
            waiting: None,
            failures: 0,
        }
    }

    /// The next delivery or gap. `None`: the error that ended the stream was given. May be given up and called again:
    /// nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Consumed, Error>> {
        if let (Some(ack_id), Some(saying)) = (self.gap.take(), &self.saying) {
            let settle = Settle { ack_ids: vec![ack_id], ..Settle::default() };
            // Where it has no room, for gaps that the gateway does not hear of, this one is told again.
            drop(saying.try_send(ConsumeRequest { kind: Some(Say::Settle(settle)) }));
        }
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return Some(Ok(Consumed::Delivery(delivery)));
            }
            let until = *self.waiting.get_or_insert_with(Instant::now) + self.silence;
            let broke = match &mut self.state {
                State::Idle => {
                    self.begin();
                    continue;
                }
                State::Pausing(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.state = State::Idle;
                    continue;
                }
                State::Opening(opening) => match tokio::time::timeout_at(
                    until,
                    opening.get_mut().unwrap_or_else(PoisonError::into_inner),
                )
                .await
                {
                    Ok(Ok(answers)) => {
                        self.state = State::Open(Box::new(answers));
                        continue;
                    }
                    Ok(Err(status)) => Error::from(status),
                    Err(_) => streams::too_silent(),
                },
                State::Open(answers) => match tokio::time::timeout_at(until, answers.message()).await {
                    Ok(Ok(Some(answer))) => {
                        self.waiting = None;
                        match self.take(answer) {
                            Some(gap) => return Some(Ok(Consumed::Gap(gap))),
                            None => continue,
                        }
                    }
                    Ok(Ok(None)) => Error::broken_off(Code::Unavailable, "the stream ended without a status"),
                    Ok(Err(status)) => Error::from(status),
                    Err(_) => streams::too_silent(),
                },
                State::Ended => return None,
            };
            if let Some(error) = self.broke(broke) {
                return Some(Err(error));
            }
        }
    }

    /// ORDERED: everything up to this cursor, of an event, or of a gap, is done with. Durable once this returns; tried again
    /// for as long as that helps.
    ///
    /// # Errors
    /// That of the last try: `SUBSCRIPTION_TAKEN_OVER`, `SUBSCRIPTION_MOVED`, `CURSOR_INVALID` …
    pub async fn commit(&self, cursor: Bytes) -> Result<(), Error> {
        let request = AcknowledgeRequest { cursor, ..self.acknowledging() };
        self.acknowledge(request).await.map(drop)
    }

    /// SHARED: says what became of deliveries. What is confirmed is durable once this returns; tried again for as long as
    /// that helps. Each delivery that was not settled as asked is named in [`Confirmed::failures`].
    ///
    /// # Errors
    /// That of the last try.
    pub async fn settle(&self, settle: Settle) -> Result<Confirmed, Error> {
        let request = AcknowledgeRequest { settle: Some(settle), ..self.acknowledging() };
        self.acknowledge(request).await
    }

    /// SHARED: this delivery is done with. False: its deadline has passed, and it comes again.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn ack(&self, delivery: &Delivery) -> Result<bool, Error> {
        let ack_ids = vec![delivery.ack_id.clone()];
        let confirmed = self.settle(Settle { ack_ids, ..Settle::default() }).await?;
        Ok(confirmed.failures.is_empty())
    }

    fn acknowledging(&self) -> AcknowledgeRequest {
        AcknowledgeRequest {
            subscription: self.start.subscription.clone(),
            client_id: self.start.client_id.clone(),
            ..AcknowledgeRequest::default()
        }
    }

    /// Acknowledging again what is settled changes nothing, hence it is tried again whatever became of the try before.
    async fn acknowledge(&self, request: AcknowledgeRequest) -> Result<Confirmed, Error> {
        let retry = self.client.retry();
        let end = Instant::now() + retry.total;
        let mut tried = 0;
        loop {
            let error = match self.client.events().acknowledge(request.clone()).await {
                Ok(answer) => return Ok(answer.into_inner().confirmed.unwrap_or_default()),
                Err(status) => Error::from(status),
            };
            tried += 1;
            let pause = pause(tried, retry.first_pause, retry.longest_pause, error.retry_after());
            let helps = is_mended_by_repeats(&error) && error.code() != Code::Aborted;
            if !helps || tried >= retry.tries || Instant::now() + pause >= end {
                return Err(error);
            }
            self.client.turn_away();
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks for a stream, on a new connection: the old one may be a dead one.
    fn begin(&mut self) {
        let (mut events, line) = self.client.own_events(self.line.as_ref());
        self.line = Some(line);
        let start = ConsumeRequest { kind: Some(Say::Start(self.start.clone())) };
        let (saying, said) = mpsc::channel(GAPS);
        self.saying = Some(saying);
        // The end of what is said is the stream's.
        let said = stream::iter([start]).chain(ReceiverStream::new(said));
        let opening = async move { Ok(events.consume(said).await?.into_inner()) };
        (self.silence, self.waiting) = (OPEN_PATIENCE, None);
        self.state = State::Opening(Mutex::new(Box::pin(opening)));
    }

    /// Takes one answer; a gap is to be given.
    fn take(&mut self, answer: ConsumeResponse) -> Option<Gap> {
        match answer.kind {
            Some(Kind::Opened(opened)) => {
                self.silence = streams::longest_silence(opened.heartbeat_interval);
                return None;
            }
            Some(Kind::Deliveries(deliveries)) => self.ready.extend(deliveries.deliveries),
            Some(Kind::Gap(gap)) => {
                self.failures = 0;
                self.gap = Some(gap.ack_id.clone()).filter(|ack_id| !ack_id.is_empty());
                return Some(gap);
            }
            Some(Kind::Heartbeat(_) | Kind::Confirmed(_)) | None => {}
        }
        // A stream that opens and breaks each time is not mended: only what comes after counts.
        self.failures = 0;
        None
    }

    /// The stream broke, or was not given: it ends with an error, or is tried again after a pause.
    fn broke(&mut self, error: Error) -> Option<Error> {
        // The gateway gives them again, here or elsewhere.
        self.ready.clear();
        (self.saying, self.gap) = (None, None);
        if !is_mended_by_repeats(&error) {
            (self.state, self.line) = (State::Ended, None);
            return Some(error);
        }
        // Whatever became of it there: an address may take callers and drop them, for a gateway that is dead.
        if let Some(line) = &self.line {
            line.turn_away();
        }
        self.failures = self.failures.saturating_add(1);
        let pause = streams::pause_after(self.failures, &error);
        tracing::info!(
            code = ?error.code(),
            reason = error.reason(),
            pause_ms = pause.as_millis(),
            "a stream of a stored subscription broke and is resumed"
        );
        self.state = State::Pausing(Instant::now() + pause);
        None
    }
}

/// Whether a repeat may do what this error kept from being done.
fn is_mended_by_repeats(error: &Error) -> bool {
    streams::is_mended_by_repeats(error) && error.reason() != "SUBSCRIPTION_TAKEN_OVER"
}
