//! The one task of this gateway that hands out the events of a SHARED subscription and takes back what is said of them.
//! What many subscribers say at once is one write; what another gateway wrote meanwhile is read, and it is made anew.

mod anew;
mod round;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use postern_chassis::fault::Fault;
use postern_proto::event::v1::{Confirmed, Gap};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::{Code, Status};

use self::anew::Place;
pub(in crate::subscriptions) use super::assign::Given;
use super::assign::Room;
use super::draft::next_due;
use crate::error::Error;
use crate::events::cursor::Cursor;
use crate::events::filter::Filter;
use crate::metrics::Subscriber;
use crate::store::StoreError;
use crate::subscriptions::news::Known;
use crate::subscriptions::settle::Checked;
use crate::subscriptions::stored::{self, Kept, MOST_UNSETTLED, Stored};
use crate::subscriptions::wire::BATCH_EVENTS;
use crate::subscriptions::{Subscriptions, moved};

/// How many streams, and how many Pulls that wait, a subscription has at one gateway.
const MOST_TAKERS: usize = 1_000;
/// How many messages are taken in before they are dealt with.
const MOST_ASKS: usize = 1_024;
/// How long a desk stays where nobody is.
const IDLE: Duration = Duration::from_secs(60);
/// How often it is written that events were passed over, so that a filter which drops nearly all stays ahead of retention.
const FLUSH: Duration = Duration::from_secs(30);
/// The longest sleep until a deadline: the wall clock may step meanwhile.
const LONGEST_SLEEP: i64 = 5_000;

/// What is asked of a desk.
pub(in crate::subscriptions) enum Ask {
    /// A stream begins.
    Join { events: usize, bytes: usize, answer: Answer<Joined> },
    /// A stream or a Pull wants events. Answered when there are some, or at once.
    Take { by: By, at_once: bool, answer: Answer<Given> },
    /// A subscriber says what became of deliveries. Answered when that is durable.
    Settle { checked: Checked, answer: Answer<Confirmed> },
    /// A stream has ended: what it has is given to others.
    Leave { stream: u64 },
}

/// Who wants events.
#[derive(Debug, Clone, Copy)]
pub(in crate::subscriptions) enum By {
    /// A stream, which holds no more than it said.
    Stream(u64),
    /// A Pull of so many.
    Pull(usize),
}

/// Where an answer goes.
pub(in crate::subscriptions) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// A stream has begun.
pub(in crate::subscriptions) struct Joined {
    pub(in crate::subscriptions) stream: u64,
    /// Everything before it is settled.
    pub(in crate::subscriptions) floor: watch::Receiver<Cursor>,
    pub(in crate::subscriptions) ack_deadline: Duration,
    /// Its end, once it comes from here.
    pub(in crate::subscriptions) life: watch::Receiver<Life>,
}

/// What ends streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::subscriptions) struct Life {
    /// How often somebody has moved the subscription.
    pub(in crate::subscriptions) moves: u64,
    pub(in crate::subscriptions) deleted: bool,
}

/// A delivery made here that is not settled.
pub(super) struct Held {
    /// Whose it is; none: a Pull's.
    pub(super) stream: Option<u64>,
    pub(super) bytes: usize,
}

/// A stream that is open.
struct Member {
    /// How many events and bytes it holds at most.
    events: usize,
    bytes: usize,
    /// It is as far as the subscription is settled.
    subscriber: Subscriber,
}

struct Take {
    by: By,
    at_once: bool,
    answer: Answer<Given>,
}

struct Desk {
    id: String,
    number: u64,
    of: Arc<Subscriptions>,
    stored: Stored,
    filter: Filter,
    kept: Kept,
    /// When this was last read because something was not heard of.
    looked: u64,
    /// The log is read up to here: past the place written by what the filter dropped.
    scan: Cursor,
    /// Found when the place was looked up, and to be told.
    gap: Option<Gap>,
    /// Whether the log is another one than what is outstanding is of.
    is_other_log: bool,
    /// The time that the last round went by: what is due since then, nobody was given yet.
    judged: i64,
    more: bool,
    /// Whether what is new waits for somebody to have room, and not for more to come.
    is_stuck: bool,
    /// Whether storage failed in the last round.
    failed: bool,
    flushed: Instant,
    last_stream: u64,
    streams: HashMap<u64, Member>,
    held: HashMap<u64, Held>,
    /// The gaps that streams were told of last and have not acknowledged, each with its stream.
    told: Vec<(u64, u64)>,
    takes: VecDeque<Take>,
    settles: Vec<(Checked, Answer<Confirmed>)>,
    /// Deliveries and gaps of streams that ended, and whether they were sent.
    leaving: HashMap<u64, bool>,
    life: watch::Sender<Life>,
    floor: watch::Sender<Cursor>,
}

