//! TLS towards a gateway. The certificate is always checked: against the machine's authorities, or against those given
//! and no others.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::Verifier;
use secrecy::ExposeSecret as _;
use tokio_rustls::TlsConnector;

use crate::settings::{SettingsError, Tls};

const AUTHORITIES: &str = "tls.ca_certificates";
const CERTIFICATES: &str = "tls.identity.certificates";
const KEY: &str = "tls.identity.private_key";

/// What speaks TLS as the settings say.
pub(crate) fn connector(settings: &Tls) -> Result<TlsConnector, SettingsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match &settings.ca_certificates {
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(AUTHORITIES, pem)? {
                let unfit = |_| SettingsError::new(AUTHORITIES, "holds something that is no certificate");
                roots.add(certificate).map_err(unfit)?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            verifier.build().map_err(|error| SettingsError::new(AUTHORITIES, error.to_string()))?
        }
        None => Arc::new(Verifier::new(provider.clone()).map_err(|error| {
            let problem = format!("is absent, and the machine's authorities cannot be read: {error}");
            SettingsError::new(AUTHORITIES, problem)
        })?),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::new("tls", error.to_string()))?
        // "Dangerous" because it could check nothing; both verifiers given here check everything.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &settings.identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates(CERTIFICATES, &identity.certificates)?;
            let key = PrivateKeyDer::from_pem_slice(identity.private_key.expose_secret().as_bytes())
                .map_err(|_| SettingsError::new(KEY, "holds no private key: expected PEM"))?;
            let unfit = |error: rustls::Error| {
                SettingsError::new(KEY, format!("does not go with {CERTIFICATES}: {error}"))
            };
            config.with_client_auth_cert(chain, key).map_err(unfit)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whom the certificate of a host must name.
pub(crate) fn server_name(settings: &Tls, host: &str) -> Result<ServerName<'static>, SettingsError> {
    let (setting, name) = match &settings.server_name {
        Some(name) => ("tls.server_name", name.as_str()),
        None => ("addresses", host),
    };
    let wrong = |_| SettingsError::new(setting, format!("{name:?} is neither a host name nor an IP address"));
    ServerName::try_from(name.to_owned()).map_err(wrong)
}

fn certificates(setting: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(SettingsError::new(setting, "holds no certificate: expected PEM")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Identity;

    #[test]
    fn what_is_no_certificate_is_told_by_its_setting() {
        let tls = Tls { ca_certificates: Some("hello".to_owned()), ..Tls::default() };
        assert_eq!(connector(&tls).err().map(|error| error.setting), Some(AUTHORITIES));
        let identity = Identity { certificates: "hello".to_owned(), private_key: "none".into() };
        let error = connector(&Tls { identity: Some(identity), ..Tls::default() }).err();
        assert_eq!(error.map(|error| error.setting), Some(CERTIFICATES));
    }
}
