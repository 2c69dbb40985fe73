//! A certificate authority made on the spot: what a test or a trial trusts, and what it does not.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// An authority. Clones are the same one.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
    pem: Arc<str>,
    is_late: bool,
}

impl Authority {
    /// A new authority, which nobody trusts yet.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "Postern sandbox authority");
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let pem = issuer.pem().into();
        Ok(Self { issuer: Arc::new(issuer), pem, is_late: false })
    }

    /// The same authority, whose certificates have expired when it issues them.
    #[must_use]
    pub fn issuing_expired(mut self) -> Self {
        self.is_late = true;
        self
    }

    /// Its own certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.pem
    }

    /// A certificate for these names with its key, both PEM.
    ///
    /// # Errors
    /// A name that no certificate can be for.
    pub fn issue(&self, names: &[String]) -> io::Result<(String, String)> {
        let (certificate, key) = self.certified(names)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// What a TLS server for these names needs.
    ///
    /// # Errors
    /// A name that no certificate can be for.
    pub fn server_config(&self, names: &[String]) -> io::Result<Arc<ServerConfig>> {
        let (certificate, key) = self.certified(names)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }

    fn certified(&self, names: &[String]) -> io::Result<(rcgen::Certificate, KeyPair)> {
        let mut params = CertificateParams::new(names.to_vec()).map_err(io::Error::other)?;
        params.use_authority_key_identifier_extension = true;
        if self.is_late {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        Ok((certificate, key))
    }
}
