//! The connectors that are set up: where they are, what they said of themselves, which of them to call. What their kinds
//! and services are about is opaque to it.

mod channel;
mod replica;
mod table;

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use postern_chassis::fault::Fault;
use postern_chassis::settings::SettingsError;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;
use tower::Service;

pub use channel::{AnswerBody, Channel, ChannelError};
pub use replica::{Replica, Watchfulness};
pub use table::Connector;
use table::Table;

/// When a caller should try again while a connector is not reached: about how long a restart takes.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Services that are never a connector's to take, whatever it says: the gateway's own, and the one between the two.
const OWN_PACKAGES: [&str; 6] = [
    "grpc.",
    "postern.approval.",
    "postern.connection.",
    "postern.connector.",
    "postern.event.",
    "postern.outbox.",
];

/// Where a connector is: `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorAddress(Uri);

impl std::str::FromStr for ConnectorAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("{text:?} is not an address: expected http://HOST:PORT or https://HOST:PORT");
        let uri: Uri = text.parse().map_err(|_| expected())?;
        let is_plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let has_port = uri.port_u16().is_some();
        match uri.scheme_str() {
            Some("http" | "https") if is_plain && has_port => Ok(Self(uri)),
            _ => Err(expected()),
        }
    }
}

impl std::fmt::Display for ConnectorAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The connectors. Each is asked what it is in the background, until it answers and again from time to time, so that
/// one that goes away and comes back heals by itself.
#[derive(Debug)]
pub struct Connectors {
    table: watch::Receiver<Arc<Table>>,
    _stop: DropGuard,
}

impl Connectors {
    /// Starts asking the connectors at these addresses. Must be called within a runtime. Addresses of `https://` are
    /// checked by `tls`, or against the machine's authorities where it is `None`.
    ///
    /// # Errors
    /// The setting `--connectors`: an address that cannot be used.
    pub fn new(
        addresses: Vec<ConnectorAddress>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, SettingsError> {
        Self::watched(addresses, tls, Watchfulness::default())
    }

    /// The same, watched more or less closely.
    ///
    /// # Errors
    /// As [`Connectors::new`].
    pub fn watched(
        addresses: Vec<ConnectorAddress>,
        tls: Option<Arc<ClientConfig>>,
        watchfulness: Watchfulness,
    ) -> Result<Self, SettingsError> {
        Self::asked(addresses, |uri| Replica::new(uri, tls.clone(), watchfulness))
    }

    /// The same, reached over `sockets` instead of over the network.
    ///
    /// # Errors
    /// As [`Connectors::new`].
    pub fn dialled<D>(
        addresses: Vec<ConnectorAddress>,
        sockets: D,
        watchfulness: Watchfulness,
    ) -> Result<Self, SettingsError>
    where
        D: Service<Uri, Future: Send, Error = std::io::Error> + Clone + Send + Sync + 'static,
        D::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::asked(addresses, |uri| Ok(Replica::dialled(uri, sockets.clone(), watchfulness)))
    }

    fn asked(
        addresses: Vec<ConnectorAddress>,
        new: impl Fn(Uri) -> Result<Replica, SettingsError>,
    ) -> Result<Self, SettingsError> {
        let mut replicas: Vec<Arc<Replica>> = Vec::new();
        for ConnectorAddress(uri) in addresses {
            if replicas.iter().any(|replica| *replica.uri() == uri) {
                return Err(SettingsError::value("--connectors", format!("{uri} is there twice")));
            }
            replicas.push(Arc::new(new(uri)?));
        }
        let (publish, table) = watch::channel(Arc::new(Table::new(replicas.clone())));
        let stop = CancellationToken::new();
        let publish = Arc::new(publish);
        for replica in replicas {
            let publish = publish.clone();
            let asking = replica.clone().keep_asking(move |replica, answer| {
                publish.send_if_modified(|table| match table.with(replica, answer) {
                    Some(changed) => {
                        *table = Arc::new(changed);
                        true
                    }
                    None => false,
                });
            });
            tokio::spawn(stop.clone().run_until_cancelled_owned(asking));
        }
        Ok(Self { table, _stop: stop.drop_guard() })
    }

    /// Waits until every connector has said what it is, for at most `patience`. Gives the addresses that have not.
    pub async fn all_described(&self, patience: Duration) -> Vec<String> {
        let mut table = self.table.clone();
        let all = table.wait_for(|table| table.undescribed().is_empty());
        match tokio::time::timeout(patience, all).await {
            Ok(_) => Vec::new(),
            Err(_) => self.table.borrow().undescribed(),
        }
    }

    /// The addresses that do not answer, as far as is known.
    #[must_use]
    pub fn unreached(&self) -> Vec<String> {
        self.table.borrow().unreached()
    }

    /// The connector for connections of a kind.
    ///
    /// # Errors
    /// FAILED_PRECONDITION (CONNECTOR_MISSING) where none is set up; UNAVAILABLE (CONNECTOR_UNAVAILABLE) where one that
    /// has not been reached yet may be it.
    pub fn for_kind(&self, kind: &str) -> Result<Arc<Connector>, Fault> {
        let table = self.table.borrow();
        if let Some(connector) = table.kind(kind) {
            return Ok(connector.clone());
        }
        if table.undescribed().is_empty() {
            let message = format!("no connector of the kind {kind} is set up");
            return Err(Fault::new(Code::FailedPrecondition, "CONNECTOR_MISSING", message).with("kind", kind));
        }
        Err(unavailable("it was not reached yet").with("kind", kind))
    }

    /// The connector that takes the calls of a gRPC service.
    ///
    /// # Errors
    /// UNAVAILABLE (CONNECTOR_UNAVAILABLE) where one that has not been reached yet may take them; UNIMPLEMENTED where
    /// none does.
    pub fn for_service(&self, service: &str) -> Result<Arc<Connector>, Fault> {
        let table = self.table.borrow();
        if let Some(connector) = table.service(service) {
            return Ok(connector.clone());
        }
        if !is_own(service) && !table.undescribed().is_empty() {
            return Err(unavailable("it was not reached yet"));
        }
        let message = format!("no connector takes the calls of {service}");
        Err(Fault::new(Code::Unimplemented, "SERVICE_UNKNOWN", message).with("service", service))
    }

    /// Whether the calls of a gRPC service are a connector's to take, or may be once all connectors are reached.
    #[must_use]
    pub fn takes(&self, service: &str) -> bool {
        let table = self.table.borrow();
        table.service(service).is_some() || (!is_own(service) && !table.undescribed().is_empty())
    }

    /// The services whose calls connectors take, by full name.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        self.table.borrow().services()
    }
}

/// Whether a service is never a connector's to take.
pub(crate) fn is_own(service: &str) -> bool {
    OWN_PACKAGES.iter().any(|package| service.starts_with(package))
}

/// The error for a connector that is set up and not reached: nothing was done, a repeat can help.
#[must_use]
pub fn unavailable(why: &str) -> Fault {
    Fault::new(Code::Unavailable, "CONNECTOR_UNAVAILABLE", format!("the connector is not available: {why}"))
        .retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_scheme_host_and_port() {
        for right in ["http://127.0.0.1:7026", "https://smtp.internal:443/"] {
            assert!(right.parse::<ConnectorAddress>().is_ok(), "{right}");
        }
        for wrong in ["127.0.0.1:7026", "http://host", "ftp://host:1", "http://host:1/path", ""] {
            assert!(wrong.parse::<ConnectorAddress>().unwrap_err().contains("expected http://"), "{wrong}");
        }
    }
}
