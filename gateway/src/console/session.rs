//! Who uses the console: a caller who showed a token, kept sealed in a cookie, so that any gateway knows it and a token
//! that is taken back ends the session. Where no tokens are set up, whoever is on this machine.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use askama::Template;
use axum::extract::{FromRequestParts, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;

use super::Console;
use super::api::Api;
use super::form::Fields;
use crate::auth::{Caller, Callers};
use crate::pages::{page, plain};
use crate::seal::KeyRing;

/// The cookie's name.
const COOKIE: &str = "postern_session";
/// What a session is sealed for.
const PLACE: &str = "console#session";
/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// The longest token looked at.
const MAX_TOKEN_BYTES: usize = 512;

/// What makes and knows sessions.
pub(super) struct Sessions {
    callers: Option<Arc<Callers>>,
    keys: Arc<KeyRing>,
    /// By which forms are known to be ours.
    forms: hmac::Key,
    path: String,
    secure: bool,
}

/// Somebody who uses the console.
pub(crate) struct Session {
    caller: Option<Caller>,
    cookie: String,
    csrf: String,
    pub(super) console: Console,
    pub(super) api: Api,
    pub(super) root: String,
}

impl Session {
    /// The caller's name. `None`: no tokens are set up.
    pub(crate) fn caller(&self) -> Option<&str> {
        self.caller.as_ref().map(|caller| &*caller.name)
    }

    /// Whether it has ended meanwhile: its time is over, or its token was taken back.
    pub(super) fn is_over(&self) -> bool {
        let sessions = &self.console.0.sessions;
        sessions.callers.is_some() && sessions.caller_by(&self.cookie).is_none()
    }

    /// What a form has to bring back.
    pub(crate) fn csrf(&self) -> &str {
        &self.csrf
    }
}

impl Sessions {
    pub(super) fn new(callers: Option<Arc<Callers>>, keys: Arc<KeyRing>, path: String, secure: bool) -> Self {
        let mut secret = [0; 32];
        // Without tokens there is no cookie to bind forms to: a secret of this process does. Were there no random
        // numbers, the key file could not have been made either.
        let _ = SystemRandom::new().fill(&mut secret);
        let own = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let forms = if callers.is_some() { keys.digest_key().unwrap_or(own) } else { own };
        Self { callers, keys, forms, path, secure }
    }

    /// What forms of whoever has this cookie bring back.
    fn csrf(&self, cookie: &str) -> String {
        let tag = hmac::sign(&self.forms, format!("console form\n{cookie}").as_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref())
    }

    /// Who a token speaks for.
    fn caller_of(&self, token: &str) -> Option<Caller> {
        let value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        self.callers.as_ref()?.authenticate(&headers).ok()
    }

    /// Who sent a request, and their cookie. `None`: nobody that is known.
    fn known(&self, headers: &HeaderMap) -> Option<(Option<Caller>, String)> {
        if self.callers.is_none() {
            return is_local(headers).then(|| (None, String::new()));
        }
        let cookie = cookie(headers)?;
        Some((Some(self.caller_by(cookie)?), cookie.to_owned()))
    }

    /// Whose session a cookie is. `None`: nobody's, or nobody's any more.
    fn caller_by(&self, cookie: &str) -> Option<Caller> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let opened = self.keys.open(PLACE, &sealed).ok()?;
        let (expires, token) = opened.split_first_chunk::<8>()?;
        if u64::from_be_bytes(*expires) < seconds(SystemTime::now()) {
            return None;
        }
        self.caller_of(std::str::from_utf8(token).ok()?)
    }

    /// The cookie of a session for a token.
    fn cookie(&self, token: &str) -> Option<HeaderValue> {
        let mut plain = seconds(SystemTime::now() + LIFETIME).to_be_bytes().to_vec();
        plain.extend_from_slice(token.as_bytes());
        let sealed = URL_SAFE_NO_PAD.encode(self.keys.seal(PLACE, &plain).ok()?);
        self.set_cookie(&sealed, LIFETIME)
    }

    fn set_cookie(&self, value: &str, lasts: Duration) -> Option<HeaderValue> {
        let (path, secure, lasts) = (&self.path, if self.secure { "; Secure" } else { "" }, lasts.as_secs());
        let text = format!("{COOKIE}={value}; Path={path}; Max-Age={lasts}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::try_from(text).ok()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// Whether a request was addressed to this machine itself: else a page of somebody else's, whose name leads here, could
/// act through a browser on this machine.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_forwarded = headers.contains_key("forwarded") || headers.contains_key("x-forwarded-for");
    (is_loopback || name == "localhost") && !is_forwarded
}

impl FromRequestParts<Console> for Session {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Response> {
        let Some(services) = console.services() else {
            return Err(plain(StatusCode::SERVICE_UNAVAILABLE, "the gateway is starting: try again soon"));
        };
        let sessions = &console.0.sessions;
        let Some((caller, cookie)) = sessions.known(&parts.headers) else {
            if sessions.callers.is_none() {
                let text = "no tokens are set up: the console answers on this machine's own address only";
                return Err(plain(StatusCode::FORBIDDEN, text));
            }
            let next = parts.uri.path_and_query().map_or("", |path| path.as_str());
            let next: String = if parts.method == http::Method::GET {
                form_urlencoded::byte_serialize(next.as_bytes()).collect()
            } else {
                String::new()
            };
            return Err(Redirect::to(&format!("{}/login?next={next}", sessions.path)).into_response());
        };
        let api = Api::new(services, caller.clone());
        let (csrf, root) = (sessions.csrf(&cookie), console.root().to_owned());
        Ok(Self { caller, cookie, csrf, console: console.clone(), api, root })
    }
}

/// The page to sign in on.
#[derive(Template)]
#[template(path = "console/login.html")]
struct Login<'a> {
    root: &'a str,
    next: &'a str,
    problem: Option<&'a str>,
}

/// Where to go after signing in.
#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// `GET /console/login`
pub(super) async fn form(State(console): State<Console>, Query(next): Query<Next>) -> Response {
    page(StatusCode::OK, &Login { root: console.root(), next: &next.next, problem: None })
}

/// `POST /console/login`
pub(super) async fn sign_in(State(console): State<Console>, fields: Fields) -> Response {
    let sessions = &console.0.sessions;
    let (token, next) = (fields.get("token"), fields.get("next"));
    let is_known = token.len() <= MAX_TOKEN_BYTES && sessions.caller_of(token).is_some();
    let Some(cookie) = is_known.then(|| sessions.cookie(token)).flatten() else {
        let problem = Some("This token is not, or no longer, known.");
        return page(StatusCode::FORBIDDEN, &Login { root: console.root(), next, problem });
    };
    // Only to a page of ours: the form could have been made by somebody else.
    let is_ours = next == sessions.path || next.starts_with(&format!("{}/", sessions.path));
    let to = if is_ours { next } else { &sessions.path };
    ([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response()
}

/// `POST /console/logout`
pub(super) async fn sign_out(State(console): State<Console>, session: Session, fields: Fields) -> Response {
    if let Err(response) = fields.check(&session) {
        return response;
    }
    let sessions = &console.0.sessions;
    let to = Redirect::to(&format!("{}/login", sessions.path));
    match sessions.set_cookie("", Duration::ZERO) {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], to).into_response(),
        None => to.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_host(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, host.parse().unwrap())])
    }

    #[test]
    fn only_who_addresses_this_machine_itself_is_local() {
        for host in ["127.0.0.1:7028", "localhost", "[::1]:7028", "127.9.9.9"] {
            assert!(is_local(&from_host(host)), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:80", "192.168.1.4:7028", ""] {
            assert!(!is_local(&from_host(host)), "{host}");
        }
        let mut forwarded = from_host("127.0.0.1");
        forwarded.insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
        assert!(!is_local(&forwarded));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let value = "a=b; postern_session=sealed; c=d";
        let headers = HeaderMap::from_iter([(header::COOKIE, value.parse().unwrap())]);
        assert_eq!(cookie(&headers), Some("sealed"));
        assert_eq!(cookie(&HeaderMap::new()), None);
    }
}
