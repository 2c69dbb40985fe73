//! The `healthcheck` subcommand, before listeners of each kind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use postern_chassis::healthcheck;
use postern_chassis::serve::{ServeSettings, edges, serve};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An authority, and what it vouches for.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = folder.join("authority.pem");
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Settings with a certificate of this authority's for a name.
    fn settings(&self, folder: &Path, name: &str) -> ServeSettings {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (certificate_file, key_file) = (folder.join(format!("{name}.pem")), folder.join(name));
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        ServeSettings {
            tls_cert_file: Some(certificate_file),
            tls_key_file: Some(key_file),
            ..Default::default()
        }
    }
}

async fn served(settings: &ServeSettings) -> (SocketAddr, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (routes, health) = edges(&["grpc.health.v1.Health"]).await.unwrap();
    let (settings, stop) = (settings.clone(), CancellationToken::new());
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move {
        let served = serve(listener, &settings, routes.prepare(), stop).await;
        drop(health);
        served.unwrap();
    });
    (address, guard)
}

#[tokio::test]
async fn a_health_check_needs_no_more_than_the_services_own_settings() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let tls = authority.settings(folder.path(), "gateway.example.org");
    let mutual = ServeSettings { tls_client_ca_file: Some(authority.file.clone()), ..tls.clone() };
    for settings in [ServeSettings::default(), tls, mutual] {
        let (address, _stop) = served(&settings).await;
        healthcheck::run(address, &settings).await.unwrap();
    }
}

#[tokio::test]
async fn a_health_check_trusts_no_other_certificate_and_says_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let own = authority.settings(folder.path(), "gateway.example.org");
    let other = authority.settings(folder.path(), "other.example.org");
    let (address, _stop) = served(&other).await;
    let refused = healthcheck::run(address, &own).await.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    let refused = healthcheck::run(([127, 0, 0, 1], 1).into(), &own).await.unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
}
