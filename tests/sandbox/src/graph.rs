//! A small Microsoft Graph over the sandbox's [`World`]: sign-in, mail, calendars, contacts, delta. It says no where
//! Graph says no, fails on demand, and records what was said.

mod assertion;
mod attachments;
mod batch;
mod calendars;
mod contacts;
mod delta;
mod draft;
mod events;
pub(crate) mod exchange;
mod faults;
mod folders;
mod limits;
mod listener;
mod messages;
mod odata;
mod query;
mod recorder;
mod recurrence;
mod refresh_tokens;
mod refusal;
mod replies;
mod sending;
mod shape;
mod sign_in;
mod subscriptions;
mod throttle;
mod tokens;
mod uploads;
mod zones;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::World;
use exchange::Exchange;
use listener::{Cut, CuttingListener};
use sign_in::SignIns;
use tokens::Token;

pub use events::CalendarDeltas;
pub use faults::{Fault, Faults};
pub use limits::Limits;
pub use recorder::{Exchanged, Recorder};
pub use refresh_tokens::RefreshTokens;
pub use sign_in::{SignIn, Users};
pub use subscriptions::Subscriptions;
pub use throttle::{Allowance, Throttle};
pub use tokens::AccessTokens;
pub use uploads::Uploaded;

/// How a small Graph is set up.
#[derive(Debug, Clone)]
pub struct GraphSettings {
    /// Where to listen; port 0: any free one.
    pub listen: SocketAddr,
    /// The host name by which it is reached, and that its links hold. Absent: the address it is bound to.
    pub host: Option<String>,
    /// The tenant's id.
    pub tenant: String,
    /// The id of the application that may sign in.
    pub client_id: String,
    /// The application's secret.
    pub client_secret: String,
    /// Whether changes are told to `http://127.0.0.1` too, and not to `https://` alone.
    pub plain_notifications: bool,
}

impl Default for GraphSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            host: None,
            tenant: "11111111-1111-4111-8111-111111111111".to_owned(),
            client_id: "22222222-2222-4222-8222-222222222222".to_owned(),
            client_secret: "sandbox-secret".to_owned(),
            plain_notifications: true,
        }
    }
}

/// A running small Graph. It stops when it is dropped.
pub struct GraphServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What all requests share.
struct Shared {
    url: String,
    settings: GraphSettings,
    world: World,
    faults: Faults,
    calendar_deltas: CalendarDeltas,
    recorder: Recorder,
    tokens: AccessTokens,
    limits: Limits,
    uploads: uploads::Uploads,
    refresh_tokens: RefreshTokens,
    sign_ins: SignIns,
    users: Users,
    throttle: Throttle,
    subscriptions: Subscriptions,
}

