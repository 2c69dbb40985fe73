//! A connection as the connector uses it: settings and credentials, checked once, with every absent value filled in.

mod check;

use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use secrecy::SecretString;

use crate::dkim::Dkim;
use crate::oauth::Provider;

/// The longest host name (RFC 1035, section 2.3.4).
const MAX_HOST_CHARS: usize = 255;

/// A connection to an SMTP server.
#[derive(Debug)]
pub(crate) struct Connection {
    name: String,
    /// The server's host name or address.
    pub(crate) server: String,
    /// The name that its certificate must be for.
    pub(crate) server_name: ServerName<'static>,
    /// Its port.
    pub(crate) port: u16,
    /// How the way to it is secured.
    pub(crate) security: Security,
    /// Whom to trust, where it is not the machine's authorities.
    pub(crate) authorities: Option<Arc<ClientConfig>>,
    /// Who signs in, if anybody.
    pub(crate) login: Option<Login>,
    ehlo_name: Option<String>,
    /// The sender of mails that name none.
    pub(crate) default_from: Option<Mailbox>,
    /// How many sockets may be open at once.
    pub(crate) max_connections: u32,
    /// How many messages go over one socket.
    pub(crate) max_messages_per_connection: u32,
    /// How long an unused socket is kept.
    pub(crate) idle_timeout: Duration,
    /// The shortest time from one message to the next, where the pace is bounded.
    pub(crate) interval: Option<Duration>,
    /// How long one step of the conversation may take.
    pub(crate) command_timeout: Duration,
    /// The largest message, encoded.
    pub(crate) max_message_bytes: u64,
    /// Who signs its mails, where anybody does.
    pub(crate) dkim: Option<Dkim>,
}

/// How the way to a server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// STARTTLS, without which nothing is sent.
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS where it is offered, else none.
    Opportunistic,
    /// None, as asked for by name.
    None,
}

/// Who signs in, and how.
#[derive(Debug)]
pub(crate) struct Login {
    /// The user name.
    pub(crate) username: String,
    /// What proves it.
    pub(crate) proof: Proof,
}

/// What proves who signs in.
#[derive(Debug)]
pub(crate) enum Proof {
    /// A password.
    Password {
        /// The password.
        password: SecretString,
        /// The mechanism. None: PLAIN where it is offered, else LOGIN.
        mechanism: Option<Mechanism>,
    },
    /// An access token of this provider (XOAUTH2). The token itself comes with each call.
    Token(Box<Provider>),
}

/// A mechanism of AUTH by password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN.
    Login,
}

impl Connection {
    /// Its resource name, as the gateway gave it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its access tokens come from, if it signs in by them.
    pub(crate) fn provider(&self) -> Option<&Provider> {
        match &self.login.as_ref()?.proof {
            Proof::Token(provider) => Some(provider),
            Proof::Password { .. } => None,
        }
    }

    /// The name to give in EHLO: the connection's own, else the machine's where that is a host name.
    pub(crate) fn ehlo_name(&self) -> Option<&str> {
        self.ehlo_name.as_deref().or_else(|| machine_name())
    }
}

/// The machine's host name, read once.
fn machine_name() -> Option<&'static str> {
    static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let read = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned()).filter(|name| is_host_name(name))
    };
    NAME.get_or_init(read).as_deref()
}

/// Whether a text is a host name (RFC 1123, section 2.1): labels of letters, digits and hyphens.
pub(crate) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= MAX_HOST_CHARS && text.split('.').all(is_label)
}