/// Runs the desk of a subscription until nobody is there, or it is deleted.
pub(in crate::subscriptions) async fn run(
    of: Arc<Subscriptions>,
    id: String,
    number: u64,
    mut asks: mpsc::Receiver<Ask>,
) {
    let news = of.news.follow(&id);
    let status = match Desk::open(of.clone(), id.clone(), number).await {
        Ok(mut desk) => {
            let Err(error) = desk.serve(&mut asks, news).await else { return };
            let deleted = matches!(error, Error::NotFound(..));
            let status = Status::from(error);
            desk.fail(&status);
            // Who is not waiting for an answer hears of it too.
            desk.life.send_modify(|life| life.deleted = deleted);
            status
        }
        Err(error) => Status::from(error),
    };
    of.leave_desk(&id, number, None);
    asks.close();
    while let Some(ask) = asks.recv().await {
        refuse(ask, &status);
    }
}

fn refuse(ask: Ask, status: &Status) {
    let error = || Error::Connector(Box::new(status.clone()));
    // Who no longer waits need not be told.
    match ask {
        Ask::Join { answer, .. } => drop(answer.send(Err(error()))),
        Ask::Take { answer, .. } => drop(answer.send(Err(error()))),
        Ask::Settle { answer, .. } => drop(answer.send(Err(error()))),
        Ask::Leave { .. } => {}
    }
}

impl Desk {
    async fn open(of: Arc<Subscriptions>, id: String, number: u64) -> Result<Self, Error> {
        let stored = stored::read(&*of.store, &id).await?;
        let kept = stored::read_reading(&*of.store, &id).await?;
        let life = watch::Sender::new(Life { moves: 0, deleted: false });
        let floor = watch::Sender::new(kept.value.floor());
        let Place { scan, gap, is_other_log } = Place::find(&*of.log, &kept.value).await?;
        Ok(Self {
            filter: stored.filter(),
            scan,
            id,
            number,
            of,
            stored,
            kept,
            looked: 0,
            gap,
            is_other_log,
            judged: i64::MIN,
            more: false,
            is_stuck: false,
            failed: false,
            flushed: Instant::now(),
            last_stream: 0,
            streams: HashMap::new(),
            held: HashMap::new(),
            told: Vec::new(),
            takes: VecDeque::new(),
            settles: Vec::new(),
            leaving: HashMap::new(),
            life,
            floor,
        })
    }

    fn take_in(&mut self, ask: Ask) {
        let full = |what: &str| {
            let message = format!("the subscription has {what} already");
            Fault::new(Code::ResourceExhausted, "TOO_MANY_SUBSCRIBERS", message)
                .retry_after(Duration::from_secs(10))
        };
        match ask {
            Ask::Join { answer, .. } if self.streams.len() >= MOST_TAKERS => {
                drop(answer.send(Err(full("1,000 streams at this gateway").into())));
            }
            Ask::Join { answer, .. } if self.outstanding() >= MOST_UNSETTLED => {
                drop(answer.send(Err(too_many_outstanding().into())));
            }
            Ask::Join { events, bytes, answer } => {
                self.last_stream += 1;
                let stream = self.last_stream;
                let joined = Joined {
                    stream,
                    floor: self.floor.subscribe(),
                    ack_deadline: self.stored.ack_deadline(),
                    life: self.life.subscribe(),
                };
                if answer.send(Ok(joined)).is_ok() {
                    let subscriber = Subscriber::at(self.floor.borrow().sequence);
                    self.streams.insert(stream, Member { events, bytes, subscriber });
                }
            }
            Ask::Take { answer, .. } if self.takes.len() >= 2 * MOST_TAKERS => {
                drop(answer.send(Err(full("2,000 calls that wait at this gateway").into())));
            }
            Ask::Take { by: By::Pull(_), answer, .. } if self.outstanding() >= MOST_UNSETTLED => {
                drop(answer.send(Err(too_many_outstanding().into())));
            }
            Ask::Take { by: By::Stream(stream), answer, .. } if !self.streams.contains_key(&stream) => {
                drop(answer.send(Err(moved().into())));
            }
            Ask::Take { by, at_once, answer } => self.takes.push_back(Take { by, at_once, answer }),
            Ask::Settle { checked, answer } => self.settles.push((checked, answer)),
            Ask::Leave { stream } => {
                self.streams.remove(&stream);
                let its = self.held.iter().filter(|(_, held)| held.stream == Some(stream));
                self.leaving.extend(its.map(|(nonce, _)| (*nonce, true)));
                let its = self.told.extract_if(.., |(_, told)| *told == stream);
                self.leaving.extend(its.map(|(gap, _)| (gap, true)));
            }
        }
    }

