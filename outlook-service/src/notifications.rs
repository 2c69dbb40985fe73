//! Change notifications (Graph: the subscription resource): agreed, renewed and ended for what a trigger watches. What
//! is agreed travels with each call; nothing is kept.

mod read;

use jiff::{SignedDuration, Timestamp};
use postern_proto::connector::v1::{
    EndNotificationRequest, EndNotificationResponse, RenewNotificationRequest, RenewNotificationResponse,
};
use postern_proto::event::v1::trigger::Kind;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::graph::model::Page;
use crate::graph::{Again, Failure, Mailbox, Refusal};
use crate::outlook::{Call, Outlook};
use crate::times;

pub(crate) use read::read;

/// How long a notification is asked for: Outlook gives at most 10,080 minutes, and less than seven days.
const LIFE: SignedDuration = SignedDuration::from_mins(10_070);
/// The longest secret: Graph's `clientState`.
const MAX_SECRET: usize = 128;
/// How many pages of the application's notifications are looked through for one that is in the way.
const MAX_PAGES: usize = 20;

/// What is agreed, as the gateway keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Agreed {
    /// Graph's id of the notification.
    id: String,
    /// Whose mailbox it is for, as Graph names it. Absent: it was not written down.
    #[serde(default)]
    owner: Option<String>,
}

/// The parts of Graph's subscription that are read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    id: String,
    resource: Option<String>,
    notification_url: Option<String>,
    expiration_date_time: Option<String>,
}

/// What is asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wanted<'a> {
    change_type: &'a str,
    resource: &'a str,
    notification_url: &'a str,
    lifecycle_notification_url: &'a str,
    client_state: &'a str,
    expiration_date_time: String,
}

/// A longer life.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Renewed {
    expiration_date_time: String,
}

