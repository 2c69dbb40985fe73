//! CreateEvent, UpdateEvent and DeleteEvent: what changes is changed once, and nothing else is.

use jiff::SignedDuration;
use postern_proto::outlook::v1::{
    CalendarEvent, CreateEventRequest, CreateEventResponse, DeleteEventRequest, DeleteEventResponse,
    UpdateEventRequest, UpdateEventResponse,
};
use serde_json::{Value, json};

use super::read::{self, Entry};
use super::{ENTRY, when, write};
use crate::error::{Error, refuse};
use crate::graph::model::Page;
use crate::graph::{Again, Failure, Mailbox, with_options};
use crate::ids;
use crate::named::Named;
use crate::once;
use crate::outlook::{Call, Outlook};
use crate::zones::PREFER_UTC;

/// How often a change is tried while others change the same entry.
const MAX_TRIES: usize = 4;
/// How far from UTC days may begin, and more.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// The longest text that a cancellation says.
const MAX_COMMENT: usize = 32 * 1024;
/// What Graph calls a `transactionId` that it has seen before, where it does not give the entry again.
const SEEN: [&str; 2] = ["ErrorDuplicateTransactionId", "DuplicateTransactionId"];

/// Makes an entry.
pub(super) async fn create(
    outlook: &Outlook,
    call: &Call,
    asked: &CreateEventRequest,
) -> Result<CreateEventResponse, Error> {
    let mut problems = Vec::new();
    once::check(&asked.request_id, &mut problems);
    ids::check("table", &asked.table, &mut problems);
    let transaction_id = once::guid(&asked.request_id, asked);
    let Some(item) = &asked.item else { return Err(Error::field("item", "is needed")) };
    let new = write::new(item, &transaction_id, &mut problems);
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?.preferring(PREFER_UTC);
    let url = match asked.table.as_str() {
        "" => mailbox.url(&["calendar", "events"]),
        table => mailbox.url(&["calendars", table, "events"]),
    };
    // Graph knows the id: asked again it makes no second entry.
    let made = mailbox.make(url.clone(), &new, Again::Harmless).await;
    let made: Entry = match made {
        Ok(made) => made,
        Err(failure) if failure.status() == Some(409) || is_seen(&failure) => {
            let found = made_before(&mailbox, url, &new, &transaction_id).await;
            found.ok_or(Error::ChangeUnknown { failure })?
        }
        // With a request id it is no matter whether it was made: the same wish again makes no second entry.
        Err(failure) if failure.is_doubtful() && asked.request_id.is_empty() => {
            return Err(Error::ChangeUnknown { failure });
        }
        Err(failure) if failure.is_gone() || ids::is_malformed(&failure) => {
            return Err(super::no_calendar(failure));
        }
        Err(failure) => return Err(refused(failure)),
    };
    Ok(CreateEventResponse { event: Some(read::alone(made, &asked.table)) })
}

fn is_seen(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.has_code(&SEEN))
}

/// The entry that an earlier try made: it starts when this one does, and has its id.
async fn made_before(mailbox: &Mailbox, url: reqwest::Url, new: &Value, id: &str) -> Option<Entry> {
    let start =
        crate::zones::instant(new["start"]["dateTime"].as_str()?, new["start"]["timeZone"].as_str()?)?;
    let at = |instant| when::utc(instant)["dateTime"].as_str().map(str::to_owned);
    let filter = if new["isAllDay"] == true {
        // Whole days begin at midnight, in whichever zone they are looked for.
        let (first, last) = (start.checked_sub(DAY).ok()?, start.checked_add(DAY).ok()?);
        format!("start/dateTime ge '{}' and start/dateTime le '{}'", at(first)?, at(last)?)
    } else {
        format!("start/dateTime eq '{}'", at(start)?)
    };
    let url = with_options(url, &[("$filter", &filter), ("$top", "100")]);
    let found: Page<Entry> = mailbox.read(url).await.ok()?;
    found.value.into_iter().find(|entry| entry.transaction_id.as_deref() == Some(id))
}

