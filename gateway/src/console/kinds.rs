//! The kinds of connection, as people are asked for them and shown them: the one place of the console that names them.

use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::{Connection, ConnectionState};
use postern_proto::mail::v1::{Email, RecipientResult};
use postern_proto::outlook::v1::mail_service_client::MailServiceClient;
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{
    self as outlook, ClientCertificate, Cloud, CustomCloud, DelegatedToken, OutlookCredentials,
    OutlookSettings, UserSignIn,
};
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{
    self as smtp, AuthMechanism, OAuthSettings, SmtpCredentials, SmtpSettings, TlsMode,
};
use tonic::Status;

use super::api::Api;
use super::form::Fields;

/// The TLS modes: value and words, the default first.
pub(super) const TLS_MODES: [(&str, &str); 4] = [
    ("TLS_MODE_STARTTLS", "STARTTLS, required"),
    ("TLS_MODE_IMPLICIT", "from the first byte"),
    ("TLS_MODE_OPPORTUNISTIC", "STARTTLS where it is offered"),
    ("TLS_MODE_NONE", "none: everything travels in the clear"),
];
/// How a user is authenticated to a server.
pub(super) const MECHANISMS: [(&str, &str); 4] = [
    ("AUTH_MECHANISM_UNSPECIFIED", "by password"),
    ("AUTH_MECHANISM_PLAIN", "by password, PLAIN only"),
    ("AUTH_MECHANISM_LOGIN", "by password, LOGIN only"),
    ("AUTH_MECHANISM_XOAUTH2", "by OAuth (XOAUTH2)"),
];
/// The clouds that an account may live in.
pub(super) const CLOUDS: [(&str, &str); 5] = [
    ("CLOUD_WORLDWIDE", "worldwide"),
    ("CLOUD_US_GOVERNMENT", "US Government (GCC High)"),
    ("CLOUD_US_GOVERNMENT_DOD", "US Government (DoD)"),
    ("CLOUD_CHINA", "China (21Vianet)"),
    ("CLOUD_CUSTOM", "endpoints of one's own"),
];
/// How a connection to an account proves who it is.
pub(super) const SIGN_INS: [(&str, &str); 4] = [
    ("user", "a user signs in"),
    ("client_secret", "the application alone, by a secret"),
    ("client_certificate", "the application alone, by a certificate"),
    ("delegated_token", "by a refresh token that a user gave elsewhere"),
];

/// The fields beside which a form says what is wrong with them.
pub(super) const ASKED: [&str; 30] = [
    "ca_certificates",
    "client_certificate",
    "client_certificate_certificate",
    "client_certificate_private_key",
    "client_id",
    "client_secret",
    "connection_id",
    "custom_cloud",
    "custom_cloud_ca_certificates",
    "custom_cloud_graph_url",
    "custom_cloud_login_url",
    "default_from",
    "delegated_token_refresh_token",
    "display_name",
    "mailbox",
    "oauth",
    "oauth_authorization_endpoint",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_device_authorization_endpoint",
    "oauth_issuer",
    "oauth_refresh_token",
    "oauth_scopes",
    "oauth_token_endpoint",
    "password",
    "port",
    "server",
    "tenant",
    "user_client_secret",
    "username",
];

/// Microsoft's OAuth endpoints for work and school accounts, and its server for mail.
const MICROSOFT: [(&str, &str); 8] = [
    ("preset", "microsoft"),
    ("server", "smtp.office365.com"),
    ("auth_mechanism", "AUTH_MECHANISM_XOAUTH2"),
    ("oauth_authorization_endpoint", "https://login.microsoftonline.com/organizations/oauth2/v2.0/authorize"),
    ("oauth_token_endpoint", "https://login.microsoftonline.com/organizations/oauth2/v2.0/token"),
    (
        "oauth_device_authorization_endpoint",
        "https://login.microsoftonline.com/organizations/oauth2/v2.0/devicecode",
    ),
    ("oauth_scopes", "offline_access https://outlook.office.com/SMTP.Send"),
    ("port", "587"),
];
/// Google's. Codes typed on another device are not to be had for mail there.
const GOOGLE: [(&str, &str); 8] = [
    ("preset", "google"),
    ("server", "smtp.gmail.com"),
    ("auth_mechanism", "AUTH_MECHANISM_XOAUTH2"),
    ("oauth_authorization_endpoint", "https://accounts.google.com/o/oauth2/v2/auth"),
    ("oauth_token_endpoint", "https://oauth2.googleapis.com/token"),
    ("oauth_issuer", "https://accounts.google.com"),
    ("oauth_scopes", "https://mail.google.com/"),
    ("port", "587"),
];