/// Agrees with Graph that it pushes what a trigger watches, or goes on with what was agreed.
pub(crate) async fn renew(
    outlook: &Outlook,
    call: &Call,
    asked: &RenewNotificationRequest,
) -> Result<RenewNotificationResponse, Error> {
    check(asked)?;
    let (mailbox, resource, change_type) = watched(outlook, call, asked).await?;
    let owner = owner(&mailbox).to_lowercase();
    let before = agreed(&asked.notification)?;
    let (kept, left) = match before {
        // The connection's mailbox was changed since.
        Some(agreed) if agreed.owner.as_ref().is_some_and(|of| *of != owner) => (None, Some(agreed)),
        before => (before, None),
    };
    if let Some(agreed) = kept {
        // A longer life is leave given anew too: Graph wants one of the two, not both.
        let renewed = Renewed { expiration_date_time: expiry() };
        match mailbox
            .patch::<Subscription>(mailbox.service(&["subscriptions", &agreed.id]), &renewed, None)
            .await
        {
            Ok(subscription) => return told(&subscription, owner, false),
            Err(failure) if failure.status() == Some(404) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    let wanted = Wanted {
        change_type,
        resource: &resource,
        notification_url: &asked.url,
        lifecycle_notification_url: &asked.url,
        client_state: &asked.secret,
        expiration_date_time: expiry(),
    };
    let made = match make(&mailbox, &wanted).await {
        Err(Failure::Refused(refusal)) if refusal.status == 409 => {
            clear(&mailbox, &wanted, refusal).await?;
            make(&mailbox, &wanted).await
        }
        made => made,
    };
    let told = told(&made.map_err(refused)?, owner, true)?;
    if let Some(agreed) = left
        && let Err(error) = mailbox.delete(mailbox.service(&["subscriptions", &agreed.id])).await
    {
        // It ends by itself, and nudges for nothing until then.
        tracing::debug!(%error, "a notification for the mailbox before was not ended");
    }
    Ok(told)
}

/// Ends a notification.
pub(crate) async fn end(
    outlook: &Outlook,
    call: &Call,
    asked: &EndNotificationRequest,
) -> Result<EndNotificationResponse, Error> {
    let Some(agreed) = agreed(&asked.notification)? else { return Ok(EndNotificationResponse {}) };
    let mailbox = outlook.mailbox(call, "notification", "")?;
    match mailbox.delete(mailbox.service(&["subscriptions", &agreed.id])).await {
        Err(failure) if failure.status() == Some(404) => Ok(EndNotificationResponse {}),
        ended => Ok(ended.map(|()| EndNotificationResponse {})?),
    }
}

fn check(asked: &RenewNotificationRequest) -> Result<(), Error> {
    let is_visible = asked.secret.bytes().all(|byte| byte.is_ascii_graphic());
    if asked.secret.is_empty() || asked.secret.len() > MAX_SECRET || !is_visible {
        return Err(Error::field("secret", "expected 1 to 128 visible ASCII characters"));
    }
    // Whether a URL without TLS will do is for Graph to say.
    if reqwest::Url::parse(&asked.url).is_err() {
        return Err(Error::field("url", "expected a URL"));
    }
    Ok(())
}

/// What a trigger watches, as Graph names it, and which changes matter.
async fn watched(
    outlook: &Outlook,
    call: &Call,
    asked: &RenewNotificationRequest,
) -> Result<(Mailbox, String, &'static str), Error> {
    match asked.trigger.as_ref().and_then(|trigger| trigger.kind.as_ref()) {
        Some(Kind::NewEmail(mail)) => {
            let mailbox = outlook.mailbox(call, "new_email.mailbox", &mail.mailbox)?;
            let folders = outlook.folders(call, &mailbox);
            let found = folders.find("new_email.folder_path", &mail.folder_path).await?;
            let id = folders.show(&found.id).await?.id.replace('\'', "''");
            let owner = owner(&mailbox);
            Ok((mailbox, format!("{owner}/mailFolders('{id}')/messages"), "created"))
        }
        // Graph pushes for all calendars of a mailbox at once. What goes matters to no trigger, and is asked for by one
        // kind alone, for of two wishes that are the same Graph refuses one.
        Some(Kind::EventCreated(entry)) => {
            events(outlook, call, "event_created", &entry.mailbox, "created,updated,deleted")
        }
        Some(Kind::EventModified(entry)) => {
            events(outlook, call, "event_modified", &entry.mailbox, "created,updated,deleted")
        }
        Some(Kind::EventStartingSoon(entry)) => {
            events(outlook, call, "event_starting_soon", &entry.mailbox, "created,updated")
        }
        None => Err(Error::field("trigger.kind", "is absent")),
    }
}

/// The calendar entries of a mailbox. `kind`: the field of the trigger.
fn events(
    outlook: &Outlook,
    call: &Call,
    kind: &str,
    named: &str,
    change_type: &'static str,
) -> Result<(Mailbox, String, &'static str), Error> {
    let mailbox = outlook.mailbox(call, &format!("{kind}.mailbox"), named)?;
    let resource = format!("{}/events", owner(&mailbox));
    Ok((mailbox, resource, change_type))
}

fn owner(mailbox: &Mailbox) -> String {
    mailbox.user.as_ref().map_or_else(|| "me".to_owned(), |user| format!("users/{user}"))
}

async fn make(mailbox: &Mailbox, wanted: &Wanted<'_>) -> Result<Subscription, Failure> {
    mailbox.make(mailbox.service(&["subscriptions"]), wanted, Again::Doubtful).await
}

/// Removes the notification that is in the way of the one that is wanted, where it is our own: what a renewal that broke
/// off left. One that pushes to another URL is somebody else's.
async fn clear(mailbox: &Mailbox, wanted: &Wanted<'_>, refusal: Box<Refusal>) -> Result<(), Error> {
    let mut url = mailbox.service(&["subscriptions"]);
    for _ in 0..MAX_PAGES {
        let page: Page<Subscription> = mailbox.get(url, None).await?.value;
        for found in page.value {
            let is = |text: &Option<String>, wanted: &str| {
                text.as_ref().is_some_and(|text| text.eq_ignore_ascii_case(wanted))
            };
            if is(&found.resource, wanted.resource) && is(&found.notification_url, wanted.notification_url) {
                return Ok(mailbox.delete(mailbox.service(&["subscriptions", &found.id])).await?);
            }
        }
        match page.next {
            Some(next) => url = mailbox.link(&next)?,
            None => break,
        }
    }
    Err(Error::PushUnsupported(Some(refusal)))
}

/// Why a notification was not made: what the account may not have pushed is polled.
fn refused(failure: Failure) -> Error {
    match failure {
        Failure::Refused(refusal) if matches!(refusal.status, 403 | 409) => {
            Error::PushUnsupported(Some(refusal))
        }
        Failure::Refused(refusal) if refusal.status == 400 => Error::UrlRefused(refusal),
        failure => failure.into(),
    }
}

fn told(
    subscription: &Subscription,
    owner: String,
    made_anew: bool,
) -> Result<RenewNotificationResponse, Error> {
    let until = subscription.expiration_date_time.as_deref().and_then(times::from_graph);
    let until = until.ok_or_else(|| Failure::unreadable(200))?;
    let agreed = Agreed { id: subscription.id.clone(), owner: Some(owner) };
    let notification = serde_json::to_vec(&agreed).map_err(|_| Failure::unreadable(200))?;
    Ok(RenewNotificationResponse {
        notification: notification.into(),
        expire_time: Some(times::to_proto(until)),
        made_anew,
    })
}

fn agreed(notification: &[u8]) -> Result<Option<Agreed>, Error> {
    if notification.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Error::field("notification", "expected what RenewNotification gave");
    serde_json::from_slice(notification).map(Some).map_err(wrong)
}

fn expiry() -> String {
    let until = Timestamp::now().checked_add(LIFE).unwrap_or(Timestamp::MAX);
    until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
