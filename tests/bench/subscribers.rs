//! Subscribers of any of the servers that are compared, each counted by itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_chassis::serve::BoxError;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{StartPosition, SubscribeRequest};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::rivals::SUBJECT;
use crate::scan::{Found, grpc, nats, redis};
use crate::source::{SUBSCRIBE, payload_at};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// How long all may take to be subscribed, and how long nothing may come where something must.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(1);
/// Into which steps latencies are sorted, and how many there are: up to ten seconds.
const STEP: Duration = Duration::from_micros(50);
const STEPS: usize = 200_000;

/// Whose protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Ours, with so many streams on each connection.
    Grpc {
        streams: usize,
        from_start: bool,
    },
    Nats,
    Redis,
}

/// What came, over all subscribers.
struct Tally {
    /// For each subscriber.
    messages: Vec<AtomicU64>,
    confirmed: AtomicU64,
    /// How many messages took how many steps. Empty: it is not asked.
    late: Vec<AtomicU32>,
    failure: Mutex<Option<String>>,
}

impl Tally {
    fn add(&self, subscriber: usize, found: Found) {
        if let Some(messages) = self.messages.get(subscriber) {
            messages.fetch_add(found.messages, Ordering::Relaxed);
        }
        self.confirmed.fetch_add(found.confirmed, Ordering::Relaxed);
        let Some(sent) = found.sent.filter(|sent| !sent.is_empty()) else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for sent in sent {
            let took = now.saturating_sub(Duration::from_nanos(sent));
            let step = usize::try_from(took.as_micros() / STEP.as_micros()).unwrap_or(STEPS).min(STEPS - 1);
            self.late[step].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Subscribers, until they are dropped.
pub(crate) struct Subscribers {
    tally: Arc<Tally>,
    _reading: JoinSet<()>,
}

impl Subscribers {
    /// Starts so many, and waits until all are subscribed. `times`: whether it is asked how late messages are.
    ///
    /// # Errors
    /// A connection failed, or not all were subscribed in time.
    pub(crate) async fn start(
        wire: Wire,
        to: SocketAddr,
        count: usize,
        times: bool,
    ) -> Result<Self, BoxError> {
        let tally = Arc::new(Tally {
            messages: (0..count).map(|_| AtomicU64::new(0)).collect(),
            confirmed: AtomicU64::new(0),
            late: (0..if times { STEPS } else { 0 }).map(|_| AtomicU32::new(0)).collect(),
            failure: Mutex::default(),
        });
        let mut reading = JoinSet::new();
        let each = if let Wire::Grpc { streams, .. } = wire { streams } else { 1 };
        for first in (0..count).step_by(each) {
            let streams = each.min(count - first);
            let socket = TcpStream::connect(to).await?;
            let tally = tally.clone();
            reading.spawn(async move {
                let why = match read(wire, socket, &tally, first, streams).await {
                    Ok(()) => "a connection was closed by the server".to_owned(),
                    Err(error) => error.to_string(),
                };
                *tally.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            });
        }
        let subscribers = Self { tally, _reading: reading };
        let begun = Instant::now();
        while subscribers.tally.confirmed.load(Ordering::Relaxed) < count as u64 {
            subscribers.well()?;
            if begun.elapsed() > PATIENCE {
                return Err("not all were subscribed in time".into());
            }
            sleep(LOOK).await;
        }
        Ok(subscribers)
    }

    /// Whether all still read.
    fn well(&self) -> Result<(), BoxError> {
        match &*self.tally.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// How many messages the one that is furthest behind has.
    pub(crate) fn least(&self) -> u64 {
        self.tally.messages.iter().map(|messages| messages.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// Waits until each has so many messages, and makes sure that none has more.
    ///
    /// # Errors
    /// A connection failed, nothing came for long, or too much did.
    pub(crate) async fn all(&self, messages: u64) -> Result<(), BoxError> {
        self.at_least(messages).await?;
        let most = self.tally.messages.iter().map(|messages| messages.load(Ordering::Relaxed)).max();
        if most == Some(messages) {
            Ok(())
        } else {
            Err(format!("{most:?} messages came of {messages}").into())
        }
    }

    /// Waits until each has so many messages or more.
    ///
    /// # Errors
    /// A connection failed, or nothing came for long.
    pub(crate) async fn at_least(&self, messages: u64) -> Result<(), BoxError> {
        let (mut known, mut since) = (0, Instant::now());
        loop {
            self.well()?;
            let least = self.least();
            if least >= messages {
                return Ok(());
            }
            if least > known {
                (known, since) = (least, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return Err(
                    format!("a subscriber has {least} messages of {messages}, and no more come").into()
                );
            }
            sleep(LOOK).await;
        }
    }

    /// How late a share of the messages was at most.
    pub(crate) fn late(&self, share: f64) -> Duration {
        let counts: Vec<_> = self.tally.late.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank"
        )]
        let rank = (all as f64 * share).ceil() as u64;
        let mut passed = 0;
        let step = counts.iter().position(|count| {
            passed += u64::from(*count);
            passed >= rank
        });
        STEP * u32::try_from(step.unwrap_or(STEPS) + 1).unwrap_or(u32::MAX)
    }
}

/// Subscribes, and reads until the connection ends.
async fn read(
    wire: Wire,
    mut socket: TcpStream,
    tally: &Tally,
    first: usize,
    count: usize,
) -> Result<(), BoxError> {
    socket.set_nodelay(true)?;
    let times = !tally.late.is_empty();
    let (mut sent, numbers) =
        (Vec::new(), (0..count).map(|stream| u32::try_from(2 * stream + 1).unwrap_or(1)));
    match wire {
        Wire::Grpc { from_start, .. } => {
            sent = grpc::preface();
            let position = if from_start { Position::Earliest(()) } else { Position::Latest(()) };
            let start = Some(StartPosition { position: Some(position) });
            let request = SubscribeRequest { start, ..SubscribeRequest::default() }.encode_to_vec();
            numbers.clone().for_each(|stream| sent.extend(grpc::call(stream, SUBSCRIBE, &request)));
        }
        Wire::Nats => {
            sent.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n");
            sent.extend_from_slice(format!("SUB {SUBJECT} 1\r\nPING\r\n").as_bytes());
        }
        Wire::Redis => sent.extend_from_slice(format!("SUBSCRIBE {SUBJECT}\r\n").as_bytes()),
    }
    socket.write_all(&sent).await?;
    let mut grpc = grpc::Connection::new(numbers, times.then(payload_at));
    let (mut nats, mut redis) = (nats::Scanner::default(), redis::Scanner::default());
    let (mut buffer, mut answers) = (vec![0; READ_BYTES], Vec::new());
    loop {
        let read = socket.read(&mut buffer).await?;
        let bytes = &buffer[..read];
        if read == 0 {
            return Ok(());
        }
        let mut found = Found::new(times);
        match wire {
            Wire::Grpc { .. } => grpc.take(bytes, &mut answers, |stream, found| {
                tally.add(first + stream as usize / 2, found);
            })?,
            Wire::Nats => nats.take(bytes, &mut found, &mut answers)?,
            Wire::Redis => redis.take(bytes, &mut found)?,
        }
        if !matches!(wire, Wire::Grpc { .. }) {
            tally.add(first, found);
        }
        if !answers.is_empty() {
            socket.write_all(&answers).await?;
            answers.clear();
        }
    }
}
