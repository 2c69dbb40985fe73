//! Many mails on one stream. Each is a task of its own: as many are handed over at once as the connection has sockets,
//! some more wait composed, and beyond these the stream is not read. Nothing of a mail is kept once it is answered.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt as _;
use postern_proto::smtp::v1::send_email_request::Content as OneContent;
use postern_proto::smtp::v1::send_emails_request::Content;
use postern_proto::smtp::v1::send_emails_response::Outcome;
use postern_proto::smtp::v1::{SendEmailRequest, SendEmailResponse, SendEmailsRequest, SendEmailsResponse};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::clock::Clock;
use crate::error::Error;
use crate::message::{MAX_REQUEST_ID_BYTES, Mail, check_request_id};
use crate::pool::Pool;
use crate::room::Room;
use crate::send;
use crate::service::told_of_one;

#[cfg(test)]
mod tests;

/// How many mails beyond the sockets are read and composed, so that a socket that is free has its next mail at once.
/// With the most sockets a connection may have, all under way are far fewer than the thousand that the contract allows.
const AHEAD: u32 = 20;
/// How many answers may wait to be sent: what is ready together travels together.
const ANSWERS: usize = 64;
/// How long a stream is kept on which the caller sends nothing, or takes no answers.
const IDLE: Duration = Duration::from_secs(600);

/// A stream of mails.
pub(crate) struct Bulk {
    pool: Arc<Pool>,
    room: Room,
    clock: Clock,
    tasks: TaskTracker,
    /// A place for each mail that may be under way.
    places: Arc<Semaphore>,
    most: u32,
    /// A turn for each mail that may be handed over at once. Who waits here has said nothing to any server yet.
    turns: Semaphore,
    /// The request ids that are under way.
    under_way: Mutex<HashSet<String>>,
    answers: mpsc::Sender<SendEmailsResponse>,
    /// Cancelled when an answer was not taken in time: it is lost, and no more mails are read.
    unheard: CancellationToken,
    idle: Duration,
    stop: CancellationToken,
    ending: Arc<Ending>,
}

/// Why a stream ends, where it does not end well. It has a place of its own, so that it is told even to a caller that
/// left no room for another answer.
type Ending = Mutex<Option<Status>>;

/// The answers of a stream, and its end.
pub(crate) struct Answers {
    answers: mpsc::Receiver<SendEmailsResponse>,
    ending: Arc<Ending>,
}

impl Stream for Answers {
    type Item = Result<SendEmailsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(answer) = ready!(self.answers.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(answer)));
        }
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        Poll::Ready(ending.map(Err))
    }
}

