//! The connection that a call acts for, read and checked: whose account, in which cloud, with which proof.

use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connector::v1::OpenConnection;
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{Cloud, CustomCloud, OutlookSettings};
use reqwest::Url;
use secrecy::SecretString;

use crate::error::Error;
use crate::identity;

/// How many requests run at once for a mailbox unless told otherwise: what Outlook allows.
const AT_ONCE: u32 = 4;
/// The most that may be told.
const MAX_AT_ONCE: u32 = 16;
/// The longest bundle of certificates: it travels with each call.
const MAX_CERTIFICATES: usize = 16 * 1024;

/// A connection as the connector uses it.
pub(crate) struct Account {
    /// The tenant: its id or a domain.
    pub(crate) tenant: String,
    /// The application's id.
    pub(crate) client_id: String,
    /// The mailbox's address; absent: the signed-in user's own.
    pub(crate) mailbox: Option<String>,
    /// Graph's base URL with version, ending in a slash.
    pub(crate) graph: Url,
    /// The identity platform's base URL, ending in a slash.
    pub(crate) login: Url,
    /// The authorities to trust, PEM; empty: the machine's.
    pub(crate) certificates: String,
    /// Whether `http://` is allowed.
    pub(crate) plaintext: bool,
    /// How many requests run at once for a mailbox.
    pub(crate) at_once: usize,
    /// The application's secret.
    pub(crate) secret: Option<SecretString>,
    /// The access token of the grant.
    pub(crate) token: Option<SecretString>,
}

/// Fields found wrong: path and problem.
type Problems = Vec<(String, String)>;

impl Account {
    /// Reads the settings of a connection.
    ///
    /// # Errors
    /// Each wrong field, from the Connection on.
    pub(crate) fn read(opened: OpenConnection) -> Result<Self, Error> {
        let mut problems = Problems::new();
        let connection = opened.connection.unwrap_or_default();
        let Some(Settings::Outlook(settings)) = connection.settings else {
            return Err(Error::field("outlook", "is absent: expected the settings of an Outlook connection"));
        };
        let secret = match connection.credentials {
            Some(Credentials::OutlookCredentials(credentials)) => match credentials.sign_in {
                Some(SignIn::ClientSecret(secret)) => Some(SecretString::from(secret)),
                Some(SignIn::ClientCertificate(_)) => {
                    let problem = "is not served yet: expected client_secret";
                    problems.push(("outlook_credentials.client_certificate".into(), problem.into()));
                    None
                }
                Some(SignIn::DelegatedToken(_)) => {
                    let problem = "is not served yet: expected client_secret";
                    problems.push(("outlook_credentials.delegated_token".into(), problem.into()));
                    None
                }
                None => None,
            },
            _ => None,
        };
        check_names(&settings, &mut problems);
        let at_once = match settings.max_concurrent_requests {
            0 => AT_ONCE,
            number if number <= MAX_AT_ONCE => number,
            _ => {
                let problem = format!("expected 1 to {MAX_AT_ONCE}");
                problems.push(("outlook.max_concurrent_requests".into(), problem));
                AT_ONCE
            }
        };
        let endpoints = endpoints(&settings, &mut problems);
        let custom = settings.custom_cloud.filter(|_| settings.cloud == i32::from(Cloud::Custom));
        let custom = custom.unwrap_or_default();
        check_certificates(&custom.ca_certificates, &mut problems);
        let (Some((graph, login)), true) = (endpoints, problems.is_empty()) else {
            return Err(Error::Fields(problems));
        };
        Ok(Self {
            tenant: settings.tenant,
            client_id: settings.client_id,
            mailbox: mailbox(&settings.mailbox),
            graph,
            login,
            certificates: custom.ca_certificates,
            plaintext: custom.allow_plaintext,
            at_once: at_once as usize,
            secret,
            token: identity::token_of(&opened.grant),
        })
    }

    /// Checks what is needed to sign in, beyond being well-formed.
    ///
    /// # Errors
    /// Each wrong field, from the Connection on.
    pub(crate) fn check_sign_in(&self) -> Result<(), Error> {
        let mut problems = Problems::new();
        match &self.secret {
            None => problems.push((
                "outlook_credentials".into(),
                "sign-in by a user is not served yet: expected client_secret".into(),
            )),
            Some(secret) if secrecy::ExposeSecret::expose_secret(secret).is_empty() => {
                problems.push(("outlook_credentials.client_secret".into(), "is empty".into()));
            }
            Some(_) => {}
        }
        if self.secret.is_some() && self.mailbox.is_none() {
            let problem = "expected an address: with app-only sign-in there is no `me`";
            problems.push(("outlook.mailbox".into(), problem.into()));
        }
        let shared = ["common", "organizations", "consumers"];
        if self.secret.is_some() && shared.contains(&self.tenant.to_lowercase().as_str()) {
            let problem = "expected a tenant's own id or domain with app-only sign-in";
            problems.push(("outlook.tenant".into(), problem.into()));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Fields(problems)) }
    }
}

/// The address that a setting names. Absent or `me`: none.
fn mailbox(setting: &str) -> Option<String> {
    (!setting.is_empty() && !setting.eq_ignore_ascii_case("me")).then(|| setting.to_owned())
}

