//! The words that Graph has for the contract's enums of calendars, both ways.

use postern_proto::mail::v1::Importance;
use postern_proto::outlook::v1::{
    AttendeeType, CalendarEventType, DayOfWeek, RecurrencePatternType, RecurrenceRangeType, ResponseType,
    Sensitivity, ShowAs, WeekIndex,
};

/// Words of an enum.
pub(super) type Words<T> = &'static [(T, &'static str)];

pub(super) const IMPORTANCE: Words<Importance> =
    &[(Importance::Low, "low"), (Importance::Normal, "normal"), (Importance::High, "high")];

pub(super) const SENSITIVITY: Words<Sensitivity> = &[
    (Sensitivity::Normal, "normal"),
    (Sensitivity::Personal, "personal"),
    (Sensitivity::Private, "private"),
    (Sensitivity::Confidential, "confidential"),
];

pub(super) const SHOW_AS: Words<ShowAs> = &[
    (ShowAs::Free, "free"),
    (ShowAs::Tentative, "tentative"),
    (ShowAs::Busy, "busy"),
    (ShowAs::Oof, "oof"),
    (ShowAs::WorkingElsewhere, "workingElsewhere"),
];

pub(super) const ATTENDEE: Words<AttendeeType> = &[
    (AttendeeType::Required, "required"),
    (AttendeeType::Optional, "optional"),
    (AttendeeType::Resource, "resource"),
];

pub(super) const RESPONSE: Words<ResponseType> = &[
    (ResponseType::None, "none"),
    (ResponseType::Organizer, "organizer"),
    (ResponseType::TentativelyAccepted, "tentativelyAccepted"),
    (ResponseType::Accepted, "accepted"),
    (ResponseType::Declined, "declined"),
    (ResponseType::NotResponded, "notResponded"),
];

pub(super) const EVENT_TYPE: Words<CalendarEventType> = &[
    (CalendarEventType::SingleInstance, "singleInstance"),
    (CalendarEventType::Occurrence, "occurrence"),
    (CalendarEventType::Exception, "exception"),
    (CalendarEventType::SeriesMaster, "seriesMaster"),
];

pub(super) const PATTERN: Words<RecurrencePatternType> = &[
    (RecurrencePatternType::Daily, "daily"),
    (RecurrencePatternType::Weekly, "weekly"),
    (RecurrencePatternType::AbsoluteMonthly, "absoluteMonthly"),
    (RecurrencePatternType::RelativeMonthly, "relativeMonthly"),
    (RecurrencePatternType::AbsoluteYearly, "absoluteYearly"),
    (RecurrencePatternType::RelativeYearly, "relativeYearly"),
];

pub(super) const RANGE: Words<RecurrenceRangeType> = &[
    (RecurrenceRangeType::EndDate, "endDate"),
    (RecurrenceRangeType::NoEnd, "noEnd"),
    (RecurrenceRangeType::Numbered, "numbered"),
];

pub(super) const DAY: Words<DayOfWeek> = &[
    (DayOfWeek::Sunday, "sunday"),
    (DayOfWeek::Monday, "monday"),
    (DayOfWeek::Tuesday, "tuesday"),
    (DayOfWeek::Wednesday, "wednesday"),
    (DayOfWeek::Thursday, "thursday"),
    (DayOfWeek::Friday, "friday"),
    (DayOfWeek::Saturday, "saturday"),
];

pub(super) const WEEK: Words<WeekIndex> = &[
    (WeekIndex::First, "first"),
    (WeekIndex::Second, "second"),
    (WeekIndex::Third, "third"),
    (WeekIndex::Fourth, "fourth"),
    (WeekIndex::Last, "last"),
];

/// What a word of Graph's means; 0, not specified, where it is none that is known.
pub(super) fn read<T: Copy + Into<i32>>(words: Words<T>, word: Option<&str>) -> i32 {
    let word = word.unwrap_or_default();
    words.iter().find(|(_, known)| known.eq_ignore_ascii_case(word)).map_or(0, |(value, _)| (*value).into())
}

/// Graph's word for a number of the enum. Nothing for 0, not specified.
///
/// # Errors
/// The enum has no such number.
pub(super) fn write<T: Copy + Into<i32>>(
    words: Words<T>,
    value: i32,
) -> Result<Option<&'static str>, String> {
    if value == 0 {
        return Ok(None);
    }
    let found = words.iter().find(|(known, _)| (*known).into() == value);
    found.map(|(_, word)| Some(*word)).ok_or_else(|| "is not a known value".to_owned())
}
