//! What is taken for a connection and what is not.

use super::*;
use postern_proto::smtp::v1::{DkimSettings, OAuthSettings};

fn stored(settings: SmtpSettings, password: &str) -> Stored {
    let credentials = SmtpCredentials { password: password.to_owned(), ..Default::default() };
    Stored {
        name: "connections/test".into(),
        settings: Some(Settings::Smtp(settings)),
        credentials: Some(Credentials::SmtpCredentials(credentials)),
        ..Default::default()
    }
}

fn settings() -> SmtpSettings {
    SmtpSettings { server: "mail.example.org".into(), ..Default::default() }
}

fn wrong_fields(stored: &Stored) -> Vec<String> {
    match Connection::check(stored) {
        Err(Error::Fields(fields)) => fields.into_iter().map(|(path, _)| path).collect(),
        other => panic!("expected wrong fields, got {other:?}"),
    }
}

#[test]
fn absent_settings_have_their_promised_defaults() {
    let checked = Connection::check(&stored(settings(), "")).unwrap();
    assert_eq!((checked.port, checked.security), (587, Security::StartTls));
    assert!(checked.login.is_none() && checked.default_from.is_none() && checked.interval.is_none());
    assert_eq!((checked.max_connections, checked.max_messages_per_connection), (10, 1_000));
    assert_eq!(checked.idle_timeout, Duration::from_secs(30));
    assert_eq!(checked.command_timeout, Duration::from_secs(60));
    assert_eq!(checked.max_message_bytes, 35 * 1024 * 1024);
    let implicit = SmtpSettings { tls_mode: TlsMode::Implicit.into(), ..settings() };
    assert_eq!(Connection::check(&stored(implicit, "")).unwrap().port, 465);
}

#[test]
fn every_wrong_setting_is_named() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let wrong = SmtpSettings {
        server: "mail example".into(),
        port: 70_000,
        tls_mode: 9,
        auth_mechanism: AuthMechanism::Xoauth2.into(),
        ca_certificates: "nonsense".into(),
        ehlo_name: "a b".into(),
        default_from: "nobody".into(),
        max_connections: 101,
        max_messages_per_connection: 100_001,
        idle_timeout: seconds(0),
        max_messages_per_second: f64::NAN,
        command_timeout: seconds(601),
        max_message_bytes: -1,
        dkim: Some(DkimSettings::default()),
        oauth: Some(OAuthSettings::default()),
        ..Default::default()
    };
    let expected = [
        "smtp.tls_mode",
        "smtp.server",
        "smtp.username",
        "smtp_credentials.password",
        "smtp.oauth.client_id",
        "smtp.oauth.token_endpoint",
        "smtp_credentials.oauth_refresh_token",
        "smtp.port",
        "smtp.ca_certificates",
        "smtp.ehlo_name",
        "smtp.default_from",
        "smtp.max_connections",
        "smtp.max_messages_per_connection",
        "smtp.idle_timeout",
        "smtp.max_messages_per_second",
        "smtp.command_timeout",
        "smtp.max_message_bytes",
        "smtp.dkim.domain",
        "smtp.dkim.selector",
        "smtp_credentials.dkim_private_key",
    ];
    assert_eq!(wrong_fields(&stored(wrong, "given without a user")), expected);
}

#[test]
fn a_user_and_a_password_go_together() {
    let named = SmtpSettings { username: "bo".into(), ..settings() };
    assert!(Connection::check(&stored(named.clone(), "sesame")).unwrap().login.is_some());
    assert_eq!(wrong_fields(&stored(named, "")), ["smtp_credentials.password"]);
    assert_eq!(wrong_fields(&stored(settings(), "sesame")), ["smtp_credentials.password"]);
}

/// Settings and credentials of a connection that signs in by tokens.
fn by_token() -> (SmtpSettings, SmtpCredentials) {
    let settings = SmtpSettings {
        username: "bo@example.org".into(),
        auth_mechanism: AuthMechanism::Xoauth2.into(),
        oauth: Some(OAuthSettings {
            client_id: "postern".into(),
            token_endpoint: "https://login.example.org/token".into(),
            ..Default::default()
        }),
        ..settings()
    };
    let credentials = SmtpCredentials { oauth_refresh_token: "sesame".into(), ..Default::default() };
    (settings, credentials)
}

fn with_credentials(settings: SmtpSettings, credentials: SmtpCredentials) -> Stored {
    Stored { credentials: Some(Credentials::SmtpCredentials(credentials)), ..stored(settings, "") }
}

#[test]
fn what_a_sign_in_by_token_needs_is_told() {
    let (settings, credentials) = by_token();
    let checked = Connection::check(&with_credentials(settings.clone(), credentials.clone())).unwrap();
    assert!(checked.provider().is_some());
    assert!(!format!("{checked:?}").contains("sesame"));
    let by_secret = SmtpCredentials { oauth_client_secret: "sesame".into(), ..Default::default() };
    assert!(Connection::check(&with_credentials(settings.clone(), by_secret)).is_ok());

    let none = || SmtpCredentials::default();
    let wrong = |settings: &SmtpSettings, credentials: SmtpCredentials| {
        wrong_fields(&with_credentials(settings.clone(), credentials))
    };
    assert_eq!(wrong(&settings, none()), ["smtp_credentials.oauth_refresh_token"]);
    let mut by_people = settings.clone();
    by_people.oauth.as_mut().unwrap().authorization_endpoint = "https://login.example.org/authorize".into();
    assert!(Connection::check(&with_credentials(by_people, none())).is_ok(), "somebody can sign in later");
    let no_oauth = SmtpSettings { oauth: None, ..settings.clone() };
    assert_eq!(wrong(&no_oauth, none()), ["smtp.oauth"]);
    let mut in_the_clear = settings.clone();
    in_the_clear.oauth.as_mut().unwrap().token_endpoint = "http://login.example.org/token".into();
    assert_eq!(wrong(&in_the_clear, credentials.clone()), ["smtp.oauth.token_endpoint"]);
    let with_password = SmtpCredentials { password: "x".into(), ..credentials.clone() };
    assert_eq!(wrong(&settings, with_password), ["smtp_credentials.password"]);
    let nobody = SmtpSettings { username: String::new(), ..settings.clone() };
    assert_eq!(wrong(&nobody, credentials.clone()), ["smtp.username"]);
    let by_password = SmtpSettings { auth_mechanism: 0, ..settings };
    let expected = ["smtp.oauth", "smtp_credentials.oauth_refresh_token", "smtp_credentials.password"];
    assert_eq!(wrong(&by_password, credentials), expected);
}

#[test]
fn a_connection_of_another_kind_is_refused() {
    assert_eq!(wrong_fields(&Stored::default()), ["smtp"]);
}

#[test]
fn nothing_shows_the_password() {
    let named = SmtpSettings { username: "bo".into(), ..settings() };
    let shown = format!("{:?}", Connection::check(&stored(named, "sesame")).unwrap());
    assert!(!shown.contains("sesame"), "{shown}");
}

#[test]
fn an_ehlo_name_is_a_host_name_or_an_address_literal() {
    for right in ["mail.example.org", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]"] {
        let named = SmtpSettings { ehlo_name: right.into(), ..settings() };
        assert!(Connection::check(&stored(named, "")).is_ok(), "{right}");
    }
    for wrong in ["-a", "a..b", "[1.2.3]", "a\r\nMAIL", "[2001:db8::1]", "ü"] {
        let named = SmtpSettings { ehlo_name: wrong.into(), ..settings() };
        assert_eq!(wrong_fields(&stored(named, "")), ["smtp.ehlo_name"], "{wrong}");
    }
}
