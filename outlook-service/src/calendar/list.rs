//! GetCalendars, GetEvents and GetEvent.

use postern_proto::outlook::v1::{
    Calendar, GetCalendarsRequest, GetCalendarsResponse, GetEventRequest, GetEventResponse, GetEventsRequest,
    GetEventsResponse,
};
use reqwest::Url;
use serde::Deserialize;

use super::read::{self, Entry};
use super::{ENTRY, no_calendar};
use crate::error::{Error, Problems, refuse};
use crate::graph::model::EmailAddress;
use crate::graph::{Failure, Mailbox, with_options};
use crate::ids;
use crate::listing::{self, Bounds, Listing, Place};
use crate::named::Named;
use crate::outlook::{Call, Outlook};
use crate::zones::PREFER_UTC;
use crate::{places, times};

/// How many calendars a page holds unless told otherwise.
const PAGE: usize = 50;
/// The most that it holds.
const MAX_PAGE: usize = 100;
/// The longest window: what Graph itself allows.
const MAX_WINDOW: i64 = 5 * 366 * 24 * 3_600;
/// The longest condition or order: they travel in a URL.
const MAX_CONDITION: usize = 4_096;

/// A calendar of Graph's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Shown {
    id: String,
    name: Option<String>,
    color: Option<String>,
    hex_color: Option<String>,
    is_default_calendar: Option<bool>,
    can_edit: Option<bool>,
    can_share: Option<bool>,
    can_view_private_items: Option<bool>,
    owner: Option<EmailAddress>,
    change_key: Option<String>,
}

/// What is asked of Graph for a calendar.
const SELECT: &str =
    "id,name,color,hexColor,isDefaultCalendar,canEdit,canShare,canViewPrivateItems,owner,changeKey";

/// Lists calendars.
pub(super) async fn get_calendars(
    outlook: &Outlook,
    call: &Call,
    asked: &GetCalendarsRequest,
) -> Result<GetCalendarsResponse, Error> {
    let size = match usize::try_from(asked.page_size) {
        Ok(0) => PAGE,
        Ok(size) => size.min(MAX_PAGE),
        Err(_) => return Err(Error::field("page_size", format!("expected 1 to {MAX_PAGE}"))),
    };
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let digest = listing::digest(&GetCalendarsRequest { page_token: String::new(), ..asked.clone() });
    let place = if asked.page_token.is_empty() {
        let options = [("$select", SELECT), ("$top", &size.to_string())];
        Place { url: with_options(mailbox.url(&["calendars"]), &options), position: 0, skip: 0 }
    } else {
        listing::read_token(&mailbox, "page_token", &asked.page_token, &digest, &["/calendars"])?
    };
    let calendars = Listing {
        mailbox: &mailbox,
        top: size,
        shape: |shown| Some(calendar(shown)),
        cut: |_: &mut Calendar, _| {},
        refused: |failure| lost(&asked.page_token, "page_token", failure).unwrap_or_else(Error::from),
    };
    let (calendars, next) = calendars.read(place).await?;
    Ok(GetCalendarsResponse { calendars, next_page_token: listing::write_token(next.as_ref(), digest) })
}

fn calendar(shown: Shown) -> Calendar {
    let color = shown.color.unwrap_or_default();
    Calendar {
        id: shown.id,
        name: shown.name.unwrap_or_default(),
        is_default_calendar: shown.is_default_calendar.unwrap_or_default(),
        hex_color: shown.hex_color.unwrap_or_default().to_lowercase(),
        // What Graph calls auto is no colour.
        color: if color.eq_ignore_ascii_case("auto") { String::new() } else { color },
        can_edit: shown.can_edit.unwrap_or_default(),
        can_share: shown.can_share.unwrap_or_default(),
        can_view_private_items: shown.can_view_private_items.unwrap_or_default(),
        owner: shown.owner.and_then(places::mailbox),
        change_key: shown.change_key.unwrap_or_default(),
    }
}

/// Lists entries.
pub(super) async fn get_events(
    outlook: &Outlook,
    call: &Call,
    asked: &GetEventsRequest,
) -> Result<GetEventsResponse, Error> {
    let (bounds, window) = check(asked)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?.preferring(PREFER_UTC);
    let digest = listing::digest(&GetEventsRequest { skip_token: String::new(), skip: 0, ..asked.clone() });
    let place = if asked.skip_token.is_empty() {
        Place { url: first_page(&mailbox, asked, &bounds, window.as_ref()), position: 0, skip: 0 }
    } else {
        let ends: &[&str] = if window.is_some() { &["/calendarview"] } else { &["/events"] };
        listing::read_token(&mailbox, "skip_token", &asked.skip_token, &digest, ends)?
    };
    let events = Listing {
        mailbox: &mailbox,
        top: bounds.top,
        shape: |entry: Entry| entry.removed.is_none().then(|| read::entry(entry, &asked.table)),
        cut: read::cut,
        refused: |failure| refused(asked, failure),
    };
    let (events, next) = events.read(place).await?;
    Ok(GetEventsResponse { events, skip_token: listing::write_token(next.as_ref(), digest) })
}

/// The window, as Graph wants its ends.
type Window = (String, String);

