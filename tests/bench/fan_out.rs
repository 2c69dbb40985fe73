//! One source of events and many subscribers, beside NATS and Redis with as many over their own protocols: at a steady
//! rate, what it costs and how late it comes; as fast as all can take it, how much comes.

use std::time::Duration;

use clap::Args;
use postern_chassis::serve::BoxError;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::figures::{Table, ends, median, millis, ratios};
use crate::peers::{Peer, processor_seconds_of};
use crate::rivals::{self, Keeps, PAYLOAD_BYTES, Publishing};
use crate::source::Source;
use crate::subscribers::{Subscribers, Wire};

/// The steady rate, events a second.
const RATE: u32 = 3_000;
/// How often something is published at the steady rate: what is due since the last time goes together.
const TICK: Duration = Duration::from_millis(1);
/// How many deliveries may be under way before no more is published, of all alike, so that none is cut off for being slow;
/// and how many messages the slowest subscriber may be behind at most.
const UNDER_WAY: u64 = 800_000;
const AHEAD: u64 = 8_192;
/// How many are published at once as fast as all can take it.
const AT_ONCE: usize = 256;
/// How many streams of ours one connection has where it has several.
const STREAMS: usize = 10;
/// Within what time 99 of 100 are to come, at a hundred subscribers.
const LATE_GOAL: Duration = Duration::from_millis(50);
/// How many subscribers that goal speaks of.
const LATE_AT: usize = 100;

/// How much is measured.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// How many rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many seconds each way in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// How many subscribers
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000])]
    subscribers: Vec<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rounds: 3, seconds: 3, subscribers: vec![100, 1_000] }
    }
}

/// Who publishes.
enum Publisher {
    Source(Source),
    Rival(Peer, Publishing),
}

impl Publisher {
    async fn publish(&mut self, count: usize) -> Result<(), BoxError> {
        match self {
            Self::Source(source) => source.publish(count).await,
            Self::Rival(_, publishing) => publishing.publish(count).await,
        }
    }