/// What Graph refuses of an entry.
fn refused(failure: Failure) -> Error {
    match &failure {
        Failure::Refused(refusal) if refusal.has_code(&["ErrorInvalidRecipients"]) => {
            Error::field("item.attendees", "Graph refused an address")
        }
        Failure::Refused(refusal) if refusal.has_code(&["ErrorOccurrenceCrossingBoundary"]) => {
            Error::field("item.start", "expected a time between the occurrences before and after")
        }
        _ => failure.into(),
    }
}

/// Changes an entry.
pub(super) async fn update(
    outlook: &Outlook,
    call: &Call,
    asked: &UpdateEventRequest,
) -> Result<UpdateEventResponse, Error> {
    let mut problems = Vec::new();
    once::check(&asked.request_id, &mut problems);
    Named::check(&asked.table, &asked.id, &mut problems);
    let empty = CalendarEvent::default();
    let item = asked.item.as_ref().unwrap_or(&empty);
    let fields =
        write::FIELDS.named(asked.update_mask.as_ref(), |name| write::is_set(item, name), &mut problems);
    let plain = write::plain(item, &fields, &mut problems);
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?.preferring(PREFER_UTC);
    let named = Named { mailbox: &mailbox, kind: &ENTRY, table: &asked.table, id: &asked.id };
    let moves = fields.iter().any(|field| when::FIELDS.contains(field) || *field == "recurrence");
    if !moves && item.change_key.is_empty() {
        let changed = mailbox.patch(named.url(), &plain, None).await;
        return match changed {
            Ok(changed) => Ok(UpdateEventResponse { event: Some(read::alone(changed, &asked.table)) }),
            Err(failure) => Err(refused_named(&named, failure).await),
        };
    }
    // When it takes place is one thing to Graph, and several fields here: those not named stay as they are, which needs
    // the entry as it is, and that it is still so when the change comes.
    let mut doubt = None;
    for _ in 0..MAX_TRIES {
        let there: Entry = match mailbox.read(named.url()).await {
            Ok(there) => there,
            Err(failure) => return Err(refused_named(&named, failure).await),
        };
        let there = read::alone(there, &asked.table);
        // Without a key of the caller's a change that broke off is made again: it comes to the same.
        let is_other = !item.change_key.is_empty() && there.change_key != item.change_key;
        if is_other {
            // A change that broke off, here or in an earlier run of the same call, may have been made, or somebody
            // else's.
            let may_be_ours = doubt.is_some() || call.is_repeat;
            return match doubt {
                _ if may_be_ours && agrees(&there, item, &fields) => {
                    Ok(UpdateEventResponse { event: Some(there) })
                }
                Some(failure) => Err(Error::ChangeUnknown { failure }),
                None => Err(Error::ItemChanged(None)),
            };
        }
        let mut change = plain.clone();
        if moves {
            add_times(item, &there, &fields, &mut change)?;
        }
        let key = Some(there.change_key.as_str()).filter(|key| !key.is_empty());
        let changed = mailbox.patch(named.url(), &change, key).await;
        match changed {
            Ok(changed) => {
                return Ok(UpdateEventResponse { event: Some(read::alone(changed, &asked.table)) });
            }
            Err(failure) if is_conflict(&failure) => {
                if !item.change_key.is_empty() && doubt.is_none() {
                    return Err(changed_since(failure));
                }
            }
            Err(failure) if failure.is_doubtful() => {
                if !mailbox.pause_before_repeat(failure.retry_after()).await {
                    return Err(broke_off(item, failure));
                }
                doubt = Some(failure);
            }
            Err(failure) => return Err(refused_named(&named, failure).await),
        }
    }
    Err(doubt.map_or(Error::ItemChanged(None), |failure| broke_off(item, failure)))
}

/// A change that broke off. Without a key of the caller's it may be asked for again, whether it was made or not.
fn broke_off(item: &CalendarEvent, failure: Failure) -> Error {
    if item.change_key.is_empty() { failure.into() } else { Error::ChangeUnknown { failure } }
}

/// Adds when the entry is to take place, and how it recurs.
fn add_times(
    item: &CalendarEvent,
    there: &CalendarEvent,
    fields: &[&str],
    change: &mut serde_json::Map<String, Value>,
) -> Result<(), Error> {
    let mut problems = Vec::new();
    let merged = when::merged(there, item, fields);
    let recurs = if fields.contains(&"recurrence") { &item.recurrence } else { &there.recurrence };
    let when = when::read(&merged, "item", recurs.is_some(), &mut problems);
    write::put_series(item, fields, when.as_ref(), change, &mut problems);
    refuse(problems)?;
    if let Some(when) = when
        && fields.iter().any(|field| when::FIELDS.contains(field))
    {
        write::put_when(when, change);
    }
    Ok(())
}