/// What was sent, as its connector tells it.
pub(super) struct Sent {
    /// The Message-ID header, or the provider's id.
    pub(super) id: String,
    /// One result a recipient, where the provider tells them.
    pub(super) recipients: Vec<RecipientResult>,
}

/// How a user can sign in for a connection.
#[derive(Default)]
pub(super) struct SignIns {
    pub(super) browser: bool,
    pub(super) code: bool,
}

/// The kind that is meant; the first where none is.
pub(super) fn known(kind: &str) -> &'static str {
    if kind == "outlook" { "outlook" } else { "smtp" }
}

/// A kind as people call it.
pub(super) fn name(kind: &str) -> &str {
    match kind {
        "smtp" => "SMTP",
        "outlook" => "Outlook",
        other => other,
    }
}

/// What a form begins with.
pub(super) fn preset(name: &str) -> Fields {
    match name {
        "microsoft" => Fields::typed(&MICROSOFT),
        "google" => Fields::typed(&GOOGLE),
        _ => Fields::default(),
    }
}

/// The name in a form of a field of the contract: `connection.smtp.oauth.client_id` is asked for as `oauth_client_id`.
pub(super) fn form_name(field: &str) -> String {
    let field = field.trim_start_matches("connection.");
    let field = field.split('[').next().unwrap_or_default();
    let first =
        field.split_once('.').filter(|(first, _)| first.starts_with("smtp") || first.starts_with("outlook"));
    first.map_or(field, |(_, rest)| rest).replace('.', "_")
}

/// The account that a connection is of, as its settings say.
pub(super) fn account(connection: &Connection) -> String {
    match &connection.settings {
        Some(Settings::Smtp(smtp)) if smtp.username.is_empty() => smtp.server.clone(),
        Some(Settings::Smtp(smtp)) => format!("{} at {}", smtp.username, smtp.server),
        Some(Settings::Outlook(outlook)) if is_me(outlook) => "whoever signs in".to_owned(),
        Some(Settings::Outlook(outlook)) => outlook.mailbox.clone(),
        None => String::new(),
    }
}

fn is_me(outlook: &OutlookSettings) -> bool {
    matches!(outlook.mailbox.as_str(), "" | "me")
}

