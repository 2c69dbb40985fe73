//! Keys to sign mail with, made by OpenSSL as an administrator would, and the DNS records that tell of them.

use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// The domain that signs.
pub(super) const DOMAIN: &str = "example.org";
/// How long an Ed25519 public key is: it stands at the end of its SubjectPublicKeyInfo, and alone in the record
/// (RFC 8463, section 4).
const ED25519_BYTES: usize = 32;

/// A key and its record.
pub(super) struct Key {
    selector: &'static str,
    private: NamedTempFile,
    record: String,
}

impl Key {
    /// An RSA key of 2,048 bits.
    pub(super) fn rsa() -> Self {
        let private = generate(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        let record = format!("v=DKIM1; k=rsa; p={}", BASE64_STANDARD.encode(public(&private)));
        Self { selector: "rsa", private, record }
    }

    /// An Ed25519 key.
    pub(super) fn ed25519() -> Self {
        let private = generate(&["ED25519"]);
        let public = public(&private);
        let key = BASE64_STANDARD.encode(&public[public.len() - ED25519_BYTES..]);
        Self { selector: "ed25519", private, record: format!("v=DKIM1; k=ed25519; p={key}") }
    }

    pub(super) fn selector(&self) -> &'static str {
        self.selector
    }

    /// The private key, PEM (PKCS#8).
    pub(super) fn private_pem(&self) -> String {
        std::fs::read_to_string(self.private.path()).unwrap()
    }

    /// The key in the judge's words.
    pub(super) fn described(&self) -> Value {
        json!({"domain": DOMAIN, "selector": self.selector, "record": self.record})
    }
}

fn generate(algorithm: &[&str]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-out"]).arg(file.path()).arg("-algorithm").args(algorithm);
    let made = command.output().expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

/// The public key, DER.
fn public(private: &NamedTempFile) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(private.path());
    let told = command.output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    told.stdout
}
