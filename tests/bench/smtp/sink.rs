//! Postfix's `smtp-sink`: a server that takes mail as fast as it comes and forgets it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(10);
/// How many connections may wait to be accepted.
const BACKLOG: &str = "1000";

/// A running sink. It is killed when dropped.
pub(crate) struct Sink {
    address: SocketAddr,
    _process: Child,
}

impl Sink {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// It is not there, or does not listen.
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let mut command = Command::new("smtp-sink");
        // As root it wants to become somebody else.
        if is_root().await? {
            command.args(["-u", "nobody"]);
        }
        let process = command
            .args([&address.to_string(), BACKLOG])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|_| "smtp-sink is not there: install postfix (Debian's name)")?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            if Instant::now() > deadline {
                return Err("smtp-sink does not listen".into());
            }
            sleep(INTERVAL).await;
        }
        Ok(Self { address, _process: process })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn is_root() -> Result<bool, BoxError> {
    let told = Command::new("id").arg("-u").output().await?;
    Ok(told.stdout.trim_ascii() == b"0")
}
