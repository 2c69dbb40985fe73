//! Where providers lead users back to: `{public URL}/sign-in/callback`. What it brings is taken once, and then the
//! browser is led on to a page whose URL holds nothing of it. What was brought is its connector's to read.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use postern_proto::connection::v1::{SignIn, SignInState};
use tokio::sync::Semaphore;

use super::coming_back::CameBack;
use super::record::{self, Name};
use super::{CALLBACK, OUTCOME, STATE};
use crate::connections::{CONFIGURATION_REFUSED, CREDENTIALS_REFUSED, Connections, Room};
use crate::notifications::PublicUrl;
use crate::pages::{Link, Notice, Tone, page, whole};

/// Where the page lies that says how a sign-in stands, below the public URL.
const OUTCOME_PATH: &str = "/sign-in/outcome";
/// Users who come back at once: each holds a call to a provider. Who comes beyond is to come again.
const MAX_AT_ONCE: usize = 64;
/// How often a page looks whether what is under way has ended, and how often at most.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const MAX_LOOKS: u32 = 40;

/// What the door needs.
#[derive(Clone)]
struct Door {
    room: Arc<Room>,
    places: Arc<Semaphore>,
    base: String,
    /// Whether connections have pages that one can be led to.
    has_console: bool,
}

/// The pages of sign-ins.
pub(crate) fn router(connections: &Connections, url: &PublicUrl, has_console: bool) -> Router {
    let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
    let door = Door { room: connections.room.clone(), places, base: url.path().to_owned(), has_console };
    let at = |path: &str| format!("{}{path}", url.path());
    // Who asks by HEAD only looks, as the scanners of mails and chats do: nothing is taken.
    Router::new()
        .route(&at(CALLBACK), get(come_back).head(looked_at))
        .route(&at(OUTCOME_PATH), get(outcome))
        .with_state(door)
}

async fn looked_at() -> Response {
    whole(StatusCode::OK, "text/html; charset=utf-8", Body::empty())
}

async fn come_back(State(door): State<Door>, request: Request) -> Response {
    // Nor does a browser that only fetches what its user might open.
    if is_prefetch(request.headers()) {
        return whole(StatusCode::NO_CONTENT, "text/plain", Body::empty());
    }
    let query = request.uri().query().unwrap_or_default();
    let state = value_of(query, "state").unwrap_or_default();
    let Some(name) = door.room.unsealed_name(STATE, &state) else {
        return page(StatusCode::BAD_REQUEST, &door.stranger());
    };
    let Ok(_place) = door.places.try_acquire() else {
        return page(StatusCode::SERVICE_UNAVAILABLE, &door.for_now());
    };
    match door.room.came_back(name.clone(), query.to_owned()).await {
        CameBack::Nowhere => page(StatusCode::NOT_FOUND, &door.nowhere()),
        CameBack::ForNow => page(StatusCode::SERVICE_UNAVAILABLE, &door.for_now()),
        CameBack::Again => door.lead_on(&name, "&again=1"),
        CameBack::Ended | CameBack::Meanwhile => door.lead_on(&name, ""),
    }
}

async fn outcome(State(door): State<Door>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let sealed = value_of(query, "of").unwrap_or_default();
    let Some(name) = door.room.unsealed_name(OUTCOME, &sealed) else {
        return page(StatusCode::BAD_REQUEST, &door.stranger());
    };
    match door.stands(&name).await {
        Some(sign_in) => {
            let about = door.about(&name).await;
            let mut notice = door.told(&sign_in, about, value_of(query, "again").is_some());
            notice.link = door.on_from(&name, &sign_in);
            page(StatusCode::OK, &notice)
        }
        None => page(StatusCode::NOT_FOUND, &door.nowhere()),
    }
}

impl Door {
    /// Leads the browser on to how a sign-in stands.
    fn lead_on(&self, name: &Name, more: &str) -> Response {
        let Ok(sealed) = self.room.sealed_name(OUTCOME, name) else {
            return page(StatusCode::SERVICE_UNAVAILABLE, &self.for_now());
        };
        let to = format!("{}{OUTCOME_PATH}?of={sealed}{more}", self.base);
        let mut response = whole(StatusCode::SEE_OTHER, "text/plain", Body::empty());
        if let Ok(to) = HeaderValue::from_str(&to) {
            response.headers_mut().insert(header::LOCATION, to);
        }
        response
    }