/// Whether a text can name a mailbox in a URL: an address without anything that could be taken for a path.
pub(crate) fn is_address(text: &str) -> bool {
    let good = |c: char| !c.is_whitespace() && !c.is_control() && !"/\\?#<>\"(),:;[]".contains(c);
    text.len() <= 320
        && text.chars().all(good)
        && text
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

fn check_names(settings: &OutlookSettings, problems: &mut Problems) {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if settings.tenant.is_empty() || !settings.tenant.chars().all(name) || settings.tenant.starts_with('.') {
        let problem = "expected a tenant's id or one of its domains";
        problems.push(("outlook.tenant".into(), problem.into()));
    }
    let id: Vec<&str> = settings.client_id.split('-').collect();
    let hex = |part: &&str| part.chars().all(|c| c.is_ascii_hexdigit());
    if id.iter().map(|part| part.len()).collect::<Vec<_>>() != [8, 4, 4, 4, 12] || !id.iter().all(hex) {
        problems.push(("outlook.client_id".into(), "expected the application's id, a GUID".into()));
    }
    if mailbox(&settings.mailbox).is_some_and(|address| !is_address(&address)) {
        problems.push(("outlook.mailbox".into(), "expected an address or `me`".into()));
    }
}

fn check_certificates(pem: &str, problems: &mut Problems) {
    if pem.is_empty() {
        return;
    }
    let read = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
    if pem.len() > MAX_CERTIFICATES || read.is_ok_and(|certificates| certificates.is_empty()) {
        let problem = "expected certificates, PEM, at most 16 KiB";
        problems.push(("outlook.custom_cloud.ca_certificates".into(), problem.into()));
    }
}

/// Graph's and the identity platform's base URLs.
fn endpoints(settings: &OutlookSettings, problems: &mut Problems) -> Option<(Url, Url)> {
    let (graph, login) = match Cloud::try_from(settings.cloud) {
        Ok(Cloud::Unspecified | Cloud::Worldwide) => {
            ("https://graph.microsoft.com", "https://login.microsoftonline.com")
        }
        Ok(Cloud::UsGovernment) => ("https://graph.microsoft.us", "https://login.microsoftonline.us"),
        Ok(Cloud::UsGovernmentDod) => ("https://dod-graph.microsoft.us", "https://login.microsoftonline.us"),
        Ok(Cloud::China) => {
            ("https://microsoftgraph.chinacloudapi.cn", "https://login.partner.microsoftonline.cn")
        }
        Ok(Cloud::Custom) => match &settings.custom_cloud {
            Some(cloud) => return custom(cloud, problems),
            None => {
                problems.push(("outlook.custom_cloud".into(), "is needed with CLOUD_CUSTOM".into()));
                return None;
            }
        },
        Err(_) => {
            problems.push(("outlook.cloud".into(), "is not a known cloud".into()));
            return None;
        }
    };
    Some((base(graph, true).ok()?.join("v1.0/").ok()?, base(login, true).ok()?))
}

fn custom(cloud: &CustomCloud, problems: &mut Problems) -> Option<(Url, Url)> {
    let mut read = |field: &str, text: &str| {
        base(text, !cloud.allow_plaintext)
            .map_err(|problem| problems.push((format!("outlook.custom_cloud.{field}"), problem)))
            .ok()
    };
    let graph = read("graph_url", &cloud.graph_url);
    let login = read("login_url", &cloud.login_url);
    Some((graph?.join("v1.0/").ok()?, login?))
}

/// A base URL, ending in a slash.
fn base(text: &str, tls: bool) -> Result<Url, String> {
    let expected =
        if tls { "expected a URL with https://" } else { "expected a URL with https:// or http://" };
    let mut url = Url::parse(text).map_err(|_| expected.to_owned())?;
    let scheme = url.scheme() == "https" || (!tls && url.scheme() == "http");
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !scheme || !bare || url.fragment().is_some() || !url.has_host() {
        return Err(expected.to_owned());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::connection::v1::Connection;

    fn read(settings: OutlookSettings) -> Result<Account, Error> {
        let connection = Connection { settings: Some(Settings::Outlook(settings)), ..Connection::default() };
        Account::read(OpenConnection { connection: Some(connection), ..OpenConnection::default() })
    }

    fn good() -> OutlookSettings {
        OutlookSettings {
            tenant: "contoso.example".into(),
            client_id: "00000000-0000-4000-8000-00000000000a".into(),
            mailbox: "ann@contoso.example".into(),
            ..OutlookSettings::default()
        }
    }

    fn problems(settings: OutlookSettings) -> Vec<String> {
        match read(settings) {
            Err(Error::Fields(fields)) => fields.into_iter().map(|(path, _)| path).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert!(problems(good()).is_empty());
        let wrong = OutlookSettings {
            tenant: "a/b".into(),
            client_id: "x".into(),
            mailbox: "users/ann@x".into(),
            max_concurrent_requests: 17,
            cloud: 99,
            ..OutlookSettings::default()
        };
        let paths = ["tenant", "client_id", "mailbox", "max_concurrent_requests", "cloud"];
        assert_eq!(problems(wrong), paths.map(|path| format!("outlook.{path}")));
    }

    #[test]
    fn a_cloud_of_ones_own_needs_tls_unless_plaintext_is_allowed() {
        let cloud = |graph: &str, allow_plaintext| OutlookSettings {
            cloud: Cloud::Custom.into(),
            custom_cloud: Some(CustomCloud {
                graph_url: graph.into(),
                login_url: "https://login.example".into(),
                allow_plaintext,
                ..CustomCloud::default()
            }),
            ..good()
        };
        assert_eq!(problems(cloud("http://graph.example", false)), ["outlook.custom_cloud.graph_url"]);
        assert_eq!(problems(cloud("https://a:b@graph.example", false)), ["outlook.custom_cloud.graph_url"]);
        let account = read(cloud("http://graph.example:1/x", true)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(account.graph.as_str(), "http://graph.example:1/x/v1.0/");
    }
}
