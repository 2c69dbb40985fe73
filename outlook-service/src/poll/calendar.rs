//! What came to be in a calendar, and what changed there, since a cursor.
//!
//! Graph's rounds of changes are not used for it: they know one calendar's window only, leave out what lies beyond, and
//! give occurrences without their fields. Instead the calendar is listed once, then asked for what was changed lately,
//! whatever day it lies on; what is known of each entry tells a new one from a changed one, and a change that people see
//! from Exchange's own touches. Once a day it is listed again: that finds what was moved in and forgets what is gone.

mod cancelled;
mod changes;
mod fields;
mod known;
mod place;
mod series;
mod wants;
mod written;

use jiff::{SignedDuration, Timestamp};
use postern_proto::outlook::v1::{CalendarEvent, CalendarEventType};
use serde_json::Value;
use tokio::time::Instant;

use super::{ahead, user};
use crate::calendar::no_calendar;
use crate::calendar::read::{self, Entry};
use crate::error::Error;
use crate::graph::{self, Failure, Mailbox, with_options};
use changes::Change;
use known::Notes;
pub(super) use known::key;
use place::{Place, Stage};
use wants::Tells;
pub(super) use wants::Wants;
pub(super) use written::{fit, name};

/// What is asked of an event: all that is told of it.
pub(super) const SELECT: &str = "id,iCalUId,changeKey,createdDateTime,lastModifiedDateTime,subject,body,bodyPreview,\
    start,end,originalStartTimeZone,originalEndTimeZone,isAllDay,isCancelled,seriesMasterId,type,attendees,categories,\
    hasAttachments,importance,isOrganizer,location,organizer,recurrence,isReminderOn,reminderMinutesBeforeStart,\
    responseRequested,responseStatus,sensitivity,showAs,webLink,isOnlineMeeting,onlineMeeting,onlineMeetingUrl,\
    hideAttendees,allowNewTimeProposals,originalStart";
/// How many events a page holds.
const PAGE: usize = 100;
/// How many pages a look passes through as long as there is little to tell.
const MAX_PAGES: usize = 50;
/// How far back each look asks beyond the last: Exchange may show a change later than it was made. What is known is not
/// told again.
const MARGIN_SECONDS: i64 = 600;

/// The calendar that is watched.
pub(super) struct Watched<'a> {
    pub(super) mailbox: &'a Mailbox,
    /// The calendar's id. Empty: the default one.
    pub(super) table: &'a str,
}

/// What a look came to.
pub(super) struct Looked {
    pub(super) occurrences: Vec<postern_proto::connector::v1::Occurrence>,
    pub(super) cursor: bytes::Bytes,
    pub(super) more: bool,
}

/// A page of events as Graph gives them.
type Listed = graph::model::Page<Value>;

/// How a page ended.
enum Page {
    /// There are more pages.
    More,
    /// There was no room for all of it.
    Full,
    /// There is no more for now.
    Last,
}

/// The provider's time, and how far it is ahead of ours.
struct Clock {
    now: Timestamp,
    ahead: SignedDuration,
}

impl Clock {
    /// A time of ours by the provider's clock.
    fn theirs(&self, time: Timestamp) -> Timestamp {
        time.checked_add(self.ahead).unwrap_or(time)
    }
}

/// An event as it is told, and as Graph gave it.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) entry: CalendarEvent,
    pub(super) raw: Value,
}

impl Shown {
    /// Reads an event. None: it is none, or it was removed.
    pub(super) fn read(raw: Value, table: &str) -> Option<Self> {
        let read: Entry = serde_json::from_value(raw.clone()).ok()?;
        if read.removed.is_some() || read.id.is_empty() {
            return None;
        }
        Some(Self { entry: read::entry(read, table), raw })
    }
}

