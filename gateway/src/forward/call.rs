//! One call on its way: handed to the copy of its connector that the connection sticks to, and to another where that
//! cannot do anything twice.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use postern_chassis::fault::Fault;
use postern_chassis::opened::{CONNECTION_METADATA, REPEAT_METADATA};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::breaks::{cut_short, interrupted, out_of_time};
use super::first::{First, is_whole};
use super::headers;
use super::passing::{Handed, Passing};
use super::returning::Bound;
use crate::connections::Opened;
use crate::connectors::{AnswerBody, ChannelError, Connector, Replica, unavailable};
use crate::contract::Terms;
use crate::error::Error;
use crate::metrics;

/// How often a call that broke off is handed over again: one that kills its connector must not take all copies along for
/// long.
const MAX_REPEATS: usize = 3;
/// How long a call without a deadline waits for its answer: longer than any connector takes for one (a mail server has
/// ten minutes for the final dot).
const LONGEST_ANSWER: Duration = Duration::from_secs(15 * 60);
/// The same where the caller sends a stream, which takes as long as its caller and line do.
const LONGEST_STREAM: Duration = Duration::from_secs(3_600);

/// A call on its way.
pub(super) struct Call {
    terms: Terms,
    /// Whether it has a request id, by which its connector knows a repeat.
    has_id: bool,
    uri: Uri,
    headers: HeaderMap,
    first: First,
    deadline: Option<Instant>,
    /// At what the request ends if its caller does not end it.
    stop: Option<CancellationToken>,
    repeats: usize,
    /// Whether an earlier try may have made the change.
    is_doubtful: bool,
}

/// What became of one try to hand a call over.
enum Sent {
    /// The connector answered.
    Answered(Answer),
    /// There was no connection to it: it got nothing.
    NotConnected,
    /// It processed nothing: the connection had gone before the call was handed over, or it refused the call.
    Unprocessed,
    /// It may have processed it, and a repeat does no harm: what the caller is told where there is none.
    Broken(Fault),
}

/// A connector's answer, and what of the request it was handed.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    /// The first frames of the body, where they were waited for.
    pub(super) begun: VecDeque<Frame<Bytes>>,
    pub(super) body: AnswerBody,
    pub(super) handed: Arc<Handed>,
}

/// An answer that has begun: its head, the first frames where they were waited for, and the rest.
type Begun = (response::Parts, VecDeque<Frame<Bytes>>, AnswerBody);

impl Call {
    pub(super) fn new(
        terms: Terms,
        has_id: bool,
        uri: Uri,
        headers: HeaderMap,
        first: First,
        deadline: Option<Instant>,
        stop: Option<CancellationToken>,
    ) -> Self {
        Self { terms, has_id, uri, headers, first, deadline, stop, repeats: 0, is_doubtful: false }
    }

    /// When it must be over, if its caller says so.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether it was handed over again although an earlier try may have made the change.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Until when its one answer may take to come whole. `None`: it answers with a stream, for as long as that lasts.
    pub(super) fn answer_bound(&self) -> Option<Bound> {
        let is_deadline = self.deadline.is_some();
        if self.terms.gives_stream && !is_deadline {
            return None;
        }
        Some(Bound { until: self.end(Instant::now()), is_deadline })
    }

    /// When waiting that begins now has an end.
    fn end(&self, now: Instant) -> Instant {
        let bound = if self.terms.takes_stream { LONGEST_STREAM } else { LONGEST_ANSWER };
        self.deadline.unwrap_or(now + bound)
    }

    /// Hands the call to the copy that the connection sticks to; to the next one where nothing was processed, or where
    /// the contract says that a repeat does no harm. In the end once more to those that only refused, or whose connection
    /// had gone stale; and where one broke off, to all: those that were gone may have come back meanwhile.
    pub(super) async fn send(&mut self, connector: &Connector, opened: &Opened) -> Result<Answer, Error> {
        let replicas = connector.replicas_for(opened.name());
        let (mut unprocessed, mut broken) = (Vec::new(), None);
        for replica in &replicas {
            match self.send_to(replica, opened, replicas.len() > 1).await? {
                Sent::Answered(answer) => return Ok(answer),
                Sent::NotConnected => replica.mark_lost(),
                Sent::Unprocessed => unprocessed.push(replica.clone()),
                Sent::Broken(fault) => broken = Some(fault),
            }
        }
        for replica in if broken.is_some() { &replicas } else { &unprocessed } {
            match self.send_to(replica, opened, replicas.len() > 1).await? {
                Sent::Answered(answer) => return Ok(answer),
                Sent::NotConnected => replica.mark_lost(),
                Sent::Unprocessed => {}
                Sent::Broken(fault) => broken = Some(fault),
            }
        }
        Err(broken.unwrap_or_else(|| unavailable("it is not reached")).into())
    }

