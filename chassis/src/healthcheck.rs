//! The `healthcheck` subcommand: asks a running service for its health, for container engines that want a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::serve::{BoxError, ServeSettings};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the service that listens on `listen` on this machine, with these settings, for its health. Over TLS it must show
/// the very certificate of the settings, whatever names that has. Where clients need a certificate, the service's own is
/// shown to it: one that its own authorities vouch for.
///
/// # Errors
/// It is not reached, or does not serve.
pub async fn run(listen: SocketAddr, settings: &ServeSettings) -> Result<(), BoxError> {
    let asking = async {
        let mut client = HealthClient::new(connect(reachable(listen), settings).await?);
        Ok(client.check(HealthCheckRequest::default()).await?.into_inner().status())
    };
    let status = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(status) => {
            status.map_err(|error: BoxError| format!("{listen} is not reached: {}", whole(&*error)))?
        }
        Err(_) => return Err(format!("{listen} does not answer within {PATIENCE:?}").into()),
    };
    if status == ServingStatus::Serving { Ok(()) } else { Err(format!("it says {status:?}").into()) }
}

/// An error with what is behind it: what the transport's errors have to say is there.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", whole(cause)),
        None => error.to_string(),
    }
}

async fn connect(address: SocketAddr, settings: &ServeSettings) -> Result<Channel, BoxError> {
    // TLS is made below the endpoint, which knows no way to trust one certificate and no name.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let (Some(certificate), Some(key)) = (&settings.tls_cert_file, &settings.tls_key_file) else {
        return Ok(endpoint.connect().await?);
    };
    let tls = TlsConnector::from(Arc::new(tls(certificate, key)?));
    let connector = tower::service_fn(move |_| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            tls.connect(ServerName::from(address.ip()), stream).await.map(TokioIo::new)
        }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

fn tls(certificate: &Path, key: &Path) -> Result<ClientConfig, BoxError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let own = chain.first().ok_or("the certificate's file holds none")?.clone();
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pinned = Arc::new(Pinned { own, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Trusts one certificate and no other.
#[derive(Debug)]
struct Pinned {
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.own {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// An address that reaches a listener bound to every address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
