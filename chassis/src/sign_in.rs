//! What sign-ins of users have in common whoever the provider is (OAuth 2.0: RFC 6749, RFC 7636, RFC 8628): what is kept
//! of one that has begun, what a provider's page brings back, what an error means, who signed in. It asks nobody.

mod meaning;
mod who;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use postern_proto::connector::v1::StartSignInResponse;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::fault::Fault;

pub use meaning::Meaning;
pub use who::{Who, check_account};

/// How long a sign-in in a browser may take.
pub const BROWSER_LIFE: Duration = Duration::from_secs(600);
/// The longest that a device code is waited for, whatever its provider says.
const MAX_DEVICE_LIFE: Duration = Duration::from_secs(3_600);
/// How long to wait between two questions about a device code where its provider does not say (RFC 8628, section 3.2).
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait between two of them.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// By how much a provider wants to be asked less often that says `slow_down` (RFC 8628, section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The kind of grant of a device code.
pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Random bytes of a PKCE verifier: 43 characters (RFC 7636, section 4.1).
const VERIFIER_BYTES: usize = 32;
/// The longest device code and URL that are taken.
const MAX_TEXT: usize = 2_048;
/// The longest code that a user is asked to type.
const MAX_USER_CODE: usize = 64;
/// The longest `error` that is told; those of the standards have some twenty characters.
const MAX_ERROR: usize = 64;

/// What is kept of a sign-in that has begun. It is secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Begun {
    /// In a browser: the PKCE verifier.
    Browser {
        /// What only whoever began it knows.
        verifier: String,
    },
    /// By a device code.
    DeviceCode {
        /// The provider's code for whoever began it.
        device_code: String,
    },
}

impl Begun {
    /// Begins one in a browser: gives what is kept, and the challenge (S256) that goes to the provider.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn browser() -> Result<(Self, String), Fault> {
        let mut random = [0; VERIFIER_BYTES];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Fault::new(Code::Internal, "INTERNAL", "the system has no random numbers"))?;
        let verifier = URL_SAFE_NO_PAD.encode(random);
        let challenge = challenge(&verifier);
        Ok((Self::Browser { verifier }, challenge))
    }

    /// As it travels to the gateway and back.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads what [`Begun::encode`] made.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: it was made by nobody.
    pub fn decode(sign_in: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(sign_in)
            .map_err(|_| Fault::field("sign_in", "is not what StartSignIn gave: expected it unchanged"))
    }

    /// The answer of a StartSignIn in a browser.
    #[must_use]
    pub fn at(&self, authorization_url: String) -> StartSignInResponse {
        StartSignInResponse {
            authorization_url,
            expire_time: Some((SystemTime::now() + BROWSER_LIFE).into()),
            sign_in: self.encode(),
            ..StartSignInResponse::default()
        }
    }
}

/// The PKCE challenge of a verifier (RFC 7636, section 4.2).
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// A device authorization endpoint's answer (RFC 8628, section 3.2).
#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: String,
    user_code: String,
    // Some name it as they did before there was a standard.
    #[serde(alias = "verification_url")]
    verification_uri: String,
    expires_in: u64,
    interval: Option<u64>,
}

/// The answer of a StartSignIn by device code, made of the endpoint's. `None`: that cannot be used.
#[must_use]
pub fn device_code(body: &[u8]) -> Option<StartSignInResponse> {
    let answer: DeviceAnswer = serde_json::from_slice(body).ok()?;
    let is_text = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let is_page = ["https://", "http://"].iter().any(|scheme| answer.verification_uri.starts_with(scheme));
    if !is_page
        || !is_text(&answer.verification_uri, MAX_TEXT)
        || !is_text(&answer.device_code, MAX_TEXT)
        || !is_text(&answer.user_code, MAX_USER_CODE)
    {
        return None;
    }
    let life = Duration::from_secs(answer.expires_in).min(MAX_DEVICE_LIFE);
    let interval = answer.interval.map_or(POLL_INTERVAL, Duration::from_secs);
    let interval = interval.clamp(Duration::from_secs(1), MAX_POLL_INTERVAL);
    Some(StartSignInResponse {
        verification_url: answer.verification_uri,
        user_code: answer.user_code,
        expire_time: Some((SystemTime::now() + life).into()),
        poll_interval: interval.try_into().ok(),
        sign_in: Begun::DeviceCode { device_code: answer.device_code }.encode(),
        ..StartSignInResponse::default()
    })
}

/// How long to wait before a device code is asked about again, when so long was waited before.
#[must_use]
pub fn next_interval(waited: Option<prost_types::Duration>, meaning: Meaning) -> prost_types::Duration {
    let waited = waited.and_then(|waited| Duration::try_from(waited).ok()).unwrap_or(POLL_INTERVAL);
    let next = if meaning == Meaning::SlowDown { waited + SLOWER } else { waited };
    next.clamp(Duration::from_secs(1), MAX_POLL_INTERVAL).try_into().unwrap_or_default()
}

/// What a provider's page brought back.
#[derive(Clone, PartialEq, Eq)]
pub enum Brought {
    /// A code, to be changed for a grant.
    Code(String),
    /// An error (RFC 6749, section 4.1.2.1), and the first number in its text, which is for people alone.
    Error(String, Option<u64>),
    /// Neither.
    Nothing,
}

