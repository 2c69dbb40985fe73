//! HTTP clients, one for each set of trusted authorities: a client keeps its connections for the calls to come.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;

use crate::account::Account;
use crate::error::Error;

/// How many clients are kept. Nearly all connections share one.
const KEPT: usize = 64;
/// How long connecting may take, TLS included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection is kept unused: shorter than servers' own patience, so that we close first.
const IDLE: Duration = Duration::from_secs(30);

/// Clients by trusted authorities and whether `http://` is allowed.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<HashMap<(String, bool), reqwest::Client>>);

impl Clients {
    /// The client for an account.
    ///
    /// # Errors
    /// The certificates to trust cannot be used.
    pub(crate) fn client(&self, account: &Account) -> Result<reqwest::Client, Error> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (account.certificates.clone(), account.plaintext);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build(account)?;
        if clients.len() >= KEPT {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn build(account: &Account) -> Result<reqwest::Client, Error> {
    // Neither redirects nor a proxy of the environment: tokens go where the settings say and nowhere else.
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
        .https_only(!account.plaintext)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT_PATIENCE)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true);
    let certificates = || Error::field("outlook.custom_cloud.ca_certificates", "cannot be used");
    if !account.certificates.is_empty() {
        let trusted = reqwest::Certificate::from_pem_bundle(account.certificates.as_bytes());
        builder = builder.tls_certs_only(trusted.map_err(|_| certificates())?);
    }
    builder.build().map_err(|_| match account.certificates.as_str() {
        "" => Error::field(
            "outlook",
            "the machine names no authorities to trust, and these settings do not either",
        ),
        _ => certificates(),
    })
}