/// The settings of a connection for people: names and values.
pub(super) fn facts(connection: &Connection) -> Vec<(&'static str, String)> {
    let words = |of: &[(&str, &str)], value: &str| {
        of.iter().find(|(known, _)| *known == value).unwrap_or(&of[0]).1.to_owned()
    };
    let facts = match &connection.settings {
        Some(Settings::Smtp(smtp)) => {
            let port = match (smtp.port, smtp.tls_mode()) {
                (0, TlsMode::Implicit) => 465,
                (0, _) => 587,
                (port, _) => port,
            };
            let signed = smtp.dkim.as_ref().map(|dkim| dkim.domain.clone()).unwrap_or_default();
            let mechanism = match smtp.username.as_str() {
                "" => "none".to_owned(),
                _ => words(&MECHANISMS, smtp.auth_mechanism().as_str_name()),
            };
            vec![
                ("Server", format!("{}, port {port}", smtp.server)),
                ("TLS", words(&TLS_MODES, smtp.tls_mode().as_str_name())),
                ("Sign-in", mechanism),
                ("Sender", smtp.default_from.clone()),
                ("Signs for", signed),
            ]
        }
        Some(Settings::Outlook(outlook)) => vec![
            ("Tenant", outlook.tenant.clone()),
            ("Client id", outlook.client_id.clone()),
            ("Cloud", words(&CLOUDS, outlook.cloud().as_str_name())),
        ],
        None => Vec::new(),
    };
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// How a user can sign in, as far as settings tell it. Of a shared mailbox they do not say whether a user does: there it
/// is offered once the connection needs something.
pub(super) fn sign_ins(connection: &Connection) -> SignIns {
    match &connection.settings {
        Some(Settings::Smtp(smtp)) if is_by_oauth(connection) => {
            let oauth = smtp.oauth.clone().unwrap_or_default();
            SignIns {
                browser: !oauth.authorization_endpoint.is_empty(),
                code: !oauth.device_authorization_endpoint.is_empty(),
            }
        }
        Some(Settings::Outlook(outlook)) => {
            let can = is_me(outlook) || connection.state() == ConnectionState::NeedsSignIn;
            SignIns { browser: can, code: can }
        }
        _ => SignIns::default(),
    }
}

/// Whether a connection takes tokens where others take a password.
pub(super) fn is_by_oauth(connection: &Connection) -> bool {
    matches!(&connection.settings, Some(Settings::Smtp(it)) if it.auth_mechanism() == AuthMechanism::Xoauth2)
}

/// Whether a connection signs mails, for which it keeps a key with its credentials.
pub(super) fn signs_mails(connection: &Connection) -> bool {
    matches!(&connection.settings, Some(Settings::Smtp(it)) if it.dkim.is_some())
}

/// Whether mail can be sent through a connection now.
pub(super) fn can_send(connection: &Connection) -> bool {
    matches!(connection.kind.as_str(), "smtp" | "outlook") && connection.state() == ConnectionState::Ready
}

/// Sends a mail through a connection, by the action that its kind has for that.
pub(super) async fn send(
    api: &Api,
    request_id: String,
    connection: &Connection,
    email: Email,
) -> Result<Sent, Status> {
    let (name, email) = (connection.name.clone(), Some(email));
    if connection.kind == "outlook" {
        let request = outlook::SendEmailRequest { connection: name, request_id, email, ..Default::default() };
        let sent = MailServiceClient::new(api.clone()).send_email(request).await?.into_inner();
        return Ok(Sent { id: sent.internet_message_id, recipients: Vec::new() });
    }
    let content = email.map(Content::Email);
    let request = smtp::SendEmailRequest { connection: name, request_id, content, delivery_reports: None };
    let sent = SmtpServiceClient::new(api.clone()).send_email(request).await?.into_inner();
    Ok(Sent { id: sent.message_id, recipients: sent.recipients })
}

/// What was typed for a new connection of a kind.
pub(super) fn read(kind: &str, fields: &Fields) -> (Settings, Option<Credentials>) {
    let settings = if kind == "outlook" { read_outlook(fields) } else { read_smtp(fields) };
    (settings, credentials(kind, fields))
}

/// What was typed for the credentials of a connection of a kind. `None`: nothing.
pub(super) fn credentials(kind: &str, fields: &Fields) -> Option<Credentials> {
    let text = |name| fields.text(name).to_owned();
    if kind == "outlook" {
        let (client_secret, refresh_token) = (text("client_secret"), text("delegated_token_refresh_token"));
        let sign_in = match fields.get("sign_in") {
            "client_certificate" => SignIn::ClientCertificate(ClientCertificate {
                certificate: text("client_certificate_certificate"),
                private_key: text("client_certificate_private_key"),
            }),
            "delegated_token" => SignIn::DelegatedToken(DelegatedToken { refresh_token, client_secret }),
            "client_secret" => SignIn::ClientSecret(client_secret),
            _ => SignIn::User(UserSignIn { client_secret }),
        };
        return Some(Credentials::OutlookCredentials(OutlookCredentials { sign_in: Some(sign_in) }));
    }
    let credentials = SmtpCredentials {
        password: text("password"),
        dkim_private_key: text("dkim_private_key"),
        oauth_client_secret: text("oauth_client_secret"),
        oauth_refresh_token: text("oauth_refresh_token"),
    };
    (credentials != SmtpCredentials::default()).then_some(Credentials::SmtpCredentials(credentials))
}

fn read_smtp(fields: &Fields) -> Settings {
    let text = |name| fields.get(name).to_owned();
    let auth_mechanism = AuthMechanism::from_str_name(fields.get("auth_mechanism")).unwrap_or_default();
    let oauth = OAuthSettings {
        client_id: text("oauth_client_id"),
        authorization_endpoint: text("oauth_authorization_endpoint"),
        token_endpoint: text("oauth_token_endpoint"),
        device_authorization_endpoint: text("oauth_device_authorization_endpoint"),
        scopes: fields.get("oauth_scopes").split_ascii_whitespace().map(str::to_owned).collect(),
        issuer: text("oauth_issuer"),
    };
    Settings::Smtp(SmtpSettings {
        server: text("server"),
        // What is no number is no port either, and is refused as that.
        port: if fields.is_set("port") { fields.get("port").parse().unwrap_or(u32::MAX) } else { 0 },
        tls_mode: TlsMode::from_str_name(fields.get("tls_mode")).unwrap_or_default().into(),
        username: text("username"),
        auth_mechanism: auth_mechanism.into(),
        default_from: text("default_from"),
        ca_certificates: text("ca_certificates"),
        oauth: (auth_mechanism == AuthMechanism::Xoauth2).then_some(oauth),
        ..Default::default()
    })
}

fn read_outlook(fields: &Fields) -> Settings {
    let text = |name| fields.get(name).to_owned();
    let cloud = Cloud::from_str_name(fields.get("cloud")).unwrap_or_default();
    let custom = CustomCloud {
        graph_url: text("custom_cloud_graph_url"),
        login_url: text("custom_cloud_login_url"),
        ca_certificates: text("custom_cloud_ca_certificates"),
        allow_plaintext: fields.is_set("custom_cloud_allow_plaintext"),
    };
    Settings::Outlook(OutlookSettings {
        tenant: text("tenant"),
        client_id: text("client_id"),
        mailbox: text("mailbox"),
        cloud: cloud.into(),
        custom_cloud: (cloud == Cloud::Custom).then_some(custom),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_contract_is_found_in_the_form() {
        for (field, name) in [
            ("connection_id", "connection_id"),
            ("connection.display_name", "display_name"),
            ("connection.smtp.server", "server"),
            ("smtp.oauth.scopes[1]", "oauth_scopes"),
            ("smtp_credentials.password", "password"),
            ("outlook.custom_cloud.graph_url", "custom_cloud_graph_url"),
            ("outlook_credentials.client_certificate.private_key", "client_certificate_private_key"),
        ] {
            assert_eq!(form_name(field), name);
        }
    }

    #[test]
    fn who_is_signed_in_for_by_settings_is_offered_that() {
        let of = |settings, state: ConnectionState| {
            let connection =
                Connection { settings: Some(settings), state: state.into(), ..Default::default() };
            let sign_ins = sign_ins(&connection);
            (sign_ins.browser, sign_ins.code)
        };
        let ready = ConnectionState::Ready;
        assert_eq!(of(read_smtp(&preset("microsoft")), ready), (true, true));
        assert_eq!(of(read_smtp(&preset("google")), ready), (true, false));
        assert_eq!(of(read_smtp(&preset("")), ready), (false, false));
        let shared = read_outlook(&Fields::typed(&[("mailbox", "team@example.org")]));
        assert_eq!(of(shared.clone(), ready), (false, false));
        assert_eq!(of(shared, ConnectionState::NeedsSignIn), (true, true));
        assert_eq!(of(read_outlook(&Fields::default()), ready), (true, true));
    }
}
