//! The gateway and the Outlook connector, each a process of its own, killed and started again while the day goes on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_sandbox::child::Gateway;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::transport::Channel;

/// How long the connector may take to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it is.
const READY_INTERVAL: Duration = Duration::from_millis(10);
/// Ports that systems do not give out by themselves: one that is left for a moment is not taken by somebody else.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What happens to the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// The gateway is killed.
    KillGateway,
    /// The gateway is stopped in good order.
    StopGateway,
    /// The connector is killed.
    KillConnector,
}

/// Both processes.
pub(crate) struct Postern {
    folder: tempfile::TempDir,
    gateway: Option<Gateway>,
    connector: Child,
    connector_address: SocketAddr,
    http_address: SocketAddr,
    moment: watch::Sender<Channel>,
}

impl Postern {
    /// Starts both.
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let (connector_address, http_address) = (free_port().await?, free_port().await?);
        let connector = connector(connector_address).await?;
        let folder = tempfile::tempdir()?;
        let (gateway, channel) = gateway(&folder, connector_address, http_address).await?;
        let (moment, _) = watch::channel(channel);
        Ok(Self { folder, gateway: Some(gateway), connector, connector_address, http_address, moment })
    }

    /// The channel to the gateway of the moment.
    pub(crate) fn moment(&self) -> watch::Receiver<Channel> {
        self.moment.subscribe()
    }

    /// Restarts them, each at its time after `begun`.
    pub(crate) async fn restart_at(
        &mut self,
        begun: Instant,
        restarts: &[(Duration, Restart)],
    ) -> Result<(), BoxError> {
        for (at, restart) in restarts {
            sleep_until(begun + *at).await;
            self.restart(*restart).await?;
        }
        Ok(())
    }

    async fn restart(&mut self, restart: Restart) -> Result<(), BoxError> {
        if restart == Restart::KillConnector {
            self.connector.kill().await?;
            self.connector = connector(self.connector_address).await?;
            return Ok(());
        }
        if let Some(gateway) = self.gateway.take() {
            match restart {
                Restart::StopGateway => gateway.stop().await?,
                _ => gateway.kill().await?,
            }
        }
        let (gateway, channel) = gateway(&self.folder, self.connector_address, self.http_address).await?;
        self.gateway = Some(gateway);
        self.moment.send_replace(channel);
        Ok(())
    }

    /// Stops both.
    pub(crate) async fn stop(mut self) -> Result<(), BoxError> {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await?;
        }
        Ok(self.connector.kill().await?)
    }
}

async fn gateway(
    folder: &tempfile::TempDir,
    connector: SocketAddr,
    http: SocketAddr,
) -> Result<(Gateway, Channel), BoxError> {
    let (connector, url) = (format!("http://{connector}"), format!("http://{http}"));
    let http = http.to_string();
    let lead = ["--connectors", &connector, "--public-url", &url, "--http-listen", &http];
    let gateway = Gateway::start(&program("gateway")?, &lead, "127.0.0.1:0", folder.path(), "error").await?;
    let channel = Channel::from_shared(format!("http://{}", gateway.address()))?.connect().await?;
    Ok((gateway, channel))
}

async fn connector(address: SocketAddr) -> Result<Child, BoxError> {
    let child = Command::new(program("outlook-service")?)
        .args(["--listen", &address.to_string(), "--log", "error"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let deadline = Instant::now() + READY_PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        if Instant::now() > deadline {
            return Err("the connector was not ready in time".into());
        }
        sleep(READY_INTERVAL).await;
    }
    Ok(child)
}

/// A program that was built beside this one.
fn program(name: &str) -> Result<PathBuf, BoxError> {
    let program = std::env::current_exe()?.with_file_name(name);
    match program.is_file() {
        true => Ok(program),
        false => Err(format!("{} is not there: build it first", program.display()).into()),
    }
}

async fn free_port() -> Result<SocketAddr, BoxError> {
    for _ in 0..100 {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(PORTS)));
        if TcpListener::bind(address).await.is_ok() {
            return Ok(address);
        }
    }
    Err("no port is free".into())
}
