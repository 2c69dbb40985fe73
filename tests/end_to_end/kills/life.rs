//! How a gateway lives and dies: as a process of its own that is killed by SIGKILL, or on a runtime of its own within
//! this one, whose tasks are all dropped where they stand. The second is not as true to life, and several times as quick.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser as _;
use postern_gateway::settings::Settings;
use postern_sandbox::child::{Gateway, Starting};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::outside;
use crate::world::until;

/// What each gateway is started with, however it lives.
const FLAGS: [&str; 2] = ["--outbox-back-off", "50ms"];
/// How long the tasks of a gateway may take to come to an await, where they are dropped.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// How a gateway lives.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Way {
    Process,
    Within,
}

/// A gateway that was begun.
pub(super) enum Life {
    Starting(Starting),
    Ready(Gateway),
    Within(Within),
}

impl Life {
    pub(super) fn begin(way: Way, folder: &Path) -> Self {
        match way {
            Way::Process => {
                let program = outside::program("gateway");
                Self::Starting(Starting::spawn(&program, &FLAGS, "127.0.0.1:0", folder, "error").unwrap())
            }
            Way::Within => Self::Within(Within::begin(folder)),
        }
    }

    /// Waits until it is ready, and gives where it listens.
    pub(super) async fn ready(self) -> (Self, SocketAddr) {
        match self {
            Self::Starting(starting) => {
                let gateway = starting.ready().await.unwrap();
                let address = gateway.address().parse().unwrap();
                (Self::Ready(gateway), address)
            }
            Self::Ready(gateway) => {
                let address = gateway.address().parse().unwrap();
                (Self::Ready(gateway), address)
            }
            Self::Within(within) => {
                let address = within.ready().await;
                (Self::Within(within), address)
            }
        }
    }

    /// Ends it where it stands.
    pub(super) async fn kill(self) {
        match self {
            Self::Starting(starting) => starting.kill().await.unwrap(),
            Self::Ready(gateway) => gateway.kill().await.unwrap(),
            Self::Within(within) => within.kill().await,
        }
    }
}

/// A gateway on a runtime of its own.
pub(super) struct Within {
    runtime: Runtime,
    ready: PathBuf,
    serving: JoinHandle<String>,
}

impl Within {
    fn begin(folder: &Path) -> Self {
        let ready = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let (data, written) = (folder.join("data").into_os_string(), ready.clone().into_os_string());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving = runtime.spawn(async move {
            loop {
                let mut arguments = vec!["gateway".into(), "--data-dir".into(), data.clone()];
                arguments.extend(["--ready-file".into(), written.clone()]);
                arguments.extend(FLAGS.map(Into::into));
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let settings = Settings::parse_from(arguments);
                let stop = CancellationToken::new();
                match postern_gateway::serve::serve(listener, settings, stop).await {
                    // The writer of the gateway before makes its last commit: a process would be gone at once.
                    Err(error) if error.to_string().contains("another process uses it") => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    ended => return format!("{ended:?}"),
                }
            }
        });
        Self { runtime, ready, serving }
    }

    async fn ready(&self) -> SocketAddr {
        until("the gateway is ready", || async {
            assert!(!self.serving.is_finished(), "the gateway ended before it was ready");
            let text = std::fs::read_to_string(&self.ready).ok()?;
            let described: serde_json::Value = serde_json::from_str(&text).unwrap();
            Some(described["address"].as_str().unwrap().parse().unwrap())
        })
        .await
    }

    async fn kill(self) {
        let Self { runtime, .. } = self;
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DROP_PATIENCE)).await.unwrap();
    }
}