    /// How a sign-in stands: what is under way is waited for, a little.
    async fn stands(&self, name: &Name) -> Option<SignIn> {
        let mut looks = 0;
        loop {
            let stored = record::read(self.room.store.as_ref(), name).await.ok()??;
            let shown = stored.shown(name);
            looks += 1;
            if shown.state() != SignInState::Pending || looks > MAX_LOOKS {
                return Some(shown);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What people call the connection of a sign-in.
    async fn about(&self, name: &Name) -> String {
        let stored = self.room.stored(&name.connection).await.ok();
        let named = stored.map(|stored| stored.connection.display_name).filter(|named| !named.is_empty());
        named.unwrap_or_else(|| name.connection.trim_start_matches("connections/").to_owned())
    }

    /// Where to go on in the console. `None`: there is none.
    fn on_from(&self, name: &Name, sign_in: &SignIn) -> Option<Link> {
        let words = match sign_in.state() {
            SignInState::Failed => "Begin a new sign-in",
            _ => "Back to the connection",
        };
        let href = format!("{}/console/{}", self.base, name.connection);
        self.has_console.then_some(Link { href, words })
    }

    fn notice(&self, tone: Tone, title: &str, happened: &[&str], next: &str) -> Notice {
        Notice {
            root: self.base.clone(),
            tone,
            title: title.to_owned(),
            happened: happened.iter().map(ToString::to_string).collect(),
            next: next.to_owned(),
            facts: Vec::new(),
            link: None,
        }
    }

    fn stranger(&self) -> Notice {
        let happened =
            "This link does not belong to a sign-in that was begun here, or a part of it is missing.";
        let next = "Begin the sign-in again where you began it, and open the whole link that you get there.";
        self.notice(Tone::Care, "This link cannot be used", &[happened], next)
    }

    fn nowhere(&self) -> Notice {
        let happened = "There is no such sign-in any more: it was begun more than a day ago, or its connection was deleted.";
        self.notice(Tone::Care, "This sign-in is gone", &[happened], "Begin a new sign-in.")
    }

    fn for_now(&self) -> Notice {
        let happened = "The provider, or the service that speaks to it, did not answer. Nothing is lost.";
        let next = "Reload this page in a moment: the sign-in then goes on where it is.";
        self.notice(Tone::Waiting, "Not finished yet", &[happened], next)
    }

    /// How a sign-in ended.
    fn told(&self, sign_in: &SignIn, connection: String, again: bool) -> Notice {
        let close = "Nothing more is to be done: you can close this page.";
        let anew = "To sign in after all, begin a new sign-in: this one cannot be used any more.";
        let before = "This sign-in was finished before: opening its link again changes nothing.";
        let mut notice = match (sign_in.state(), sign_in.failure_reason.as_str()) {
            (SignInState::Succeeded, _) => {
                let happened = "The connection can be used now: what waited for it goes on by itself.";
                self.notice(Tone::Well, "You are signed in", &[happened], close)
            }
            (SignInState::Failed, "SIGN_IN_DENIED") => {
                self.notice(Tone::Care, "Not signed in", &[], "This sign-in cannot be used any more.")
            }
            (SignInState::Failed, "SIGN_IN_EXPIRED") => {
                self.notice(Tone::Care, "The sign-in has expired", &[], anew)
            }
            (SignInState::Failed, "WRONG_ACCOUNT") => {
                let next = "Begin a new sign-in and choose the account that the connection is for.";
                self.notice(Tone::Care, "This is another account", &[], next)
            }
            (SignInState::Failed, "WRONG_PROVIDER") => {
                self.notice(Tone::Care, "This is another provider", &[], anew)
            }
            (SignInState::Failed, CREDENTIALS_REFUSED | CONFIGURATION_REFUSED) => {
                let next = "Show this page to whoever set up the connection. It is not you that was refused.";
                self.notice(Tone::Care, "The application was refused", &[], next)
            }
            (SignInState::Failed, _) => self.notice(Tone::Care, "The provider is out of order", &[], anew),
            _ => self.notice(
                Tone::Waiting,
                "Not finished yet",
                &["Nobody has signed in yet, or the provider takes its time."],
                "Reload this page in a moment.",
            ),
        };
        if !sign_in.failure_message.is_empty() {
            notice.happened.insert(0, sentence(&sign_in.failure_message));
        }
        if again {
            notice.happened.push(before.to_owned());
        }
        notice.facts.push(("Connection", connection));
        if !sign_in.account.is_empty() {
            notice.facts.push(("Account", sign_in.account.clone()));
        }
        notice
    }
}

/// A message as a sentence.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

/// A value of a query.
fn value_of(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Whether a browser says that its user has not opened the page.
fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-moz", "x-purpose"].iter().any(|name| {
        let value = headers.get(*name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.contains("prefetch") || value.contains("preview") || value.contains("prerender")
    })
}
