//! Who may call: bearer tokens, kept as digests in a file that is read again when it changes, so that taking a line out
//! of it revokes. It knows no method but the health checks, which anybody may make.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::Either;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use postern_chassis::digest::{self, DIGEST_BYTES};
use postern_chassis::fault::Fault;
use postern_chassis::settings::SettingsError;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::SecretString;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::names;

/// The setting that names the tokens file, as errors call it.
const SETTING: &str = "--tokens-file";
/// How often the file is looked at: a revoked token is refused after this at the latest.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What tokens begin with, so that they are known when found where they should not be.
const TOKEN_PREFIX: &str = "postern_";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Paths that anybody may call.
const OPEN_TO_ALL: &str = "/grpc.health.v1.Health/";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name in the tokens file.
    pub name: Arc<str>,
}

/// One line of the tokens file.
struct Known {
    name: Arc<str>,
    digest: [u8; DIGEST_BYTES],
}

/// What tells one state of a file from another.
type Stamp = (u64, u64, i64, i64);

/// The callers in a tokens file.
pub struct Callers {
    path: PathBuf,
    known: RwLock<Arc<[Known]>>,
    looked: Mutex<(Instant, Option<Stamp>)>,
}

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callers").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Callers {
    /// Reads a tokens file: one caller a line, `NAME sha256:HEX`; empty lines and such that begin with `#` are passed
    /// over. A name may have several lines, for a token and its successor.
    ///
    /// # Errors
    /// The setting `--tokens-file` with the line that is wrong and what was expected.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let wrong =
            |problem: String| SettingsError::value(SETTING, format!("file {}: {problem}", path.display()));
        // The stamp first: what is written between the two is found at the next look.
        let stamp = stamp(path);
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let known = parse(&text).map_err(wrong)?;
        let looked = Mutex::new((Instant::now(), stamp));
        Ok(Self { path: path.to_owned(), known: RwLock::new(known.into()), looked })
    }

    /// Who calls, by the header `authorization: Bearer TOKEN`.
    ///
    /// # Errors
    /// UNAUTHENTICATED: TOKEN_MISSING or TOKEN_REFUSED.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Fault> {
        self.look(Instant::now());
        let missing = || {
            let message = "a token is needed: expected the metadata authorization: Bearer TOKEN";
            Fault::new(Code::Unauthenticated, "TOKEN_MISSING", message)
        };
        let value = headers.get(AUTHORIZATION).ok_or_else(missing)?.as_bytes();
        let (scheme, token) = value.split_at_checked("bearer ".len()).ok_or_else(missing)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(missing());
        }
        let given = digest::of(token.trim_ascii());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        // Every line is compared, each whole: how long it takes says nothing of what is there.
        let mut found = None;
        for caller in known.iter() {
            let differing = caller.digest.iter().zip(&given).fold(0, |sum, (a, b)| sum | (a ^ b));
            if std::hint::black_box(differing) == 0 {
                found = Some(caller);
            }
        }
        let caller = found.ok_or_else(|| {
            Fault::new(Code::Unauthenticated, "TOKEN_REFUSED", "the token is not, or no longer, known")
        })?;
        Ok(Caller { name: caller.name.clone() })
    }

    /// Reads the file again where it has changed. One that is gone lets nobody in; one that cannot be understood is
    /// not taken: who was known stays known.
    fn look(&self, now: Instant) {
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if now.saturating_duration_since(looked.0) < LOOK_INTERVAL {
            return;
        }
        looked.0 = now;
        let stamp = stamp(&self.path);
        if stamp == looked.1 {
            return;
        }
        looked.1 = stamp;
        drop(looked);
        let path = self.path.display();
        let known = match std::fs::read_to_string(&self.path) {
            Ok(text) => match parse(&text) {
                Ok(known) => known,
                Err(problem) => {
                    tracing::error!(%path, problem, "the tokens file was changed and is not taken");
                    return;
                }
            },
            Err(error) => {
                tracing::error!(%path, %error, "the tokens file cannot be read: nobody is let in");
                // It may be readable again without having changed.
                self.looked.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
                Vec::new()
            }
        };
        tracing::info!(%path, callers = known.len(), "the tokens file was read again");
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known.into();
    }
}

/// What tells the state of a file: inode, size, time of change.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

fn parse(text: &str) -> Result<Vec<Known>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| {
            parse_line(line).ok_or_else(|| format!("line {}: expected NAME sha256:HEX", index + 1))
        })
        .collect()
}

fn parse_line(line: &str) -> Option<Known> {
    let (name, rest) = line.split_once(char::is_whitespace)?;
    let hex = rest.trim().strip_prefix("sha256:")?;
    if !names::is_id(name) || hex.len() != 2 * DIGEST_BYTES || !hex.is_ascii() {
        return None;
    }
    let mut digest = [0; DIGEST_BYTES];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Known { name: name.into(), digest })
}

