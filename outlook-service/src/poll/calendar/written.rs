//! Changes, written as occurrences: for each trigger in its order, each within the bound of an event.

use postern_chassis::digest;
use postern_proto::connector::v1::Occurrence;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{EventData, EventModified};
use postern_proto::outlook::v1::CalendarEvent;
use prost::Message as _;

use super::Shown;
use super::changes::{Change, What};
use super::known;
use super::wants::Wants;
use crate::calendar::read::cut;
use crate::poll::bound;
use crate::poll::odata::Order;

/// Bytes of the digest that names an entry.
const NAME_BYTES: usize = 16;
/// What the fields around an entry take at most: tags, lengths, names, keys.
const AROUND: usize = 512;
/// How many attendees an event names where all would pass its bound.
const FEW_ATTENDEES: usize = 10;

/// One occurrence to be.
struct Line<'a> {
    change: &'a Change,
    what: &'a What,
    shown: &'a Shown,
    triggers: Vec<String>,
}

/// Those triggers that are told alike: in the same order, and nobody passes over any.
struct Group<'a> {
    order: &'a Order,
    wants: Vec<usize>,
}

/// Writes what is told: what is told to several triggers travels once.
pub(super) fn write(wants: &[Wants], changes: &[Change]) -> Vec<Occurrence> {
    let lines: Vec<_> = groups(wants).iter().flat_map(|group| lines(group, wants, changes)).collect();
    let bound = bound(lines.len());
    lines.into_iter().map(|line| occurrence(line, bound)).collect()
}

fn groups(wants: &[Wants]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (index, want) in wants.iter().enumerate() {
        let alike = |group: &&mut Group<'_>| {
            let skips = |index: &usize| wants.get(*index).is_some_and(|want| want.skip > 0);
            *group.order == want.order && want.skip == 0 && !group.wants.first().is_some_and(skips)
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.wants.push(index),
            None => groups.push(Group { order: &want.order, wants: vec![index] }),
        }
    }
    groups
}

fn lines<'a>(group: &Group<'_>, wants: &[Wants], changes: &'a [Change]) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for change in changes {
        let alone = std::slice::from_ref(&change.shown);
        for (shown, one_by_one) in [(alone, false), (change.occurrences.as_slice(), true)] {
            for shown in shown {
                let first = lines.len();
                for (index, what) in change.listeners.iter().filter(|(index, _)| group.wants.contains(index))
                {
                    let Some(want) = wants.get(*index) else { continue };
                    let spread = want.every_occurrence && !change.occurrences.is_empty();
                    if spread != one_by_one || !want.meets(&shown.raw) {
                        continue;
                    }
                    match lines.iter_mut().skip(first).find(|line| line.what == what) {
                        Some(line) => line.triggers.push(want.name.clone()),
                        None => lines.push(Line { change, what, shown, triggers: vec![want.name.clone()] }),
                    }
                }
            }
        }
    }
    lines.sort_by(|one, other| group.order.compare(&one.shown.raw, &other.shown.raw));
    let skip =
        group.wants.first().and_then(|index| wants.get(*index)).map(|want| want.skip).unwrap_or_default();
    lines.drain(..skip.min(lines.len()));
    lines
}

fn occurrence(line: Line<'_>, bound: usize) -> Occurrence {
    let entry = fit(line.shown.entry.clone(), bound);
    let name = name(&entry);
    let (key, r#type, time, kind) = match line.what {
        What::Made => {
            let time = entry.date_time_created;
            (format!("created:{name}"), "calendar_event.created", time, Kind::EventCreated(entry))
        }
        What::Changed(fields) => {
            // Of an occurrence told with its series it is the series that was changed.
            let change_key = &line.change.shown.entry.change_key;
            let time = line.change.shown.entry.date_time_last_modified;
            let key = format!("modified:{name}:{change_key}");
            let changed_fields = fields.iter().map(|field| (*field).to_owned()).collect();
            let modified = EventModified { event: Some(entry), changed_fields };
            (key, "calendar_event.modified", time, Kind::EventModified(modified))
        }
    };
    let data = Some(EventData { kind: Some(kind) });
    Occurrence { triggers: line.triggers, key, r#type: r#type.to_owned(), time, data }
}

/// What tells an entry from all others, accepted or not.
pub(in crate::poll) fn name(entry: &CalendarEvent) -> String {
    digest::hex(&digest::of(known::identity(entry).as_bytes())[..NAME_BYTES])
}

/// Cuts an entry to a bound: first its body, then its attendees, then what is left that may be long.
pub(in crate::poll) fn fit(mut entry: CalendarEvent, bound: usize) -> CalendarEvent {
    let bound = bound.saturating_sub(AROUND);
    for shrink in 0..4 {
        let size = entry.encoded_len();
        if size <= bound {
            break;
        }
        match shrink {
            0 => cut(&mut entry, size - bound),
            1 => entry.attendees.truncate(FEW_ATTENDEES),
            2 => {
                entry.location = None;
                entry.categories.truncate(FEW_ATTENDEES);
            }
            _ => entry.subject = entry.subject.chars().take(1_000).collect(),
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::MAX_DATA;
    use postern_proto::mail::v1::Mailbox;
    use postern_proto::outlook::v1::Attendee;

    #[test]
    fn an_entry_is_cut_to_its_bound_whatever_makes_it_large() {
        let mailbox = Some(Mailbox { address: "a".repeat(300), name: "b".repeat(300) });
        let attendees = vec![Attendee { mailbox, ..Default::default() }; 500];
        let entry = CalendarEvent { body: "ü".repeat(100_000), attendees, ..Default::default() };
        let small = fit(entry, MAX_DATA);
        assert!(small.encoded_len() <= MAX_DATA && small.body_truncated);
        assert_eq!(small.attendees.len(), FEW_ATTENDEES);
        let long = CalendarEvent { subject: "x".repeat(200_000), ..Default::default() };
        assert!(fit(long, MAX_DATA).encoded_len() <= MAX_DATA);
    }
}
