//! Checks what is stored of a connection, and names every field that is wrong.

use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use postern_chassis::tls;
use postern_proto::connection::v1::Connection as Stored;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::smtp::v1::{AuthMechanism, SmtpCredentials, SmtpSettings, TlsMode};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::{Connection, Login, Mechanism, Proof, Security, is_host_name};
use crate::dkim::Dkim;
use crate::error::Error;
use crate::mailbox;
use crate::message::Problems;
use crate::oauth::Provider;

const MIB: u64 = 1024 * 1024;
/// The most text taken for trusted certificates: the whole connection travels with each call.
const MAX_CA_BYTES: usize = 16 * 1024;
/// The longest user name and password: both fit an AUTH line with room to spare (RFC 4954, section 4).
const MAX_LOGIN_BYTES: usize = 4 * 1024;

impl Connection {
    /// Checks a stored connection.
    ///
    /// # Errors
    /// Every field that is wrong, by its path from the stored connection on.
    pub(crate) fn check(stored: &Stored) -> Result<Self, Error> {
        let Some(Settings::Smtp(settings)) = &stored.settings else {
            return Err(Error::field(
                "smtp",
                "is needed: this connector acts for connections of the kind smtp",
            ));
        };
        let none = SmtpCredentials::default();
        let credentials = match &stored.credentials {
            None => &none,
            Some(Credentials::SmtpCredentials(credentials)) => credentials,
            Some(_) => return Err(Error::field("smtp_credentials", "are of another kind than the settings")),
        };
        let mut problems = Problems::default();
        let security = security(settings, &mut problems);
        let server_name = server_name(settings, &mut problems);
        let login = login(settings, credentials, &mut problems);
        let checked = Self {
            name: stored.name.clone(),
            server: settings.server.clone(),
            server_name: server_name.unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())),
            port: port(settings, security, &mut problems),
            security,
            authorities: authorities(settings, &mut problems),
            login,
            ehlo_name: ehlo_name(settings, &mut problems),
            default_from: default_from(settings, &mut problems),
            max_connections: number("max_connections", settings.max_connections, 10, 1..=100, &mut problems),
            max_messages_per_connection: number(
                "max_messages_per_connection",
                settings.max_messages_per_connection,
                1_000,
                1..=100_000,
                &mut problems,
            ),
            idle_timeout: duration("idle_timeout", settings.idle_timeout.as_ref(), 30, &mut problems),
            interval: interval(settings, &mut problems),
            command_timeout: duration(
                "command_timeout",
                settings.command_timeout.as_ref(),
                60,
                &mut problems,
            ),
            max_message_bytes: max_message_bytes(settings, &mut problems),
            dkim: Dkim::check(settings, credentials, &mut problems),
        };
        if problems.is_empty() { Ok(checked) } else { Err(problems.into_error()) }
    }
}

fn security(settings: &SmtpSettings, problems: &mut Problems) -> Security {
    match TlsMode::try_from(settings.tls_mode) {
        Ok(TlsMode::Unspecified | TlsMode::Starttls) => Security::StartTls,
        Ok(TlsMode::Implicit) => Security::Implicit,
        Ok(TlsMode::None) => Security::None,
        Ok(TlsMode::Opportunistic) => Security::Opportunistic,
        Err(_) => {
            problems.add("smtp.tls_mode", "is no TLS mode");
            Security::StartTls
        }
    }
}

fn server_name(settings: &SmtpSettings, problems: &mut Problems) -> Option<ServerName<'static>> {
    let name = ServerName::try_from(settings.server.clone()).ok();
    if name.is_none() {
        problems.add("smtp.server", "expected a host name, in ASCII, or an IP address");
    }
    name
}

fn port(settings: &SmtpSettings, security: Security, problems: &mut Problems) -> u16 {
    let default = if security == Security::Implicit { 465 } else { 587 };
    match u16::try_from(settings.port) {
        Ok(0) => default,
        Ok(port) => port,
        Err(_) => {
            problems.add("smtp.port", "expected 1 to 65535");
            default
        }
    }
}

fn authorities(settings: &SmtpSettings, problems: &mut Problems) -> Option<Arc<ClientConfig>> {
    let pem = Some(settings.ca_certificates.as_str()).filter(|pem| !pem.is_empty())?;
    if pem.len() > MAX_CA_BYTES {
        problems.add("smtp.ca_certificates", "is longer than 16 KiB");
        return None;
    }
    tls::client_config(Some(pem)).map_err(|problem| problems.add("smtp.ca_certificates", problem)).ok()
}

