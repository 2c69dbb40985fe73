//! Poll and CheckTrigger: what came to be since a cursor. A pure function of the request and of what Graph holds; the
//! state between two looks is all in the cursor.

mod calendar;
mod entries;
mod mail;
mod odata;
mod soon;

use jiff::{SignedDuration, Timestamp};
use postern_proto::connector::v1::{
    CheckTriggerRequest, CheckTriggerResponse, PollRequest, PollResponse, WatchedTrigger,
};

use crate::error::Error;
use crate::graph::Mailbox;
use crate::outlook::{Call, Outlook};
use crate::times;

/// The most that an occurrence's data may take.
const MAX_DATA: usize = 60 * 1024;
/// The most that the data of all occurrences of an answer take: a gRPC message is bounded by 4 MiB, the names of those
/// who are told besides.
const MAX_ALL: usize = 3_000_000;

/// Checks a trigger, and says what it watches.
pub(crate) async fn check_trigger(
    outlook: &Outlook,
    call: &Call,
    asked: &CheckTriggerRequest,
) -> Result<CheckTriggerResponse, Error> {
    match (&asked.trigger, entries::kind(asked.trigger.as_ref())) {
        (Some(trigger), Some(kind)) => entries::check(outlook, call, trigger, kind).await,
        _ => mail::check(outlook, call, asked.trigger.as_ref()).await,
    }
}

/// Looks what happened.
pub(crate) async fn poll(outlook: &Outlook, call: &Call, asked: &PollRequest) -> Result<PollResponse, Error> {
    let kind = asked.triggers.first().and_then(|watched| entries::kind(watched.trigger.as_ref()));
    match kind {
        Some(kind) => entries::poll(outlook, call, asked, kind).await,
        None => mail::poll(outlook, call, asked).await,
    }
}

/// Whose a mailbox is, as a cursor names it.
fn user(mailbox: &Mailbox) -> String {
    mailbox.user.as_deref().unwrap_or("me").to_lowercase()
}

/// Whose a mailbox is, as what a trigger watches names it. The connection's own goes apart from the same one that a
/// trigger names: it can be changed, and the triggers on the other do not go with it.
fn owner(mailbox: &Mailbox, named: &str) -> String {
    let own = if named.is_empty() { "own:" } else { "" };
    format!("{own}{}", user(mailbox))
}

/// The most that the data of each of so many occurrences in an answer may take.
fn bound(count: usize) -> usize {
    (MAX_ALL / count.max(1)).min(MAX_DATA)
}

/// How many occurrences are asked for at most; `usual` where nothing is said.
fn most(asked: &PollRequest, usual: usize) -> Result<usize, Error> {
    match usize::try_from(asked.max_occurrences) {
        Ok(0) => Ok(usual),
        Ok(most) => Ok(most),
        Err(_) => Err(Error::field("max_occurrences", "expected 0 or more")),
    }
}

/// When a trigger was made.
fn since(watched: &WatchedTrigger) -> Result<Timestamp, Error> {
    let since = watched.since.as_ref().map_or(Some(Timestamp::UNIX_EPOCH), times::from_proto);
    since.ok_or_else(|| Error::field("triggers.since", "is not a time"))
}

/// How far the provider's clock, which tells whole seconds, is ahead of ours, which is taken for the gateway's: the
/// least that it can be, for a mail is rather told than lost.
fn ahead(date: Timestamp, ours: Timestamp) -> SignedDuration {
    date.duration_since(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_never_taken_for_younger_than_it_is_whatever_the_clocks_and_their_phase() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        for skew in [-61_300, -1_500, -400, 0, 400, 1_000, 1_500, 1_999, 61_300] {
            for made in (100_000..101_000).step_by(50) {
                for looked in (made..made + 2_000).step_by(50) {
                    let date = at((looked + skew) / 1_000 * 1_000);
                    let since = at(made).checked_add(ahead(date, at(looked))).unwrap();
                    let lag = at(made + skew).duration_since(since);
                    assert!(
                        !lag.is_negative() && lag < SignedDuration::from_secs(1),
                        "{skew} {made} {looked}"
                    );
                }
            }
        }
    }
}
