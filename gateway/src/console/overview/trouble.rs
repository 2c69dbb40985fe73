//! What is wrong, and what to do about it.

use std::time::{Duration, SystemTime};

use postern_proto::connection::v1::{Connection, ConnectionState};
use postern_proto::event::v1::{Subscription, Trigger};
use postern_proto::outbox::v1::QueuedEmail;

use super::Count;
use crate::console::kinds;
use crate::console::show::{id, many};

/// How often in a row a look has to fail before somebody is to see to it: once or twice heals by itself.
const LOOKS: i32 = 2;
/// How long a mail that failed for good is told of: it stays in the outbox for longer.
const RECENT: Duration = Duration::from_secs(24 * 3_600);

/// Something that is wrong.
pub(super) struct Trouble {
    pub(super) what: String,
    pub(super) advice: String,
    pub(super) link: String,
    pub(super) go: &'static str,
}

/// What is looked at.
pub(super) struct Found<'a> {
    pub(super) unreached: &'a [String],
    pub(super) connections: &'a [Connection],
    pub(super) triggers: &'a [Trigger],
    pub(super) subscriptions: &'a [Subscription],
    pub(super) deferred: Count,
    pub(super) failed: &'a [QueuedEmail],
    /// There are more that failed.
    pub(super) more_failed: bool,
}

/// What is wrong of what was found.
pub(super) fn troubles(found: Found<'_>) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for address in found.unreached {
        troubles.push(Trouble {
            what: format!("The connector at {address} does not answer."),
            advice: "Nothing goes through it until it does. Look whether it runs, and what it logs."
                .to_owned(),
            link: "/connections".to_owned(),
            go: "The connections",
        });
    }
    for connection in found.connections {
        let sign_ins = kinds::sign_ins(connection);
        let (what, advice) = match connection.state() {
            ConnectionState::NeedsSignIn if sign_ins.browser || sign_ins.code => {
                ("needs a sign-in", "Sign in, or give it new credentials.")
            }
            ConnectionState::NeedsSignIn => ("needs a sign-in", "Give it new credentials."),
            ConnectionState::Misconfigured => (
                "is refused by its provider, whoever signs in",
                "Look whether its client secret has expired, and what the provider allows the application.",
            ),
            _ => continue,
        };
        troubles.push(Trouble {
            what: format!("{} {what}: calls through it fail until then.", id(&connection.name)),
            advice: advice.to_owned(),
            link: format!("/connections/{}", id(&connection.name)),
            go: "The connection",
        });
    }
    for trigger in found.triggers {
        let Some(status) = trigger.status.as_ref().filter(|status| status.consecutive_failures > LOOKS)
        else {
            continue;
        };
        let failure = status.last_failure.clone().unwrap_or_default();
        troubles.push(Trouble {
            what: format!("{} has failed {} times in a row.", trigger.name, status.consecutive_failures),
            advice: failure.message,
            link: "/triggers".to_owned(),
            go: "The triggers",
        });
    }
    let since = SystemTime::now() - RECENT;
    let is_recent = |email: &&QueuedEmail| {
        let settled = email.settle_time.or(email.create_time);
        settled.and_then(|time| SystemTime::try_from(time).ok()).is_none_or(|time| time >= since)
    };
    let recent = found.failed.iter().filter(is_recent).count();
    if recent > 0 {
        let count = Count { seen: recent, is_more: found.more_failed && recent == found.failed.len() };
        troubles.push(Trouble {
            what: format!(
                "{} failed for good in the last day.",
                count.words("mail of the outbox", "mails of the outbox")
            ),
            advice: "The outbox says why. Once that is mended they can be tried again there.".to_owned(),
            link: "/outbox?state=failed".to_owned(),
            go: "The mails that failed",
        });
    }
    if found.deferred.seen > 0 {
        let count = found.deferred.words("mail of the outbox", "mails of the outbox");
        troubles.push(Trouble {
            what: format!("{count} could not be handed over yet."),
            advice: "They are tried again by themselves; the outbox says why.".to_owned(),
            link: "/outbox?state=deferred".to_owned(),
            go: "The mails that wait",
        });
    }
    for subscription in found.subscriptions {
        let set_aside = subscription.status.as_ref().map_or(0, |status| status.set_aside);
        if set_aside > 0 {
            let count = many(usize::try_from(set_aside).unwrap_or(usize::MAX), "event", "events");
            troubles.push(Trouble {
                what: format!("{} has set {count} aside: its subscribers failed at them.", subscription.name),
                advice: "SubscriptionService.ListSetAsideEvents gives them; replay or drop them once that is mended."
                    .to_owned(),
                link: "/events".to_owned(),
                go: "The events",
            });
        }
    }
    troubles
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::{SubscriptionStatus, TriggerStatus};

    fn nothing<'a>() -> Found<'a> {
        let deferred = Count { seen: 0, is_more: false };
        Found {
            unreached: &[],
            connections: &[],
            triggers: &[],
            subscriptions: &[],
            deferred,
            failed: &[],
            more_failed: false,
        }
    }

    fn told(found: Found<'_>) -> Vec<String> {
        troubles(found).into_iter().map(|trouble| trouble.what).collect()
    }

    #[test]
    fn what_is_wrong_is_told_and_nothing_else() {
        assert!(told(nothing()).is_empty());
        let trigger = |consecutive_failures| Trigger {
            name: "connections/a/triggers/b".into(),
            status: Some(TriggerStatus { consecutive_failures, ..Default::default() }),
            ..Default::default()
        };
        assert!(told(Found { triggers: &[trigger(2)], ..nothing() }).is_empty());
        let told_of = told(Found { triggers: &[trigger(3)], ..nothing() });
        assert_eq!(told_of, ["connections/a/triggers/b has failed 3 times in a row."]);
        let status = |set_aside| Some(SubscriptionStatus { set_aside, ..Default::default() });
        let subscription = |set_aside| Subscription {
            name: "subscriptions/s".into(),
            status: status(set_aside),
            ..Default::default()
        };
        let told_of = told(Found { subscriptions: &[subscription(0), subscription(1)], ..nothing() });
        assert_eq!(told_of, ["subscriptions/s has set 1 event aside: its subscribers failed at them."]);
    }

    #[test]
    fn a_mail_that_failed_is_told_of_for_a_day() {
        let failed = |hours: u64| QueuedEmail {
            settle_time: Some((SystemTime::now() - Duration::from_secs(hours * 3_600)).into()),
            ..Default::default()
        };
        assert!(told(Found { failed: &[failed(25)], ..nothing() }).is_empty());
        let told_of = told(Found { failed: &[failed(1), failed(25)], more_failed: true, ..nothing() });
        assert_eq!(told_of, ["1 mail of the outbox failed for good in the last day."]);
        let told_of = told(Found { failed: &[failed(1), failed(2)], more_failed: true, ..nothing() });
        assert_eq!(told_of, ["2 mails of the outbox and more failed for good in the last day."]);
    }
}
