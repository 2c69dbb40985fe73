//! Users sign in: at the sandbox's platform, and at real OAuth servers of two makes.

mod at_real_servers;
mod browser;
mod by_code;
mod grants;
mod in_browser;
mod servers;
mod stolen;

use std::time::Duration;

use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::*;
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::start_position::Position;
use postern_proto::outlook::v1::mail_service_client::MailServiceClient;
use postern_proto::outlook::v1::outlook_credentials::SignIn as By;
use postern_proto::outlook::v1::{GetEmailsRequest, OutlookCredentials, OutlookSettings, UserSignIn};
use prost_types::FieldMask;
use tonic::Status;

use crate::edge::reason;
use crate::world::{OUTLOOK, World, subscribe, until};
use browser::{Browser, Page};

/// What a gateway on its own does not do by itself.
impl World {
    /// A connection that a user signs in for, at the sandbox; nobody has yet.
    async fn office(&self, mailbox: &str) -> Connection {
        let (Settings::Outlook(settings), _) = self.place.outlook_connection() else {
            panic!("other settings")
        };
        self.office_with(OutlookSettings { mailbox: mailbox.into(), ..settings }).await
    }

    async fn office_with(&self, settings: OutlookSettings) -> Connection {
        let connection = Connection {
            display_name: "The <office>".into(),
            settings: Some(Settings::Outlook(settings)),
            ..Connection::default()
        };
        self.made("office", connection).await
    }

    async fn made(&self, id: &str, connection: Connection) -> Connection {
        let connection = Some(connection);
        let request = CreateConnectionRequest { connection_id: id.into(), connection, ..Default::default() };
        self.connections().create_connection(request).await.unwrap().into_inner().connection.unwrap()
    }

    async fn begin(&self, connection: &str, kind: SignInKind) -> Result<SignIn, Status> {
        let request = StartSignInRequest { name: connection.into(), kind: kind.into(), ..Default::default() };
        Ok(self.connections().start_sign_in(request).await?.into_inner().sign_in.unwrap())
    }

    async fn stands(&self, sign_in: &SignIn) -> SignIn {
        let request = GetSignInRequest { name: sign_in.name.clone() };
        self.connections().get_sign_in(request).await.unwrap().into_inner().sign_in.unwrap()
    }

    /// A sign-in once it has ended.
    async fn ended(&self, sign_in: &SignIn) -> SignIn {
        until("the sign-in has ended", || async {
            Some(self.stands(sign_in).await).filter(|now| now.state() != SignInState::Pending)
        })
        .await
    }

    async fn state(&self, connection: &str) -> ConnectionState {
        let request = GetConnectionRequest { name: connection.into() };
        self.connections().get_connection(request).await.unwrap().into_inner().connection.unwrap().state()
    }

    /// How many mails are in the Inbox of the office.
    async fn mails(&self) -> Result<usize, Status> {
        let request = GetEmailsRequest { connection: OUTLOOK.into(), ..Default::default() };
        let mut client = MailServiceClient::new(self.channel.clone());
        Ok(client.get_emails(request).await?.into_inner().emails.len())
    }

    async fn update(&self, connection: Connection, paths: &[&str]) -> Result<Connection, Status> {
        let update_mask = Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
        let request =
            UpdateConnectionRequest { connection: Some(connection), update_mask, ..Default::default() };
        Ok(self.connections().update_connection(request).await?.into_inner().connection.unwrap())
    }

    /// The states that the connections turned to so far, with why.
    async fn turns(&self, count: usize) -> Vec<(ConnectionState, String)> {
        let mut stream = subscribe(&self.channel, Some(Position::Earliest(()))).await;
        let turns = crate::world::events(&mut stream, count).await;
        turns.iter().filter_map(turn).collect()
    }

    /// Signs in at the sandbox by a browser: chooses an account, comes back, and reads the page.
    async fn sign_in_as(&self, account: &str) -> (SignIn, Page) {
        let sign_in = self.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
        let mut browser = Browser::default();
        let page = browser.choose(&sign_in.authorization_url, account).await;
        (self.stands(&sign_in).await, page)
    }

    fn http_url(&self) -> String {
        format!("http://{}/postern", self.http.unwrap())
    }
}

impl Browser {
    /// Opens the sandbox's page, chooses an account there, and is led back.
    async fn choose(&mut self, page: &str, account: &str) -> Page {
        let page = self.open(page).await;
        assert!(page.text.contains("Who are you?"), "{}", page.text);
        self.submit_to(&page.url.clone(), &[("account", account)]).await
    }
}

fn turn(event: &Event) -> Option<(ConnectionState, String)> {
    match event.data.as_ref()?.kind.as_ref()? {
        Kind::ConnectionStateChanged(changed) => Some((changed.state(), changed.reason.clone())),
        _ => None,
    }
}

/// The credentials of a user who signs in for a public client.
fn by_user() -> Option<Credentials> {
    let sign_in = Some(By::User(UserSignIn::default()));
    Some(Credentials::OutlookCredentials(OutlookCredentials { sign_in }))
}

/// The mailbox of whoever signs in.
const ME: &str = "me";

/// How long may pass until a test looks whether nothing has come.
const MOMENT: Duration = Duration::from_millis(50);

fn refusal(result: Result<impl std::fmt::Debug, Status>) -> String {
    reason(&result.unwrap_err())
}
