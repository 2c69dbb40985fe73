//! A DKIM private key: RSA, or Ed25519 (RFC 8463). Nothing shows it.

use std::fmt;

use ring::digest::{SHA256, digest};
use ring::error::KeyRejected;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

/// The longest PEM taken: a key of 4,096 bits has about 3,300 characters.
const MAX_PEM_BYTES: usize = 16 * 1024;

/// A key that signs.
pub(super) enum Key {
    /// RSA.
    Rsa(Box<RsaKeyPair>),
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.algorithm())
    }
}

impl Key {
    /// Reads a key from PEM: PKCS#8, or PKCS#1 for RSA.
    ///
    /// # Errors
    /// What is wrong with it. The key is not repeated.
    pub(super) fn read(pem: &str) -> Result<Self, String> {
        if pem.len() > MAX_PEM_BYTES {
            return Err("is longer than 16 KiB".to_owned());
        }
        if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
            return Err("is encrypted: expected a key without a passphrase".to_owned());
        }
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|_| "is no private key in PEM: expected PKCS#8, or PKCS#1 for RSA")?;
        match &der {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                // The public key may be absent, as OpenSSL writes it.
                match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    Ok(key) => Ok(Self::Ed25519(key)),
                    Err(_) => rsa(RsaKeyPair::from_pkcs8(der)),
                }
            }
            _ => Err("is a key of another kind: expected RSA or Ed25519".to_owned()),
        }
    }

    /// Its name in a= (RFC 6376, section 3.3; RFC 8463, section 3).
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519(_) => "ed25519-sha256",
        }
    }

    /// Signs.
    ///
    /// # Errors
    /// It did not.
    pub(super) fn sign(&self, text: &[u8]) -> Result<Vec<u8>, &'static str> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature);
                signed.map(|()| signature).map_err(|_| "does not sign")
            }
            // RFC 8463, section 3: what is signed is the hash.
            Self::Ed25519(key) => Ok(key.sign(digest(&SHA256, text).as_ref()).as_ref().to_vec()),
        }
    }
}

fn rsa(read: Result<RsaKeyPair, KeyRejected>) -> Result<Key, String> {
    match read {
        Ok(key) => Ok(Key::Rsa(Box::new(key))),
        Err(rejected) => Err(match rejected.to_string().as_str() {
            "TooSmall" => "is an RSA key of less than 2048 bits: expected 2048 to 4096",
            "TooLarge" => "is an RSA key of more than 4096 bits: expected 2048 to 4096",
            "PrivateModulusLenNotMultipleOf512Bits" => {
                "is an RSA key of an odd size: expected 2048, 3072 or 4096 bits"
            }
            "WrongAlgorithm" => "is a key of another kind: expected RSA or Ed25519",
            _ => "is a malformed key: expected RSA of 2048 to 4096 bits, or Ed25519",
        }
        .to_owned()),
    }
}
