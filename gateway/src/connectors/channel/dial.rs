//! How connections are made.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use postern_chassis::gather::Gathering;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt as _};

use super::link::Link;
use super::{BoxError, CONNECT_TIMEOUT};
use crate::connectors::replica::Watchfulness;

/// What HTTP/2 is called in a TLS handshake.
const HTTP2: &[u8] = b"h2";

/// How the connections to an address are made.
#[derive(Clone)]
pub(in crate::connectors) struct Dial(
    Arc<dyn Fn() -> BoxFuture<'static, Result<Link, BoxError>> + Send + Sync>,
);

impl Dial {
    /// Over TCP. A name is resolved anew with each connection.
    pub(in crate::connectors) fn tcp(uri: &Uri, watchfulness: Watchfulness) -> Self {
        Self::by(uri, sockets().map_response(gathering), watchfulness)
    }

    /// Over TLS on TCP.
    ///
    /// # Errors
    /// The host is none that a certificate can be for.
    pub(in crate::connectors) fn tls(
        uri: &Uri,
        config: &ClientConfig,
        watchfulness: Watchfulness,
    ) -> Result<Self, BoxError> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host)?.to_owned();
        let mut config = config.clone();
        config.alpn_protocols = vec![HTTP2.to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        let sockets = sockets().map_response(gathering).map_err(BoxError::from).and_then(move |socket| {
            let shaking = tls.connect(name.clone(), socket);
            async move {
                let socket = shaking.await?;
                match socket.get_ref().1.alpn_protocol() {
                    Some(HTTP2) => Ok(socket),
                    _ => Err(BoxError::from("it does not speak HTTP/2")),
                }
            }
        });
        Ok(Self::by(uri, sockets, watchfulness))
    }

    /// Over sockets that a service gives.
    pub(in crate::connectors) fn by<D>(uri: &Uri, sockets: D, watchfulness: Watchfulness) -> Self
    where
        D: Service<Uri, Future: Send, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
        D::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let uri = uri.clone();
        Self(Arc::new(move || {
            let connecting = sockets.clone().oneshot(uri.clone());
            Box::pin(async move {
                let socket = connecting.await.map_err(Into::into)?;
                Ok(Link::over(socket, watchfulness).await?)
            })
        }))
    }

    /// Makes a connection.
    pub(super) fn link(&self) -> BoxFuture<'static, Result<Link, BoxError>> {
        (self.0)()
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// TCP sockets.
fn sockets() -> HttpConnector {
    let mut sockets = HttpConnector::new();
    sockets.enforce_http(false);
    sockets.set_nodelay(true);
    sockets.set_connect_timeout(Some(CONNECT_TIMEOUT));
    sockets
}

fn gathering(socket: TokioIo<TcpStream>) -> Gathering<TcpStream> {
    Gathering::new(socket.into_inner())
}
