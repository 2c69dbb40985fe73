//! A DKIM private key: RSA, or Ed25519 (RFC 8463). Nothing shows it.

use std::fmt;

use postern_chassis::digest;
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
            Self::Ed25519(key) => Ok(key.sign(&digest::of(text)).as_ref().to_vec()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    #[test]
    fn a_key_signs_and_is_not_shown() {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let text = BASE64_STANDARD.encode(der.as_ref());
        let key =
            Key::read(&format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")).unwrap();
        assert_eq!(format!("{key:?}"), "ed25519-sha256");
        assert_eq!(key.sign(b"text").unwrap().len(), 64);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        for wrong in ["", "secret", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"] {
            let problem = Key::read(wrong).unwrap_err();
            assert!(!problem.contains("secret") && !problem.contains("c2Vj"), "{problem}");
        }
        assert!(Key::read(&"x".repeat(MAX_PEM_BYTES + 1)).unwrap_err().contains("16 KiB"));
    }
}
