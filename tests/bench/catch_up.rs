//! A subscriber that reads a long log from its beginning, beside an ordered consumer of JetStream's that reads the same.

use std::time::Duration;

use clap::Args;
use postern_chassis::serve::BoxError;
use postern_client::{Client, Delivered, Settings as ClientSettings, Start, Wish};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::append::{Until, create_stream, theirs};
use crate::figures::{Table, ends, median, ratios};
use crate::peers::{Peer, processor_seconds_of};
use crate::rivals::{self, Keeps, PAYLOAD_BYTES, SUBJECT};
use crate::scan::{Found, nats};
use crate::source::Source;
use crate::subscribers::{Subscribers, Wire};

/// How many events are stored at once while the logs are filled.
const AT_ONCE: u64 = 500;
/// How many appends to JetStream are unanswered at once while it is filled.
const UNANSWERED: usize = 1_000;
/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much is measured.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// How many rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many events are stored
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rounds: 3, events: 1_000_000 }
    }
}

/// Measures, and gives the section.
///
/// # Errors
/// A program is missing, or an event did not come.
#[allow(clippy::cast_precision_loss, reason = "figures")]
pub(crate) async fn section(settings: &Settings) -> Result<String, BoxError> {
    let version = rivals::version("nats-server").await?;
    let folder = tempfile::tempdir()?;
    let (source, filled) = filled(folder.path(), settings.events).await?;
    let jetstream = rivals::nats(folder.path(), Keeps::Unsynced).await?;
    create_stream(&jetstream).await?;
    theirs(&jetstream, UNANSWERED, Until::Count(settings.events), true).await?;

    let names = ["Postern, events counted", "Postern, by its client crate", "JetStream, messages counted"];
    let mut per_second = [const { Vec::new() }; 3];
    let mut cost = [const { Vec::new() }; 3];
    let ids = [source.id(), source.id(), jetstream.id()];
    for round in 0..usize::from(settings.rounds) {
        for turn in 0..names.len() {
            let way = (round + turn) % names.len();
            let id = ids[way].ok_or("a measured program has ended")?;
            let (before, begun) = (processor_seconds_of(id)?, Instant::now());
            match way {
                0 => counted(&source, settings.events).await?,
                1 => by_client(&source, settings.events).await?,
                _ => consumed(&jetstream, settings.events).await?,
            }
            per_second[way].push(settings.events as f64 / begun.elapsed().as_secs_f64());
            cost[way].push((processor_seconds_of(id)? - before) * 1e6 / settings.events as f64);
        }
    }
    source.stop().await?;

    let columns = ["reader", "events a second", "the server's processor time an event"];
    let mut table = Table::new(&format!("Catching up with {} stored events", settings.events), &columns);
    let speed = ratios(&per_second[0], &per_second[2]);
    let (low, high) = ends(&speed);
    table.lead(&format!(
        "Postern to JetStream in the same round: **{:.2}** times the events a second (median; {low:.2} to {high:.2}; goal \
         at least 1: {}).",
        median(&speed),
        if median(&speed) >= 1.0 { "met" } else { "**missed**" },
    ));
    for ((name, per_second), cost) in names.iter().zip(&per_second).zip(&cost) {
        let (low, high) = ends(per_second);
        let speed = format!("**{:.0}** ({low:.0} to {high:.0})", median(per_second));
        table.row(&[(*name).to_owned(), speed, format!("{:.2} µs", median(cost))]);
    }
    table.note(&format!(
        "Median, lowest and highest of {} rounds in rotated order. {PAYLOAD_BYTES} bytes each, ours an event with these in \
         its data. The log was filled at {filled:.0} events a second, {AT_ONCE} at once. Ours by `Subscribe` from the \
         earliest; JetStream's by an ephemeral push consumer as ordered consumers are: no acks, flow control, heartbeats, \
         in memory. Counted: by their lengths alone, both alike. The client crate decodes each event. JetStream was filled without `sync_interval: always`. With {version}.",
        settings.rounds,
    ));
    Ok(table.markdown())
}

/// A log of so many events, served, and how many a second were stored.
///
/// # Errors
/// It cannot be filled.
#[allow(clippy::cast_precision_loss, reason = "a figure")]
pub(crate) async fn filled(folder: &std::path::Path, events: u64) -> Result<(Source, f64), BoxError> {
    let mut source = Source::start(folder).await?;
    let begun = Instant::now();
    let wire = Wire::Grpc { streams: 1, from_start: true };
    let subscribers = Subscribers::start(wire, source.address, 1, false).await?;
    let mut sent = 0;
    while sent < events {
        let count = AT_ONCE.min(events - sent);
        source.publish(usize::try_from(count)?).await?;
        sent += count;
        subscribers.at_least(sent.saturating_sub(32 * AT_ONCE)).await?;
    }
    subscribers.all(events).await?;
    Ok((source, events as f64 / begun.elapsed().as_secs_f64()))
}

async fn counted(source: &Source, events: u64) -> Result<(), BoxError> {
    let wire = Wire::Grpc { streams: 1, from_start: true };
    Subscribers::start(wire, source.address, 1, false).await?.all(events).await
}

async fn by_client(source: &Source, events: u64) -> Result<(), BoxError> {
    let client = Client::connect(&ClientSettings::to(format!("http://{}", source.address)))?;
    let mut subscription = client.subscribe(Wish { start: Start::Earliest, ..Wish::default() });
    for _ in 0..events {
        match subscription.next().await {
            Some(Ok(Delivered::Event(_))) => {}
            other => return Err(format!("no event: {other:?}").into()),
        }
    }
    Ok(())
}

/// Reads all by an ephemeral consumer of JetStream's.
async fn consumed(peer: &Peer, events: u64) -> Result<(), BoxError> {
    let config = format!(
        "{{\"stream_name\":\"{SUBJECT}\",\"config\":{{\"deliver_subject\":\"deliver\",\"deliver_policy\":\"all\",\
         \"ack_policy\":\"none\",\"max_deliver\":1,\"replay_policy\":\"instant\",\"flow_control\":true,\
         \"idle_heartbeat\":5000000000,\"mem_storage\":true,\"num_replicas\":1}}}}"
    );
    let mut socket = TcpStream::connect(peer.address).await?;
    socket.set_nodelay(true)?;
    let hello =
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\nSUB deliver 1\r\nSUB made 2\r\n";
    let create = format!("PUB $JS.API.CONSUMER.CREATE.{SUBJECT} made {}\r\n{config}\r\n", config.len());
    socket.write_all(format!("{hello}{create}").as_bytes()).await?;
    let (mut scanner, mut found) = (nats::Scanner::default(), Found::new(false));
    let (mut answers, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    // The answer that the consumer was made is a message too.
    while found.messages < events + 1 {
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut buffer)).await;
        let read = read.map_err(|_| format!("{} messages came of {events}", found.messages))??;
        if read == 0 {
            return Err("a connection was closed by the server".into());
        }
        scanner.take(&buffer[..read], &mut found, &mut answers)?;
        socket.write_all(&answers).await?;
        answers.clear();
    }
    Ok(())
}
