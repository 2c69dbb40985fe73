//! The gateway's event log and its EventService in a process of their own, filled as the benchmark says: what a gateway
//! does with events, without what tells it of them. `postern-bench source FOLDER` serves; each line that it reads is how
//! many events to append.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use clap::Args;
use postern_chassis::serve::{self as chassis, BoxError, ServeSettings};
use postern_gateway::events::{EventServer, new_event};
use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog, NewEvent};
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{ConnectionStateChanged, EventData};
use prost_types::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::rivals::payload;

/// How many appends are under way at once at most.
const APPENDS_AT_ONCE: usize = 64;

/// Where its log is.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    folder: PathBuf,
}

/// The method that subscribers call.
pub(crate) const SUBSCRIBE: &str = "/postern.event.v1.EventService/Subscribe";

/// An event whose data is what the rivals are given as a payload.
pub(crate) fn event(number: u64, payload: String) -> NewEvent {
    let data = ConnectionStateChanged { state: 0, reason: payload };
    let data = EventData { kind: Some(Kind::ConnectionStateChanged(data)) };
    // The time is fixed, so that each event has the same length up to its place in the log.
    let time = Some(Timestamp { seconds: 1_700_000_000, nanos: 0 });
    let trigger = "connections/bench/triggers/bench";
    new_event(trigger, "connection.state_changed", Some(trigger), &format!("{number:020}"), time, Some(data))
}

/// Where a payload stands within an event.
pub(crate) fn payload_at() -> usize {
    let payload = payload();
    let event = event(0, payload.clone());
    event.encoded.windows(payload.len()).position(|window| window == payload.as_bytes()).unwrap_or(0)
}

/// Serves until its input ends.
///
/// # Errors
/// The log cannot be opened, or an append failed.
#[allow(clippy::print_stdout, reason = "how it is spoken to")]
pub(crate) async fn run(settings: Settings) -> Result<(), BoxError> {
    let log = Sqlite::open(&settings.folder)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    let routes = Routes::new(EventServer::new(log.clone(), stop.clone())).prepare();
    let (serving_log, serving_stop) = (log.clone(), stop.clone());
    let serving = tokio::spawn(async move {
        let _log = serving_log;
        chassis::serve(listener, &ServeSettings::default(), routes, serving_stop).await
    });
    let permits = Arc::new(Semaphore::new(APPENDS_AT_ONCE));
    let mut lines = lines();
    let mut number = log.bounds().await?.last;
    while let Some(line) = lines.recv().await {
        let count: u64 = line.parse()?;
        let payload = payload();
        let events = (number..number + count).map(|number| event(number, payload.clone())).collect();
        number += count;
        let permit = permits.clone().acquire_owned().await?;
        let log = log.clone();
        tokio::spawn(async move {
            if let Err(error) = log.append(events, Vec::new()).await {
                tracing::error!(%error, "an append failed");
            }
            drop(permit);
        });
    }
    stop.cancel();
    let _ = serving.await?;
    Ok(log.close().await?)
}

/// The lines of the input, read by a thread of their own.
fn lines() -> mpsc::Receiver<String> {
    let (line, lines) = mpsc::channel(APPENDS_AT_ONCE);
    std::thread::spawn(move || {
        for read in std::io::stdin().lines().map_while(Result::ok) {
            if line.blocking_send(read).is_err() {
                return;
            }
        }
    });
    lines
}

/// Such a process.
pub(crate) struct Source {
    pub(crate) address: std::net::SocketAddr,
    child: Child,
    input: ChildStdin,
    _output: Lines<BufReader<ChildStdout>>,
}

impl Source {
    /// Starts it on a folder.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) async fn start(folder: &std::path::Path) -> Result<Self, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("source")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut output = BufReader::new(output).lines();
        let address = output.next_line().await?.ok_or("the source ended at once")?.parse()?;
        let input = child.stdin.take().ok_or("no input")?;
        Ok(Self { address, child, input, _output: output })
    }

    pub(crate) async fn publish(&mut self, count: usize) -> Result<(), BoxError> {
        Ok(self.input.write_all(format!("{count}\n").as_bytes()).await?)
    }

    /// The process's id.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Lets it end, and waits until it has.
    ///
    /// # Errors
    /// It did not end well.
    pub(crate) async fn stop(self) -> Result<(), BoxError> {
        let Self { mut child, input, .. } = self;
        drop(input);
        let status = child.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("the source ended with {status}").into()) }
    }
}
