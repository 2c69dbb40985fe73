//! A subscription that goes on by itself: events as they come, over broken connections, silent peers and gateways that
//! stop. It keeps the place in the log, and holds no more than one batch.

mod wish;

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use postern_proto::event::v1::subscribe_response::Kind;
use postern_proto::event::v1::{Event, Gap, SubscribeResponse};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status, Streaming};

pub use self::wish::{Start, Wish};
use crate::client::Client;
use crate::dial::Line;
use crate::error::Error;
use crate::streams::{self, OPEN_PATIENCE};

/// What a subscription gives.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "gaps are rare, and an allocation for each event is not")]
pub enum Delivered {
    /// An event. It may come again after a break where the cursor that was stored is older: its `id` tells.
    Event(Event),
    /// Events asked for are no longer kept; the stream goes on after them.
    Gap(Gap),
}

/// A stream of events that resumes by itself. See [`Client::subscribe`].
///
/// It ends with an error that no repeat mends (a refused token, filter or cursor, `CURSOR_EXPIRED` where that was wished
/// for), or the last one once [`Wish::give_up_after`] is over, and then gives nothing more. All else is mended unseen;
/// [`last_break`](Subscription::last_break) tells of it.
pub struct Subscription {
    client: Client,
    wish: Wish,
    /// The connection in use, which is this stream's own.
    line: Option<Line>,
    state: State,
    /// The answer to come must be here by then.
    patience: Option<Pin<Box<Sleep>>>,
    /// How long a silence may last.
    silence: Duration,
    /// Events that came and were not given yet: the rest of one batch.
    ready: VecDeque<Event>,
    /// The place after the last of what was given. `None`: where the wish says.
    cursor: Option<Bytes>,
    /// Breaks in a row without an event, heartbeat or gap in between.
    failures: u32,
    /// When something last came, or the first try began.
    lived: Option<Instant>,
    last_break: Option<Error>,
}

enum State {
    /// No stream: the next look begins one.
    Idle,
    /// Waiting before the next try.
    Pausing(Pin<Box<Sleep>>),
    /// A stream was asked for.
    Opening(BoxFuture<'static, Result<Streaming<SubscribeResponse>, Status>>),
    /// The stream was given; its first answer is still to come.
    Begun(Streaming<SubscribeResponse>),
    /// The first answer came.
    Open(Streaming<SubscribeResponse>),
    /// An error was given.
    Ended,
}

/// What one step of the way came to.
enum Step {
    /// It goes on; there may be events.
    On,
    /// A gap, to be given.
    Gap(Gap),
    /// The error that ends it, to be given.
    Failed(Error),
    /// It has ended.
    Ended,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("wish", &self.wish)
            .field("cursor", &self.cursor)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    pub(crate) fn new(client: Client, wish: Wish) -> Self {
        let cursor = match &wish.start {
            Start::After(cursor) => Some(cursor.clone()),
            _ => None,
        };
        Self {
            client,
            wish,
            line: None,
            state: State::Idle,
            patience: None,
            silence: OPEN_PATIENCE,
            ready: VecDeque::new(),
            cursor,
            failures: 0,
            lived: None,
            last_break: None,
        }
    }

    /// The place after what was last given, heartbeats included: store it once that was dealt with, and begin there after
    /// a restart ([`Start::After`]). `None`: nothing was heard yet.
    #[must_use]
    pub fn cursor(&self) -> Option<&Bytes> {
        self.cursor.as_ref()
    }

    /// Why the stream last broke, whether or not it has been mended since.
    #[must_use]
    pub fn last_break(&self) -> Option<&Error> {
        self.last_break.as_ref()
    }

    /// Waits until the stream is open: what happens from then on is told, also with [`Start::Latest`]. May be given up and
    /// called again.
    ///
    /// # Errors
    /// That which ends the subscription.
    pub async fn opened(&mut self) -> Result<(), Error> {
        poll_fn(|context| {
            loop {
                if matches!(self.state, State::Open(_)) || !self.ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                match ready!(self.poll_step(context)) {
                    Step::Failed(error) => return Poll::Ready(Err(error)),
                    Step::Ended => return Poll::Ready(Err(self.ending())),
                    Step::On | Step::Gap(_) => {}
                }
            }
        })
        .await
    }

    /// The next event or gap. `None`: the error that ended the stream was given. May be given up and called again: nothing
    /// is lost.
    pub async fn next(&mut self) -> Option<Result<Delivered, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The error of a subscription that has ended already.
    fn ending(&self) -> Error {
        let unsaid = || Error::broken_off(Code::Cancelled, "the subscription has ended");
        self.last_break.clone().unwrap_or_else(unsaid)
    }

