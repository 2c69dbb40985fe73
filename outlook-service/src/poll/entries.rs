//! Poll and CheckTrigger of the triggers that watch a calendar: of new, of changed, and of soon starting entries.

use jiff::Timestamp;
use postern_proto::connector::v1::{CheckTriggerResponse, PollRequest, PollResponse};
use postern_proto::event::v1::Trigger;
use postern_proto::event::v1::trigger::Kind;
use serde::Deserialize;

use super::calendar::{Wants, Watched};
use super::soon::{self, Ahead};
use super::{most, owner, since};
use crate::calendar::no_calendar;
use crate::error::Error;
use crate::graph::{Mailbox, with_options};
use crate::ids;
use crate::outlook::{Call, Outlook};

/// How many occurrences a look gives unless told otherwise.
const MOST: usize = 256;

/// The field of a trigger that a calendar's kind is in. None: it watches no calendar.
pub(super) fn kind(trigger: Option<&Trigger>) -> Option<&'static str> {
    match trigger?.kind {
        Some(Kind::EventCreated(_)) => Some("event_created"),
        Some(Kind::EventModified(_)) => Some("event_modified"),
        Some(Kind::EventStartingSoon(_)) => Some("event_starting_soon"),
        Some(Kind::NewEmail(_)) | None => None,
    }
}

/// What of a trigger says which calendar it watches.
fn whose(trigger: &Trigger) -> (&str, &str) {
    match &trigger.kind {
        Some(Kind::EventCreated(asked)) => (&asked.mailbox, &asked.table),
        Some(Kind::EventModified(asked)) => (&asked.mailbox, &asked.table),
        Some(Kind::EventStartingSoon(asked)) => (&asked.mailbox, &asked.table),
        Some(Kind::NewEmail(_)) | None => ("", ""),
    }
}

/// Checks a trigger, and says what it watches. `kind`: its field.
pub(super) async fn check(
    outlook: &Outlook,
    call: &Call,
    trigger: &Trigger,
    kind: &str,
) -> Result<CheckTriggerResponse, Error> {
    let soon = kind == "event_starting_soon";
    match soon {
        true => Ahead::read(trigger, Timestamp::UNIX_EPOCH).map(drop)?,
        false => Wants::read(trigger, Timestamp::UNIX_EPOCH).map(drop)?,
    }
    let (named, table) = whose(trigger);
    if let Some(problem) = ids::wrong(table) {
        return Err(Error::field(format!("{kind}.table"), problem));
    }
    let mailbox = outlook.mailbox(call, &format!("{kind}.mailbox"), named)?;
    let id = find(&mailbox, table).await?;
    let what = if soon { "soon" } else { "calendar" };
    Ok(CheckTriggerResponse { watch_key: format!("{what}:{}:{id}", owner(&mailbox, named)) })
}

/// The id of a calendar, the default one's too.
async fn find(mailbox: &Mailbox, table: &str) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Found {
        id: String,
    }
    let url = match table {
        "" => mailbox.url(&["calendar"]),
        table => mailbox.url(&["calendars", table]),
    };
    let found = mailbox.get::<Found>(with_options(url, &[("$select", "id")]), None).await;
    Ok(found.map_err(no_calendar)?.value.id)
}

/// Looks what happened in a calendar. `kind`: the field of the first trigger.
pub(super) async fn poll(
    outlook: &Outlook,
    call: &Call,
    asked: &PollRequest,
    kind: &str,
) -> Result<PollResponse, Error> {
    let triggers = asked.triggers.iter().map(|watched| {
        let trigger = watched.trigger.as_ref().ok_or(Error::TriggerKind)?;
        Ok((trigger, since(watched)?))
    });
    let triggers: Vec<_> = triggers.collect::<Result<_, Error>>()?;
    let (named, table) = triggers.first().map(|(trigger, _)| whose(trigger)).unwrap_or_default();
    let mailbox = outlook.mailbox(call, &format!("{kind}.mailbox"), named)?;
    let watched = Watched { mailbox: &mailbox, table };
    let looked = if kind == "event_starting_soon" {
        let wants = triggers.iter().map(|(trigger, since)| Ahead::read(trigger, *since));
        soon::look(&watched, &wants.collect::<Result<Vec<_>, _>>()?, &asked.cursor).await?
    } else {
        let wants = triggers.iter().map(|(trigger, since)| Wants::read(trigger, *since));
        let wants = wants.collect::<Result<Vec<_>, _>>()?;
        let top = wants.iter().filter_map(|want| want.top).min().unwrap_or(MOST);
        watched.look(&wants, &asked.cursor, most(asked, MOST)?.min(top)).await?
    };
    Ok(PollResponse {
        occurrences: looked.occurrences,
        next_cursor: looked.cursor,
        more: looked.more,
        retry_after: None,
    })
}