fn login(settings: &SmtpSettings, credentials: &SmtpCredentials, problems: &mut Problems) -> Option<Login> {
    let mechanism = match AuthMechanism::try_from(settings.auth_mechanism) {
        Ok(AuthMechanism::Unspecified) => None,
        Ok(AuthMechanism::Plain) => Some(Mechanism::Plain),
        Ok(AuthMechanism::Login) => Some(Mechanism::Login),
        Ok(AuthMechanism::Xoauth2) => return token_login(settings, credentials, problems),
        Err(_) => {
            problems.add("smtp.auth_mechanism", "is no mechanism");
            None
        }
    };
    let unused = [
        ("smtp.oauth", settings.oauth.is_some()),
        ("smtp_credentials.oauth_client_secret", !credentials.oauth_client_secret.is_empty()),
        ("smtp_credentials.oauth_refresh_token", !credentials.oauth_refresh_token.is_empty()),
    ];
    for (path, _) in unused.iter().filter(|(_, given)| *given) {
        problems.add(*path, "is given without smtp.auth_mechanism AUTH_MECHANISM_XOAUTH2");
    }
    check_login_texts(settings, credentials, problems);
    match (settings.username.is_empty(), credentials.password.is_empty()) {
        (true, true) => None,
        (true, false) => {
            problems.add("smtp_credentials.password", "is given without smtp.username");
            None
        }
        (false, true) => {
            problems.add("smtp_credentials.password", "is needed with smtp.username");
            None
        }
        (false, false) => Some(Login {
            username: settings.username.clone(),
            proof: Proof::Password { password: credentials.password.clone().into(), mechanism },
        }),
    }
}

/// Who signs in by access tokens (XOAUTH2).
fn token_login(
    settings: &SmtpSettings,
    credentials: &SmtpCredentials,
    problems: &mut Problems,
) -> Option<Login> {
    check_login_texts(settings, credentials, problems);
    if settings.username.is_empty() {
        problems.add("smtp.username", "is needed with AUTH_MECHANISM_XOAUTH2");
    }
    if settings.username.contains('\u{1}') {
        problems.add("smtp.username", "holds a control character");
    }
    if !credentials.password.is_empty() {
        problems.add("smtp_credentials.password", "is given with AUTH_MECHANISM_XOAUTH2: leave it out");
    }
    let Some(oauth) = &settings.oauth else {
        problems.add("smtp.oauth", "is needed with AUTH_MECHANISM_XOAUTH2");
        return None;
    };
    let provider = Provider::check(oauth, credentials, &settings.ca_certificates, problems)?;
    Some(Login { username: settings.username.clone(), proof: Proof::Token(Box::new(provider)) })
}

fn check_login_texts(settings: &SmtpSettings, credentials: &SmtpCredentials, problems: &mut Problems) {
    let texts = [("smtp.username", &settings.username), ("smtp_credentials.password", &credentials.password)];
    for (path, text) in texts {
        if text.len() > MAX_LOGIN_BYTES || text.contains('\0') {
            problems.add(path, "expected at most 4 KiB without NUL");
        }
    }
}

fn ehlo_name(settings: &SmtpSettings, problems: &mut Problems) -> Option<String> {
    let name = Some(settings.ehlo_name.as_str()).filter(|name| !name.is_empty())?;
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|literal| {
        let v6 = literal.strip_prefix("IPv6:").map(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
        v6.unwrap_or_else(|| literal.parse::<std::net::Ipv4Addr>().is_ok())
    });
    if !literal && !is_host_name(name) {
        problems.add("smtp.ehlo_name", "expected a host name or an address literal such as [192.0.2.1]");
    }
    Some(name.to_owned())
}

fn default_from(settings: &SmtpSettings, problems: &mut Problems) -> Option<Mailbox> {
    let from = Some(settings.default_from.as_str()).filter(|from| !from.trim().is_empty())?;
    mailbox::single(from).map_err(|problem| problems.add("smtp.default_from", problem)).ok()
}

fn number(
    field: &str,
    given: u32,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
    problems: &mut Problems,
) -> u32 {
    let value = if given == 0 { default } else { given };
    if !range.contains(&value) {
        problems.add(format!("smtp.{field}"), format!("expected {} to {}", range.start(), range.end()));
    }
    value
}

/// A duration from 1 s to 10 min.
fn duration(
    field: &str,
    given: Option<&prost_types::Duration>,
    default_seconds: u64,
    problems: &mut Problems,
) -> Duration {
    let default = Duration::from_secs(default_seconds);
    let Some(given) = given else { return default };
    let range = Duration::from_secs(1)..=Duration::from_secs(600);
    match Duration::try_from(*given) {
        Ok(duration) if range.contains(&duration) => duration,
        _ => {
            problems.add(format!("smtp.{field}"), "expected 1 s to 10 min");
            default
        }
    }
}

fn interval(settings: &SmtpSettings, problems: &mut Problems) -> Option<Duration> {
    let rate = settings.max_messages_per_second;
    if rate == 0.0 {
        return None;
    }
    // The bounds keep the interval between a microsecond and a day.
    if !(1.0 / 86_400.0..=1_000_000.0).contains(&rate) {
        problems.add(
            "smtp.max_messages_per_second",
            "expected a rate from one a day to 1,000,000 a second, or 0",
        );
        return None;
    }
    Some(Duration::from_secs_f64(1.0 / rate))
}

fn max_message_bytes(settings: &SmtpSettings, problems: &mut Problems) -> u64 {
    match u64::try_from(settings.max_message_bytes) {
        Ok(0) => 35 * MIB,
        Ok(bytes) if bytes <= 150 * MIB => bytes,
        _ => {
            problems.add("smtp.max_message_bytes", "expected 1 to 157286400 (150 MiB)");
            35 * MIB
        }
    }
}

#[cfg(test)]
mod tests;
