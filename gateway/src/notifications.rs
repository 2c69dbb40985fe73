//! Notifications: where a provider pushes, a watch is looked after as soon as something happens, and not at the end of
//! its interval. A notification only nudges and never carries an event; a lost one costs time, never an event.
//!
//! What is agreed with a provider, and what it wants, is kept in the store.

mod door;
pub(crate) mod record;
mod renewal;
mod work;

use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use http::Uri;
use tokio_util::sync::CancellationToken;

use crate::connections::Connections;
use crate::leases::Leases;
use crate::store::{EventLog, Store};
use crate::triggers::Schedule;

/// The URL under which providers reach this gateway, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    text: String,
    path: String,
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a URL such as https://postern.example.org".to_owned();
        let uri: Uri = text.parse().map_err(|_| expected())?;
        let host = uri.host().ok_or_else(expected)?;
        let here = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if here => {}
            Some("http") => return Err("expected https://: providers push to nothing else".to_owned()),
            _ => return Err(expected()),
        }
        if uri.query().is_some() || text.contains(['#', '@', '{', '}', '*']) {
            return Err("expected a URL without query, fragment or user".to_owned());
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { text: text.trim_end_matches('/').to_owned(), path })
    }
}

impl PublicUrl {
    /// Whether it is reached by TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// Its path, without a slash at its end: empty where it has none.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl std::fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The notifications of a gateway.
pub struct Notifications {
    connections: Arc<Connections>,
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
    schedule: Schedule,
    url: PublicUrl,
}

impl Notifications {
    /// The notifications of the watches that a schedule looks after.
    #[must_use]
    pub fn new(
        connections: Arc<Connections>,
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        schedule: Schedule,
        url: PublicUrl,
    ) -> Arc<Self> {
        Arc::new(Self { connections, store, log, schedule, url })
    }

    /// Whoever looks after a watch sees to its notification; any gateway takes what is pushed.
    fn leases(&self) -> &Leases {
        self.schedule.leases()
    }

    /// The routes that providers push to.
    pub fn router(self: &Arc<Self>) -> Router {
        door::router(self.clone(), &self.url)
    }

    /// Has the providers of all watches push for as long as these are looked after, until `stop` is cancelled. What is
    /// agreed then stays agreed, for the next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(renewal::Renewal::new(self).run()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_https_but_on_this_machine_and_keeps_its_path() {
        let read = |text: &str| text.parse::<PublicUrl>();
        let url = read("https://postern.example.org/a/").unwrap();
        assert_eq!((url.to_string().as_str(), url.path()), ("https://postern.example.org/a", "/a"));
        assert_eq!(read("http://127.0.0.1:7028").unwrap().path(), "");
        for wrong in [
            "postern.example.org",
            "http://postern.example.org",
            "https://",
            "ftp://x/",
            "https://x/?a",
            "https://a@x",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
