//! The sign-in of a user: in a browser (authorization code with PKCE) or by a device code, up to the grant. Who began it
//! keeps what it needs; here nothing is.

use postern_chassis::fault::Fault;
use postern_chassis::sign_in::{self, Begun, Brought, DEVICE_CODE, Meaning, Who};
use postern_proto::connection::v1::SignInKind;
use postern_proto::connector::v1::{
    CompleteSignInRequest, CompleteSignInResponse, StartSignInRequest, StartSignInResponse,
};
use reqwest::Url;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::time::Instant;
use tonic::Code;

use super::{Refused, ask, endpoint, grant, scope};
use crate::account::{Account, Proof};
use crate::error::Error;
use crate::graph::Failure;

/// What the platform's texts hold where an administrator has to consent: AADSTS90094 and its kin. What is done does not
/// depend on it; what is said does.
const OF_ADMINISTRATORS: [u64; 5] = [90_094, 90_095, 900_941, 900_944, 65_001];

/// What came of going on with a sign-in.
pub(crate) enum Completed {
    /// A grant, and who gave it, where that is told.
    Grant(CompleteSignInResponse, Option<Who>),
    /// The user has not done it yet.
    NotYet(CompleteSignInResponse),
}

#[derive(Deserialize)]
struct WithIdToken {
    id_token: Option<String>,
}

/// Begins the sign-in of a user.
///
/// # Errors
/// The connection has no user; the platform refused, for good or for now.
pub(crate) async fn start(
    http: &reqwest::Client,
    account: &Account,
    asked: &StartSignInRequest,
    until: Instant,
) -> Result<StartSignInResponse, Error> {
    if account.proof.is_app_only() {
        let message =
            "the connection signs in as an application, which has no user: give it the credentials `user`";
        return Err(Error::SignIn(Box::new(sign_in::unsupported(message))));
    }
    match asked.kind() {
        SignInKind::Browser | SignInKind::Unspecified => {
            let (begun, challenge) = Begun::browser()?;
            Ok(begun.at(authorization_url(account, asked, &challenge)?.into()))
        }
        SignInKind::DeviceCode => {
            let form = vec![("client_id", account.client_id.clone()), ("scope", user_scope(account))];
            match ask(http, endpoint(account, "devicecode")?, &form, until).await? {
                Ok(body) => sign_in::device_code(&body).ok_or_else(|| Failure::unreadable(200).into()),
                Err(refused) if refused.is_passing() => Err(Error::SignInUnavailable(refused)),
                Err(refused) => Err(Error::SignInRefused(refused.about(&account.proof))),
            }
        }
    }
}

/// The page of the platform where the user signs in.
fn authorization_url(account: &Account, asked: &StartSignInRequest, challenge: &str) -> Result<Url, Error> {
    let mut url = endpoint(account, "authorize")?;
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("client_id", &account.client_id)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", &asked.redirect_url)
            .append_pair("response_mode", "query")
            .append_pair("scope", &user_scope(account))
            .append_pair("state", &asked.state)
            .append_pair("code_challenge", challenge)
            .append_pair("code_challenge_method", "S256");
        // Whoever has several accounts is asked which; one who signs in again is offered the same.
        let known = account.kept.as_ref().map(|kept| kept.account.as_str()).unwrap_or_default();
        if known.is_empty() {
            query.append_pair("prompt", "select_account");
        } else {
            query.append_pair("login_hint", known);
        }
    }
    Ok(url)
}

/// What the user is asked to allow, and to be told of who it is.
fn user_scope(account: &Account) -> String {
    format!("openid profile {}", scope(account))
}

/// Goes on with a sign-in.
///
/// # Errors
/// It has failed, or cannot be gone on with for now.
pub(crate) async fn complete(
    http: &reqwest::Client,
    account: &Account,
    asked: &CompleteSignInRequest,
    until: Instant,
) -> Result<Completed, Error> {
    let begun = Begun::decode(&asked.sign_in)?;
    let mut form = vec![("client_id", account.client_id.clone())];
    let by_device = matches!(begun, Begun::DeviceCode { .. });
    match begun {
        Begun::Browser { verifier } => form.extend([
            ("grant_type", "authorization_code".to_owned()),
            ("code", code(account, &asked.query)?),
            ("redirect_uri", asked.redirect_url.clone()),
            ("code_verifier", verifier),
            ("scope", user_scope(account)),
        ]),
        Begun::DeviceCode { device_code } => {
            form.extend([("grant_type", DEVICE_CODE.to_owned()), ("device_code", device_code)]);
        }
    }
    if let Some(secret) = account.proof.client_secret() {
        form.push(("client_secret", secret.expose_secret().to_owned()));
    }
    let body = match ask(http, endpoint(account, "token")?, &form, until).await? {
        Ok(body) => body,
        Err(refused) => return after(asked, account, refused, by_device),
    };
    let id_token = serde_json::from_slice::<WithIdToken>(&body).ok().and_then(|token| token.id_token);
    let who = id_token.and_then(|id_token| Who::read(&id_token, &account.client_id));
    let made = grant::made_by_user(account, &body, who.as_ref())?;
    let made = CompleteSignInResponse {
        grant: made.grant,
        expire_time: made.expire_time,
        account: who.as_ref().map(|who| who.account.clone()).unwrap_or_default(),
        poll_interval: None,
    };
    Ok(Completed::Grant(made, who))
}

