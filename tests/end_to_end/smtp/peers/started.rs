//! A real mail server, started for one test on free ports with a certificate of the test's own authority, and stopped
//! with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postern_proto::smtp::v1::TlsMode;
use postern_sandbox::smtp::Authority;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::super::world::World;
use crate::outside::Peers;
use crate::ports::Port;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it does.
const INTERVAL: Duration = Duration::from_millis(20);
const USER: &str = "postern";
const PASSWORD: &str = "open-sesame";
/// How much of a server's log is shown where a test fails.
const LOG_LINES: usize = 40;

/// Who wrote a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    Postfix,
    Exim,
    Aiosmtpd,
}

impl Make {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Postfix => "Postfix",
            Self::Exim => "Exim",
            Self::Aiosmtpd => "aiosmtpd",
        }
    }

    /// Whether it is set up to offer SMTPUTF8.
    pub(super) fn takes_utf8_addresses(self) -> bool {
        self != Self::Exim
    }
}

/// A server that ends when this is dropped.
pub(super) struct Peer {
    make: Make,
    folder: TempDir,
    port: Port,
    tls_port: Port,
    authority: Authority,
    programs: Peers,
    /// Absent: it went to the background, and is stopped by its own command.
    process: Option<Child>,
}

impl Peer {
    /// Starts one that hands on what it takes to the server at `onward`.
    pub(super) async fn start(make: Make, programs: Peers, onward: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Self::authority();
        let (certificate, key) = authority.issue(&["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificate).unwrap();
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        let (port, tls_port) = (Port::keep(), Port::keep());
        let mut peer = Self { make, folder, port, tls_port, authority, programs, process: None };
        peer.process = peer.run(onward);
        peer.listens().await;
        peer
    }

    /// An authority that nobody trusts yet.
    pub(super) fn authority() -> Authority {
        Authority::new().unwrap()
    }

    fn run(&self, onward: u16) -> Option<Child> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut command = match self.make {
            Make::Postfix => Command::new(scripts.join("postfix.sh")),
            Make::Exim => {
                let mut command = Command::new(scripts.join("exim.sh"));
                command.arg(&self.programs.exim);
                command
            }
            Make::Aiosmtpd => {
                let mut command = Command::new(&self.programs.python);
                command.arg(scripts.join("aiosmtpd_peer.py"));
                command
            }
        };
        let log = File::create(self.folder.path().join("output.log")).unwrap();
        command
            .arg(self.folder.path())
            .args(
                [self.port.address.port(), self.tls_port.address.port(), onward].map(|port| port.to_string()),
            )
            .args([USER, PASSWORD])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.make.name()));
        if self.make != Make::Postfix {
            return Some(child);
        }
        let started = child.wait().unwrap();
        assert!(started.success(), "Postfix did not start (it needs root):\n{}", self.log());
        None
    }

    async fn listens(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        for address in [self.port.address, self.tls_port.address] {
            while TcpStream::connect(address).await.is_err() {
                let ended = self.process.as_mut().and_then(|process| process.try_wait().unwrap());
                assert!(
                    ended.is_none() && Instant::now() < deadline,
                    "{} does not listen ({ended:?}):\n{}",
                    self.make.name(),
                    self.log()
                );
                sleep(INTERVAL).await;
            }
        }
    }

    pub(super) fn make(&self) -> Make {
        self.make
    }

    pub(super) fn python(&self) -> &Path {
        &self.programs.python
    }

    /// Makes the world's connection one to this server. With TLS from the first byte, messages over 1 MiB are refused.
    pub(super) fn connect(&self, world: &mut World, tls: TlsMode) {
        let port = if tls == TlsMode::Implicit { &self.tls_port } else { &self.port };
        world.stored.port = port.address.port().into();
        world.stored.tls_mode = tls.into();
        world.stored.ca_certificates = self.authority.certificate().to_owned();
        // Postfix's users have the domain of their passwords' store.
        world.stored.username =
            if self.make == Make::Postfix { format!("{USER}@test") } else { USER.to_owned() };
        world.password = PASSWORD.to_owned();
    }

    /// The last of what it wrote.
    pub(super) fn log(&self) -> String {
        let files = ["output.log", "mail.log", "log/main", "log/panic"].map(PathBuf::from);
        let texts = files.iter().filter_map(|file| std::fs::read(self.folder.path().join(file)).ok());
        let text = texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect::<String>();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        match self.process.as_mut() {
            Some(process) => {
                // It may have ended already.
                let _ = process.kill();
                let _ = process.wait();
            }
            None if self.make == Make::Postfix => {
                let etc = self.folder.path().join("etc");
                let stopped = Command::new("postfix").arg("-c").arg(etc).arg("stop").output();
                if !std::thread::panicking() {
                    assert!(stopped.is_ok_and(|ended| ended.status.success()), "Postfix did not stop");
                }
            }
            None => {}
        }
    }
}
