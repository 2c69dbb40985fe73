//! What is sent to the URLs of subscriptions: the question whether they want to be told, changes, and lifecycle events.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Luck, Subscription, Subscriptions};
use crate::graph::{GraphServer, Shared};
use crate::world::{Event, State};

/// How long a URL may take to answer the question whether it wants to be told.
const VALIDATION_PATIENCE: Duration = Duration::from_secs(10);
/// How long a URL may take to take a notification.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a notification is sent where it is not taken.
const TRIES: u32 = 4;
/// The pause before the second time; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Whether a URL gives the token back that it is sent, decoded and as plain text.
pub(super) async fn validates(http: &reqwest::Client, url: &str) -> bool {
    let token = format!("Validation: Testing client {:016x} <ü>", fastrand::u64(..));
    let asked = http
        .post(url)
        .query(&[("validationToken", &token)])
        .header("content-type", "text/plain; charset=utf-8")
        .timeout(VALIDATION_PATIENCE);
    let Ok(answer) = asked.send().await else { return false };
    let is_text =
        answer.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let is_ok = answer.status() == 200;
    is_ok && is_text && answer.text().await.is_ok_and(|text| text == token)
}

/// What is in the calendars of each account, as it was last told.
#[derive(Default)]
struct Agendas {
    seen: HashMap<String, Agenda>,
}

/// What is in the calendars of an account.
#[derive(Default)]
struct Agenda {
    last_change: u64,
    /// Each event with the place of its last change, and how many times of it do not take place.
    events: HashMap<String, (u64, usize)>,
}

impl Agendas {
    /// The events that came to be, were changed or went since the last time: whose, how, and which.
    fn changes(&mut self, state: &State) -> Vec<(String, &'static str, String)> {
        let mut found = Vec::new();
        for account in state.accounts.values() {
            let last_change = account.calendars.last_change();
            let before = self.seen.entry(account.address.clone()).or_default();
            if before.last_change == last_change {
                continue;
            }
            let now = account.calendars.events.values();
            let place = |event: &Event| {
                let excepted = event.exceptions.values().map(|exception| exception.changed);
                (excepted.max().unwrap_or_default().max(event.changed), event.cancelled.len())
            };
            let events: HashMap<_, _> = now.map(|event| (event.id.clone(), place(event))).collect();
            let mut tell = |kind, id: &String| found.push((account.address.clone(), kind, id.clone()));
            for (id, place) in &events {
                match before.events.get(id) {
                    None => tell("created", id),
                    Some(then) if then != place => tell("updated", id),
                    Some(_) => {}
                }
            }
            before.events.keys().filter(|id| !events.contains_key(*id)).for_each(|id| tell("deleted", id));
            *before = Agenda { last_change, events };
        }
        found
    }
}

/// Tells of mails and events that come to be, are changed or go, until the world ends.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut changes = shared.world.changes();
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut agendas = Agendas::default();
    loop {
        let mut found = Vec::new();
        let of_calendars;
        {
            let state = shared.world.lock();
            of_calendars = agendas.changes(&state);
            for account in state.accounts.values() {
                let (after, last) = (seen.get(&account.address).copied().unwrap_or(0), account.last_change());
                if after == last {
                    continue;
                }
                seen.insert(account.address.clone(), last);
                for change in account.all_changes(after, last) {
                    let there =
                        || account.message(&change.message).is_some_and(|m| m.folder == change.folder);
                    let kind = if change.came {
                        "created"
                    } else if there() {
                        "updated"
                    } else {
                        "deleted"
                    };
                    let (folder, message) = (change.folder.clone(), change.message.clone());
                    found.push((account.address.clone(), folder, kind, message));
                }
            }
        }
        for (address, folder, kind, id) in found {
            for collection in [format!("mailFolders/{folder}/messages"), "messages".to_owned()] {
                shared.tell_of_change(&address, &collection, kind, &id);
            }
        }
        for (address, kind, id) in of_calendars {
            shared.tell_of_change(&address, "events", kind, &id);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Tells those who have subscribed that an item of a collection (`events`, `mailFolders/{folder}/messages` …) was
    /// `created`, `updated` or `deleted`.
    pub(crate) fn tell_of_change(&self, address: &str, collection: &str, kind: &str, id: &str) {
        let all = self.subscriptions.lock();
        for one in all.values() {
            let is_meant = one.address == address && one.collection == collection;
            if !is_meant || !one.change_type.split(',').any(|wanted| wanted == kind) {
                continue;
            }
            let lost = |left: usize| left.checked_sub(1);
            let luck = self.subscriptions.luck();
            if luck == Luck::Lost
                || self.subscriptions.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lost).is_ok()
            {
                continue;
            }
            let (path, name) = match collection {
                "events" => ("Events", "Event"),
                _ => ("Messages", "Message"),
            };
            let owner = format!("Users/{address}/{path}/{id}");
            let mut item = common(one, &self.settings.tenant);
            item["changeType"] = kind.into();
            item["resource"] = owner.clone().into();
            item["resourceData"] = json!({
                "@odata.type": format!("#Microsoft.Graph.{name}"), "@odata.id": owner, "@odata.etag": "W/\"1\"",
                "id": if one.immutable { id.to_owned() } else { format!("{id}-mutable") },
            });
            let doubled = luck == Luck::Doubled || self.subscriptions.doubled.load(Ordering::Relaxed);
            let times = if doubled { 2 } else { 1 };
            for _ in 0..times {
                send(&self.subscriptions, &one.url, item.clone());
            }
        }
    }
}

impl GraphServer {
    /// Sends a lifecycle event to all who have subscribed: `reauthorizationRequired`, `subscriptionRemoved` (they are
    /// then no more) or `missed`.
    pub fn send_lifecycle(&self, event: &str) {
        let subscriptions = &self.shared.subscriptions;
        let all: Vec<Subscription> = subscriptions.lock().values().cloned().collect();
        if event == "subscriptionRemoved" {
            subscriptions.forget_all();
        }
        for one in all {
            let Some(url) = &one.lifecycle_url else { continue };
            let mut item = common(&one, &self.shared.settings.tenant);
            item["lifecycleEvent"] = event.into();
            send(subscriptions, url, item);
        }
    }
}

fn common(one: &Subscription, tenant: &str) -> Value {
    json!({
        "subscriptionId": one.id,
        "subscriptionExpirationDateTime": one.expires.to_string(),
        "clientState": one.client_state,
        "tenantId": tenant,
    })
}

/// Sends in the background, again where it is not taken.
fn send(subscriptions: &Subscriptions, url: &str, item: Value) {
    let places = Arc::clone(&subscriptions.places);
    let asked = subscriptions
        .http
        .post(url)
        .header("content-type", "application/json")
        .body(json!({"value": [item]}).to_string())
        .timeout(PATIENCE);
    tokio::spawn(async move {
        for number in 0..TRIES {
            let Some(asked) = asked.try_clone() else { return };
            let place = places.acquire().await;
            if asked.send().await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            drop(place);
            tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(number)).await;
        }
    });
}