fn check(asked: &GetEventsRequest) -> Result<(Bounds, Option<Window>), Error> {
    let mut problems = Vec::new();
    let bounds = Bounds::read(asked.top, asked.skip, listing::TOP, &mut problems);
    ids::check("table", &asked.table, &mut problems);
    check_conditions(&asked.filter, &asked.order_by, &mut problems);
    let window = match (&asked.window_start, &asked.window_end) {
        (None, None) => None,
        (Some(start), Some(end)) => {
            let (start, end) = (times::from_proto(start), times::from_proto(end));
            for (field, time) in [("window_start", start), ("window_end", end)] {
                if time.is_none() {
                    problems.push((field.to_owned(), "expected a time".to_owned()));
                }
            }
            let length = start.zip(end).map(|(start, end)| end.as_second() - start.as_second());
            if length.is_some_and(|length| !(1..=MAX_WINDOW).contains(&length)) {
                let problem = "expected a time after window_start, at most five years";
                problems.push(("window_end".to_owned(), problem.to_owned()));
            }
            start.zip(end).map(|(start, end)| (start.to_string(), end.to_string()))
        }
        (start, _) => {
            let absent = if start.is_some() { "window_end" } else { "window_start" };
            problems.push((absent.to_owned(), "is needed: a window has two ends".to_owned()));
            None
        }
    };
    refuse(problems).map(|()| (bounds, window))
}

/// What is wrong with a condition and an order before Graph is asked.
pub(crate) fn check_conditions(filter: &str, order_by: &str, problems: &mut Problems) {
    for (field, text) in [("filter", filter), ("order_by", order_by)] {
        if text.chars().any(char::is_control) {
            problems.push((field.to_owned(), "holds a control character".to_owned()));
        }
        if text.len() > MAX_CONDITION {
            problems.push((field.to_owned(), format!("expected at most {MAX_CONDITION} bytes")));
        }
    }
    let orders = |text: &str| {
        text.split(',').all(|part| {
            let mut words = part.split_whitespace();
            let property = words.next().unwrap_or_default();
            let named = !property.is_empty() && property.chars().all(|c| c.is_ascii_alphabetic() || c == '/');
            named && matches!(words.next(), None | Some("asc" | "desc")) && words.next().is_none()
        })
    };
    if !order_by.is_empty() && !orders(order_by) {
        let problem = "expected properties with asc or desc, such as start/dateTime desc";
        problems.push(("order_by".to_owned(), problem.to_owned()));
    }
}

fn first_page(mailbox: &Mailbox, asked: &GetEventsRequest, bounds: &Bounds, window: Option<&Window>) -> Url {
    let what = if window.is_some() { "calendarView" } else { "events" };
    let url = match asked.table.as_str() {
        "" => mailbox.url(&["calendar", what]),
        table => mailbox.url(&["calendars", table, what]),
    };
    let (top, skip) = (bounds.page().to_string(), bounds.skip.to_string());
    let mut options = vec![("$top", top.as_str())];
    if let Some((start, end)) = window {
        options.extend([("startDateTime", start.as_str()), ("endDateTime", end.as_str())]);
    }
    for (name, text) in [("$filter", &asked.filter), ("$orderby", &asked.order_by)] {
        if !text.is_empty() {
            options.push((name, text));
        }
    }
    if bounds.skip > 0 {
        options.push(("$skip", &skip));
    }
    with_options(url, &options)
}

/// What Graph refuses of a list: the condition or the order may be at fault, or the place to go on from.
fn refused(asked: &GetEventsRequest, failure: Failure) -> Error {
    let failure = match lost(&asked.skip_token, "skip_token", failure) {
        Ok(error) => return error,
        Err(failure) => failure,
    };
    if ids::is_malformed(&failure) && !asked.table.is_empty() {
        return no_calendar(failure);
    }
    match by_condition(&asked.filter, &asked.order_by, failure) {
        Ok(error) => error,
        Err(failure) => no_calendar(failure),
    }
}

/// The error of a place that Graph does not know any more, or the failure where it is none.
pub(crate) fn lost(token: &str, field: &str, failure: Failure) -> Result<Error, Failure> {
    match failure.status() {
        Some(400 | 410) if !token.is_empty() => {
            Ok(Error::field(field, "Graph does not know this place any more: start anew"))
        }
        _ => Err(failure),
    }
}

/// The error of a condition or an order that Graph refused, or the failure where it is none.
pub(crate) fn by_condition(filter: &str, order_by: &str, failure: Failure) -> Result<Error, Failure> {
    if failure.status() != Some(400) || (filter.is_empty() && order_by.is_empty()) {
        return Err(failure);
    }
    let too_much = matches!(&failure, Failure::Refused(refusal)
        if refusal.has_code(&["InefficientFilter", "ErrorInvalidRestriction"]));
    let problem = match (too_much, filter.is_empty() || order_by.is_empty()) {
        (true, _) => {
            "is too much for Graph: expected a simpler one, with what order_by names first in filter"
        }
        (false, true) => "Graph cannot make sense of it",
        (false, false) => "Graph cannot make sense of it, or of the other of filter and order_by",
    };
    let given = [("filter", filter), ("order_by", order_by)].into_iter().filter(|(_, text)| !text.is_empty());
    Ok(Error::Fields(given.map(|(field, _)| (field.to_owned(), problem.to_owned())).collect()))
}

/// Gives one entry.
pub(super) async fn get_event(
    outlook: &Outlook,
    call: &Call,
    asked: &GetEventRequest,
) -> Result<GetEventResponse, Error> {
    let mut problems = Vec::new();
    Named::check(&asked.table, &asked.id, &mut problems);
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?.preferring(PREFER_UTC);
    let named = Named { mailbox: &mailbox, kind: &ENTRY, table: &asked.table, id: &asked.id };
    match mailbox.read(named.url()).await {
        Ok(entry) => Ok(GetEventResponse { event: Some(read::alone(entry, &asked.table)) }),
        Err(failure) => Err(named.refused(failure).await),
    }
}
