//! How to reach a gateway: what is given to `Client::connect`, and what may be wrong with it.

use std::time::Duration;

use secrecy::SecretString;

use crate::retry::Retry;

/// How to reach a gateway, and how long to be patient with it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where gateways on the same storage listen: `http://HOST:PORT` or `https://HOST:PORT`, all with the same scheme. At
    /// least one; they are tried in turn, beginning with the one that was last reached.
    pub addresses: Vec<String>,
    /// The caller's token (see `gateway token`). Absent: none is shown.
    pub token: Option<SecretString>,
    /// How `https://` addresses are checked, and what they are shown.
    pub tls: Tls,
    /// How long a call with one request and one answer may take in all, unless the call has a deadline of its own
    /// (`tonic::Request::set_timeout`). Streams have none. Default: 100 s, which a patient sending needs.
    pub call_timeout: Duration,
    /// How long it may take to reach one address, TLS included. Default: 5 s.
    pub connect_timeout: Duration,
    /// After how long a silence on a connection with open calls the gateway is asked for a sign of life. Default: 20 s.
    pub keepalive_interval: Duration,
    /// How long that sign may take before the connection counts as broken. Default: 10 s.
    pub keepalive_timeout: Duration,
    /// How often and how long [`Client::retrying`](crate::Client::retrying) tries.
    pub retry: Retry,
}

/// How `https://` addresses are checked, and what they are shown.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The authorities to trust, and no others: certificates, PEM. Absent: those of the machine.
    pub ca_certificates: Option<String>,
    /// What to show a gateway that wants to see a certificate.
    pub identity: Option<Identity>,
    /// The name that the gateway's certificate must be for. Absent: the host of its address.
    pub server_name: Option<String>,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, followed by those between it and its authority, PEM.
    pub certificates: String,
    /// Its private key, PEM.
    pub private_key: SecretString,
}

impl Default for Settings {
    /// No address, and no token.
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            token: None,
            tls: Tls::default(),
            call_timeout: Duration::from_secs(100),
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            retry: Retry::default(),
        }
    }
}

impl Settings {
    /// The gateway at an address, `http://HOST:PORT` or `https://HOST:PORT`, without a token.
    #[must_use]
    pub fn to(address: impl Into<String>) -> Self {
        Self { addresses: vec![address.into()], ..Self::default() }
    }

    /// The same, with a token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<SecretString>) -> Self {
        self.token = Some(token.into());
        self
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct SettingsError {
    /// The setting, such as `tls.ca_certificates`.
    pub setting: &'static str,
    /// What is wrong with it and what was expected.
    pub problem: String,
}

impl SettingsError {
    pub(crate) fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self { setting, problem: problem.into() }
    }
}