    async fn send_to(&mut self, replica: &Replica, opened: &Opened, are_others: bool) -> Result<Sent, Error> {
        let handed = Arc::new(Handed::default());
        let request = self.request(opened, &handed);
        let channel = replica.channel();
        let may_move = are_others && self.repeats < MAX_REPEATS;
        let peeks = may_move && (self.terms.is_safe || self.is_known_by_id());
        let is_one = !self.terms.gives_stream;
        let ended = {
            let sending = pin!(async move {
                let (head, mut body) = channel.exchange(request).await?.into_parts();
                // Until some of the answer has gone on to the caller, the call can still be made elsewhere.
                let mut begun = VecDeque::new();
                while peeks && !body.is_end_stream() {
                    let Some(frame) = body.frame().await.transpose()? else { break };
                    // The caller has nothing of one message without its status: that is waited for too.
                    let goes_on = begun.is_empty() && is_one && frame.data_ref().is_some_and(is_whole);
                    begun.push_back(frame);
                    if !goes_on {
                        break;
                    }
                }
                Ok((head, begun, body))
            });
            // Whatever of it is still under way then, ends.
            self.wait(sending, replica, may_move && self.terms.is_safe).await?
        };
        let error = match ended {
            Ok((head, begun, body)) => return Ok(Sent::Answered(Answer { head, begun, body, handed })),
            Err(error) => error,
        };
        let is_silent = error.as_ref().is_none_or(ChannelError::is_silence);
        tracing::debug!(
            connector.address = %replica.uri(),
            error = error.as_ref().map(|error| error as &dyn StdError),
            "a call broke off"
        );
        let is_not_connected = error.as_ref().is_some_and(ChannelError::is_not_connected);
        let is_unprocessed = !handed.is_touched() || error.as_ref().is_some_and(ChannelError::is_unprocessed);
        if !is_not_connected {
            replica.doubt();
        }
        // What was not read of the request is needed for the next try.
        let is_here = self.first.take_back(&handed).await;
        if is_unprocessed {
            if !is_here {
                let nothing_done = unavailable("it refused the call: nothing was done");
                return Err(if self.is_doubtful { interrupted(self.terms) } else { nothing_done }.into());
            }
            metrics::MOVED.unprocessed.inc();
            return Ok(if is_not_connected { Sent::NotConnected } else { Sent::Unprocessed });
        }
        metrics::BROKEN_CALLS.inc();
        let is_nothing_done = self.terms.gathers() && !handed.is_ended();
        let by_id = self.is_known_by_id() && !is_silent;
        if is_here && may_move && (self.terms.is_safe || is_nothing_done || by_id) {
            self.repeats += 1;
            if !(self.terms.is_safe || is_nothing_done) {
                self.is_doubtful = true;
                self.headers.insert(REPEAT_METADATA, HeaderValue::from_static("1"));
            }
            metrics::MOVED.broken.inc();
            return Ok(Sent::Broken(self.broken(&handed)));
        }
        Err(self.broken(&handed).into())
    }

    /// What the caller is told of a call that broke off and is not repeated.
    fn broken(&self, handed: &Handed) -> Fault {
        if handed.is_ended() || self.is_doubtful { interrupted(self.terms) } else { cut_short(self.terms) }
    }

    /// Whether its connector knows a repeat of it.
    fn is_known_by_id(&self) -> bool {
        self.terms.is_idempotent && self.has_id
    }

    /// Waits for the answer to begin: until the deadline, or a bound that lies behind what connectors take. A copy that
    /// takes long is asked whether it is still there; where it is not, and the call may move, there is no more waiting:
    /// what it ended with is then nothing.
    async fn wait(
        // Not shared: a body may be moved between threads, not be used by two.
        &mut self,
        mut sending: Pin<&mut impl Future<Output = Result<Begun, ChannelError>>>,
        replica: &Replica,
        may_move: bool,
    ) -> Result<Result<Begun, Option<ChannelError>>, Error> {
        let now = Instant::now();
        let (end, suspicion) = (self.end(now), now + replica.suspicion());
        let mut waited = timeout_at(end.min(suspicion), &mut sending).await.ok();
        if waited.is_none() && suspicion < end {
            replica.doubt();
            waited = tokio::select! {
                waited = timeout_at(end, &mut sending) => waited.ok(),
                () = replica.lost(), if may_move => return Ok(Err(None)),
            };
        }
        match waited {
            Some(ended) => Ok(ended.map_err(Some)),
            // It is not certain that nothing more is read of the request.
            None if self.deadline.is_some() => Err(out_of_time().into()),
            None => Err(interrupted(self.terms).into()),
        }
    }

    fn request(&mut self, opened: &Opened, handed: &Arc<Handed>) -> Request<Passing> {
        let mut body = Passing::new(self.first.buffered(), self.first.rest(), handed.clone());
        if let Some(stop) = &self.stop {
            body.end_at(stop.clone());
        }
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(CONNECTION_METADATA, opened.header());
        if let Some(deadline) = self.deadline {
            headers::set_timeout(request.headers_mut(), deadline);
        }
        request
    }
}
