//! Users who sign in themselves: a page where one chooses an account, or declines, for codes with PKCE and for device
//! codes. There are no passwords here: whoever chooses an account is it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::super::Shared;
use super::super::exchange::Exchange;
use super::super::refresh_tokens::Refused;
use super::super::refusal::Answered;
use super::{Form, LIFE_SECONDS};

/// The kind of grant of a device code.
pub(super) const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How many of each are kept: the sandbox may run for days.
const KEPT: usize = 1_000;
/// How long to wait between two questions about a device code, in seconds.
const INTERVAL: u32 = 1;

const UNKNOWN: Refused = ("invalid_grant", 70_008, "The provided authorization code has expired.");
const USED: Refused = ("invalid_grant", 54_005, "OAuth2 Authorization code was already redeemed.");
const WRONG_VERIFIER: Refused =
    ("invalid_grant", 501_481, "The Code_Verifier does not match the code_challenge.");
const WRONG_REDIRECT: Refused = ("invalid_grant", 50_011, "The redirect URI does not match.");
const PENDING: Refused =
    ("authorization_pending", 70_016, "OAuth 2.0 device flow error. Authorization is pending.");
const DECLINED: Refused = ("authorization_declined", 70_000, "The user declined.");
const EXPIRED: Refused = ("expired_token", 70_019, "Verification code expired.");

/// Users' sign-ins that are under way.
#[derive(Debug, Default)]
pub struct Users(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    codes: HashMap<String, Code>,
    devices: HashMap<String, Device>,
    /// How device codes are answered before users are heeded.
    answers: Vec<Refused>,
}

#[derive(Debug)]
struct Code {
    user: String,
    redirect_uri: String,
    challenge: String,
    used: bool,
}

#[derive(Debug)]
struct Device {
    user_code: String,
    decided: Option<Result<String, Refused>>,
}

/// A code with what proves that it may be spent.
pub(super) struct Spent<'a> {
    pub(super) code: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) verifier: &'a str,
}

