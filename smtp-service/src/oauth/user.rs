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
use tonic::Code;

use super::{Provider, ask};
use crate::error::Error;
use crate::oauth::grant::Grant;

#[derive(Deserialize)]
struct WithIdToken {
    id_token: Option<String>,
}

impl Provider {
    /// Begins the sign-in of a user.
    ///
    /// # Errors
    /// The settings name no endpoint for it; the provider refused, for good or for now.
    pub(crate) async fn start(&self, asked: &StartSignInRequest) -> Result<StartSignInResponse, Error> {
        match asked.kind() {
            SignInKind::Browser | SignInKind::Unspecified => {
                let Some(page) = &self.authorization_endpoint else {
                    return Err(sign_in::unsupported("smtp.oauth.authorization_endpoint is not set").into());
                };
                let (begun, challenge) = Begun::browser()?;
                Ok(begun.at(self.authorization_url(page, asked, &challenge).into()))
            }
            SignInKind::DeviceCode => {
                let Some(endpoint) = &self.device_authorization_endpoint else {
                    let message = "smtp.oauth.device_authorization_endpoint is not set";
                    return Err(sign_in::unsupported(message).into());
                };
                let mut form = self.client();
                if !self.scope.is_empty() {
                    form.push(("scope", &self.scope));
                }
                let body = ask::ask(endpoint, &self.authorities, &form).await?;
                sign_in::device_code(&body).ok_or_else(unreadable)
            }
        }
    }

