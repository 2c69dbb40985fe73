//! Durable appends: the embedded engine beside JetStream's file store and Redis's append-only file, each told to sync
//! before it answers; one at a time, and so many under way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use postern_chassis::serve::BoxError;
use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog as _, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figures::{Table, ends, median, ratios};
use crate::peers::Peer;
use crate::rivals::{self, Keeps, PAYLOAD_BYTES, SUBJECT, payload};
use crate::scan::{Found, nats, redis};
use crate::source::event;

/// How many are under way at once.
const AT_ONCE: [usize; 3] = [1, 64, 256];

/// How much is measured.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// How many rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many seconds each way in each round
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rounds: 5, seconds: 2 }
    }
}

/// What is appended to.
enum Log {
    Ours(Arc<Sqlite>),
    JetStream(Peer),
    Redis(Peer),
}

/// Measures, and gives the section.
///
/// # Errors
/// A program is missing, or an append failed.
pub(crate) async fn section(settings: &Settings) -> Result<String, BoxError> {
    let versions = [rivals::version("nats-server").await?, rivals::version("redis-server").await?];
    let folder = tempfile::tempdir()?;
    let jetstream = rivals::nats(folder.path(), Keeps::Synced).await?;
    create_stream(&jetstream).await?;
    let redis = rivals::redis(folder.path(), true).await?;
    let sqlite = Sqlite::open(folder.path())?;
    let logs = [
        ("Postern's embedded engine (SQLite)", Log::Ours(sqlite.clone())),
        ("JetStream, file store, `sync_interval: always`", Log::JetStream(jetstream)),
        ("Redis streams, `appendfsync always`", Log::Redis(redis)),
    ];
    let mut figures = [const { [const { Vec::new() }; AT_ONCE.len()] }; 3];
    let number = Arc::new(AtomicU64::new(0));
    for round in 0..usize::from(settings.rounds) {
        for turn in 0..logs.len() {
            let at = (round + turn) % logs.len();
            for (group, at_once) in AT_ONCE.into_iter().enumerate() {
                let lasting = Duration::from_secs(settings.seconds.into());
                let per_second = match &logs[at].1 {
                    Log::Ours(sqlite) => ours(sqlite, at_once, lasting, &number).await?,
                    Log::JetStream(peer) => theirs(peer, at_once, Until::Over(lasting), true).await?,
                    Log::Redis(peer) => theirs(peer, at_once, Until::Over(lasting), false).await?,
                };
                figures[at][group].push(per_second);
            }
        }
    }
    if sqlite.bounds().await?.last != number.load(Ordering::Relaxed) {
        return Err("not every append was kept".into());
    }
    sqlite.close().await?;
    let names = [logs[0].0, logs[1].0, logs[2].0];
    Ok(told(settings, names, &figures, &versions))
}

