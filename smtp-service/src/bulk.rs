//! Many mails on one stream. Each is a task of its own: as many are handed over at once as the connection has sockets,
//! some more wait composed, and beyond these the stream is not read. Nothing of a mail is kept once it is answered.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_proto::smtp::v1::send_email_request::Content as OneContent;
use postern_proto::smtp::v1::send_emails_request::Content;
use postern_proto::smtp::v1::send_emails_response::Outcome;
use postern_proto::smtp::v1::{SendEmailRequest, SendEmailResponse, SendEmailsRequest, SendEmailsResponse};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use crate::clock::Clock;
use crate::error::Error;
use crate::message::Mail;
use crate::pool::Pool;
use crate::room::Room;
use crate::send;
use crate::service::told_of_one;

/// How many mails beyond the sockets are read and composed, so that a socket that is free has its next mail at once.
/// With the most sockets a connection may have, all under way are far fewer than the thousand that the contract allows.
const AHEAD: u32 = 20;
/// How many answers may wait to be sent: what is ready together travels together.
const ANSWERS: usize = 64;
/// How long a stream is kept on which the caller sends nothing, or takes no answers.
const IDLE: Duration = Duration::from_secs(600);
/// The longest request id; a longer one is refused, and comes back cut to this.
const MAX_REQUEST_ID_BYTES: usize = 128;

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
    answers: mpsc::Sender<Result<SendEmailsResponse, Status>>,
}

impl Bulk {
    /// A stream through a pool, and its answers. Its mails are `tasks`.
    pub(crate) fn new(
        pool: Arc<Pool>,
        room: Room,
        clock: Clock,
        tasks: TaskTracker,
    ) -> (Arc<Self>, ReceiverStream<Result<SendEmailsResponse, Status>>) {
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
            pool,
        };
        (Arc::new(bulk), ReceiverStream::new(answered))
    }

    /// Reads mails until the caller has no more or is gone, the deadline has passed or the connector stops; then waits
    /// until each that was read is answered, and ends the stream.
    pub(crate) async fn run(self: Arc<Self>, mails: Streaming<SendEmailsRequest>, stop: CancellationToken) {
        let ended = self.read(mails, stop).await;
        // Every place is free once every mail is answered.
        let _all = self.places.acquire_many(self.most).await;
        if let Err(status) = ended {
            self.say(Err(status)).await;
        }
    }

    async fn read(
        self: &Arc<Self>,
        mut mails: Streaming<SendEmailsRequest>,
        stop: CancellationToken,
    ) -> Result<(), Status> {
        let mut through: Option<String> = None;
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return Ok(()) };
            let next = tokio::select! {
                biased;
                () = self.answers.closed() => return Ok(()),
                () = stop.cancelled() => return Err(Error::Stopping.into()),
                next = timeout_at(self.clock.end_within(IDLE), mails.message()) => next,
            };
            let next = next.map_err(|_| Error::Stalled)?;
            let Some(mut mail) = next? else { return Ok(()) };
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
        if request_id.len() > MAX_REQUEST_ID_BYTES || !request_id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let problem = format!("expected at most {MAX_REQUEST_ID_BYTES} visible ASCII characters");
            return Err(Error::field("request_id", problem));
        }
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
        loop {
            let wait = match send::send(&self.pool, &mail, self.clock).await {
                Ok(taken) => return Some(Ok(send::response(&mail, taken))),
                Err(Error::Busy(wait)) => wait,
                Err(error) => return Some(Err(error)),
            };
            // Others use the connection too. What waits here is read no further: it may as well wait on.
            let again = Instant::now() + wait;
            if self.clock.end_within(wait) < again {
                return Some(Err(Error::Busy(wait)));
            }
            tracing::debug!(
                connection.name = self.pool.connection().name(),
                duration_ms = began.elapsed().as_millis(),
                "a mail of a stream waits for a socket"
            );
            tokio::select! {
                () = self.answers.closed() => return None,
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
        self.say(Ok(SendEmailsResponse { request_id, outcome: Some(outcome) })).await;
    }

    /// Says something to the caller, if it takes it in time.
    async fn say(&self, answer: Result<SendEmailsResponse, Status>) {
        let _ = timeout(IDLE, self.answers.send(answer)).await;
    }

    fn under_way(&self) -> MutexGuard<'_, HashSet<String>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
