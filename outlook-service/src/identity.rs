//! Microsoft's identity platform: sign-in by an application's secret or certificate (OAuth 2.0 client credentials), by a
//! user or by a user's refresh token, and the grant that comes of it. Only the answer's `error` decides what is made of it, never its
//! texts or numbers, as the platform asks.

mod assertion;
mod grant;
mod refused;
mod user;

use std::time::Duration;

use postern_chassis::untrusted::is_untrusted;
use postern_proto::connector::v1::RefreshCredentialsResponse;
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::account::{Account, Proof};
use crate::error::Error;
use crate::graph::{Failure, pause_after};
use crate::times;

pub(crate) use assertion::Signer;
pub(crate) use grant::{Kept, read};
pub(crate) use refused::Refused;
pub(crate) use user::{Completed, check_account, complete, not_its_mailbox, start};

/// How long the platform may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked at most where it is out of order for now.
const MAX_TRIES: u32 = 3;
/// The largest answer that is read: tokens are a few kilobytes.
const MAX_ANSWER: usize = 64 * 1024;
/// The kind of proof that a signed assertion is (RFC 7523).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Gets a new grant by `until`. `claims`: what Graph wants the token to claim.
///
/// # Errors
/// Refused for good, or for now.
pub(crate) async fn sign_in(
    http: &reqwest::Client,
    account: &Account,
    claims: Option<String>,
    until: Instant,
) -> Result<RefreshCredentialsResponse, Error> {
    let url = endpoint(account, "token")?;
    let mut tries = 1;
    loop {
        // Made anew for each try: an assertion is good for one use.
        let form = form(account, &url, claims.as_deref())?;
        let refused = match ask(http, url.clone(), &form, until).await? {
            Ok(body) => return grant::made(account, &body),
            Err(refused) => refused,
        };
        if !refused.is_passing() {
            return Err(Error::SignInRefused(refused.about(&account.proof)));
        }
        let pause = pause_after(tries, refused.retry_after);
        if tries == MAX_TRIES || Instant::now() + pause >= until {
            return Err(Error::SignInUnavailable(refused));
        }
        tries += 1;
        tokio::time::sleep(pause).await;
    }
}

/// An endpoint of the platform, such as `token`.
fn endpoint(account: &Account, name: &str) -> Result<Url, Error> {
    let path = format!("{}/oauth2/v2.0/{name}", account.tenant);
    account.login.join(&path).map_err(|_| Error::field("outlook.tenant", "cannot stand in a URL"))
}

/// What is asked for. An application asks for all that it was allowed; with a user's refresh token that is the same word
/// for what the user consented to, for to name more than that would be refused, and what it was is not known here.
fn scope(account: &Account) -> String {
    let graph = account.graph.as_str().trim_end_matches("/v1.0/");
    if account.proof.is_app_only() {
        return format!("{graph}/.default");
    }
    let named = match account.scopes.as_slice() {
        [] => vec![".default".to_owned()],
        named => named.to_vec(),
    };
    named.iter().fold("offline_access".to_owned(), |scope, name| scope + &format!(" {graph}/{name}"))
}

fn form(account: &Account, url: &Url, claims: Option<&str>) -> Result<Vec<(&'static str, String)>, Error> {
    let text = |secret: &SecretString| secret.expose_secret().to_owned();
    let mut form = vec![("client_id", account.client_id.clone()), ("scope", scope(account))];
    match &account.proof {
        Proof::Secret(secret) => {
            form.extend([("grant_type", "client_credentials".into()), ("client_secret", text(secret))]);
        }
        Proof::Certificate(certificate) => {
            let signer = Signer::read(certificate).map_err(Error::Fields)?;
            let assertion = signer.assertion(&account.client_id, url.as_str())?;
            form.extend([
                ("grant_type", "client_credentials".into()),
                ("client_assertion_type", JWT_BEARER.into()),
                ("client_assertion", assertion),
            ]);
        }
        Proof::Delegated { .. } | Proof::User { .. } => {
            form.extend(account.proof.client_secret().map(|secret| ("client_secret", text(secret))));
        }
    }
    if !account.proof.is_app_only() {
        let refresh_token = grant::refresh_token(account).ok_or(Error::SignedOut)?;
        form.extend([("grant_type", "refresh_token".into()), ("refresh_token", text(refresh_token))]);
    }
    form.extend(claims.map(|claims| ("claims", claims.to_owned())));
    Ok(form)
}

/// Asks once. Gives the answer's body, or what the platform refused.
async fn ask(
    http: &reqwest::Client,
    url: Url,
    form: &[(&'static str, String)],
    until: Instant,
) -> Result<Result<Vec<u8>, Box<Refused>>, Error> {
    let unreached = |error: reqwest::Error| match is_untrusted(&error) {
        true => Err(Failure::Untrusted.into()),
        false => Ok(Err(Box::default())),
    };
    let patience = PATIENCE.min(until.saturating_duration_since(Instant::now()));
    let mut answer = match http.post(url).form(form).timeout(patience).send().await {
        Ok(answer) => answer,
        Err(error) => return unreached(error),
    };
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let date = header("date").and_then(times::from_http);
    let retry_after = header("retry-after").and_then(|text| times::retry_after(text, date));
    let status = answer.status();
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return unreached(error),
        }
        if body.len() > MAX_ANSWER {
            return Err(Failure::unreadable(status.as_u16()).into());
        }
    }
    if status == StatusCode::OK {
        return Ok(Ok(body));
    }
    Ok(Err(Box::new(Refused::read(status.as_u16(), &body, retry_after))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::connection::v1::Connection;
    use postern_proto::connection::v1::connection::{Credentials, Settings};
    use postern_proto::connector::v1::OpenConnection;
    use postern_proto::outlook::v1::outlook_credentials::SignIn;
    use postern_proto::outlook::v1::{Cloud, DelegatedToken, OutlookCredentials, OutlookSettings};

    fn account(cloud: Cloud, sign_in: SignIn) -> Account {
        let settings = OutlookSettings {
            tenant: "contoso.example".into(),
            client_id: "00000000-0000-4000-8000-00000000000a".into(),
            cloud: cloud.into(),
            ..OutlookSettings::default()
        };
        let connection = Connection {
            settings: Some(Settings::Outlook(settings)),
            credentials: Some(Credentials::OutlookCredentials(OutlookCredentials { sign_in: Some(sign_in) })),
            ..Connection::default()
        };
        let opened = OpenConnection { connection: Some(connection), ..OpenConnection::default() };
        Account::read(opened).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn each_cloud_is_asked_at_its_own_sign_in_for_its_own_graph() {
        for (cloud, login, graph) in [
            (Cloud::Worldwide, "https://login.microsoftonline.com", "https://graph.microsoft.com"),
            (Cloud::UsGovernment, "https://login.microsoftonline.us", "https://graph.microsoft.us"),
            (Cloud::UsGovernmentDod, "https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
            (
                Cloud::China,
                "https://login.partner.microsoftonline.cn",
                "https://microsoftgraph.chinacloudapi.cn",
            ),
        ] {
            let by_secret = account(cloud, SignIn::ClientSecret("secret".into()));
            let url = endpoint(&by_secret, "token").unwrap();
            assert_eq!(url.as_str(), format!("{login}/contoso.example/oauth2/v2.0/token"));
            assert_eq!(scope(&by_secret), format!("{graph}/.default"));
            let by_user = account(cloud, SignIn::DelegatedToken(DelegatedToken::default()));
            assert_eq!(scope(&by_user), format!("offline_access {graph}/.default"));
        }
    }
}
