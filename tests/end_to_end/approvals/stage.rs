//! A gateway that can ask people: the sandbox's servers, a connection to each, and a public URL.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser as _;
use postern_gateway::serve::Listeners;
use postern_gateway::settings::Settings;
use postern_sandbox::place::Place;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{links, read};
use crate::ports::{self, Port};
use crate::world::{OUTLOOK, SMTP, connect, create, place, until};

/// Pauses short enough to wait for.
pub(crate) const QUICK: [&str; 2] = ["--notification-back-off", "50ms"];
/// What lets answers be posted to this machine.
pub(crate) const OPEN: [&str; 2] = ["--allow-private-notifications", "--allow-http-notifications"];

pub(crate) struct Stage {
    pub(crate) place: Place,
    pub(crate) channel: Channel,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) http: SocketAddr,
    _door: Port,
    pub(crate) stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A gateway with these flags.
    pub(crate) async fn with(flags: &[&str]) -> Self {
        let (place, folder) = (place().await, tempfile::tempdir().unwrap());
        let door = Port::keep();
        let http = door.address;
        let (channel, stop, serving) = serve(&folder, http, flags).await;
        create(&channel, SMTP, place.smtp_connection()).await.unwrap();
        create(&channel, OUTLOOK, place.outlook_connection()).await.unwrap();
        Self { place, channel, folder, http, _door: door, stop, serving: Some(serving) }
    }

    /// Stops the gateway in good order.
    pub(crate) async fn end(&mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap();
        }
    }

    /// The same, and starts another one over what it left, under the same URL.
    pub(crate) async fn restart(&mut self, flags: &[&str]) {
        self.end().await;
        let (channel, stop, serving) = serve(&self.folder, self.http, flags).await;
        (self.channel, self.stop, self.serving) = (channel, stop, Some(serving));
    }

    /// The mail to somebody: its text and its HTML. The first that came.
    pub(crate) async fn mail_to(&self, address: &str) -> (String, Option<String>) {
        read(&self.raw_to(address).await)
    }

    /// The same as it came.
    pub(crate) async fn raw_to(&self, address: &str) -> bytes::Bytes {
        until("the mail came", || async {
            let accepted = self.place.smtp.accepted();
            accepted.into_iter().find(|mail| mail.to == [address]).map(|mail| mail.message)
        })
        .await
    }

    /// The links of all mails, once so many mails came.
    pub(crate) async fn all_links(&self, mails: usize) -> Vec<String> {
        let accepted = until("the mails came", || async {
            Some(self.place.smtp.accepted()).filter(|accepted| accepted.len() == mails)
        });
        accepted.await.iter().flat_map(|mail| links(&read(&mail.message).0)).collect()
    }

    /// The links of the mail to somebody.
    pub(crate) async fn links_to(&self, address: &str) -> Vec<String> {
        links(&self.mail_to(address).await.0)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(
    folder: &tempfile::TempDir,
    http: SocketAddr,
    flags: &[&str],
) -> (Channel, CancellationToken, JoinHandle<()>) {
    let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = grpc.local_addr().unwrap();
    let (data, ready) = (folder.path().join("data"), folder.path().join("ready.json"));
    let _ = std::fs::remove_file(&ready);
    let mut line = vec!["gateway".to_owned()];
    line.extend(["--data-dir".to_owned(), data.display().to_string()]);
    line.extend(["--ready-file".to_owned(), ready.display().to_string()]);
    line.extend(["--public-url".to_owned(), format!("http://{http}/postern")]);
    line.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let settings = Settings::parse_from(line);
    settings.check().unwrap();
    let stop = CancellationToken::new();
    let listeners = Listeners { grpc, http: Some(ports::listen(http).await) };
    let serving = postern_gateway::serve::serve(listeners, settings, stop.clone());
    let serving = tokio::spawn(async move { serving.await.unwrap() });
    until("the gateway is ready", || async { ready.exists().then_some(()) }).await;
    (connect(address).await, stop, serving)
}

/// Longer than a page has to be looked at before its button counts.
pub(crate) const A_LOOK: Duration = Duration::from_millis(1_050);
