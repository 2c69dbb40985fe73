//! Sign-ins at real OAuth servers of two makes, for connections that send mail (XOAUTH2), and at the one also as at
//! Microsoft's platform.

use std::time::Duration;

use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::{Connection, ConnectionState, SignIn, SignInKind, SignInState};
use postern_proto::outlook::v1::{Cloud, CustomCloud, OutlookSettings};
use postern_proto::smtp::v1::{
    AuthMechanism, OAuthSettings, SmtpCredentials, SmtpSettings as Stored, TlsMode,
};
use postern_sandbox::place::ANNA;
use postern_sandbox::smtp::{SmtpServer, SmtpSettings};
use serde_json::json;

use super::browser::Browser;
use super::servers::{CLIENT_ID, CLIENT_SECRET, Make, Server, TENANT};
use super::{ME, refusal};
use crate::world::{OUTLOOK, SMTP, World, mail, send, until};

/// A gateway, a mail server that takes tokens, and an OAuth server that gives them.
pub(super) struct Mailing {
    pub(super) world: World,
    mails: SmtpServer,
    pub(super) server: Server,
}

impl Mailing {
    /// `None`: real servers are not wanted.
    pub(super) async fn start(make: Make, more: serde_json::Value) -> Option<Self> {
        let world = World::reached().await;
        let server = Server::start(make, &world.http_url(), more)?;
        let users = vec![("ann".to_owned(), "unused".to_owned())];
        let mails = SmtpServer::start(SmtpSettings { users, ..Default::default() }).await.unwrap();
        mails.control().expire_tokens();
        let scopes: &[&str] = if make == Make::OidcProvider {
            &["openid", "profile", "offline_access", "mail"]
        } else {
            &["offline_access", "mail"]
        };
        let settings = Stored {
            server: "127.0.0.1".to_owned(),
            port: mails.address().port().into(),
            tls_mode: TlsMode::Starttls.into(),
            ca_certificates: mails.ca_certificate().to_owned(),
            username: "ann".to_owned(),
            auth_mechanism: AuthMechanism::Xoauth2.into(),
            oauth: Some(OAuthSettings {
                client_id: CLIENT_ID.to_owned(),
                authorization_endpoint: server.endpoint("authorize"),
                token_endpoint: server.endpoint("token"),
                device_authorization_endpoint: server.endpoint("devicecode"),
                scopes: scopes.iter().map(ToString::to_string).collect(),
                // The one says it on its pages, the other does not.
                issuer: server.url.clone(),
            }),
            // Each mail signs in anew.
            max_messages_per_connection: 1,
            ..Stored::default()
        };
        let oauth_client_secret =
            if make == Make::Authlib { CLIENT_SECRET.to_owned() } else { String::new() };
        let credentials = SmtpCredentials { oauth_client_secret, ..SmtpCredentials::default() };
        let connection = Connection {
            settings: Some(Settings::Smtp(settings)),
            credentials: Some(Credentials::SmtpCredentials(credentials)),
            ..Connection::default()
        };
        let made = world.made("mail", connection).await;
        assert_eq!(made.state(), ConnectionState::NeedsSignIn);
        let mailing = Self { world, mails, server };
        assert_eq!(mailing.send().await, "CREDENTIALS_REFUSED");
        Some(mailing)
    }

    /// Sends a mail, and says why it was refused; empty: it was not. The mail server takes what was given so far.
    pub(super) async fn send(&self) -> String {
        for token in self.server.given().await {
            self.mails.control().accept_token(&token);
        }
        match send(&self.world.channel, "", mail("a mail")).await {
            Ok(_) => String::new(),
            refused => refusal(refused),
        }
    }

    /// The same until what the gateway got meanwhile is taken too: its first try asks for a new token.
    async fn sends(&self) {
        until("a mail is sent", || async { self.send().await.is_empty().then_some(()) }).await;
    }

    async fn in_browser(&self, consents: bool) -> (SignIn, String) {
        self.in_browser_as("ann", consents).await
    }

    async fn in_browser_as(&self, login: &str, consents: bool) -> (SignIn, String) {
        let begun = self.world.begin(SMTP, SignInKind::Browser).await.unwrap();
        let mut browser = Browser::default();
        let page = browser.open(&begun.authorization_url).await;
        let back = self.server.walk_as(login, &mut browser, page, consents).await;
        (self.world.stands(&begun).await, back.text)
    }
}

