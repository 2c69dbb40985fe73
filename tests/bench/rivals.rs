//! What others would keep and hand out events with: NATS, with and without JetStream, and Redis. Each is spoken to in its
//! own protocol, with nothing between.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use postern_chassis::serve::BoxError;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::peers::Peer;

/// How large what is published is, not counting what each protocol adds.
pub(crate) const PAYLOAD_BYTES: usize = 200;
/// The subject, channel or stream.
pub(crate) const SUBJECT: &str = "bench";

/// What is published now: its time, and no more of interest.
pub(crate) fn payload() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{now:019}{}", "x".repeat(PAYLOAD_BYTES - crate::scan::TIME_DIGITS))
}

/// What a NATS server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Nothing: NATS core.
    Nothing,
    /// A log, synced when the server sees fit.
    Unsynced,
    /// A log, synced at each append.
    Synced,
}

/// Starts NATS.
///
/// # Errors
/// It is not there, or was not ready in time.
pub(crate) async fn nats(folder: &Path, keeps: Keeps) -> Result<Peer, BoxError> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let mut conf = format!("listen: \"{address}\"\nping_interval: \"1h\"\nmax_pending: 1GB\n");
    let store = folder.join("jetstream");
    let sync = if keeps == Keeps::Synced { ", sync_interval: always" } else { "" };
    if keeps != Keeps::Nothing {
        conf += &format!("jetstream {{ store_dir: \"{}\"{sync} }}\n", store.display());
    }
    let path = folder.join("nats.conf");
    std::fs::write(&path, conf)?;
    let mut command = Command::new(tool("nats-server/bin/nats-server", "nats-server")?);
    command.arg("--config").arg(path).arg("--log").arg(folder.join("nats.log"));
    Peer::start(command, address).await
}

/// Starts Redis. `appends`: with its log, synced at each append.
///
/// # Errors
/// It is not there, or was not ready in time.
pub(crate) async fn redis(folder: &Path, appends: bool) -> Result<Peer, BoxError> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args(["--save", "", "--maxclients", "5000", "--loglevel", "warning"]);
    command.args(["--client-output-buffer-limit", "pubsub 0 0 0"]);
    command.arg("--dir").arg(folder).arg("--logfile").arg(folder.join("redis.log"));
    command.args(["--appendonly", if appends { "yes" } else { "no" }, "--appendfsync", "always"]);
    Peer::start(command, address).await
}

/// A program that tests/bench/set_up.sh puts beside the build, or the system's.
fn tool(path: &str, name: &str) -> Result<PathBuf, BoxError> {
    let program = std::env::current_exe()?;
    let beside = program.parent().and_then(Path::parent).map(|target| target.join("tools").join(path));
    Ok(beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into()))
}

/// The version that a rival tells.
///
/// # Errors
/// It is not there: what to do about it.
pub(crate) async fn version(rival: &str) -> Result<String, BoxError> {
    let path =
        if rival == "nats-server" { tool("nats-server/bin/nats-server", rival)? } else { rival.into() };
    crate::peers::version(
        &path.to_string_lossy(),
        "--version",
        "it with tests/bench/set_up.sh, or redis-server",
    )
    .await
}

/// A connection that publishes to one of the rivals.
pub(crate) struct Publishing {
    socket: OwnedWriteHalf,
    is_nats: bool,
}

impl Publishing {
    pub(crate) async fn connect(to: &Peer, is_nats: bool) -> Result<Self, BoxError> {
        let socket = TcpStream::connect(to.address).await?;
        socket.set_nodelay(true)?;
        let (mut answers, mut socket) = socket.into_split();
        if is_nats {
            socket.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").await?;
        }
        // What is answered to each is of no interest, and must be taken all the same.
        tokio::spawn(async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await });
        Ok(Self { socket, is_nats })
    }

    pub(crate) async fn publish(&mut self, count: usize) -> Result<(), BoxError> {
        let payload = payload();
        let one = if self.is_nats {
            format!("PUB {SUBJECT} {PAYLOAD_BYTES}\r\n{payload}\r\n")
        } else {
            format!(
                "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{SUBJECT}\r\n${PAYLOAD_BYTES}\r\n{payload}\r\n",
                SUBJECT.len()
            )
        };
        Ok(self.socket.write_all(one.repeat(count).as_bytes()).await?)
    }
}
