//! The connection that a call acts for, read and checked: whose account, in which cloud, with which proof.

mod endpoints;
mod proof;

use postern_proto::connection::v1::connection::Settings;
use postern_proto::connector::v1::OpenConnection;
use postern_proto::outlook::v1::{Cloud, OutlookSettings};
use reqwest::Url;
use secrecy::SecretString;

use crate::addresses::names_mailbox;
use crate::error::{Error, Problems, refuse};
use crate::identity::{self, Kept};

pub(crate) use proof::Proof;

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
    /// What a user is asked to allow. Empty: all that the application's registration names.
    pub(crate) scopes: Vec<String>,
    /// What proves who we are.
    pub(crate) proof: Proof,
    /// The access token of the grant.
    pub(crate) token: Option<SecretString>,
    /// What the grant keeps for the next sign-in.
    pub(crate) kept: Option<Kept>,
}

/// The most permissions that a user is asked for, and the longest name of one.
const MAX_SCOPES: usize = 50;
const MAX_SCOPE: usize = 128;

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
        let endpoints = endpoints::endpoints(&settings, &mut problems);
        let custom = settings.custom_cloud.filter(|_| settings.cloud == i32::from(Cloud::Custom));
        let custom = custom.unwrap_or_default();
        check_certificates(&custom.ca_certificates, &mut problems);
        let (Some((graph, login)), true) = (endpoints, problems.is_empty()) else {
            return Err(Error::Fields(problems));
        };
        let (token, kept) = identity::read(&opened.grant);
        Ok(Self {
            tenant: settings.tenant,
            client_id: settings.client_id,
            mailbox: mailbox(&settings.mailbox),
            graph,
            login,
            certificates: custom.ca_certificates,
            plaintext: custom.allow_plaintext,
            at_once: at_once as usize,
            scopes: settings.scopes,
            proof: Proof::read(connection.credentials),
            token,
            kept,
        })
    }

    /// Checks what is needed to sign in, beyond being well-formed.
    ///
    /// # Errors
    /// Each wrong field, from the Connection on.
    pub(crate) fn check_sign_in(&self) -> Result<(), Error> {
        let mut problems = Problems::new();
        self.proof.check(&mut problems);
        if self.proof.is_app_only() && self.mailbox.is_none() {
            let problem = "expected an address: with app-only sign-in there is no `me`";
            problems.push(("outlook.mailbox".into(), problem.into()));
        }
        let shared = ["common", "organizations", "consumers"];
        if self.proof.is_app_only() && shared.contains(&self.tenant.to_lowercase().as_str()) {
            let problem = "expected a tenant's own id or domain with app-only sign-in";
            problems.push(("outlook.tenant".into(), problem.into()));
        }
        refuse(problems)
    }
}

/// The address that a setting names. Absent or `me`: none.
fn mailbox(setting: &str) -> Option<String> {
    (!setting.is_empty() && !setting.eq_ignore_ascii_case("me")).then(|| setting.to_owned())
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
    if mailbox(&settings.mailbox).is_some_and(|address| !names_mailbox(&address)) {
        problems.push(("outlook.mailbox".into(), "expected an address or `me`".into()));
    }
    let permission = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    for (at, scope) in settings.scopes.iter().enumerate() {
        if scope.is_empty() || scope.len() > MAX_SCOPE || !scope.chars().all(permission) {
            let problem = "expected the name of a permission of Graph, such as `Mail.ReadWrite`";
            problems.push((format!("outlook.scopes[{at}]"), problem.into()));
        }
    }
    if settings.scopes.len() > MAX_SCOPES {
        problems.push(("outlook.scopes".into(), format!("are more than {MAX_SCOPES}")));
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

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::connection::v1::Connection;
    use postern_proto::outlook::v1::CustomCloud;

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
