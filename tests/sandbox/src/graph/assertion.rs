//! The check of an application's signed assertion (RFC 7523), as the identity platform makes it.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

/// How long an assertion may hold good at most, in seconds.
const LONGEST_SECONDS: i64 = 24 * 3_600;
/// How far clocks may differ, in seconds.
const SKEW_SECONDS: i64 = 300;
/// How a certificate announces an RSA key (RFC 3279): the algorithm's identifier without parameters.
const RSA: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A certificate that an application may sign in by.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    key: Vec<u8>,
    sha1: String,
    sha256: String,
}

impl Certificate {
    /// Reads a certificate, DER.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let at = der.windows(RSA.len()).position(|part| part == RSA)? + RSA.len();
        // A bit string: its tag, its length in two bytes, no bits unused; then the key.
        let key = match der.get(at..at + 5)? {
            [0x03, 0x82, high, low, 0] => {
                let length = usize::from(u16::from_be_bytes([*high, *low])) - 1;
                der.get(at + 5..at + 5 + length)?.to_vec()
            }
            _ => return None,
        };
        let print = |algorithm| URL_SAFE_NO_PAD.encode(ring::digest::digest(algorithm, der));
        Some(Self {
            key,
            sha1: print(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY),
            sha256: print(&ring::digest::SHA256),
        })
    }
}

/// Checks an assertion.
///
/// # Errors
/// The number of the platform's error, and what is wrong.
pub(super) fn check(
    assertion: &str,
    certificates: &[Certificate],
    client_id: &str,
    audience: &str,
    used: &mut HashSet<String>,
) -> Result<(), (u32, &'static str)> {
    let wrong = |text| Err((700_027, text));
    let parts: Vec<&str> = assertion.split('.').collect();
    let &[header, claims, signature] = parts.as_slice() else { return wrong("It is not a JWT.") };
    let json = |part: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Value>(&decoded).ok()
    };
    let (Some(head), Some(said), Ok(signature)) =
        (json(header), json(claims), URL_SAFE_NO_PAD.decode(signature))
    else {
        return wrong("It is not a JWT.");
    };
    let print = |name: &str| head[name].as_str().map(str::to_owned);
    let Some(certificate) = certificates.iter().find(|certificate| {
        print("x5t#S256").is_some_and(|print| print == certificate.sha256)
            || print("x5t").is_some_and(|print| print == certificate.sha1)
    }) else {
        return wrong("The key was not found.");
    };
    let signed = format!("{header}.{claims}");
    let key = |algorithm| UnparsedPublicKey::new(algorithm, &certificate.key);
    let verified = match head["alg"].as_str() {
        Some("PS256") => key(&RSA_PSS_2048_8192_SHA256).verify(signed.as_bytes(), &signature),
        Some("RS256") => key(&RSA_PKCS1_2048_8192_SHA256).verify(signed.as_bytes(), &signature),
        _ => return wrong("The algorithm is not taken."),
    };
    if verified.is_err() {
        return wrong("The signature does not hold.");
    }
    if said["iss"] != client_id || said["sub"] != client_id {
        return wrong("It is another application's.");
    }
    if said["aud"] != audience {
        return Err((50_027, "The audience of the assertion is another endpoint."));
    }
    let now = Timestamp::now().as_second();
    let (Some(from), Some(until)) = (said["nbf"].as_i64(), said["exp"].as_i64()) else {
        return wrong("It does not say how long it holds good.");
    };
    if from > now + SKEW_SECONDS || until < now - SKEW_SECONDS || until - from > LONGEST_SECONDS {
        return Err((700_024, "The assertion is not within its valid time range."));
    }
    match said["jti"].as_str() {
        Some(id) if !id.is_empty() && used.insert(id.to_owned()) => Ok(()),
        _ => wrong("It was used before."),
    }
}
