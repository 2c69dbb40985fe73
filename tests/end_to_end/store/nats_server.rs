//! A real nats-server of a test's own: on a port and in a folder of its own, syncing each write.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postern_gateway::store::nats::{NatsSettings, Servers};

use crate::outside;
use crate::ports::Port;

/// How long a server may take to start, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A nats-server, killed at the end.
pub(crate) struct NatsServer {
    program: PathBuf,
    folder: tempfile::TempDir,
    process: Option<Child>,
    port: Port,
    /// Where it takes other servers, if it does: another one at each start.
    route: Option<u16>,
}

/// The settings of a stream on a server that lets anybody in.
pub(crate) fn of_stream(name: &str) -> NatsSettings {
    NatsSettings::of_stream(name)
}

impl NatsServer {
    /// Starts one. `None`: it was said that the engine on NATS is not to be tried.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    /// Starts one with more lines in its settings.
    pub(crate) async fn start_with(more: &str) -> Option<Self> {
        let program = outside::nats_server()?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self { program, folder, process: None, port: Port::keep(), route: None };
        server.set(more);
        server.run().await;
        Some(server)
    }

    /// Gives it other lines in its settings, for when it is started the next time.
    pub(crate) fn set(&self, more: &str) {
        std::fs::write(self.folder.path().join("more.conf"), more).expect("a file");
    }

    pub(crate) fn servers(&self) -> Servers {
        format!("nats://{}", self.address()).parse().expect("an address")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Where other servers of its cluster reach it.
    pub(crate) fn route(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.route.expect("it is one of a cluster")))
    }

    /// Starts it on its port.
    pub(crate) async fn run(&mut self) {
        let folder = self.folder.path();
        let settings = format!(
            "listen: \"{}\"\nports_file_dir: {folder:?}\ninclude \"more.conf\"\n\
             jetstream {{ store_dir: {:?}, sync_interval: always, max_file_store: 4GB }}\n",
            self.port.address,
            folder.join("state"),
        );
        let file = folder.join("nats.conf");
        std::fs::write(&file, settings).expect("a file");
        let log = std::fs::File::create(folder.join("log")).expect("a file");
        let process = Command::new(&self.program)
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        let ports = folder.join(format!("nats-server_{}.ports", process.id()));
        self.process = Some(process);
        let started = async {
            loop {
                if port_of(&ports, "nats").is_some() {
                    return port_of(&ports, "cluster");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        self.route = tokio::time::timeout(PATIENCE, started).await.unwrap_or_else(|_| {
            panic!(
                "nats-server did not start: {}",
                std::fs::read_to_string(folder.join("log")).unwrap_or_default()
            )
        });
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A port of a ports file, once it is whole.
fn port_of(file: &Path, of: &str) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports[of][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}
