//! How a gateway lives and dies: as a process of its own that is killed by SIGKILL, or on a runtime of its own within
//! this one, whose tasks are all dropped where they stand. The second is not as true to life, and several times as quick.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser as _;
use postern_gateway::serve::Listeners;
use postern_gateway::settings::Settings;
use postern_sandbox::child::{Gateway, Starting};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::doors::Listening;
use crate::outside;
use crate::world::until;

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
    pub(super) fn begin(way: Way, folder: &Path, flags: &[String]) -> Self {
        match way {
            Way::Process => {
                let program = outside::program("gateway");
                let flags: Vec<_> = flags.iter().map(String::as_str).collect();
                Self::Starting(Starting::spawn(&program, &flags, "127.0.0.1:0", folder, "error").unwrap())
            }
            Way::Within => Self::Within(Within::begin(folder, flags)),
        }
    }

    /// Waits until it is ready, and gives where it listens.
    pub(super) async fn ready(self) -> (Self, Listening) {
        let ready = match self {
            Self::Starting(starting) => Self::Ready(starting.ready().await.unwrap()),
            ready => ready,
        };
        let at = match &ready {
            Self::Ready(gateway) => Listening::of(gateway),
            Self::Within(within) => within.ready().await,
            Self::Starting(_) => panic!("it is ready by now"),
        };
        (ready, at)
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
    fn begin(folder: &Path, flags: &[String]) -> Self {
        let flags = flags.to_vec();
        let ready = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let (data, written) = (folder.join("data").into_os_string(), ready.clone().into_os_string());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving = runtime.spawn(async move {
            loop {
                let mut arguments = vec!["gateway".into(), "--data-dir".into(), data.clone()];
                arguments.extend(["--ready-file".into(), written.clone()]);
                arguments.extend(flags.iter().map(Into::into));
                let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let http = Some(TcpListener::bind("127.0.0.1:0").await.unwrap());
                let settings = Settings::parse_from(arguments);
                let stop = CancellationToken::new();
                match postern_gateway::serve::serve(Listeners { grpc, http }, settings, stop).await {
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

    async fn ready(&self) -> Listening {
        until("the gateway is ready", || async {
            assert!(!self.serving.is_finished(), "the gateway ended before it was ready");
            let text = std::fs::read_to_string(&self.ready).ok()?;
            let described: serde_json::Value = serde_json::from_str(&text).unwrap();
            let address = |name: &str| described[name].as_str().unwrap().parse().unwrap();
            Some(Listening { grpc: address("address"), http: address("http") })
        })
        .await
    }

    async fn kill(self) {
        let Self { runtime, .. } = self;
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DROP_PATIENCE)).await.unwrap();
    }
}
