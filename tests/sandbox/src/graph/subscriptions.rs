//! `subscriptions`: who is told of changes by a POST to a URL, after that URL has shown that it wants to be.

mod delivery;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::exchange::{self, Exchange};
use super::refusal::{self, Answer, Answered, Refusal};
use super::{Shared, query};

pub(super) use delivery::follow;

/// The longest life that Outlook gives.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_mins(10_080);
/// How many notifications are on their way at once: the others wait, so that a receiver that is away for a while is not
/// met by thousands of sockets.
const SENT_AT_ONCE: usize = 32;
/// How many subscriptions a mailbox has at most.
const MOST: usize = 1_000;

/// The subscriptions, and what is to go wrong with them.
#[derive(Debug)]
pub struct Subscriptions {
    all: Mutex<HashMap<String, Subscription>>,
    life: Mutex<SignedDuration>,
    limit: AtomicUsize,
    lost: AtomicUsize,
    doubled: AtomicBool,
    chances: Mutex<Chances>,
    /// Places for notifications that are on their way.
    places: Arc<Semaphore>,
    http: reqwest::Client,
}

/// What share of the notifications of changes goes wrong, by whose dice, and how many did so far.
#[derive(Debug, Default)]
struct Chances {
    lost: f64,
    doubled: f64,
    dice: fastrand::Rng,
    went: (u64, u64),
}

/// What becomes of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Luck {
    Lost,
    Doubled,
    Plain,
}

/// A subscription.
#[derive(Debug, Clone)]
struct Subscription {
    id: String,
    resource: String,
    /// Whose, and what of theirs: `events`, `messages`, `mailFolders/{folder}/messages` …
    address: String,
    collection: String,
    change_type: String,
    url: String,
    lifecycle_url: Option<String>,
    client_state: Option<String>,
    immutable: bool,
    expires: Timestamp,
}

impl Default for Subscriptions {
    fn default() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(SENT_AT_ONCE)
            .build()
            .unwrap_or_default();
        Self {
            all: Mutex::default(),
            life: Mutex::new(LONGEST_LIFE),
            limit: AtomicUsize::new(MOST),
            lost: AtomicUsize::new(0),
            doubled: AtomicBool::new(false),
            chances: Mutex::default(),
            places: Arc::new(Semaphore::new(SENT_AT_ONCE)),
            http,
        }
    }
}

impl Subscriptions {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Removes all without a word.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    /// Gives no longer life than this from now on.
    pub fn set_life(&self, life: Duration) {
        let life = SignedDuration::try_from(life).unwrap_or(LONGEST_LIFE);
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }

    /// Allows so many for each mailbox.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Loses the next notifications of changes.
    pub fn lose(&self, count: usize) {
        self.lost.store(count, Ordering::Relaxed);
    }

    /// Sends each notification of a change twice from now on.
    pub fn double(&self) {
        self.doubled.store(true, Ordering::Relaxed);
    }

    /// Loses a share of the notifications of changes from now on and sends another twice, by dice that fall as `seed` has
    /// them fall.
    pub fn disturb(&self, lost: f64, doubled: f64, seed: u64) {
        let dice = fastrand::Rng::with_seed(seed);
        *self.chances.lock().unwrap_or_else(PoisonError::into_inner) =
            Chances { lost, doubled, dice, went: (0, 0) };
    }

    /// How many notifications were lost and how many doubled since they are disturbed.
    #[must_use]
    pub fn disturbed(&self) -> (u64, u64) {
        self.chances.lock().unwrap_or_else(PoisonError::into_inner).went
    }