impl Brought {
    /// Reads the query that a provider's page brought back.
    #[must_use]
    pub fn read(query: &str) -> Self {
        let of = |name: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(key, value)| key == name && !value.is_empty())
                .map(|(_, value)| value.into_owned())
        };
        // An error goes before a code: there is never both of an honest provider.
        match (of("error"), of("code")) {
            (Some(error), _) => {
                let text = of("error_description").unwrap_or_default();
                let number = text.split(|c: char| !c.is_ascii_digit()).find_map(|number| number.parse().ok());
                Self::Error(word(&error), number)
            }
            (None, Some(code)) => Self::Code(code),
            (None, None) => Self::Nothing,
        }
    }
}

/// Refuses what another provider's page brought back (RFC 9207): where a page says whose it is, that must be ours, before
/// anything of it is used. Many do not say.
///
/// # Errors
/// WRONG_PROVIDER.
pub fn check_issuer(query: &str, is_ours: impl Fn(&str) -> bool) -> Result<(), Fault> {
    let mut issuers = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "iss");
    if issuers.all(|(_, issuer)| is_ours(&issuer)) {
        return Ok(());
    }
    let message = "the page that led back is another provider's than the connection's, and nothing of it was used: begin \
                   a new sign-in, and where that comes to the same, see to the settings of the connection";
    Err(Fault::new(Code::FailedPrecondition, "WRONG_PROVIDER", message))
}

/// An `error` that can be told: those of the standards are words.
#[must_use]
pub fn word(error: &str) -> String {
    error
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .take(MAX_ERROR)
        .collect()
}

/// The failure of a sign-in by a way that this connection does not have.
#[must_use]
pub fn unsupported(message: &'static str) -> Fault {
    Fault::new(Code::FailedPrecondition, "SIGN_IN_UNSUPPORTED", message)
}

/// The failure of a sign-in that gave no refresh token: what it gave would not last the day.
#[must_use]
pub fn without_refresh_token() -> Fault {
    let message = "the provider gave no refresh token: the application must be allowed offline access and ask for it \
                   (the scope offline_access, or access_type=offline), then begin a new sign-in";
    Fault::new(Code::FailedPrecondition, "CONFIGURATION_REFUSED", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let (begun, other) = Begun::browser().unwrap();
        let Begun::Browser { verifier } = &begun else { panic!("not in a browser") };
        assert_eq!((verifier.len(), challenge(verifier)), (43, other));
        assert!(Begun::decode(&begun.encode()).unwrap() == begun);
        assert!(Begun::decode(b"{}").is_err());
    }

    #[test]
    fn what_a_page_brings_back_is_read() {
        assert!(Brought::read("state=s&code=a%2Bb+c") == Brought::Code("a+b c".into()));
        let denied = "error=access_denied&error_description=AADSTS65004%3A+User+declined&code=x";
        assert!(Brought::read(denied) == Brought::Error("access_denied".into(), Some(65_004)));
        assert!(Brought::read("error=a%0Ab%3Cc%3E&state=s") == Brought::Error("abc".into(), None));
        assert!(Brought::read("code=&state=s") == Brought::Nothing);
    }

    #[test]
    fn a_page_that_says_whose_it_is_must_be_ours() {
        let check = |query: &str| check_issuer(query, |issuer| issuer == "https://a/b");
        for ours in ["code=c&state=s", "code=c&iss=https%3A%2F%2Fa%2Fb", "error=x&iss=https://a/b"] {
            assert!(check(ours).is_ok(), "{ours}");
        }
        for another in
            ["code=c&iss=https://a", "code=c&iss=", "iss=https://a/b&iss=https://c", "error=x&iss=c"]
        {
            assert_eq!(check(another).unwrap_err().reason(), "WRONG_PROVIDER", "{another}");
        }
    }

    #[test]
    fn a_device_code_is_read_and_bounded() {
        let read = |json: &str| device_code(json.as_bytes());
        let given = read(
            r#"{"device_code":"d","user_code":"A-B","verification_url":"https://a/b","expires_in":99999999,"interval":0}"#,
        )
        .unwrap();
        assert_eq!((given.verification_url.as_str(), given.user_code.as_str()), ("https://a/b", "A-B"));
        assert_eq!(given.poll_interval.unwrap().seconds, 1);
        let life = SystemTime::try_from(given.expire_time.unwrap()).unwrap();
        assert!(life <= SystemTime::now() + MAX_DEVICE_LIFE);
        for wrong in [
            "{}",
            r#"{"device_code":"d","user_code":"A","verification_uri":"javascript:x","expires_in":9}"#,
            r#"{"device_code":"","user_code":"A","verification_uri":"https://a","expires_in":9}"#,
            r#"{"device_code":"d","user_code":"A B","verification_uri":"https://a","expires_in":9}"#,
        ] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn who_is_told_to_slow_down_waits_five_seconds_more_each_time() {
        let mut waited = None;
        let mut seconds = Vec::new();
        for meaning in [Meaning::Pending, Meaning::SlowDown, Meaning::Pending, Meaning::SlowDown] {
            waited = Some(next_interval(waited, meaning));
            seconds.push(waited.unwrap().seconds);
        }
        assert_eq!(seconds, [5, 10, 10, 15]);
    }
}