impl Bulk {
    /// A stream through a pool, and its answers. Its mails are `tasks`; it ends early once `stop` is cancelled.
    pub(crate) fn new(
        pool: Arc<Pool>,
        room: Room,
        clock: Clock,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> (Arc<Self>, Answers) {
        let (answers, answered) = mpsc::channel(ANSWERS);
        let sockets = pool.connection().max_connections;
        let most = sockets + AHEAD.min(sockets);
        let bulk = Self {
            room,
            clock,
            tasks,
            places: Arc::new(Semaphore::new(most as usize)),
            most,
            turns: Semaphore::new(sockets as usize),
            under_way: Mutex::default(),
            answers,
            unheard: CancellationToken::new(),
            idle: IDLE,
            stop,
            ending: Arc::default(),
            pool,
        };
        let answers = Answers { answers: answered, ending: Arc::clone(&bulk.ending) };
        (Arc::new(bulk), answers)
    }

    /// Reads mails until the caller has no more or is gone, the deadline has passed or the connector stops; then waits
    /// until each that was read is answered, and ends the stream.
    pub(crate) async fn run(
        self: Arc<Self>,
        mails: impl Stream<Item = Result<SendEmailsRequest, Status>> + Send + Unpin,
    ) {
        let ended = self.read(mails).await;
        // Every place is free once every mail is answered.
        let _all = self.places.acquire_many(self.most).await;
        let ended = if self.unheard.is_cancelled() { Err(Error::Unheard.into()) } else { ended };
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = ended.err();
    }

    async fn read(
        self: &Arc<Self>,
        mut mails: impl Stream<Item = Result<SendEmailsRequest, Status>> + Unpin,
    ) -> Result<(), Status> {
        let mut through: Option<String> = None;
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return Ok(()) };
            let next = tokio::select! {
                biased;
                () = self.answers.closed() => return Ok(()),
                () = self.unheard.cancelled() => return Ok(()),
                () = self.stop.cancelled() => return Err(Error::Stopping.into()),
                next = timeout_at(self.clock.end_within(self.idle), mails.next()) => next,
            };
            let next = next.map_err(|_| Error::Stalled)?;
            let Some(mut mail) = next.transpose()? else { return Ok(()) };
            let connection = std::mem::take(&mut mail.connection);
            if !connection.is_empty() {
                let first = through.get_or_insert_with(|| connection.clone());
                if *first != connection {
                    let problem = "differs from that of the first mail: expected the same, or none";
                    return Err(Error::field("connection", problem).into());
                }
            }
            self.begin(mail, place).await;
        }
    }

    /// Begins one mail, once there is room for it.
    async fn begin(self: &Arc<Self>, mail: SendEmailsRequest, place: OwnedSemaphorePermit) {
        let began = Instant::now();
        let held = tokio::select! {
            () = self.answers.closed() => return,
            held = self.room.wait(mail.encoded_len()) => held,
        };
        let entered = held.and_then(|held| Ok((held, self.enter(&mail.request_id)?)));
        let (held, request_id) = match entered {
            Ok(entered) => entered,
            Err(error) => {
                let end = mail.request_id.floor_char_boundary(MAX_REQUEST_ID_BYTES);
                return self.answer(mail.request_id[..end].to_owned(), Err(error), began).await;
            }
        };
        let bulk = Arc::clone(self);
        self.tasks.spawn(async move {
            let outcome = bulk.send(mail, began).await;
            drop(held);
            bulk.under_way().remove(&request_id);
            if let Some(outcome) = outcome {
                bulk.answer(request_id, outcome, began).await;
            }
            drop(place);
        });
    }

    /// Takes a request id, until it is answered.
    fn enter(&self, request_id: &str) -> Result<String, Error> {
        if request_id.is_empty() {
            return Err(Error::field("request_id", "is needed: the answer carries it"));
        }
        check_request_id(request_id).map_err(|problem| Error::field("request_id", problem))?;
        if !self.under_way().insert(request_id.to_owned()) {
            let problem = "is under way on this stream: expected another, or to wait for its answer";
            return Err(Error::field("request_id", problem));
        }
        Ok(request_id.to_owned())
    }

    /// Composes a mail and hands it over. None: the caller is gone, and nothing was sent.
    async fn send(
        &self,
        mail: SendEmailsRequest,
        began: Instant,
    ) -> Option<Result<SendEmailResponse, Error>> {
        let request = SendEmailRequest {
            connection: String::new(),
            request_id: mail.request_id,
            content: mail.content.map(|content| match content {
                Content::Email(email) => OneContent::Email(email),
                Content::Raw(raw) => OneContent::Raw(raw),
            }),
            delivery_reports: mail.delivery_reports,
        };
        let mail = match Mail::compose(&request, self.pool.connection()).await {
            Ok(mail) => mail,
            Err(error) => return Some(Err(error)),
        };
        drop(request);
        let _turn = tokio::select! {
            biased;
            () = self.answers.closed() => return None,
            turn = self.turns.acquire() => turn,
        };
        let mut was_slowed = false;
        loop {
            let error = match send::send(&self.pool, &mail, self.clock).await {
                Ok(taken) => return Some(Ok(send::response(&mail, taken))),
                Err(error) => error,
            };
            let wait = match &error {
                // Others use the connection too. What waits here is read no further: it may as well wait on.
                Error::Busy(wait) => *wait,
                // A server that is given a pause slows the stream: it does not fail all that comes as fast as it comes.
                Error::Slowed { wait, .. } if !was_slowed => {
                    was_slowed = true;
                    *wait
                }
                _ => return Some(Err(error)),
            };
            let again = Instant::now() + wait;
            if self.clock.end_within(wait) < again {
                return Some(Err(error));
            }
            tracing::debug!(
                connection.name = self.pool.connection().name(),
                duration_ms = began.elapsed().as_millis(),
                "a mail of a stream waits for a socket"
            );
            tokio::select! {
                () = self.answers.closed() => return None,
                () = self.stop.cancelled() => return Some(Err(Error::Stopping)),
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }

    /// Answers one mail.
    async fn answer(&self, request_id: String, outcome: Result<SendEmailResponse, Error>, began: Instant) {
        let outcome = match outcome {
            Ok(sent) => Outcome::Sent(sent),
            Err(error) => Outcome::Failure(told_of_one("SendEmails", self.pool.connection(), began, error)),
        };
        let answer = SendEmailsResponse { request_id, outcome: Some(outcome) };
        tokio::select! {
            biased;
            _ = self.answers.send(answer) => {}
            // One answer is lost: the others need not be waited for as long.
            () = self.unheard.cancelled() => {}
            () = tokio::time::sleep(self.idle) => self.unheard.cancel(),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashSet<String>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
