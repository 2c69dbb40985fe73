//! The proof of an application that has a certificate: a signed assertion (RFC 7523) in the place of a secret, as the
//! identity platform wants it (certificate credentials: PS256, `x5t#S256`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use postern_chassis::digest;
use postern_proto::outlook::v1::ClientCertificate;
use ring::rsa::KeyPair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use serde_json::json;

use crate::error::{Error, Problems};
use crate::graph;

/// How long an assertion holds good, in seconds: time for one request, and for clocks that differ.
const LIFE_SECONDS: i64 = 600;
const CERTIFICATE: &str = "outlook_credentials.client_certificate.certificate";
const PRIVATE_KEY: &str = "outlook_credentials.client_certificate.private_key";

/// Signs with the key of a certificate.
pub(crate) struct Signer {
    key: KeyPair,
    /// What names the certificate: its SHA-256 digest.
    thumbprint: String,
}

impl Signer {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// What is wrong: pairs of field and problem.
    pub(crate) fn read(proof: &ClientCertificate) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut wrong = |field: &str, problem: &str| problems.push((field.to_owned(), problem.to_owned()));
        let certificate = CertificateDer::from_pem_slice(proof.certificate.as_bytes())
            .ok()
            .filter(|certificate| ParsedCertificate::try_from(certificate).is_ok());
        if certificate.is_none() {
            wrong(CERTIFICATE, "expected an X.509 certificate, PEM (`-----BEGIN CERTIFICATE-----`)");
        }
        let key = PrivatePkcs8KeyDer::from_pem_slice(proof.private_key.as_bytes())
            .ok()
            .and_then(|key| KeyPair::from_pkcs8(key.secret_pkcs8_der()).ok());
        if key.is_none() {
            wrong(
                PRIVATE_KEY,
                "expected an RSA key of 2048 to 4096 bits, PKCS#8 PEM without a passphrase \
                 (`-----BEGIN PRIVATE KEY-----`)",
            );
        }
        if let (Some(certificate), Some(key)) = (certificate, key) {
            // A certificate holds its public key as RSA's own encoding of it, which nothing else in it can be taken for.
            let public = key.public().as_ref();
            if certificate.windows(public.len()).any(|part| part == public) {
                return Ok(Self { key, thumbprint: URL_SAFE_NO_PAD.encode(digest::of(&certificate)) });
            }
            wrong(PRIVATE_KEY, "expected the key of the certificate");
        }
        Err(problems)
    }

    /// An assertion that we are this application, for one use at this endpoint.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(crate) fn assertion(&self, client_id: &str, audience: &str) -> Result<String, Error> {
        let now = Timestamp::now().as_second();
        let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint});
        let claims = json!({
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "jti": graph::request_id(),
            "iat": now,
            "nbf": now,
            "exp": now + LIFE_SECONDS,
        });
        let encode = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        self.key
            .sign(&ring::signature::RSA_PSS_SHA256, &random, signed.as_bytes(), &mut signature)
            .map_err(|_| Error::field(PRIVATE_KEY, "cannot sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