impl GraphServer {
    /// Starts to serve. Sign-in and Graph are at the same URL.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(settings: GraphSettings, world: World) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let url = match &settings.host {
            Some(host) => format!("http://{host}:{}", address.port()),
            None => format!("http://{address}"),
        };
        let shared = Arc::new(Shared {
            url,
            settings,
            world,
            faults: Faults::default(),
            calendar_deltas: CalendarDeltas::default(),
            recorder: Recorder::default(),
            tokens: AccessTokens::default(),
            limits: Limits::default(),
            uploads: uploads::Uploads::default(),
            refresh_tokens: RefreshTokens::default(),
            sign_ins: SignIns::default(),
            users: Users::default(),
            throttle: Throttle::default(),
            subscriptions: Subscriptions::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let service = router.into_make_service_with_connect_info::<Cut>();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let following = subscriptions::follow(Arc::clone(&shared));
        tokio::spawn(async move {
            tokio::select! {
                () = following => {}
                _ = axum::serve(CuttingListener(listener), service) => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// Its base URL, for Graph (without version) and for sign-in.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Faults to be shown on demand.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What was said so far.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// The access tokens that were given.
    #[must_use]
    pub fn tokens(&self) -> &AccessTokens {
        &self.shared.tokens
    }

    /// What mailboxes bear.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// What was said in upload sessions so far.
    #[must_use]
    pub fn uploaded(&self) -> Vec<Uploaded> {
        self.shared.uploads.said()
    }

    /// Who is told of changes.
    #[must_use]
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.shared.subscriptions
    }

    /// Forgets all delta tokens that were given: their next use is answered with 410.
    pub fn forget_delta_tokens(&self) {
        self.shared.faults.next_delta_generation();
    }

    /// Forgets the tokens of rounds of mails that were given for one mailbox.
    pub fn forget_delta_tokens_of(&self, address: &str) {
        self.shared.faults.forget_delta_tokens_of(address);
    }

    /// The refresh tokens that were given.
    #[must_use]
    pub fn refresh_tokens(&self) -> &RefreshTokens {
        &self.shared.refresh_tokens
    }

    /// The users who sign in themselves.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.shared.users
    }

    /// The sign-ins so far, refused ones among them.
    #[must_use]
    pub fn sign_ins(&self) -> Vec<SignIn> {
        self.shared.sign_ins.all()
    }

    /// Lets the application sign in by a certificate, DER, as well as by its secret.
    ///
    /// # Errors
    /// It holds no RSA key.
    pub fn trust_certificate(&self, certificate: &[u8]) -> Result<(), &'static str> {
        self.shared.sign_ins.trust(certificate)
    }

    /// What mailboxes bear.
    #[must_use]
    pub fn throttle(&self) -> &Throttle {
        &self.shared.throttle
    }

    /// What it remembers of rounds of changes to calendars.
    #[must_use]
    pub fn calendar_deltas(&self) -> &CalendarDeltas {
        &self.shared.calendar_deltas
    }

    /// Does what a client of the mailbox's own could have done, such as Outlook on a telephone: nothing of it is recorded,
    /// and no fault is shown. Gives status and body. `path`: below the mailbox, with options; a body: JSON, or null.
    pub fn perform(&self, method: http::Method, address: &str, path: &str, body: &Value) -> (u16, Value) {
        let asked = Exchange::of(method, &format!("/v1.0/users/{address}/{path}"), body);
        let answered = self.shared.graph(&asked, &Token::of_anybody()).unwrap_or_else(Into::into);
        (answered.status.as_u16(), answered.json().cloned().unwrap_or_default())
    }

    /// How many requests at most were in work at once for a mailbox.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.throttle.most_at_once()
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    exchange::run(&shared, &cut, request).await
}

impl Shared {
    /// What Graph answers, faults aside.
    fn graph(&self, asked: &Exchange, token: &Token) -> refusal::Answer {
        let path: Vec<&str> = asked.segments.iter().map(String::as_str).collect();
        let (owner, rest) = match path.as_slice() {
            ["users", user, rest @ ..] => ((*user).to_owned(), rest),
            ["me", rest @ ..] => (token.user.clone().ok_or_else(refusal::me_without_user)?, rest),
            _ => return Err(refusal::unknown_segment(path.first().copied().unwrap_or_default())),
        };
        let address = self
            .world
            .lock()
            .account(&owner)
            .map(|account| account.address.clone())
            .ok_or_else(|| refusal::no_mailbox(&owner))?;
        // A user's token reaches the user's own mailbox: nobody shares one here.
        if token.user.as_ref().is_some_and(|user| *user != address) {
            return Err(refusal::access_denied());
        }
        match rest {
            [] => folders::user(self, asked, &address),
            ["mailFolders", rest @ ..] => folders::route(self, asked, &address, rest),
            ["messages", rest @ ..] => messages::route(self, asked, &address, rest),
            ["calendar" | "calendars" | "calendarView" | "events", ..] => {
                calendars::route(self, asked, &address, rest)
            }
            ["contacts" | "contactFolders", ..] => contacts::route(self, asked, &address, rest),
            ["sendMail"] => sending::send_mail(self, asked, &address),
            [segment, ..] => Err(refusal::unknown_segment(segment)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_gives_the_name_by_which_it_is_reached_and_not_what_it_is_bound_to() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 0));
        let settings = GraphSettings { listen, host: Some("sandbox".into()), ..GraphSettings::default() };
        let server = GraphServer::start(settings, World::new()).await.unwrap();
        assert_eq!(server.url(), format!("http://sandbox:{}", server.address().port()));
    }

    #[tokio::test]
    async fn a_graph_does_not_know_the_delta_tokens_of_another() {
        let first = GraphServer::start(GraphSettings::default(), World::new()).await.unwrap();
        let second = GraphServer::start(GraphSettings::default(), World::new()).await.unwrap();
        assert_ne!(first.shared.faults.delta_generation(), second.shared.faults.delta_generation());
    }
}