    /// The provider's page where the user signs in. What the endpoint's own query says is not said again.
    fn authorization_url(&self, page: &Url, asked: &StartSignInRequest, challenge: &str) -> Url {
        let host = page.host_str().unwrap_or_default();
        // Each provider has its own way of being asked for what outlasts the user's presence.
        let choice: &[(&str, &str)] = if host.starts_with("login.") && host.contains("microsoftonline") {
            &[("prompt", "select_account")]
        } else if host == "accounts.google.com" {
            &[("access_type", "offline"), ("prompt", "consent")]
        } else {
            &[("prompt", "consent")]
        };
        let asks = [
            ("client_id", self.client_id.as_str()),
            ("response_type", "code"),
            ("redirect_uri", &asked.redirect_url),
            ("scope", &self.scope),
            ("state", &asked.state),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
        ];
        let mut url = page.clone();
        for (name, value) in asks.iter().chain(choice).filter(|(_, value)| !value.is_empty()) {
            if !page.query_pairs().any(|(own, _)| own == *name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url
    }

    /// Goes on with a sign-in. `held`: the grant of the one before.
    ///
    /// # Errors
    /// It has failed, or cannot be gone on with for now.
    pub(crate) async fn complete(
        &self,
        asked: &CompleteSignInRequest,
        held: Option<&Grant>,
    ) -> Result<CompleteSignInResponse, Error> {
        let begun = Begun::decode(&asked.sign_in)?;
        let code = match &begun {
            Begun::Browser { .. } => {
                let is_ours = |issuer: &str| self.issuer.is_empty() || self.issuer == issuer;
                sign_in::check_issuer(&asked.query, is_ours)?;
                code(&asked.query)?
            }
            Begun::DeviceCode { .. } => String::new(),
        };
        let mut form = self.client();
        match &begun {
            Begun::Browser { verifier } => form.extend([
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
                ("redirect_uri", asked.redirect_url.as_str()),
                ("code_verifier", verifier.as_str()),
            ]),
            Begun::DeviceCode { device_code } => {
                form.extend([("grant_type", DEVICE_CODE), ("device_code", device_code.as_str())]);
            }
        }
        let answer = match ask::ask(&self.token_endpoint, &self.authorities, &form).await {
            Ok(answer) => answer,
            Err(error) => return after(asked, error, matches!(begun, Begun::DeviceCode { .. })),
        };
        let id_token = serde_json::from_slice::<WithIdToken>(&answer).ok().and_then(|token| token.id_token);
        let who = id_token.and_then(|id_token| Who::read(&id_token, &self.client_id));
        let key = self.key();
        sign_in::check_account(held.map(|held| held.subject(&key)).unwrap_or_default(), who.as_ref())?;
        let subject = who.as_ref().map(|who| who.subject.as_str()).unwrap_or_default();
        let made = Grant::stored(&answer, None, key.clone(), subject)?;
        if Grant::read(&made.grant).is_none_or(|grant| grant.refresh_token(&key).is_none()) {
            return Err(sign_in::without_refresh_token().into());
        }
        Ok(CompleteSignInResponse {
            grant: made.grant,
            expire_time: made.expire_time,
            account: who.map(|who| who.account).unwrap_or_default(),
            poll_interval: None,
        })
    }

    /// What says which client asks.
    fn client(&self) -> Vec<(&'static str, &str)> {
        let mut form = vec![("client_id", self.client_id.as_str())];
        form.extend(self.client_secret.as_ref().map(|secret| ("client_secret", secret.expose_secret())));
        form
    }
}

/// The code that the provider's page brought back.
fn code(query: &str) -> Result<String, Error> {
    match Brought::read(query) {
        Brought::Code(code) => Ok(code),
        Brought::Error(error, _) => Err(Meaning::of(&error).failure(&error).into()),
        Brought::Nothing => {
            let message = "the provider's page brought back neither a code nor an error: begin a new sign-in";
            Err(Fault::new(Code::FailedPrecondition, "SIGN_IN_EXPIRED", message).into())
        }
    }
}

/// What a refusal means for a sign-in that is gone on with.
fn after(
    asked: &CompleteSignInRequest,
    error: Error,
    by_device: bool,
) -> Result<CompleteSignInResponse, Error> {
    // Some providers say `slow_down` with 429.
    let word = match &error {
        Error::SignInRefused { error, .. } | Error::SignInUnavailable { error, .. } => error.clone(),
        _ => return Err(error),
    };
    let meaning = Meaning::of(&word);
    if by_device && matches!(meaning, Meaning::Pending | Meaning::SlowDown) {
        let poll_interval = Some(sign_in::next_interval(asked.poll_interval, meaning));
        return Ok(CompleteSignInResponse { poll_interval, ..CompleteSignInResponse::default() });
    }
    match error {
        Error::SignInRefused { .. } => Err(meaning.failure(&word).into()),
        other => Err(other),
    }
}

fn unreadable() -> Error {
    Error::SignInUnavailable { error: String::new(), status: 200, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Problems;
    use postern_proto::smtp::v1::{OAuthSettings, SmtpCredentials};

    fn url(endpoint: &str) -> String {
        let oauth = OAuthSettings {
            client_id: "client".into(),
            authorization_endpoint: endpoint.into(),
            token_endpoint: "https://login.example.org/token".into(),
            scopes: vec!["a".into(), "b".into()],
            ..OAuthSettings::default()
        };
        let mut problems = Problems::default();
        let provider = Provider::check(&oauth, &SmtpCredentials::default(), "", &mut problems).unwrap();
        assert!(problems.is_empty());
        let asked = StartSignInRequest {
            redirect_url: "https://postern.example.org/sign-in/callback".into(),
            state: "s".into(),
            ..StartSignInRequest::default()
        };
        let page = provider.authorization_endpoint.clone().unwrap();
        provider.authorization_url(&page, &asked, "c").into()
    }

    #[test]
    fn a_page_is_asked_as_its_provider_wants_it_and_keeps_its_own_query() {
        let microsoft = url("https://login.microsoftonline.com/common/oauth2/v2.0/authorize");
        assert!(microsoft.ends_with("&code_challenge_method=S256&prompt=select_account"), "{microsoft}");
        assert!(microsoft.contains("&scope=a+b&state=s&code_challenge=c&"), "{microsoft}");
        let google = url("https://accounts.google.com/o/oauth2/v2/auth");
        assert!(google.ends_with("&access_type=offline&prompt=consent"), "{google}");
        let own = url("https://login.example.org/a?prompt=none&x=1");
        assert!(own.contains("a?prompt=none&x=1&client_id=client&") && !own.contains("consent"), "{own}");
    }
}