impl Users {
    /// Chooses an account for a device code by the code that its user types.
    ///
    /// # Errors
    /// Nobody was given this code.
    pub fn choose(&self, user_code: &str, user: &str) -> Result<(), &'static str> {
        self.decide(user_code, Ok(user.to_lowercase()))
    }

    /// Declines a device code.
    ///
    /// # Errors
    /// Nobody was given this code.
    pub fn decline(&self, user_code: &str) -> Result<(), &'static str> {
        self.decide(user_code, Err(DECLINED))
    }

    /// Lets a device code expire.
    ///
    /// # Errors
    /// Nobody was given this code.
    pub fn expire(&self, user_code: &str) -> Result<(), &'static str> {
        self.decide(user_code, Err(EXPIRED))
    }

    /// Answers the next question about any device code with `slow_down`.
    pub fn slow_down(&self) {
        self.lock().answers.push(("slow_down", 50_196, "Asked too often."));
    }

    fn decide(&self, user_code: &str, decided: Result<String, Refused>) -> Result<(), &'static str> {
        let mut kept = self.lock();
        let device = kept.devices.values_mut().find(|device| device.user_code == user_code);
        device.ok_or("there is no such code")?.decided = Some(decided);
        Ok(())
    }

    /// A code for a user who chose an account.
    fn give(&self, user: &str, asked: &HashMap<&str, &str>) -> String {
        let of = |name: &str| asked.get(name).copied().unwrap_or_default().to_owned();
        let code: String = std::iter::repeat_with(fastrand::alphanumeric).take(80).collect();
        let mut kept = self.lock();
        if kept.codes.len() >= KEPT {
            kept.codes.clear();
        }
        let given = Code {
            user: user.to_lowercase(),
            redirect_uri: of("redirect_uri"),
            challenge: of("code_challenge"),
            used: false,
        };
        kept.codes.insert(code.clone(), given);
        code
    }

    /// Spends a code: gives whose it is.
    pub(super) fn spend(&self, spent: &Spent<'_>) -> Result<String, Refused> {
        let mut kept = self.lock();
        let code = kept.codes.get_mut(spent.code).ok_or(UNKNOWN)?;
        if std::mem::replace(&mut code.used, true) {
            return Err(USED);
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, spent.verifier.as_bytes());
        if URL_SAFE_NO_PAD.encode(digest) != code.challenge {
            return Err(WRONG_VERIFIER);
        }
        if code.redirect_uri != spent.redirect_uri {
            return Err(WRONG_REDIRECT);
        }
        Ok(code.user.clone())
    }

    /// Whose a device code is by now.
    pub(super) fn asked_about(&self, device_code: &str) -> Result<String, Refused> {
        let mut kept = self.lock();
        if !kept.answers.is_empty() {
            return Err(kept.answers.remove(0));
        }
        let decided = kept.devices.get(device_code).ok_or(UNKNOWN)?.decided.clone();
        let decided = decided.ok_or(PENDING)?;
        kept.devices.remove(device_code);
        decided
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a user's sign-in is answered with: an ID token too, which is not signed, for nobody here checks.
pub(super) fn given(shared: &Shared, form: &Form, user: &str) -> Value {
    let encode = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({
        "aud": form.field("client_id"),
        "iss": format!("{}/{}/v2.0", shared.url, shared.settings.tenant),
        "tid": shared.settings.tenant,
        "oid": format!("oid of {user}"),
        "sub": format!("sub of {user}"),
        "preferred_username": user,
        // Of a clock that is a day behind: nobody is to mind.
        "exp": shared.world.now().as_second() - 86_400,
    });
    json!({
        "token_type": "Bearer", "expires_in": LIFE_SECONDS, "ext_expires_in": LIFE_SECONDS,
        "access_token": shared.tokens.give(Some(user.to_owned()), None),
        "refresh_token": shared.refresh_tokens.give(user),
        "id_token": format!("{}.{}.", encode(json!({"alg": "none"})), encode(claims)),
    })
}

/// `GET` shows whom one may be, `POST` leads back with a code or an error.
pub(super) fn authorize(shared: &Shared, asked: &Exchange) -> Answered {
    let options: HashMap<&str, &str> =
        asked.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let of = |name: &str| options.get(name).copied().unwrap_or_default();
    let redirect = of("redirect_uri");
    let is_plain = of("response_type") == "code" && of("code_challenge_method") == "S256";
    if of("client_id") != shared.settings.client_id || !redirect.starts_with("http") || !is_plain {
        let text = "AADSTS900144: client_id, redirect_uri, response_type=code and PKCE with S256 are needed.";
        return html(StatusCode::BAD_REQUEST, &escape(text));
    }
    if asked.method != Method::POST {
        return html(StatusCode::OK, &chooser(shared, "Who are you?", ""));
    }
    let form = Form::read(asked);
    let mut answer = form_urlencoded(&[("state", of("state"))]);
    match form.field("account") {
        "" => answer.push_str(
            "&error=access_denied&error_description=AADSTS65004%3a+User+declined+to+consent+to+access+the+app.",
        ),
        "administrator" => answer.push_str(
            "&error=access_denied&error_description=AADSTS90094%3a+The+grant+requires+admin+permission.",
        ),
        user => answer.push_str(&format!("&code={}", shared.users.give(user, &options))),
    }
    let mut led = Answered::empty(StatusCode::FOUND);
    let between = if redirect.contains('?') { '&' } else { '?' };
    if let Ok(to) = HeaderValue::from_str(&format!("{redirect}{between}{answer}")) {
        led.headers.insert("location", to);
    }
    led
}

/// Gives a device code.
pub(super) fn device_code(shared: &Shared, asked: &Exchange) -> Answered {
    let form = Form::read(asked);
    if form.field("client_id") != shared.settings.client_id {
        let refused = (400, "unauthorized_client", 700_016, "Application was not found in the directory.");
        return super::refuse(shared, refused);
    }
    let random = |length| std::iter::repeat_with(fastrand::alphanumeric).take(length).collect::<String>();
    let (device_code, user_code) = (random(80), random(9).to_uppercase());
    let mut kept = shared.users.lock();
    if kept.devices.len() >= KEPT {
        kept.devices.clear();
    }
    kept.devices.insert(device_code.clone(), Device { user_code: user_code.clone(), decided: None });
    let page = format!("{}/{}/oauth2/v2.0/deviceauth", shared.url, shared.settings.tenant);
    Answered::ok(json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": page,
        "expires_in": 900,
        "interval": INTERVAL,
        "message": format!("To sign in, open {page} and enter the code {user_code}"),
    }))
}

/// The page where a device code's user types it.
pub(super) fn device_page(shared: &Shared, asked: &Exchange) -> Answered {
    let input = "<label>Code <input name=\"user_code\" autofocus></label>";
    if asked.method != Method::POST {
        return html(StatusCode::OK, &chooser(shared, "Sign in on another device", input));
    }
    let form = Form::read(asked);
    let user_code = form.field("user_code").trim().to_uppercase();
    let decided = match form.field("account") {
        "" | "administrator" => shared.users.decline(&user_code),
        user => shared.users.choose(&user_code, user),
    };
    match decided {
        Ok(()) => html(StatusCode::OK, "<h1>Done</h1><p>You can close this page.</p>"),
        Err(problem) => html(StatusCode::BAD_REQUEST, &chooser(shared, problem, input)),
    }
}

/// A form with a button for each account, and those that decline.
fn chooser(shared: &Shared, title: &str, input: &str) -> String {
    let accounts = shared.world.addresses();
    let button = |value: &str, text: &str| {
        format!("<p><button name=\"account\" value=\"{}\">{}</button></p>", escape(value), escape(text))
    };
    let mut form = format!("<h1>{}</h1><form method=\"post\">{input}", escape(title));
    for account in &accounts {
        form.push_str(&button(account, account));
    }
    form + &button("", "Decline") + &button("administrator", "Ask an administrator") + "</form>"
}

fn html(status: StatusCode, body: &str) -> Answered {
    let page = format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sandbox sign-in</title><body>{body}</body></html>"
    );
    let mut answered = Answered::bytes_of("text/html; charset=utf-8", page.into_bytes());
    answered.status = status;
    answered
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse("http://sandbox/").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    url.and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}
