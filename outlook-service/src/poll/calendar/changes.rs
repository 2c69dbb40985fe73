//! What an event on a page is to those who watch its calendar: new, changed, or neither.

use jiff::Timestamp;
use postern_proto::outlook::v1::CalendarEvent;

use super::fields::Look;
use super::known::{self, Seen};
use super::place::{Place, Stage};
use super::wants::{Tells, Wants};
use super::{Clock, MARGIN_SECONDS, Shown};

/// Something to tell.
pub(super) struct Change {
    pub(super) shown: Shown,
    pub(super) what: What,
    /// The occurrences that are told in its stead to those who want them one by one.
    pub(super) occurrences: Vec<Shown>,
    /// The triggers that are told, by their places, and as what each is.
    pub(super) listeners: Vec<(usize, What)>,
    /// Whether it may have happened before the watch began, so that its time decides whom it is told to.
    pub(super) by_time: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// It came to be in the calendar.
    Made,
    /// It was changed: in these fields, where that is known.
    Changed(Vec<&'static str>),
}

/// What became of an event on a page.
pub(super) struct Sorted {
    /// What happened to it. None: nothing that people see.
    pub(super) what: Option<What>,
    /// Whether it was not known.
    pub(super) is_new: bool,
    /// Whether it was not known, or Exchange says that it was changed since, seen or not.
    pub(super) touched: bool,
    /// What stays the same of it.
    pub(super) key: u64,
    /// How it looks now, which is not remembered yet.
    pub(super) seen: Seen,
}

/// Sorts an event in.
pub(super) fn sort(place: &Place, entry: &CalendarEvent, now: Timestamp) -> Sorted {
    let key = known::key(entry);
    let before = place.known.get(key);
    let look = Look::of(entry);
    let modified = millis(entry.date_time_last_modified.as_ref(), now);
    let what = match before {
        Some(seen) if seen.look.whole == look.whole => None,
        Some(seen) => Some(What::Changed(look.changed_since(&seen.look))),
        None if was_forgotten(place, entry, now) => {
            let long_ago =
                place.stage.told_until().is_some_and(|until| modified < (until - MARGIN_SECONDS) * 1_000);
            (!long_ago).then(|| What::Changed(Vec::new()))
        }
        None => Some(What::Made),
    };
    let touched = before.is_none_or(|seen| seen.modified != modified);
    let seen = Seen { look, modified, round: place.round, of: 0 };
    Sorted { what, is_new: before.is_none(), touched, key, seen }
}

/// Whether an entry that is not known was so only for want of room: it was made long before.
fn was_forgotten(place: &Place, entry: &CalendarEvent, now: Timestamp) -> bool {
    let Some(told_until) = place.stage.told_until() else { return false };
    let made = millis(entry.date_time_created.as_ref(), now) / 1_000;
    place.forgot && made < told_until - MARGIN_SECONDS
}

/// A time in milliseconds since 1970; now where there is none.
pub(super) fn millis(time: Option<&prost_types::Timestamp>, now: Timestamp) -> i64 {
    match time {
        Some(time) => time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000,
        None => now.as_millisecond(),
    }
}

impl Change {
    /// A change that nobody is told of yet.
    pub(super) fn new(shown: Shown, what: What) -> Self {
        Self { shown, what, occurrences: Vec::new(), listeners: Vec::new(), by_time: false }
    }

    /// The change with those who are told of it; none where nobody is.
    pub(super) fn heard(mut self, wants: &[Wants], stage: &Stage, clock: &Clock) -> Option<Self> {
        for (index, want) in wants.iter().enumerate() {
            let since = clock.theirs(want.since).as_second();
            let Some(what) = self.tells(stage, since) else { continue };
            let kind = if what == What::Made { Tells::Made } else { Tells::Changed };
            // Occurrences told one by one are held against the condition one by one.
            if want.tells == kind && (want.every_occurrence || want.meets(&self.shown.raw)) {
                self.listeners.push((index, what));
            }
        }
        (!self.listeners.is_empty()).then_some(self)
    }

    /// How many occurrences it comes to, where all are told alike.
    pub(super) fn count(&self) -> usize {
        self.occurrences.len().max(1)
    }

    /// What it is to a trigger that began at `since`: to one that is younger than what was told last only what happened
    /// since then. In the first listing nothing is known yet, and times alone decide.
    fn tells(&self, stage: &Stage, since: i64) -> Option<What> {
        // What is told on time is told whatever its times say: it may have been moved in.
        if !self.by_time && stage.told_until().is_some_and(|until| until >= since) {
            return Some(self.what.clone());
        }
        let after = |time: Option<&prost_types::Timestamp>| time.is_none_or(|time| time.seconds >= since);
        let entry = &self.shown.entry;
        let made = after(entry.date_time_created.as_ref());
        let changed = after(entry.date_time_last_modified.as_ref());
        match &self.what {
            What::Made if made => Some(What::Made),
            What::Made if changed && stage.told_until().is_none() => Some(What::Changed(Vec::new())),
            What::Changed(fields) if changed => Some(What::Changed(fields.clone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(forgot: bool) -> Place {
        let mut place = crate::poll::calendar::place::read(b"", "ann").unwrap();
        place.stage = Stage::Listing { link: None, began: None, told_until: Some(100_000) };
        place.forgot = forgot;
        place
    }

    fn entry(made: i64, modified: i64) -> CalendarEvent {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        CalendarEvent {
            id: "x".into(),
            date_time_created: at(made),
            date_time_last_modified: at(modified),
            ..Default::default()
        }
    }

    fn sorted(forgot: bool, made: i64, modified: i64) -> Option<What> {
        sort(&place(forgot), &entry(made, modified), Timestamp::UNIX_EPOCH).what
    }

    #[test]
    fn what_was_forgotten_for_want_of_room_is_not_taken_for_new_when_it_is_listed_again() {
        assert_eq!(sorted(true, 5, 5), None);
        assert_eq!(sorted(true, 5, 100_001), Some(What::Changed(Vec::new())));
        assert_eq!(sorted(true, 99_900, 99_900), Some(What::Made));
        assert_eq!(sorted(false, 5, 5), Some(What::Made), "it was moved in");
    }

    #[test]
    fn what_is_known_is_told_when_it_looks_otherwise_alone() {
        let mut place = place(false);
        let mut noted = |entry| {
            let sorted = sort(&place, &entry, Timestamp::UNIX_EPOCH);
            place.known.note([(sorted.key, sorted.seen)]);
            sorted
        };
        let first = noted(entry(5, 5));
        assert!(first.is_new && first.touched);
        let again = noted(entry(5, 5));
        assert!(again.what.is_none() && !again.touched && !again.is_new);
        let touched = noted(entry(5, 6));
        assert!(touched.what.is_none() && touched.touched);
        let changed = noted(CalendarEvent { subject: "other".into(), ..entry(5, 7) });
        assert_eq!(changed.what, Some(What::Changed(vec!["subject"])));
    }
}