async fn a_browser_at(make: Make) {
    let Some(mailing) = Mailing::start(make, json!({})).await else { return };
    let (declined, page) = mailing.in_browser(false).await;
    assert_eq!(declined.failure_reason, "SIGN_IN_DENIED", "{page}");
    assert!(page.contains("The sign-in was declined"), "{page}");
    let (done, page) = mailing.in_browser(true).await;
    assert_eq!(done.state(), SignInState::Succeeded, "{page}");
    assert!(page.contains("You are signed in"), "{page}");
    if make == Make::OidcProvider {
        assert_eq!(done.account, "ann@example.org");
    }
    assert_eq!(mailing.send().await, "");

    // A token that ran out early is renewed: what was given so far is refused, and a newer one asked for, which the mail
    // server does not know yet.
    mailing.mails.control().expire_tokens();
    let before = mailing.server.given().await.len();
    let refused = send(&mailing.world.channel, "", mail("refused")).await;
    assert_eq!(refusal(refused), "CREDENTIALS_REFUSED");
    assert!(mailing.server.given().await.len() > before);
    mailing.sends().await;
    assert_eq!(mailing.world.state(SMTP).await, ConnectionState::Ready);

    // What is revoked needs a sign-in, and one heals it.
    mailing.server.revoke().await;
    mailing.mails.control().expire_tokens();
    until("the connection needs a sign-in", || async {
        let _ = send(&mailing.world.channel, "", mail("refused")).await;
        (mailing.world.state(SMTP).await == ConnectionState::NeedsSignIn).then_some(())
    })
    .await;
    let (done, page) = mailing.in_browser(true).await;
    assert_eq!(done.state(), SignInState::Succeeded, "{page}");
    assert_eq!(mailing.send().await, "");
}

#[tokio::test]
async fn a_user_signs_in_by_a_browser_at_oidc_provider() {
    a_browser_at(Make::OidcProvider).await;
}

#[tokio::test]
async fn a_user_signs_in_by_a_browser_at_authlib() {
    a_browser_at(Make::Authlib).await;
}

#[tokio::test]
async fn a_connection_that_sends_mail_stays_with_the_account_that_signed_in_first() {
    let Some(mailing) = Mailing::start(Make::OidcProvider, json!({})).await else { return };
    let (done, page) = mailing.in_browser(true).await;
    assert_eq!((done.state(), done.account.as_str()), (SignInState::Succeeded, "ann@example.org"), "{page}");
    let (wrong, page) = mailing.in_browser_as("bo", true).await;
    assert_eq!(wrong.failure_reason, "WRONG_ACCOUNT", "{page}");
    assert!(page.contains("This is another account"), "{page}");
    assert_eq!(
        (mailing.world.state(SMTP).await, mailing.send().await),
        (ConnectionState::Ready, String::new())
    );
    // Nor is that forgotten by a renewal, or once the connection needs a sign-in.
    mailing.mails.control().expire_tokens();
    let _ = send(&mailing.world.channel, "", mail("refused")).await;
    mailing.sends().await;
    mailing.server.revoke().await;
    mailing.mails.control().expire_tokens();
    until("the connection needs a sign-in", || async {
        let _ = send(&mailing.world.channel, "", mail("refused")).await;
        (mailing.world.state(SMTP).await == ConnectionState::NeedsSignIn).then_some(())
    })
    .await;
    assert_eq!(mailing.in_browser_as("bo", true).await.0.failure_reason, "WRONG_ACCOUNT");
    // New credentials, and it is anybody's again.
    let credentials = Some(Credentials::SmtpCredentials(SmtpCredentials::default()));
    let renewed = Connection { name: SMTP.into(), credentials, ..Connection::default() };
    mailing.world.update(renewed, &["smtp_credentials"]).await.unwrap();
    let (done, page) = mailing.in_browser_as("bo", true).await;
    assert_eq!((done.state(), done.account.as_str()), (SignInState::Succeeded, "bo@example.org"), "{page}");
    assert_eq!(mailing.send().await, "");
}

#[tokio::test]
async fn what_another_providers_page_brings_back_is_handed_to_nobody() {
    let Some(mailing) = Mailing::start(Make::OidcProvider, json!({})).await else { return };
    let begun = mailing.world.begin(SMTP, SignInKind::Browser).await.unwrap();
    let url: reqwest::Url = begun.authorization_url.parse().unwrap();
    let state = url.query_pairs().find(|(key, _)| key == "state").unwrap().1.into_owned();
    let back = format!("{}/sign-in/callback?code=c&state={state}", mailing.world.http_url());
    let page = Browser::default().open(&format!("{back}&iss=https%3A%2F%2Fother.example.org")).await;
    assert!(page.text.contains("This is another provider"), "{}", page.text);
    assert_eq!(mailing.world.stands(&begun).await.failure_reason, "WRONG_PROVIDER");
}

