//! A gateway whose console is looked at: in this process, over a log that the test writes to as well.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use postern_gateway::auth::new_token;
use postern_gateway::events::new_event;
use postern_gateway::serve::{Listeners, serve_on};
use postern_gateway::settings::Settings;
use postern_gateway::store::EventLog as _;
use postern_gateway::store::sqlite::Sqlite;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, until};

/// A gateway with a console, or what there is in its place.
pub(super) struct Stage {
    pub(super) folder: tempfile::TempDir,
    pub(super) log: Arc<Sqlite>,
    pub(super) http: SocketAddr,
    pub(super) client: Client,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    /// A gateway with these flags; `FOLDER` in them is its folder.
    pub(super) async fn with(flags: &[&str]) -> Self {
        Self::within(tempfile::tempdir().unwrap(), flags).await
    }

    /// The same in a folder that is there, so that files can lie in it.
    pub(super) async fn within(folder: tempfile::TempDir, flags: &[&str]) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (grpc, http) = (bind().await.unwrap(), bind().await.unwrap());
        let address = http.local_addr().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut arguments: Vec<OsString> = vec!["gateway".into()];
        arguments.extend([
            "--data-dir".into(),
            at("data").into(),
            "--ready-file".into(),
            at("ready.json").into(),
        ]);
        let place = folder.path().display().to_string();
        arguments.extend(flags.iter().map(|flag| flag.replace("FOLDER", &place).into()));
        let settings = Settings::parse_from(arguments);
        let log = Sqlite::open(&at("data")).unwrap();
        let stop = CancellationToken::new();
        let (store, stopping) = (log.clone(), stop.clone());
        tokio::spawn(async move {
            let listeners = Listeners { grpc, http: Some(http) };
            serve_on(store.clone(), store, listeners, &settings, stopping).await.unwrap();
        });
        let ready: PathBuf = at("ready.json");
        until("the gateway is ready", || async { ready.exists().then_some(()) }).await;
        let client = Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { folder, log, http: address, client, stop }
    }

    /// A gateway behind a tokens file with one caller, whose token is given.
    pub(super) async fn behind_a_token(flags: &[&str]) -> (Self, String) {
        let folder = tempfile::tempdir().unwrap();
        let (token, line) = new_token("somebody").unwrap();
        std::fs::write(folder.path().join("tokens"), format!("{line}\n")).unwrap();
        let flags = [&["--tokens-file", "FOLDER/tokens"], flags].concat();
        (Self::within(folder, &flags).await, token.expose_secret().to_owned())
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Asks for a page, with a session's cookie where there is one.
    pub(super) async fn get(&self, path: &str, cookie: &str) -> Response {
        self.client.get(self.url(path)).header("cookie", cookie).send().await.unwrap()
    }

    /// Asks for a page that is there.
    pub(super) async fn page(&self, path: &str, cookie: &str) -> String {
        let answer = self.get(path, cookie).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    }

    /// Sends the form to sign in.
    pub(super) async fn sign_in(&self, root: &str, token: &str, next: &str) -> Response {
        let form = [("token", token), ("next", next)];
        self.client.post(self.url(&format!("{root}/console/login"))).form(&form).send().await.unwrap()
    }

    /// Has events happen: one a key.
    pub(super) async fn happen(&self, source: &str, keys: impl IntoIterator<Item = String>) {
        let event = |key: String| new_event(source, "trigger.gap", None, &key, None, None);
        self.log.append(keys.into_iter().map(event).collect(), Vec::new()).await.unwrap();
    }

    /// The stream of a page of events, behind what it shows or behind an event.
    pub(super) async fn stream(&self, page: &str, cookie: &str, behind: Option<&str>) -> Stream {
        let source = page.split("data-source=\"").nth(1).unwrap().split('"').next().unwrap();
        let path = source.replace("&#38;", "&").replace("&amp;", "&");
        let mut request = self.client.get(self.url(&path)).header("cookie", cookie);
        if let Some(behind) = behind {
            request = request.header("last-event-id", behind);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Stream { answer, text: String::new() }
    }
}

/// The value of a cookie that was set, as it is sent back.
pub(super) fn cookie(answer: &Response) -> String {
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// A stream of Server-Sent Events.
pub(super) struct Stream {
    answer: Response,
    text: String,
}

/// One message of it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) text: String,
}

impl Stream {
    /// The next message of a kind; `None`: the stream has ended.
    pub(super) async fn next(&mut self, kind: &str) -> Option<Message> {
        let next = async {
            loop {
                while let Some((message, rest)) = self.text.split_once("\n\n") {
                    let field = |name: &str| {
                        let values = message.lines().filter_map(|line| line.strip_prefix(name));
                        values.collect::<Vec<_>>().join("\n")
                    };
                    let message =
                        Message { kind: field("event: "), id: field("id: "), text: field("data: ") };
                    self.text = rest.to_owned();
                    if message.kind == kind {
                        return Some(message);
                    }
                }
                let chunk = self.answer.chunk().await.unwrap()?;
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        let patience: Duration = PATIENCE;
        tokio::time::timeout(patience, next).await.unwrap_or_else(|_| panic!("no message of the kind {kind}"))
    }
}