/// A new token for a caller, and the line for the tokens file. The token is to be had here and nowhere else.
///
/// # Errors
/// The name is no id, or the system has no random numbers.
pub fn new_token(name: &str) -> Result<(SecretString, String), SettingsError> {
    if !names::is_id(name) {
        let problem = format!("{name:?} is not a name for a caller: expected [a-z][a-z0-9-]{{2,62}}");
        return Err(SettingsError::value("NAME", problem));
    }
    let mut bytes = [0; TOKEN_BYTES];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(|_| SettingsError::value("NAME", "the system gives no random numbers"))?;
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let line = format!("{name} sha256:{}", digest::hex(&digest::of(token.as_bytes())));
    Ok((token.into(), line))
}

/// Refuses to listen beyond this machine where nothing says who may call.
///
/// # Errors
/// The setting `--listen`.
pub fn check_listen(address: SocketAddr, has_tokens: bool, has_client_ca: bool) -> Result<(), SettingsError> {
    if has_tokens || has_client_ca || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let problem = format!(
        "{address} can be reached from other machines and anybody could call: set {SETTING} or \
         --tls-client-ca-file, or listen on a loopback address such as 127.0.0.1:{}",
        address.port()
    );
    Err(SettingsError::value("--listen", problem))
}

/// A service behind the tokens: calls without a good one do not reach it. The [`Caller`] goes along in the request's
/// extensions.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    callers: Option<Arc<Callers>>,
}

impl<S> Guarded<S> {
    /// Puts a service behind tokens. Without callers everybody is let in: the listener is on loopback, or asks for
    /// certificates.
    pub fn new(inner: S, callers: Option<Arc<Callers>>) -> Self {
        Self { inner, callers }
    }
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(callers) = &self.callers
            && !request.uri().path().starts_with(OPEN_TO_ALL)
        {
            match callers.authenticate(request.headers()) {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                }
                Err(fault) => return Either::Right(ready(Ok(Status::from(fault).into_http()))),
            }
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_token_is_known_by_its_digest_until_its_line_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let (token, line) = new_token("billing").unwrap();
        let (other, other_line) = new_token("reports").unwrap();
        assert!(!line.contains(token.expose_secret()));
        std::fs::write(&path, format!("# callers\n\n{line}\n{other_line}\n")).unwrap();
        let callers = Callers::read(&path).unwrap();
        let started = Instant::now();
        let by = |token: &SecretString| {
            callers.authenticate(&headers(&format!("Bearer {}", token.expose_secret())))
        };
        assert_eq!(&*by(&token).unwrap().name, "billing");
        assert_eq!(&*by(&other).unwrap().name, "reports");
        assert_eq!(by(&"postern_none".to_owned().into()).unwrap_err().reason(), "TOKEN_REFUSED");
        for wrong in ["Basic eDp5", "Bearer", ""] {
            assert_eq!(callers.authenticate(&headers(wrong)).unwrap_err().reason(), "TOKEN_MISSING");
        }
        assert_eq!(callers.authenticate(&HeaderMap::new()).unwrap_err().reason(), "TOKEN_MISSING");

        std::fs::write(&path, format!("{other_line}\n")).unwrap();
        callers.look(started + LOOK_INTERVAL * 1);
        assert_eq!(by(&token).unwrap_err().reason(), "TOKEN_REFUSED");
        assert!(by(&other).is_ok());

        std::fs::write(&path, "not a line\n").unwrap();
        callers.look(started + LOOK_INTERVAL * 2);
        assert!(by(&other).is_ok(), "a mistake in the file locks nobody out");

        std::fs::remove_file(&path).unwrap();
        callers.look(started + LOOK_INTERVAL * 3);
        assert!(by(&other).is_err());
    }

    #[test]
    fn a_wrong_tokens_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, "billing sha256:00\n").unwrap();
        let error = Callers::read(&path).unwrap_err().to_string();
        assert!(error.contains("--tokens-file") && error.contains("line 1: expected NAME"), "{error}");
        assert!(new_token("Billing").is_err());
    }

    #[test]
    fn without_tokens_or_certificates_only_loopback_is_listened_on() {
        for (address, tokens, certificates, fine) in [
            ("127.0.0.1:7025", false, false, true),
            ("[::1]:7025", false, false, true),
            ("[::ffff:127.0.0.1]:7025", false, false, true),
            ("0.0.0.0:7025", false, false, false),
            ("[::]:7025", false, false, false),
            ("10.0.0.1:7025", false, false, false),
            ("0.0.0.0:7025", true, false, true),
            ("0.0.0.0:7025", false, true, true),
        ] {
            let checked = check_listen(address.parse().unwrap(), tokens, certificates);
            assert_eq!(checked.is_ok(), fine, "{address} {tokens} {certificates}");
        }
    }
}