impl Watched<'_> {
    /// The URL of something in the calendar.
    pub(super) fn url(&self, last: &str) -> reqwest::Url {
        match self.table {
            "" => self.mailbox.url(&["calendar", last]),
            table => self.mailbox.url(&["calendars", table, last]),
        }
    }

    /// Looks what happened. `most`: how many occurrences are told at most, one change more or less.
    ///
    /// # Errors
    /// What Graph answered; or the cursor is none.
    pub(super) async fn look(&self, wants: &[Wants], cursor: &[u8], most: usize) -> Result<Looked, Error> {
        let mut place = place::read(cursor, &user(self.mailbox))?;
        let began = place.clone();
        let half = Instant::now() + self.mailbox.until.saturating_duration_since(Instant::now()) / 2;
        let mut told = Vec::new();
        let mut more = true;
        for page in 0..MAX_PAGES {
            if page > 0 && Instant::now() >= half {
                break;
            }
            match self.page(wants, &mut place, &mut told, most).await {
                Ok(Page::More) => {}
                Ok(Page::Full) => break,
                Ok(Page::Last) => {
                    more = false;
                    break;
                }
                // At the next look and not at once: a provider that refuses every page would else be asked for ever.
                Err(Error::Graph(failure)) if failure.refuses_link() && place.stage.link().is_some() => {
                    place.stage.begin_again();
                    more = false;
                    break;
                }
                // What was passed through is kept; the next look meets the error.
                Err(_) if page > 0 || !told.is_empty() || place != began => break,
                Err(error) => return Err(error),
            }
        }
        place.forgot |= place.known.bound();
        Ok(Looked { occurrences: written::write(wants, &told), cursor: place::write(&place)?, more })
    }

    /// One page of what is asked for now, event by event: where there is no room for more, the page is read again by the
    /// next look, and what was told of it is then known.
    async fn page(
        &self,
        wants: &[Wants],
        place: &mut Place,
        told: &mut Vec<Change>,
        most: usize,
    ) -> Result<Page, Error> {
        let url = match place.stage.link() {
            Some(link) => self.mailbox.link(link)?,
            None => self.first_page(&place.stage),
        };
        let goes_on = place.stage.link().is_some();
        let read = self.mailbox.get::<Listed>(url, Some(PAGE)).await;
        let read = read.map_err(|failure| if goes_on { failure.into() } else { no_calendar(failure) })?;
        let ours = Timestamp::now();
        let now = read.date.unwrap_or(ours);
        let clock = Clock { now, ahead: ahead(now, ours) };
        let before = told.len();
        for raw in read.value.value {
            let Some(shown) = Shown::read(raw, self.table) else { continue };
            if told.iter().map(Change::count).sum::<usize>() >= most {
                return Ok(Page::Full);
            }
            self.event(wants, place, told, shown, &clock).await?;
        }
        if let Some(next) = read.value.next {
            place.stage.go_on(next, now);
            return Ok(Page::More);
        }
        place.end_round(now, told.len() > before);
        if matches!(place.stage, Stage::Listing { .. }) {
            // A listing has just become due: it follows at once.
            return Ok(Page::More);
        }
        told.extend(self.roll(wants, place, now).await?);
        Ok(Page::Last)
    }

    /// An event of a page, with what belongs to it. It counts whole or not at all: what belongs to a series is asked
    /// for, and where that fails, nothing of it is noted.
    async fn event(
        &self,
        wants: &[Wants],
        place: &mut Place,
        told: &mut Vec<Change>,
        shown: Shown,
        clock: &Clock,
    ) -> Result<(), Error> {
        let sorted = changes::sort(place, &shown.entry, clock.now);
        let mut notes = Notes::beside(&place.known);
        notes.put(sorted.key, sorted.seen);
        let is_series = shown.entry.r#type() == CalendarEventType::SeriesMaster;
        let exceptions =
            match is_series && sorted.touched && wants.iter().any(|want| want.tells == Tells::Changed) {
                true => self.exceptions(&shown, &sorted, place, &mut notes).await?,
                false => Vec::new(),
            };
        let mut heard = Vec::new();
        let change = sorted.what.map(|what| Change::new(shown, what));
        for change in change.into_iter().chain(exceptions) {
            if let Some(mut change) = change.heard(wants, &place.stage, clock) {
                self.spread(wants, &mut change, place, clock.now).await?;
                heard.push(change);
            }
        }
        told.extend(heard);
        let new = notes.into_new();
        place.known.note(new);
        Ok(())
    }

    fn first_page(&self, stage: &Stage) -> reqwest::Url {
        let url = self.url("events");
        let top = PAGE.to_string();
        match stage {
            Stage::Listing { .. } => with_options(url, &[("$select", SELECT), ("$top", &top)]),
            Stage::Following { told_until, .. } => {
                let from = Timestamp::from_second(told_until - MARGIN_SECONDS).unwrap_or_default();
                let filter = format!("lastModifiedDateTime ge {from}");
                let options = [
                    ("$select", SELECT),
                    ("$filter", filter.as_str()),
                    ("$orderby", "lastModifiedDateTime"),
                    ("$top", &top),
                ];
                with_options(url, &options)
            }
        }
    }
}

/// A page that cannot be read.
fn unreadable() -> Error {
    Failure::unreadable(200).into()
}