/// Appends to our engine, as the gateway does: from within, by so many tasks of which each waits for its answer.
#[allow(clippy::cast_precision_loss, reason = "a figure")]
async fn ours(
    sqlite: &Arc<Sqlite>,
    at_once: usize,
    lasting: Duration,
    number: &Arc<AtomicU64>,
) -> Result<f64, BoxError> {
    let (begun, first) = (Instant::now(), number.load(Ordering::Relaxed));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (sqlite, number) = (sqlite.clone(), number.clone());
        tasks.spawn(async move {
            while begun.elapsed() < lasting {
                let new = event(number.fetch_add(1, Ordering::Relaxed), payload());
                sqlite.append(vec![new], Vec::new()).await?;
            }
            Ok::<_, StoreError>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok((number.load(Ordering::Relaxed) - first) as f64 / begun.elapsed().as_secs_f64())
}

/// How long something is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Over(Duration),
    Count(u64),
}

/// Appends over one connection, with so many unanswered. Gives how many a second.
///
/// # Errors
/// The server refused, or closed the connection.
#[allow(clippy::cast_precision_loss, reason = "a figure")]
pub(crate) async fn theirs(
    peer: &Peer,
    at_once: usize,
    until: Until,
    is_nats: bool,
) -> Result<f64, BoxError> {
    let mut socket = TcpStream::connect(peer.address).await?;
    socket.set_nodelay(true)?;
    if is_nats {
        socket.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB acks 1\r\n").await?;
    }
    let (mut jetstream, mut stream) = (nats::Scanner::default(), redis::Scanner::default());
    let (mut found, mut answers, mut buffer) = (Found::new(false), Vec::new(), vec![0; 64 * 1024]);
    let (begun, mut sent) = (Instant::now(), 0);
    loop {
        let left = match until {
            Until::Over(lasting) if begun.elapsed() >= lasting => 0,
            Until::Over(_) => u64::MAX,
            Until::Count(count) => count - sent,
        };
        if left > 0 {
            let room = (at_once as u64 - (sent - found.messages)).min(left);
            sent += room;
            let one = || {
                let payload = payload();
                if is_nats {
                    format!("PUB {SUBJECT} acks {PAYLOAD_BYTES}\r\n{payload}\r\n")
                } else {
                    let key = SUBJECT.len();
                    format!(
                        "*5\r\n$4\r\nXADD\r\n${key}\r\n{SUBJECT}\r\n$1\r\n*\r\n$1\r\ne\r\n${PAYLOAD_BYTES}\r\n{payload}\r\n"
                    )
                }
            };
            let appends: String = (0..room).map(|_| one()).collect();
            socket.write_all(appends.as_bytes()).await?;
        }
        if left == 0 && found.messages == sent {
            return Ok(sent as f64 / begun.elapsed().as_secs_f64());
        }
        let read = socket.read(&mut buffer).await?;
        if read == 0 {
            return Err("a connection was closed by the server".into());
        }
        if is_nats {
            jetstream.take(&buffer[..read], &mut found, &mut answers)?;
            socket.write_all(&answers).await?;
            answers.clear();
        } else {
            stream.take(&buffer[..read], &mut found)?;
        }
    }
}

/// Makes the stream that keeps what is published.
///
/// # Errors
/// JetStream refused.
pub(crate) async fn create_stream(peer: &Peer) -> Result<(), BoxError> {
    let config = format!(
        "{{\"name\":\"{SUBJECT}\",\"subjects\":[\"{SUBJECT}\"],\"storage\":\"file\",\"retention\":\"limits\",\
         \"num_replicas\":1,\"max_msgs\":-1,\"max_bytes\":-1}}"
    );
    let told = ask(peer, &format!("$JS.API.STREAM.CREATE.{SUBJECT}"), &config).await?;
    if told.contains("\"error\"") { Err(told.into()) } else { Ok(()) }
}

/// Asks NATS, and gives what it answers.
///
/// # Errors
/// It cannot be reached or closes the connection.
pub(crate) async fn ask(peer: &Peer, subject: &str, body: &str) -> Result<String, BoxError> {
    let mut socket = TcpStream::connect(peer.address).await?;
    let hello = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB answer 1\r\n";
    let asked = format!("{hello}PUB {subject} answer {}\r\n{body}\r\n", body.len());
    socket.write_all(asked.as_bytes()).await?;
    let (mut told, mut buffer) = (String::new(), vec![0; 64 * 1024]);
    // The answer is one message whose text ends its line.
    while !told
        .split_once("MSG answer")
        .is_some_and(|(_, answer)| answer.contains('{') && answer.ends_with("\r\n"))
    {
        let read = socket.read(&mut buffer).await?;
        if read == 0 {
            return Err(format!("{subject} was not answered: {told}").into());
        }
        told.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    Ok(told.split_once("MSG answer").map(|(_, answer)| answer.to_owned()).unwrap_or_default())
}

fn told(
    settings: &Settings,
    names: [&str; 3],
    figures: &[[Vec<f64>; AT_ONCE.len()]; 3],
    versions: &[String; 2],
) -> String {
    let columns = ["log", "one at a time", "64 at once", "256 at once"];
    let mut table = Table::new("Durable appends a second", &columns);
    for (name, figures) in names.iter().zip(figures) {
        let mut cells = vec![(*name).to_owned()];
        cells.extend(figures.iter().map(|figures| {
            let (low, high) = ends(figures);
            format!("**{:.0}** ({low:.0} to {high:.0})", median(figures))
        }));
        table.row(&cells);
    }
    let [ours, jetstream, redis] = figures;
    let mut goal = vec!["Postern to the better of the others, goal at least 1".to_owned()];
    for group in 0..AT_ONCE.len() {
        let better: Vec<_> =
            jetstream[group].iter().zip(&redis[group]).map(|(one, other)| one.max(*other)).collect();
        let ratio = median(&ratios(&ours[group], &better));
        goal.push(format!("{ratio:.2} times: {}", if ratio >= 1.0 { "met" } else { "**missed**" }));
    }
    table.row(&goal);
    table.note(&format!(
        "Median, lowest and highest of {} rounds in rotated order, {} s each way, to logs that grow over the rounds. \
         {PAYLOAD_BYTES} bytes each, ours an event with these in its data, which it is told from all others by its id: an \
         id that is kept is not stored again. An append counts once its log has said that it is synced. Ours is used as \
         the gateway uses it, within the process, by as many tasks; the others over one connection on loopback, by \
         writers that only count answers. With {}.",
        settings.rounds,
        settings.seconds,
        versions.join(", "),
    ));
    table.markdown()
}