    /// How many deliveries wait for their acknowledgement.
    fn outstanding(&self) -> usize {
        self.kept.value.unsettled.iter().filter(|one| !one.waits).count()
    }

    /// What each of those who ask can take.
    fn rooms(&self) -> Vec<Room> {
        let used = super::assign::outstanding(&self.held);
        let room = |take: &Take| match take.by {
            By::Pull(most) => Room { events: most, bytes: usize::MAX, is_empty: true },
            By::Stream(stream) => {
                let (events, bytes) = used.get(&stream).copied().unwrap_or_default();
                let member = self.streams.get(&stream);
                let (most, most_bytes) =
                    member.map(|member| (member.events, member.bytes)).unwrap_or_default();
                Room {
                    events: most.saturating_sub(events).min(BATCH_EVENTS),
                    bytes: most_bytes.saturating_sub(bytes),
                    is_empty: events == 0,
                }
            }
        };
        self.takes.iter().map(room).collect()
    }

    async fn serve(
        &mut self,
        asks: &mut mpsc::Receiver<Ask>,
        mut news: watch::Receiver<Known>,
    ) -> Result<(), Error> {
        let mut tail = self.of.log.tail();
        let mut steps = self.of.clock.steps();
        let mut open = true;
        let mut idle_since = None;
        loop {
            for _ in 0..MOST_ASKS {
                let Ok(ask) = asks.try_recv() else { break };
                self.take_in(ask);
            }
            let is_behind = self.is_behind(*news.borrow_and_update());
            if !is_behind || self.catch_up().await? {
                self.round().await?;
            }
            if !open && (self.failed || self.leaving.is_empty()) {
                return Ok(());
            }
            if self.more || !self.leaving.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            let is_idle = self.streams.is_empty() && self.takes.is_empty();
            idle_since = if is_idle { idle_since.or_else(|| Some(Instant::now())) } else { None };
            let has_room = !self.is_stuck
                && self.kept.value.unsettled.len() < MOST_UNSETTLED
                && self.rooms().iter().any(|room| room.events > 0 && (room.bytes > 0 || room.is_empty));
            let is_to_flush = !self.takes.is_empty() && self.scan != self.kept.value.place();
            let scanned = self.scan.sequence;
            let now = self.of.clock.now();
            let due = next_due(&self.kept.value, self.judged).map(|due| (due - now).clamp(0, LONGEST_SLEEP));
            let sleep = Duration::from_millis(due.unwrap_or_default().cast_unsigned());
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.take_in(ask),
                    None => open = false,
                },
                grown = async { tail.wait_for(|last| *last > scanned).await.map(|_| ()) }, if has_room => {
                    grown.map_err(|_| StoreError::Failed("the log is closed".to_owned()))?;
                }
                () = async { drop(news.wait_for(|known| self.is_behind(*known)).await) } => {}
                _ = steps.changed() => {}
                () = tokio::time::sleep(sleep), if due.is_some() => {}
                () = tokio::time::sleep_until(self.flushed + FLUSH), if is_to_flush => {}
                () = tokio::time::sleep_until(idle_since.unwrap_or_else(Instant::now) + IDLE), if is_idle => {
                    if self.of.leave_desk(&self.id, self.number, Some(asks)) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether somebody else has written since this desk last read or wrote.
    fn is_behind(&self, known: Known) -> bool {
        known.subscription > self.stored.revision
            || known.reading > self.kept.revision
            || known.look_again > self.looked
    }
}

/// No more is given until something is settled.
fn too_many_outstanding() -> Fault {
    let message = "4,096 deliveries of this subscription wait for their acknowledgement already";
    Fault::new(Code::ResourceExhausted, "TOO_MANY_OUTSTANDING", message).retry_after(Duration::from_secs(10))
}
