//! The calendars of an account and what is in them: single entries and series with their exceptions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use serde_json::{Map, Value};

use super::Mailbox;

/// A calendar.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is the one that all accounts have.
    pub is_default: bool,
}

/// A wall time and the zone whose clocks show it, by the name that it was given with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moment {
    /// The wall time.
    pub wall_time: DateTime,
    /// The zone.
    pub zone: String,
}

/// An event: a single one, or a series.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// The immutable id.
    pub id: String,
    /// The calendar it is in.
    pub calendar: String,
    /// The id that it has in all calendars.
    pub ical_uid: String,
    /// What clients wrote of it, by Graph's names: subject, body, attendees, location and so on.
    pub fields: Map<String, Value>,
    /// When it starts.
    pub start: Moment,
    /// When it ends.
    pub end: Moment,
    /// Whether it lasts whole days.
    pub is_all_day: bool,
    /// How it recurs, as Graph has it.
    pub recurrence: Option<Value>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub modified: Timestamp,
    /// When it was last changed, as a place in the order of all changes of the account's calendars.
    pub changed: u64,
    /// The client's id of its making.
    pub transaction_id: Option<String>,
    /// Who invites.
    pub organizer: Mailbox,
    /// Whether that is the account itself.
    pub is_organizer: bool,
    /// What the account answered, in Graph's words.
    pub response: String,
    /// When it did.
    pub responded: Option<Timestamp>,
    /// Whether it was cancelled.
    pub is_cancelled: bool,
    /// Times of a series that were changed by themselves, by the day they would have been on.
    pub exceptions: BTreeMap<Date, Exception>,
    /// Times of a series that do not take place.
    pub cancelled: BTreeSet<Date>,
}

/// A time of a series that was changed by itself.
#[derive(Debug, Clone, Default)]
pub struct Exception {
    /// What differs from the series.
    pub fields: Map<String, Value>,
    /// When it starts.
    pub start: Moment,
    /// When it ends.
    pub end: Moment,
    /// When it was last changed.
    pub modified: Timestamp,
    /// The place of its last change.
    pub changed: u64,
}

/// The calendars of an account.
#[derive(Debug, Clone, Default)]
pub struct Calendars {
    /// All, the default one first.
    pub(crate) list: Vec<Calendar>,
    /// Events and series, by id.
    pub(crate) events: BTreeMap<String, Event>,
    last_change: u64,
}

impl Calendars {
    pub(super) fn new(number: u64) -> Self {
        let mut calendars = Self::default();
        calendars.add("Calendar", number);
        calendars
    }

    /// Adds a calendar and gives its id.
    pub(crate) fn add(&mut self, name: &str, number: u64) -> String {
        let id = format!("AAMkADcalendar{number:08X}AAA=");
        self.list.push(Calendar { id: id.clone(), name: name.to_owned(), is_default: self.list.is_empty() });
        id
    }

    /// The calendar with this id.
    pub(crate) fn find(&self, id: &str) -> Option<&Calendar> {
        self.list.iter().find(|calendar| calendar.id == id)
    }

    /// The id of the default calendar.
    pub(crate) fn default_id(&self) -> String {
        self.list.first().map(|calendar| calendar.id.clone()).unwrap_or_default()
    }

    /// The next place in the order of changes.
    pub(crate) fn next_change(&mut self) -> u64 {
        self.last_change += 1;
        self.last_change
    }

    /// The place of the last change.
    pub(crate) fn last_change(&self) -> u64 {
        self.last_change
    }
}
