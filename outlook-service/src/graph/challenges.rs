//! Claims that Graph wants the next access token to be asked for with (continuous access evaluation): told with a 401,
//! needed at the sign-in that follows, which is another call. They are kept by the token that was refused, for the next
//! sign-in comes with the grant that holds it. Lost ones cost a further round: Graph tells them again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use postern_chassis::digest::{self, DIGEST_BYTES};
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

/// How many are kept.
const KEPT: usize = 1_000;
/// How long they are kept: a sign-in follows a refusal at once, or not at all.
const LIFE: Duration = Duration::from_secs(10 * 60);
/// The longest that are heeded: they go into a form.
const MAX_CLAIMS: usize = 4 * 1024;

/// Claims by the digest of the token that was refused.
#[derive(Debug, Default)]
pub(crate) struct Challenges(Mutex<Held>);

type Held = HashMap<[u8; DIGEST_BYTES], (String, Instant)>;

impl Challenges {
    /// Keeps what the answer to a refused token wants, where it wants something.
    pub(super) fn heed(&self, token: &SecretString, headers: &HeaderMap) {
        let Some(claims) = claims_in(headers) else { return };
        let mut kept = self.lock();
        if kept.len() >= KEPT {
            kept.retain(|_, (_, since)| since.elapsed() < LIFE);
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(digest(token), (claims, Instant::now()));
    }

    /// What a sign-in in the place of this token must claim.
    pub(crate) fn claims_for(&self, token: &SecretString) -> Option<String> {
        let kept = self.lock();
        let (claims, since) = kept.get(&digest(token))?;
        (since.elapsed() < LIFE).then(|| claims.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(token: &SecretString) -> [u8; DIGEST_BYTES] {
    digest::of(token.expose_secret().as_bytes())
}

/// The claims in `WWW-Authenticate: Bearer …, claims="<base64 of JSON>"`.
fn claims_in(headers: &HeaderMap) -> Option<String> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let fields = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let encoded = fields.filter_map(|field| field.split_once("claims=\"")?.1.split('"').next()).next()?;
    // Either alphabet of base64 has been seen.
    let encoded = encoded.replace('-', "+").replace('_', "/");
    let claims = GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(encoded).ok()?;
    let claims = String::from_utf8(claims).ok().filter(|claims| claims.len() <= MAX_CLAIMS)?;
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&claims).ok()?;
    Some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=\"\"".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        headers
    }

    #[test]
    fn claims_are_read_in_either_alphabet_with_and_without_padding() {
        let asked = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}},"x":"??>>"}"#;
        let standard = base64::engine::general_purpose::STANDARD.encode(asked);
        let bare = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(asked);
        for encoded in [standard, bare] {
            let value = format!(
                "Bearer realm=\"\", authorization_uri=\"https://login.example/authorize\", \
                 error=\"insufficient_claims\", claims=\"{encoded}\""
            );
            assert_eq!(claims_in(&challenge(&value)).as_deref(), Some(asked));
        }
    }

    #[test]
    fn what_is_no_claims_is_not_heeded() {
        let long =
            base64::engine::general_purpose::STANDARD.encode(format!("{{\"a\":\"{}\"}}", "x".repeat(5_000)));
        for claims in ["", "!", "bm90IEpTT04=", "WzFd", &long] {
            let value = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
            assert_eq!(claims_in(&challenge(&value)), None, "{claims}");
        }
        assert_eq!(claims_in(&challenge("Bearer error=\"invalid_token\"")), None);
        assert_eq!(claims_in(&HeaderMap::new()), None);
    }

    #[test]
    fn claims_are_kept_for_their_token_and_not_without_bound() {
        let challenges = Challenges::default();
        let (token, other) = (SecretString::from("a"), SecretString::from("b"));
        challenges.heed(&token, &challenge("Bearer claims=\"eyJhIjoxfQ==\""));
        challenges.heed(&other, &challenge("Bearer error=\"invalid_token\""));
        assert_eq!(challenges.claims_for(&token).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(challenges.claims_for(&other), None);
        for number in 0..KEPT * 2 {
            challenges.heed(&number.to_string().into(), &challenge("Bearer claims=\"eyJhIjoxfQ==\""));
        }
        assert!(challenges.lock().len() <= KEPT);
    }
}
