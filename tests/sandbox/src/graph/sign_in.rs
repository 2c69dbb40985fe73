//! The identity platform's token endpoint: for applications that sign in by their secret or certificate, and for users
//! by refresh token. It words its refusals as the platform does.

mod users;

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use serde_json::json;

use super::assertion::{self, Certificate};
use super::exchange::{self, Exchange};
use super::refusal::Answered;
use super::{Shared, refusal};

pub use users::Users;

/// How long a token holds good, in seconds, as the platform says it.
const LIFE_SECONDS: u32 = 3_599;
/// How many sign-ins are kept: the sandbox may run for days.
const KEPT: usize = 10_000;
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A sign-in that was asked for, without what is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The kind of grant.
    pub grant_type: String,
    /// What the token is for.
    pub scope: String,
    /// What the token must claim. Empty: nothing.
    pub claims: String,
    /// How the application proved who it is: `secret`, `assertion`, or `none`.
    pub proof: &'static str,
    /// The status of the answer.
    pub status: u16,
}

/// The sign-ins so far, and what certificates are trusted.
#[derive(Debug, Default)]
pub(super) struct SignIns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    all: Vec<SignIn>,
    certificates: Vec<Certificate>,
    assertions: HashSet<String>,
}

impl SignIns {
    pub(super) fn all(&self) -> Vec<SignIn> {
        self.lock().all.clone()
    }

    pub(super) fn trust(&self, certificate: &[u8]) -> Result<(), &'static str> {
        let certificate = Certificate::read(certificate).ok_or("the certificate holds no RSA key")?;
        self.lock().certificates.push(certificate);
        Ok(())
    }

    fn keep(&self, sign_in: SignIn) {
        let mut state = self.lock();
        if state.all.len() >= KEPT {
            state.all.clear();
        }
        state.all.push(sign_in);
    }

    fn check(&self, assertion: &str, client_id: &str, audience: &str) -> Result<(), (u32, &'static str)> {
        let state = &mut *self.lock();
        if state.assertions.len() >= KEPT {
            state.assertions.clear();
        }
        assertion::check(assertion, &state.certificates, client_id, audience, &mut state.assertions)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A refusal: the status, the `error`, its number and text.
type Refused = (u16, &'static str, u32, &'static str);

/// What a sign-in is asked with.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(asked: &Exchange) -> Self {
        Self(exchange::options(&String::from_utf8_lossy(&asked.body)))
    }

    fn field(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn proof(&self) -> &'static str {
        match (self.field("client_secret"), self.field("client_assertion")) {
            ("", "") => "none",
            ("", _) => "assertion",
            _ => "secret",
        }
    }
}

/// Answers what is below `/{tenant}/oauth2/v2.0`.
pub(super) fn answer(shared: &Shared, asked: &Exchange) -> Answered {
    match asked.segments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [tenant, _, "v2.0", "token"] => token(shared, asked, tenant),
        [_, _, "v2.0", "authorize"] => users::authorize(shared, asked),
        [_, _, "v2.0", "devicecode"] if asked.method == Method::POST => users::device_code(shared, asked),
        [_, _, "v2.0", "deviceauth"] => users::device_page(shared, asked),
        _ => refusal::unknown_segment("oauth2").into(),
    }
}

/// Answers `POST /{tenant}/oauth2/v2.0/token`.
fn token(shared: &Shared, asked: &Exchange, tenant: &str) -> Answered {
    if asked.method != Method::POST {
        return refusal::method().into();
    }
    let form = Form::read(asked);
    let answered = match given(shared, tenant, &form) {
        Ok(body) => Answered::ok(body),
        Err(refused) => refuse(shared, refused),
    };
    shared.sign_ins.keep(SignIn {
        grant_type: form.field("grant_type").to_owned(),
        scope: form.field("scope").to_owned(),
        claims: form.field("claims").to_owned(),
        proof: form.proof(),
        status: answered.status.as_u16(),
    });
    answered
}