    fn id(&self) -> Option<u32> {
        match self {
            Self::Source(source) => source.id(),
            Self::Rival(peer, _) => peer.id(),
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        match self {
            Self::Source(source) => source.address,
            Self::Rival(peer, _) => peer.address,
        }
    }
}

/// What is compared, and what was measured of it.
struct Way {
    name: String,
    wire: Wire,
    publisher: usize,
    steady: Vec<f64>,
    cost: Vec<f64>,
    middle: Vec<Duration>,
    late: Vec<Duration>,
    fastest: Vec<f64>,
}

impl Way {
    fn new(name: &str, wire: Wire, publisher: usize) -> Self {
        Self {
            name: name.to_owned(),
            wire,
            publisher,
            steady: Vec::new(),
            cost: Vec::new(),
            middle: Vec::new(),
            late: Vec::new(),
            fastest: Vec::new(),
        }
    }
}

/// Measures, and gives the sections.
///
/// # Errors
/// A program is missing, or a delivery did not come.
pub(crate) async fn section(settings: &Settings) -> Result<String, BoxError> {
    let versions = [rivals::version("nats-server").await?, rivals::version("redis-server").await?];
    let folder = tempfile::tempdir()?;
    let source = Source::start(folder.path()).await?;
    let nats = rivals::nats(folder.path(), Keeps::Nothing).await?;
    let redis = rivals::redis(folder.path(), false).await?;
    let (to_nats, to_redis) =
        (Publishing::connect(&nats, true).await?, Publishing::connect(&redis, false).await?);
    let mut publishers =
        [Publisher::Source(source), Publisher::Rival(nats, to_nats), Publisher::Rival(redis, to_redis)];
    let mut text = String::new();
    for count in &settings.subscribers {
        let own = Wire::Grpc { streams: 1, from_start: false };
        let shared = Wire::Grpc { streams: STREAMS, from_start: false };
        let mut ways = [
            Way::new("Postern, a connection each", own, 0),
            Way::new(&format!("Postern, {STREAMS} streams a connection"), shared, 0),
            Way::new("NATS, a connection each", Wire::Nats, 1),
            Way::new("Redis, a connection each", Wire::Redis, 2),
        ];
        for round in 0..usize::from(settings.rounds) {
            for turn in 0..ways.len() {
                let at = (round + turn) % ways.len();
                let way = &mut ways[at];
                measure(way, &mut publishers[way.publisher], *count, settings.seconds).await?;
            }
        }
        text += &told(settings, *count, &ways, &versions);
        text += "\n";
    }
    let [source, ..] = publishers;
    if let Publisher::Source(source) = source {
        source.stop().await?;
    }
    Ok(text)
}

#[allow(clippy::cast_precision_loss, reason = "figures")]
async fn measure(
    way: &mut Way,
    publisher: &mut Publisher,
    count: usize,
    seconds: u16,
) -> Result<(), BoxError> {
    let ahead = ahead(count);
    let id = publisher.id().ok_or("a measured program has ended")?;
    let lasting = Duration::from_secs(seconds.into());
    let subscribers = Subscribers::start(way.wire, publisher.address(), count, true).await?;
    let (before, begun) = (processor_seconds_of(id)?, Instant::now());
    let sent = steadily(publisher, &subscribers, lasting, ahead).await?;
    subscribers.all(sent).await?;
    let deliveries = sent as f64 * count as f64;
    way.steady.push(deliveries / begun.elapsed().as_secs_f64());
    way.cost.push((processor_seconds_of(id)? - before) * 1e6 / deliveries);
    way.middle.push(subscribers.late(0.5));
    way.late.push(subscribers.late(0.99));
    drop(subscribers);

    let subscribers = Subscribers::start(way.wire, publisher.address(), count, false).await?;
    let (mut sent, begun) = (0, Instant::now());
    while begun.elapsed() < lasting {
        publisher.publish(AT_ONCE).await?;
        sent += AT_ONCE as u64;
        subscribers.at_least(sent.saturating_sub(ahead)).await?;
    }
    subscribers.all(sent).await?;
    way.fastest.push(sent as f64 * count as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

/// How many messages the slowest of so many subscribers may be behind.
fn ahead(count: usize) -> u64 {
    (UNDER_WAY / (count as u64).max(1)).clamp(AT_ONCE as u64, AHEAD)
}

/// Publishes at the steady rate, or as close to it as the slowest subscriber allows. Gives how many.
async fn steadily(
    publisher: &mut Publisher,
    subscribers: &Subscribers,
    lasting: Duration,
    ahead: u64,
) -> Result<u64, BoxError> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (begun, mut sent) = (Instant::now(), 0);
    loop {
        ticks.tick().await;
        let passed = begun.elapsed();
        if passed > lasting {
            return Ok(sent);
        }
        let due = u64::try_from(passed.as_micros())? * u64::from(RATE) / 1_000_000;
        let due = due.min(subscribers.least() + ahead);
        if let Some(count @ 1..) = due.checked_sub(sent) {
            publisher.publish(usize::try_from(count)?).await?;
            sent = due;
        }
    }
}

fn told(settings: &Settings, count: usize, ways: &[Way; 4], versions: &[String; 2]) -> String {
    let [ours, _, nats, redis] = ways;
    let columns = [
        "way",
        "deliveries a second, as fast as it goes",
        "deliveries a second, at the steady rate",
        "the server's processor time a delivery",
        "late, median",
        "late, 99 of 100",
    ];
    let mut table = Table::new(&format!("Events to {count} subscribers"), &columns);
    let speed = ratios(&ours.fastest, &nats.fastest);
    let (low, high) = ends(&speed);
    let met = |is: bool| if is { "met" } else { "**missed**" };
    let mut lead = format!(
        "Postern to NATS in the same round, a connection each: **{:.2}** times the deliveries a second as fast as it goes \
         (median; {low:.2} to {high:.2}; goal at least 0.5: {}), {:.2} times the processor time a delivery; to Redis \
         {:.2} times the deliveries.",
        median(&speed),
        met(median(&speed) >= 0.5),
        median(&ratios(&ours.cost, &nats.cost)),
        median(&ratios(&ours.fastest, &redis.fastest)),
    );
    if count == LATE_AT {
        let is = ours.late.iter().all(|late| *late < LATE_GOAL);
        lead += &format!(" 99 of 100 within {} ms: {}.", LATE_GOAL.as_millis(), met(is));
    }
    table.lead(&lead);
    for way in ways {
        let (low, high) = ends(&way.fastest);
        let late = |times: &[Duration]| {
            let seconds: Vec<_> = times.iter().map(Duration::as_secs_f64).collect();
            millis(Duration::from_secs_f64(median(&seconds)))
        };
        table.row(&[
            way.name.clone(),
            format!("**{:.0}** ({low:.0} to {high:.0})", median(&way.fastest)),
            format!("{:.0}", median(&way.steady)),
            format!("{:.2} µs", median(&way.cost)),
            late(&way.middle),
            late(&way.late),
        ]);
    }
    table.note(&format!(
        "Medians of {} rounds in rotated order, {} s each way. What is published is {PAYLOAD_BYTES} bytes; ours is an \
         event with these in its data, durable (SQLite, synchronous=FULL) before anybody is given it; NATS core and Redis \
         pub/sub keep nothing. The steady rate is {RATE} a second, or what the slowest subscriber can take; as fast as it \
         goes means {AT_ONCE} at a time, at most {} ahead of the slowest, of all alike. The readers, all in one \
         process, take HTTP/2 and gRPC frames, NATS's and Redis's lines apart by their lengths, look at no payload but its \
         time in the steady runs, and make sure that each subscriber was given each message once. Server and readers \
         share 2 cores; ours, over HTTP/2, gives windows as hyper's client does. With {}.",
        settings.rounds,
        settings.seconds,
        ahead(count),
        versions.join(", "),
    ));
    table.markdown()
}
