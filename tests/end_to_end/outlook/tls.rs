//! TLS to the provider: authorities of one's own are trusted where they are named, and nobody else is.

use std::net::SocketAddr;
use std::sync::Arc;

use postern_chassis::fault::reason_of;
use postern_proto::outlook::v1::GetEmailsRequest;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::Code;

use super::stage::Stage;

/// Speaks TLS in front of an address. Gives its own URL and its certificate, PEM.
async fn front(behind: SocketAddr) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let certificate = made.cert.pem();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (url, certificate)
}

#[tokio::test]
async fn authorities_of_ones_own_are_trusted_where_they_are_named_and_only_there() {
    let mut stage = Stage::set_signed_out().await;
    stage.deliver("over TLS");
    let (url, certificate) = front(stage.graph.address()).await;
    let (other_url, _) = front(stage.graph.address()).await;
    let cloud = stage.settings().custom_cloud.as_mut().unwrap();
    cloud.allow_plaintext = false;
    cloud.graph_url.clone_from(&url);
    cloud.login_url.clone_from(&url);
    let refused = stage.refresh().await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused).as_str()),
        (Code::FailedPrecondition, "CERTIFICATE_REFUSED")
    );

    stage.settings().custom_cloud.as_mut().unwrap().ca_certificates = certificate;
    stage.refresh().await.unwrap();
    assert_eq!(stage.subjects(GetEmailsRequest::default()).await, ["over TLS"]);

    stage.settings().custom_cloud.as_mut().unwrap().graph_url = other_url;
    let refused = stage.get_emails(GetEmailsRequest::default()).await.unwrap_err();
    assert_eq!(reason_of(&refused), "CERTIFICATE_REFUSED");
}
