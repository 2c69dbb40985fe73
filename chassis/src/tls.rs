//! TLS towards servers. The certificate is always checked: against the machine's authorities, or against those that are
//! given and no others.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

/// The configuration that trusts the machine's authorities: reading them is slow, so it is done once.
static MACHINE: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// The configuration that trusts the authorities in a PEM text, or those of the machine where there is none.
///
/// # Errors
/// What is wrong with the text, or that the machine's authorities cannot be read.
pub fn client_config(authorities: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    if let Some(pem) = authorities {
        let roots = Arc::new(roots(pem)?);
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        return with_verifier(provider, verifier.build().map_err(|error| error.to_string())?);
    }
    if let Some(config) = MACHINE.get() {
        return Ok(Arc::clone(config));
    }
    let verifier = Verifier::new(Arc::clone(&provider))
        .map_err(|error| format!("the machine's certificate authorities cannot be read: {error}"))?;
    let config = with_verifier(provider, Arc::new(verifier))?;
    Ok(Arc::clone(MACHINE.get_or_init(|| config)))
}

fn with_verifier(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        // "Dangerous" because it could check nothing; both verifiers given here check everything.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The certificates in a PEM text, as roots.
fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| "not PEM".to_owned())?;
        roots.add(certificate).map_err(|_| "holds something that is no certificate".to_owned())?;
    }
    if roots.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_certificates_is_told() {
        assert!(client_config(Some("hello")).unwrap_err().contains("no certificate"));
        let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(client_config(Some(broken)).unwrap_err().contains("no certificate"));
    }
}
