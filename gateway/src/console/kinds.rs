//! The kinds of connection, as people are asked for them: the one place of the console that names them.

use postern_proto::connection::v1::Connection;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::outlook::v1::{OutlookCredentials, OutlookSettings, outlook_credentials};
use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings, TlsMode};

use super::form::Fields;

/// The kind that is meant; the first where none is.
pub(super) fn known(kind: &str) -> &'static str {
    if kind == "outlook" { "outlook" } else { "smtp" }
}

/// The account that a connection is of, as its settings say.
pub(super) fn account(connection: &Connection) -> String {
    match &connection.settings {
        Some(Settings::Smtp(smtp)) if smtp.username.is_empty() => smtp.server.clone(),
        Some(Settings::Smtp(smtp)) => format!("{} at {}", smtp.username, smtp.server),
        Some(Settings::Outlook(outlook)) => outlook.mailbox.clone(),
        None => String::new(),
    }
}

/// What was typed for a new connection of a kind.
pub(super) fn read(kind: &str, fields: &Fields) -> (Settings, Option<Credentials>) {
    if kind == "outlook" { outlook(fields) } else { smtp(fields) }
}

fn smtp(fields: &Fields) -> (Settings, Option<Credentials>) {
    let tls_mode = TlsMode::from_str_name(fields.get("tls_mode")).unwrap_or_default();
    let settings = SmtpSettings {
        server: fields.get("server").to_owned(),
        // What is no number is no port either, and is refused as that.
        port: if fields.is_set("port") { fields.get("port").parse().unwrap_or(u32::MAX) } else { 0 },
        tls_mode: tls_mode.into(),
        username: fields.get("username").to_owned(),
        default_from: fields.get("default_from").to_owned(),
        ca_certificates: fields.get("ca_certificates").to_owned(),
        ..Default::default()
    };
    let password = fields.text("password").to_owned();
    let credentials = (!password.is_empty()).then(|| SmtpCredentials { password, ..Default::default() });
    (Settings::Smtp(settings), credentials.map(Credentials::SmtpCredentials))
}

fn outlook(fields: &Fields) -> (Settings, Option<Credentials>) {
    let settings = OutlookSettings {
        tenant: fields.get("tenant").to_owned(),
        client_id: fields.get("client_id").to_owned(),
        mailbox: fields.get("mailbox").to_owned(),
        ..Default::default()
    };
    let secret = fields.text("client_secret");
    let sign_in = outlook_credentials::SignIn::ClientSecret(secret.to_owned());
    let credentials = (!secret.is_empty()).then_some(OutlookCredentials { sign_in: Some(sign_in) });
    (Settings::Outlook(settings), credentials.map(Credentials::OutlookCredentials))
}
