//! The `healthcheck` subcommand: asks a running service for its health, for container engines that want a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::serve::BoxError;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the service that listens on `listen` on this machine for its health. With a certificate file the question is
/// asked over TLS and that certificate alone is trusted.
///
/// # Errors
/// It is not reached, or does not serve.
pub async fn run(listen: SocketAddr, tls_cert_file: Option<&PathBuf>) -> Result<(), BoxError> {
    let scheme = if tls_cert_file.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", reachable(listen)))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    if let Some(path) = tls_cert_file {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(std::fs::read(path)?))
            .domain_name("localhost");
        endpoint = endpoint.tls_config(tls)?;
    }
    let mut client = HealthClient::new(endpoint.connect().await?);
    let status = client.check(HealthCheckRequest::default()).await?.into_inner().status();
    if status == ServingStatus::Serving { Ok(()) } else { Err(format!("it says {status:?}").into()) }
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
