//! Reaching a gateway: its addresses in turn, TLS on top. It knows nothing of calls.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::{Service, StdError};
use tonic::transport::{Channel, Endpoint};

use crate::settings::{Settings, SettingsError};
use crate::tls;

/// The most addresses taken: each costs a whole `connect_timeout` where it is silent.
const MAX_ADDRESSES: usize = 16;

/// How to reach a gateway.
#[derive(Clone)]
pub(crate) struct Dial {
    addresses: Arc<[Address]>,
    tls: Option<TlsConnector>,
    patience: Duration,
    endpoint: Endpoint,
}

struct Address {
    host: String,
    port: u16,
    /// Whom its certificate must name.
    name: Option<ServerName<'static>>,
}

/// A connection to a gateway of its own, which is made anew when it breaks.
pub(crate) struct Line {
    pub(crate) channel: Channel,
    /// The address to begin with.
    first: Arc<AtomicUsize>,
}

impl Line {
    /// Makes the next dialling begin with another address: this one is silent, or sends its callers away.
    pub(crate) fn turn_away(&self) {
        self.first.fetch_add(1, Ordering::Relaxed);
    }
}

impl Dial {
    /// Reads how a gateway is reached.
    ///
    /// # Errors
    /// The setting that is wrong.
    pub(crate) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let wrong = |problem: String| SettingsError::new("addresses", problem);
        if settings.addresses.is_empty() || settings.addresses.len() > MAX_ADDRESSES {
            return Err(wrong(format!(
                "{} are given: expected 1 to {MAX_ADDRESSES}",
                settings.addresses.len()
            )));
        }
        let uris = settings.addresses.iter().map(|address| {
            parse(address).ok_or_else(|| {
                wrong(format!("{address:?}: expected http://HOST:PORT or https://HOST:PORT, and no more"))
            })
        });
        let uris = uris.collect::<Result<Vec<_>, _>>()?;
        let Some((origin, ..)) = uris.first().cloned() else { return Err(wrong("none is given".to_owned())) };
        let is_secret = origin.scheme_str() == Some("https");
        if uris.iter().any(|(uri, ..)| uri.scheme() != origin.scheme()) {
            return Err(wrong("some begin with http and some with https: expected one of both".to_owned()));
        }
        let mut addresses = Vec::new();
        for (_, host, port) in uris {
            let name = is_secret.then(|| tls::server_name(&settings.tls, &host)).transpose()?;
            addresses.push(Address { host, port, name });
        }
        for (setting, duration) in [
            ("call_timeout", settings.call_timeout),
            ("connect_timeout", settings.connect_timeout),
            ("keepalive_interval", settings.keepalive_interval),
            ("keepalive_timeout", settings.keepalive_timeout),
        ] {
            if duration.is_zero() {
                return Err(SettingsError::new(setting, "is 0: expected more"));
            }
        }
        // TLS is this room's own, hence the scheme by which tonic adds none; callees see the true one.
        let plain = origin.to_string().replacen("https://", "http://", 1);
        let endpoint = Endpoint::from_shared(plain).map_err(|error| wrong(error.to_string()))?;
        let endpoint = endpoint
            .origin(origin)
            .http2_keep_alive_interval(settings.keepalive_interval)
            .keep_alive_timeout(settings.keepalive_timeout);
        Ok(Self {
            addresses: addresses.into(),
            tls: is_secret.then(|| tls::connector(&settings.tls)).transpose()?,
            patience: settings.connect_timeout,
            endpoint,
        })
    }

    /// A connection, made when it is first used. It begins with the address that the one before it has come to.
    pub(crate) fn line(&self, before: Option<&Line>) -> Line {
        let first = before.map(|line| line.first.clone()).unwrap_or_default();
        let dialler = Dialler { dial: self.clone(), first: first.clone() };
        Line { channel: self.endpoint.connect_with_connector_lazy(dialler), first }
    }

    /// Tries each address once.
    async fn reach(self, first: Arc<AtomicUsize>) -> Result<TokioIo<Box<dyn Socket>>, StdError> {
        let mut failures = Vec::new();
        let begin = first.load(Ordering::Relaxed);
        for turn in 0..self.addresses.len() {
            let at = begin.wrapping_add(turn) % self.addresses.len();
            let Some(address) = self.addresses.get(at) else { continue };
            let failure = match tokio::time::timeout(self.patience, self.open(address)).await {
                Ok(Ok(socket)) => {
                    first.store(at, Ordering::Relaxed);
                    return Ok(TokioIo::new(socket));
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "not reached in time".to_owned(),
            };
            failures.push(format!("{}:{}: {failure}", address.host, address.port));
        }
        Err(failures.join("; ").into())
    }

    async fn open(&self, address: &Address) -> std::io::Result<Box<dyn Socket>> {
        let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
        socket.set_nodelay(true)?;
        match (&self.tls, &address.name) {
            (Some(tls), Some(name)) => Ok(Box::new(tls.connect(name.clone(), socket).await?)),
            _ => Ok(Box::new(socket)),
        }
    }
}

/// The parts of an address, host without brackets.
fn parse(address: &str) -> Option<(Uri, String, u16)> {
    let uri: Uri = address.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16()?;
    (known && bare && !host.is_empty()).then_some((uri, host, port))
}

/// What calls travel on.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

struct Dialler {
    dial: Dial,
    first: Arc<AtomicUsize>,
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<Box<dyn Socket>>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, StdError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.dial.clone().reach(self.first.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(addresses: &[&str]) -> SettingsError {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Dial::new(&Settings { addresses, ..Settings::default() }).err().expect("it is refused")
    }

    #[test]
    fn addresses_that_are_none_are_refused_with_what_was_expected() {
        assert_eq!(refused(&[]).to_string(), "addresses: 0 are given: expected 1 to 16");
        for wrong in
            ["gateway:7025", "ftp://gateway:21", "http://gateway", "http://a:b@gateway:1", "http://g:1/x"]
        {
            let error = refused(&[wrong]).to_string();
            assert!(
                error.starts_with("addresses: ") && error.contains("expected http://HOST:PORT"),
                "{error}"
            );
        }
        assert!(refused(&["http://a:1", "https://b:1"]).problem.contains("one of both"));
    }

    #[test]
    fn a_host_is_read_without_its_brackets() {
        let (_, host, port) = parse("https://[::1]:7025").expect("an address");
        assert_eq!((host.as_str(), port), ("::1", 7025));
    }

    #[test]
    fn a_patience_of_nothing_is_refused() {
        let settings = Settings { call_timeout: Duration::ZERO, ..Settings::to("http://gateway:7025") };
        assert_eq!(Dial::new(&settings).err().expect("it is refused").setting, "call_timeout");
    }
}