async fn a_device_at(make: Make) {
    let Some(mailing) = Mailing::start(make, json!({})).await else { return };
    let begun = mailing.world.begin(SMTP, SignInKind::DeviceCode).await.unwrap();
    let declined = mailing.world.begin(SMTP, SignInKind::DeviceCode).await.unwrap();
    mailing.server.type_code(&declined.verification_url, &declined.user_code, false).await;
    mailing.server.type_code(&begun.verification_url, &begun.user_code, true).await;
    let (done, declined) = tokio::join!(mailing.world.ended(&begun), mailing.world.ended(&declined));
    assert_eq!((done.state(), done.failure_message.as_str()), (SignInState::Succeeded, ""));
    assert_eq!(declined.failure_reason, "SIGN_IN_DENIED");
    assert_eq!(mailing.send().await, "");
}

#[tokio::test]
async fn a_user_signs_in_by_a_device_code_at_oidc_provider() {
    a_device_at(Make::OidcProvider).await;
}

#[tokio::test]
async fn a_user_signs_in_by_a_device_code_at_authlib() {
    a_device_at(Make::Authlib).await;
}

#[tokio::test]
async fn a_device_code_that_nobody_types_expires() {
    for make in [Make::OidcProvider, Make::Authlib] {
        let Some(mailing) = Mailing::start(make, json!({"device_life": 2})).await else { return };
        let begun = mailing.world.begin(SMTP, SignInKind::DeviceCode).await.unwrap();
        assert_eq!(mailing.world.ended(&begun).await.failure_reason, "SIGN_IN_EXPIRED");
    }
}

#[tokio::test]
async fn clocks_need_not_agree() {
    for skew in [-86_400, 86_400] {
        // Tokens of five seconds by its clock, a day off: they are renewed in time by ours.
        let settings = json!({"skew": skew, "token_life": 5});
        let Some(mailing) = Mailing::start(Make::OidcProvider, settings).await else { return };
        let (done, page) = mailing.in_browser(true).await;
        assert_eq!(done.state(), SignInState::Succeeded, "{page}");
        assert_eq!(mailing.send().await, "");
        until("the token is renewed ahead of its end", || async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            mailing.sends().await;
            // Each time by the refresh token that the time before rotated to.
            (mailing.server.given().await.len() > 2).then_some(())
        })
        .await;
        assert_eq!(mailing.world.state(SMTP).await, ConnectionState::Ready);
    }
}

#[tokio::test]
async fn a_mailbox_is_signed_in_for_at_a_platform_of_another_make() {
    let world = World::reached().await;
    let graph = world.place.graph.url().to_owned();
    let scopes = json!({"scopes": [format!("{graph}/.default")]});
    let Some(server) = Server::start(Make::OidcProvider, &world.http_url(), scopes) else { return };
    world
        .office_with(OutlookSettings {
            tenant: TENANT.into(),
            client_id: CLIENT_ID.into(),
            mailbox: ME.into(),
            cloud: Cloud::Custom.into(),
            custom_cloud: Some(CustomCloud {
                graph_url: graph,
                login_url: server.url.clone(),
                allow_plaintext: true,
                ..CustomCloud::default()
            }),
            ..OutlookSettings::default()
        })
        .await;
    let begun = world.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
    let mut browser = Browser::default();
    let page = browser.open(&begun.authorization_url).await;
    let page = server.walk(&mut browser, page, true).await;
    assert!(page.text.contains("You are signed in"), "{}", page.text);
    for token in server.given().await {
        world.place.graph.tokens().accept(&token, ANNA);
    }
    assert_eq!(world.mails().await.unwrap(), 0);
    // By a code, too.
    let begun = world.begin(OUTLOOK, SignInKind::DeviceCode).await.unwrap();
    server.type_code(&begun.verification_url, &begun.user_code, true).await;
    let done = world.ended(&begun).await;
    assert_eq!((done.state(), done.account.as_str()), (SignInState::Succeeded, "ann@example.org"));
    let tokens = server.given().await;
    assert_eq!(tokens.len(), 2);
    world.place.graph.tokens().expire_all();
    world.place.graph.tokens().accept(&tokens[1], ANNA);
    assert_eq!(world.mails().await.unwrap(), 0, "the newer grant is used");
}