/// Whether an entry shows what a change of these fields asked for.
fn agrees(there: &CalendarEvent, item: &CalendarEvent, fields: &[&str]) -> bool {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let plain = write::plain(there, fields, &mut one) == write::plain(item, fields, &mut other);
    let recurs = !fields.contains(&"recurrence") || there.recurrence == item.recurrence;
    let mut when = |fields: &[&str]| {
        let when =
            when::read(&when::merged(there, item, fields), "item", there.recurrence.is_some(), &mut one)?;
        Some((when.is_all_day, when.start, when.end))
    };
    plain && recurs && when(fields) == when(&[])
}

/// Whether a change was refused because the item is no longer what it was.
pub(crate) fn is_conflict(failure: &Failure) -> bool {
    matches!(failure.status(), Some(409 | 412))
}

/// The error of a change that came too late.
pub(crate) fn changed_since(failure: Failure) -> Error {
    match failure {
        Failure::Refused(refusal) => Error::ItemChanged(Some(refusal)),
        _ => Error::ItemChanged(None),
    }
}

async fn refused_named(named: &Named<'_>, failure: Failure) -> Error {
    if failure.is_gone() || ids::is_malformed(&failure) {
        return named.refused(failure).await;
    }
    refused(failure)
}

/// Deletes an entry.
pub(super) async fn delete(
    outlook: &Outlook,
    call: &Call,
    asked: &DeleteEventRequest,
) -> Result<DeleteEventResponse, Error> {
    let mut problems = Vec::new();
    once::check(&asked.request_id, &mut problems);
    Named::check(&asked.table, &asked.id, &mut problems);
    if asked.comment.len() > MAX_COMMENT {
        problems.push(("comment".to_owned(), format!("expected at most {MAX_COMMENT} bytes")));
    }
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?.preferring(PREFER_UTC);
    let named = Named { mailbox: &mailbox, kind: &ENTRY, table: &asked.table, id: &asked.id };
    if !asked.comment.is_empty() {
        return cancel(&named, &asked.comment, call.is_repeat).await;
    }
    match mailbox.delete(named.url()).await {
        Ok(()) => Ok(DeleteEventResponse {}),
        // What an earlier run of the same call may have deleted is deleted.
        Err(failure) if call.is_repeat && failure.is_gone() => Ok(DeleteEventResponse {}),
        Err(failure) => Err(named.refused(failure).await),
    }
}

/// Cancels a meeting with a word to those invited, which takes it out of the calendar as well.
/// `doubtful`: an earlier run of the same call may have done it.
async fn cancel(named: &Named<'_>, comment: &str, mut doubtful: bool) -> Result<DeleteEventResponse, Error> {
    for left in (0..MAX_TRIES).rev() {
        let there: Entry = match named.mailbox.read(named.url()).await {
            Ok(there) => there,
            Err(failure) if doubtful && failure.is_gone() => return Ok(DeleteEventResponse {}),
            Err(failure) => return Err(named.refused(failure).await),
        };
        let there = read::entry(there, "");
        if !there.is_organizer || there.attendees.is_empty() {
            let problem = "is given for a meeting that the account organizes only: expected nothing";
            return Err(Error::field("comment", problem));
        }
        let url = named.mailbox.url(&["events", named.id, "cancel"]);
        match named.mailbox.act(url, Some(&json!({"comment": comment}))).await {
            Ok(()) => return Ok(DeleteEventResponse {}),
            Err(failure) if failure.is_doubtful() && left > 0 => {
                doubtful = true;
                if !named.mailbox.pause_before_repeat(failure.retry_after()).await {
                    return Err(Error::ChangeUnknown { failure });
                }
            }
            Err(failure) if failure.is_doubtful() => return Err(Error::ChangeUnknown { failure }),
            Err(failure) => return Err(named.refused(failure).await),
        }
    }
    Err(Error::ItemChanged(None))
}