/// The code that the platform's page brought back.
fn code(account: &Account, query: &str) -> Result<String, Error> {
    // The platform issues for each tenant by another name, all below its own URL.
    let is_ours = |issuer: &str| Url::parse(issuer).is_ok_and(|url| url.origin() == account.login.origin());
    sign_in::check_issuer(query, is_ours).map_err(|fault| Error::SignIn(Box::new(fault)))?;
    match Brought::read(query) {
        Brought::Code(code) => Ok(code),
        Brought::Error(_, Some(number)) if OF_ADMINISTRATORS.contains(&number) => {
            Err(by_administrator(account))
        }
        Brought::Error(error, _) => Err(Error::SignIn(Box::new(Meaning::of(&error).failure(&error)))),
        Brought::Nothing => {
            let message =
                "the identity platform's page brought back neither a code nor an error: begin a new sign-in";
            Err(Error::SignIn(Box::new(Fault::new(Code::FailedPrecondition, "SIGN_IN_EXPIRED", message))))
        }
    }
}

/// The failure of a sign-in that an administrator has to consent to, with the page where that is done.
fn by_administrator(account: &Account) -> Error {
    let page = account.login.join(&format!("{}/adminconsent", account.tenant)).ok().map(|mut page| {
        page.query_pairs_mut().append_pair("client_id", &account.client_id);
        page.to_string()
    });
    let message = format!(
        "an administrator of the organisation has to allow the application first, at {}; then begin a new sign-in",
        page.unwrap_or_default()
    );
    Error::SignIn(Box::new(Fault::new(Code::FailedPrecondition, "SIGN_IN_DENIED", message)))
}

/// What a refusal means for a sign-in that is gone on with.
fn after(
    asked: &CompleteSignInRequest,
    account: &Account,
    refused: Box<Refused>,
    by_device: bool,
) -> Result<Completed, Error> {
    let meaning = Meaning::of(&refused.error);
    if by_device && matches!(meaning, Meaning::Pending | Meaning::SlowDown) {
        let poll_interval = Some(sign_in::next_interval(asked.poll_interval, meaning));
        return Ok(Completed::NotYet(CompleteSignInResponse { poll_interval, ..Default::default() }));
    }
    if refused.is_passing() {
        return Err(Error::SignInUnavailable(refused));
    }
    if meaning == Meaning::Misconfigured {
        return Err(Error::SignInRefused(refused.about(&account.proof)));
    }
    let wants_administrator =
        refused.code.as_deref().and_then(|code| code.strip_prefix("AADSTS")?.parse().ok());
    if wants_administrator.is_some_and(|number| OF_ADMINISTRATORS.contains(&number)) {
        return Err(by_administrator(account));
    }
    Err(Error::SignInFailed(meaning, refused))
}

/// Refuses an account that the connection is not for. A mailbox that is named is for all who may open it.
///
/// # Errors
/// WRONG_ACCOUNT.
pub(crate) fn check_account(account: &Account, who: Option<&Who>) -> Result<(), Error> {
    if account.mailbox.is_some() {
        return Ok(());
    }
    let before = account.kept.as_ref().map(|kept| kept.subject.as_str()).unwrap_or_default();
    sign_in::check_account(before, who).map_err(|fault| Error::SignIn(Box::new(fault)))
}

/// The failure of a sign-in with an account that may not open the connection's mailbox.
pub(crate) fn not_its_mailbox() -> Error {
    let message = "the account that signed in may not open the connection's mailbox (outlook.mailbox): sign in with one \
                   that may, or have it given leave";
    Error::SignIn(Box::new(Fault::new(Code::FailedPrecondition, "WRONG_ACCOUNT", message)))
}

impl Proof {
    /// The application's secret, beside a user's.
    pub(super) fn client_secret(&self) -> Option<&secrecy::SecretString> {
        match self {
            Self::User { client_secret } | Self::Delegated { client_secret, .. } => client_secret.as_ref(),
            Self::Secret(_) | Self::Certificate(_) => None,
        }
    }
}
