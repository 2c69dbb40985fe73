//! A gateway in a process of its own, so that it can be stopped and killed for real: this very program, started anew as
//! `postern-sandbox gateway …`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long a gateway may take to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it is.
const READY_INTERVAL: Duration = Duration::from_millis(5);
/// How long a gateway may take to stop when asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// A gateway process that is not known to be ready. It is killed when dropped.
pub struct Starting {
    child: Child,
    ready: PathBuf,
}

/// A gateway process. It is killed when dropped.
pub struct Gateway {
    child: Child,
    address: String,
    http: Option<String>,
}

impl Starting {
    /// Starts `program` as a gateway on a folder. `lead` stands before the gateway's own flags, such as `gateway` for a
    /// program that is more than that.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(
        program: &Path,
        lead: &[&str],
        listen: &str,
        folder: &Path,
        log: &str,
    ) -> Result<Self, BoxError> {
        let ready = ready_file(folder);
        let _ = std::fs::remove_file(&ready);
        let child = Command::new(program)
            .args(lead)
            .args(["--listen", listen, "--log", log])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, ready })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ends at once or is not ready in time.
    pub async fn ready(mut self) -> Result<Gateway, BoxError> {
        let deadline = Instant::now() + READY_PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.ready) {
                let described: serde_json::Value = serde_json::from_str(&text)?;
                let address = described["address"].as_str().ok_or("the ready file names no address")?;
                let (address, http) = (address.to_owned(), described["http"].as_str().map(ToOwned::to_owned));
                return Ok(Gateway { child: self.child, address, http });
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the gateway ended before it was ready: {status}").into());
            }
            if Instant::now() > deadline {
                return Err("the gateway was not ready in time".into());
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    /// Kills it at once (SIGKILL), wherever it is, and waits until it is gone.
    ///
    /// # Errors
    /// The system refused.
    pub async fn kill(mut self) -> Result<(), BoxError> {
        Ok(self.child.kill().await?)
    }
}

impl Gateway {
    /// Starts a gateway, as [`Starting::spawn`], and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends at once or is not ready in time.
    pub async fn start(
        program: &Path,
        lead: &[&str],
        listen: &str,
        folder: &Path,
        log: &str,
    ) -> Result<Self, BoxError> {
        Starting::spawn(program, lead, listen, folder, log)?.ready().await
    }

    /// Where it listens, as `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it listens for HTTP, as `host:port`, if it does.
    #[must_use]
    pub fn http(&self) -> Option<&str> {
        self.http.as_deref()
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it at once (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// The system refused.
    pub async fn kill(mut self) -> Result<(), BoxError> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// It did not stop in time, or not well.
    pub async fn stop(mut self) -> Result<(), BoxError> {
        let id = self.child.id().ok_or("the gateway has ended already")?;
        Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
        let status = tokio::time::timeout(STOP_PATIENCE, self.child.wait())
            .await
            .map_err(|_| "the gateway did not stop in time")??;
        if status.success() { Ok(()) } else { Err(format!("the gateway stopped with {status}").into()) }
    }
}

fn ready_file(folder: &Path) -> PathBuf {
    folder.join("gateway-ready.json")
}