fn given(shared: &Shared, tenant: &str, form: &Form) -> Result<serde_json::Value, Refused> {
    let of_users = ["common", "organizations"].contains(&tenant);
    let grant_type = form.field("grant_type");
    if tenant != shared.settings.tenant && !(of_users && grant_type != "client_credentials") {
        return Err((400, "invalid_request", 90_002, "Tenant not found."));
    }
    if form.field("client_id") != shared.settings.client_id {
        return Err((400, "unauthorized_client", 700_016, "Application was not found in the directory."));
    }
    if grant_type == users::DEVICE_CODE {
        let user = shared.users.asked_about(form.field("device_code")).map_err(|(e, n, t)| (400, e, n, t))?;
        return Ok(users::given(shared, form, &user));
    }
    let scopes: Vec<&str> = form.field("scope").split_whitespace().collect();
    if !scopes.iter().any(|scope| scope.starts_with("http") && scope.ends_with("/.default")) {
        let text = "The provided value for the input parameter 'scope' is not valid.";
        return Err((400, "invalid_scope", 70_011, text));
    }
    let claims = Some(form.field("claims").to_owned()).filter(|claims| !claims.is_empty());
    let answer = |token: String| {
        json!({
            "token_type": "Bearer", "expires_in": LIFE_SECONDS, "ext_expires_in": LIFE_SECONDS,
            "access_token": token,
        })
    };
    match grant_type {
        "client_credentials" => {
            prove(shared, tenant, form)?;
            Ok(answer(shared.tokens.give(None, claims)))
        }
        "authorization_code" => {
            // A public client proves nothing.
            if form.proof() != "none" {
                prove(shared, tenant, form)?;
            }
            let code = users::Spent {
                code: form.field("code"),
                redirect_uri: form.field("redirect_uri"),
                verifier: form.field("code_verifier"),
            };
            let user = shared.users.spend(&code).map_err(|(e, n, t)| (400, e, n, t))?;
            Ok(users::given(shared, form, &user))
        }
        "refresh_token" => {
            // A public client proves nothing.
            if form.proof() != "none" {
                prove(shared, tenant, form)?;
            }
            let spent = shared.refresh_tokens.spend(form.field("refresh_token"));
            let user = spent.map_err(|(error, number, text)| (400, error, number, text))?;
            let mut given = answer(shared.tokens.give(Some(user.clone()), claims));
            if scopes.contains(&"offline_access") {
                given["refresh_token"] = shared.refresh_tokens.give(&user).into();
            }
            Ok(given)
        }
        _ => Err((400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type.")),
    }
}

/// Checks what proves who the application is.
fn prove(shared: &Shared, tenant: &str, form: &Form) -> Result<(), Refused> {
    match form.proof() {
        "none" => {
            let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            Err((401, "invalid_client", 7_000_218, text))
        }
        "secret" if form.field("client_secret") == shared.settings.client_secret => Ok(()),
        "secret" => Err((401, "invalid_client", 7_000_215, "Invalid client secret provided.")),
        _ if form.field("client_assertion_type") != JWT_BEARER => {
            Err((400, "invalid_request", 900_144, "The type of the assertion is not taken."))
        }
        _ => {
            let audience = format!("{}/{tenant}/oauth2/v2.0/token", shared.url);
            let assertion = form.field("client_assertion");
            shared
                .sign_ins
                .check(assertion, form.field("client_id"), &audience)
                .map_err(|(number, text)| (401, "invalid_client", number, text))
        }
    }
}

fn refuse(shared: &Shared, (status, error, number, text): Refused) -> Answered {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    Answered::json_of(
        status,
        json!({
            "error": error,
            "error_description": format!("AADSTS{number}: {text}"),
            "error_codes": [number],
            "timestamp": shared.world.now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            "trace_id": "00000000-0000-4000-8000-000000000001",
            "correlation_id": "00000000-0000-4000-8000-000000000002",
            "error_uri": format!("{}/error?code={number}", shared.url),
        }),
    )
}