    /// One step on the way, events aside: they are put where they wait to be given.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match &mut self.state {
            State::Idle => {
                self.begin();
                Poll::Ready(Step::On)
            }
            State::Pausing(pause) => {
                ready!(pause.as_mut().poll(context));
                self.state = State::Idle;
                Poll::Ready(Step::On)
            }
            State::Opening(opening) => match opening.as_mut().poll(context) {
                Poll::Ready(Ok(answers)) => {
                    self.state = State::Begun(answers);
                    Poll::Ready(Step::On)
                }
                Poll::Ready(Err(status)) => Poll::Ready(self.broke(status.into())),
                Poll::Pending => self.poll_patience(context),
            },
            State::Begun(answers) | State::Open(answers) => match Pin::new(answers).poll_next(context) {
                Poll::Ready(Some(Ok(answer))) => Poll::Ready(self.take(answer)),
                Poll::Ready(Some(Err(status))) => Poll::Ready(self.broke(status.into())),
                Poll::Ready(None) => {
                    let message = "the stream of events ended without a status";
                    Poll::Ready(self.broke(Error::broken_off(Code::Unavailable, message)))
                }
                Poll::Pending => self.poll_patience(context),
            },
            State::Ended => Poll::Ready(Step::Ended),
        }
    }

    /// Asks for a stream from the place that was reached, on a new connection: the old one may be a dead one.
    fn begin(&mut self) {
        self.lived.get_or_insert_with(Instant::now);
        let (mut events, line) = self.client.own_events(self.line.as_ref());
        self.line = Some(line);
        let request = self.wish.request(self.cursor.as_ref());
        let opening = async move { Ok(events.subscribe(request).await?.into_inner()) };
        self.silence = OPEN_PATIENCE;
        self.patience = None;
        self.state = State::Opening(Box::pin(opening));
    }

    /// Waits for as long as a silence may last, counted from when somebody began to wait: who was long in coming back
    /// has not been kept waiting.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let silence = self.silence;
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(self.broke(streams::too_silent()))
    }

    /// Takes one answer.
    fn take(&mut self, answer: SubscribeResponse) -> Step {
        self.patience = None;
        self.lived = Some(Instant::now());
        if !matches!(answer.kind, Some(Kind::Opened(_))) {
            // A stream that opens and breaks each time is not mended: only what comes after counts.
            self.failures = 0;
        }
        match answer.kind {
            Some(Kind::Opened(opened)) => {
                self.cursor = Some(opened.cursor);
                self.silence = streams::longest_silence(opened.heartbeat_interval);
                if let State::Begun(answers) = std::mem::replace(&mut self.state, State::Idle) {
                    self.state = State::Open(answers);
                }
            }
            Some(Kind::Batch(batch)) => self.ready.extend(batch.events),
            Some(Kind::Heartbeat(heartbeat)) => self.cursor = Some(heartbeat.cursor),
            Some(Kind::Gap(gap)) => {
                self.cursor = Some(gap.to_cursor.clone());
                return Step::Gap(gap);
            }
            // Of a newer contract: nothing that is needed to go on.
            None => {}
        }
        Step::On
    }

    /// The stream broke, or was not given: it ends, or is tried again after a pause.
    fn broke(&mut self, error: Error) -> Step {
        self.last_break = Some(error.clone());
        let silent_for = self.lived.map(|lived| lived.elapsed()).unwrap_or_default();
        if !streams::is_mended_by_repeats(&error)
            || self.wish.give_up_after.is_some_and(|limit| silent_for >= limit)
        {
            self.state = State::Ended;
            self.line = None;
            return Step::Failed(error);
        }
        // Another may take it at once: this one asks not to be come back to, or is an address that takes callers and drops
        // them, for a gateway that is dead.
        if let Some(line) = &self.line {
            line.turn_away();
        }
        self.failures = self.failures.saturating_add(1);
        let pause = streams::pause_after(self.failures, &error);
        tracing::info!(
            code = ?error.code(),
            reason = error.reason(),
            pause_ms = pause.as_millis(),
            "a stream of events broke and is resumed"
        );
        self.state = State::Pausing(Box::pin(tokio::time::sleep(pause)));
        Step::On
    }
}

impl Stream for Subscription {
    type Item = Result<Delivered, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.cursor = Some(event.cursor.clone());
                return Poll::Ready(Some(Ok(Delivered::Event(event))));
            }
            match ready!(self.poll_step(context)) {
                Step::On => {}
                Step::Gap(gap) => return Poll::Ready(Some(Ok(Delivered::Gap(gap)))),
                Step::Failed(error) => return Poll::Ready(Some(Err(error))),
                Step::Ended => return Poll::Ready(None),
            }
        }
    }
}