    /// What becomes of the next notification.
    fn luck(&self) -> Luck {
        let mut chances = self.chances.lock().unwrap_or_else(PoisonError::into_inner);
        if chances.lost + chances.doubled <= 0.0 {
            return Luck::Plain;
        }
        let fallen = chances.dice.f64();
        if fallen < chances.lost {
            chances.went.0 += 1;
            Luck::Lost
        } else if fallen < chances.lost + chances.doubled {
            chances.went.1 += 1;
            Luck::Doubled
        } else {
            Luck::Plain
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Subscription>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        all.retain(|_, subscription| subscription.expires > now);
        all
    }
}

/// Answers everything below `subscriptions`.
pub(super) async fn route(shared: &Shared, asked: &Exchange) -> Answer {
    let rest: Vec<&str> = asked.segments.iter().skip(1).map(String::as_str).collect();
    let one = |id: &str| {
        let found = shared.subscriptions.lock().get(id).cloned();
        found.ok_or_else(refusal::no_subscription)
    };
    match (rest.as_slice(), asked.method.as_str()) {
        ([], "POST") => make(shared, asked).await,
        ([], "GET") => {
            query::read(asked, &["$top", "$skiptoken"])?;
            let all = shared.subscriptions.lock();
            let value: Vec<Value> = all.values().map(|found| shape(shared, found)).collect();
            Ok(Answered::ok(json!({"value": value})))
        }
        ([id], "GET") => Ok(Answered::ok(shape(shared, &one(id)?))),
        ([id], "PATCH") => {
            let body = asked.json()?;
            let expires = expires(shared, &body)?;
            let mut all = shared.subscriptions.lock();
            let found = all.get_mut(*id).ok_or_else(refusal::no_subscription)?;
            found.expires = expires;
            Ok(Answered::ok(shape(shared, found)))
        }
        ([id], "DELETE") => {
            one(id)?;
            shared.subscriptions.lock().remove(*id);
            Ok(Answered::empty(StatusCode::NO_CONTENT))
        }
        ([id, "reauthorize"], _) if asked.method == Method::POST => {
            one(id)?;
            Ok(Answered::empty(StatusCode::NO_CONTENT))
        }
        ([] | [_] | [_, "reauthorize"], _) => Err(refusal::method()),
        ([.., segment], _) => Err(refusal::unknown_segment(segment)),
    }
}

async fn make(shared: &Shared, asked: &Exchange) -> Answer {
    let made = read(shared, asked)?;
    let is_same = |other: &Subscription| {
        other.resource.eq_ignore_ascii_case(&made.resource) && other.change_type == made.change_type
    };
    {
        let all = shared.subscriptions.lock();
        if all.values().any(is_same) {
            return Err(refusal::subscription_exists());
        }
        let own = all.values().filter(|other| other.address == made.address).count();
        if own >= shared.subscriptions.limit.load(Ordering::Relaxed) {
            return Err(refusal::too_many_subscriptions());
        }
    }
    // Each URL is asked, also where both are the same.
    for url in std::iter::once(&made.url).chain(&made.lifecycle_url) {
        if !delivery::validates(&shared.subscriptions.http, url).await {
            return Err(refusal::not_validated());
        }
    }
    let answer = Answered::json_of(StatusCode::CREATED, shape(shared, &made));
    shared.subscriptions.lock().insert(made.id.clone(), made);
    Ok(answer)
}

fn read(shared: &Shared, asked: &Exchange) -> Result<Subscription, Refusal> {
    let body = asked.json()?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let needed = |name: &str| text(name).ok_or_else(|| refusal::bad(format!("'{name}' is missing.")));
    let (resource, change_type, url) =
        (needed("resource")?, needed("changeType")?, needed("notificationUrl")?);
    let lifecycle_url = text("lifecycleNotificationUrl");
    for url in std::iter::once(&url).chain(&lifecycle_url) {
        let plain = shared.settings.plain_notifications && url.starts_with("http://127.0.0.1:");
        if !url.starts_with("https://") && !plain {
            return Err(refusal::bad("The notification URL must be https."));
        }
    }
    let known = |change: &str| matches!(change, "created" | "updated" | "deleted");
    if !change_type.split(',').all(known) {
        return Err(refusal::bad("Invalid value for 'changeType'."));
    }
    let client_state = text("clientState");
    if client_state.as_ref().is_some_and(|state| state.len() > 128) {
        return Err(refusal::bad("'clientState' is too long."));
    }
    let (address, collection) = target(shared, &resource)?;
    let id = format!("{:08x}-0000-4000-8000-{:012x}", fastrand::u32(..), fastrand::u32(..));
    let (expires, immutable) = (expires(shared, &body)?, asked.immutable());
    Ok(Subscription {
        id,
        resource,
        address,
        collection,
        change_type,
        url,
        lifecycle_url,
        client_state,
        immutable,
        expires,
    })
}

/// Whose account a resource is of, and which collection in it.
fn target(shared: &Shared, resource: &str) -> Result<(String, String), Refusal> {
    let (_, segments) = exchange::segments(&format!("/v1.0/{resource}"));
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["users", user, rest @ ..] = path.as_slice() else { return Err(refusal::me_without_user()) };
    let mut state = shared.world.lock();
    let account = state.account(user).ok_or_else(|| refusal::no_mailbox(user))?;
    let collection = match rest {
        ["mailFolders", folder, "messages"] => {
            let folder = account.folder(folder).ok_or_else(refusal::no_item)?;
            format!("mailFolders/{}/messages", folder.id)
        }
        ["messages" | "events" | "contacts"] => rest.join("/"),
        _ => return Err(refusal::bad(format!("The resource '{resource}' is not supported."))),
    };
    Ok((account.address.clone(), collection))
}

fn expires(shared: &Shared, body: &Value) -> Result<Timestamp, Refusal> {
    let asked = body.get("expirationDateTime").and_then(Value::as_str);
    let asked: Option<Timestamp> = asked.and_then(|text| text.parse().ok());
    let asked = asked.ok_or_else(|| refusal::bad("'expirationDateTime' is missing."))?;
    let now = Timestamp::now();
    if asked <= now || asked.duration_since(now) > LONGEST_LIFE {
        return Err(refusal::bad("Subscription expiration can only be 10080 minutes in the future."));
    }
    let life = *shared.subscriptions.life.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(asked.min(now.checked_add(life).unwrap_or(asked)))
}

fn shape(shared: &Shared, subscription: &Subscription) -> Value {
    json!({
        "id": subscription.id,
        "resource": subscription.resource,
        "applicationId": shared.settings.client_id,
        "changeType": subscription.change_type,
        "notificationUrl": subscription.url,
        "lifecycleNotificationUrl": subscription.lifecycle_url,
        "expirationDateTime": subscription.expires.to_string(),
    })
}
