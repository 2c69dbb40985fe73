//! What a watch of a calendar remembers of its entries between two looks: how each looked, in as few bytes as do.

use std::collections::{HashMap, HashSet};

use postern_chassis::digest;
use postern_proto::outlook::v1::CalendarEvent;

use super::fields::{FIELDS, Look, first_eight};

/// How many entries are remembered: a cursor has room for no more. Beyond it the ones that changed longest ago are
/// forgotten; a change of such a one is told without the names of its fields.
pub(super) const MAX_KNOWN: usize = 7_000;
/// How many bytes an entry takes.
const ENTRY_BYTES: usize = 8 + 8 + 8 + 1 + 4 + 2 * FIELDS.len();

/// An entry as it was at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) look: Look,
    /// When it was last changed, by the provider's clock, in milliseconds since 1970.
    pub(super) modified: i64,
    /// The round of listing in which it was last there.
    pub(super) round: u8,
    /// The series that it belongs to, as `of_series` gives it: it is listed with that, not by itself. 0: none.
    pub(super) of: u32,
}

/// The entries that are remembered, by what stays the same of each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    entries: HashMap<u64, Seen>,
}

/// What is remembered, with what is to be: that is noted once all that belongs to it was read.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    known: &'a Known,
    new: HashMap<u64, Seen>,
}

/// What stays the same of an entry: the id that the meeting has in every calendar, for Exchange makes an entry anew,
/// with another id and time of making, when it is accepted. A time of a series is told from the others by when it would
/// be as well.
pub(super) fn identity(entry: &CalendarEvent) -> String {
    let id = if entry.ical_uid.is_empty() { &entry.id } else { &entry.ical_uid };
    match entry.original_start {
        Some(original) if !entry.series_master_id.is_empty() => format!("{id} {}", original.seconds),
        _ => id.clone(),
    }
}

/// The same in eight bytes.
pub(in crate::poll) fn key(entry: &CalendarEvent) -> u64 {
    first_eight(&digest::of(identity(entry).as_bytes()))
}

/// What those that belong to a series name it by, from its key. A chance of one to 2^32 keeps one longer than need be.
pub(super) fn of_series(key: u64) -> u32 {
    (key as u32).max(1)
}

impl Known {
    /// What is remembered of an entry.
    pub(super) fn get(&self, key: u64) -> Option<&Seen> {
        self.entries.get(&key)
    }

    /// Remembers how entries look now.
    pub(super) fn note(&mut self, new: impl IntoIterator<Item = (u64, Seen)>) {
        self.entries.extend(new);
    }

    /// Forgets the entries that neither this listing found nor the one before, for a page may pass over an entry when
    /// others go while it is turned. What belongs to a series stays as long as that. Gives whether any were forgotten.
    pub(super) fn drop_unseen_in(&mut self, round: u8) -> bool {
        let before = self.entries.len();
        let there = |seen: &Seen| seen.of == 0 && round.wrapping_sub(seen.round) <= 1;
        let series: HashSet<_> =
            self.entries.iter().filter(|(_, seen)| there(seen)).map(|(key, _)| of_series(*key)).collect();
        self.entries.retain(|_, seen| there(seen) || series.contains(&seen.of));
        before != self.entries.len()
    }

    /// Forgets what passes the bound. Gives whether anything did.
    pub(super) fn bound(&mut self) -> bool {
        if self.entries.len() <= MAX_KNOWN {
            return false;
        }
        // Of those that changed at the same moment, always the same go: a look that is made again must end alike.
        let age = |(key, seen): (&u64, &Seen)| (seen.modified, *key);
        let mut ages: Vec<_> = self.entries.iter().map(age).collect();
        let excess = ages.len() - MAX_KNOWN;
        let (_, &mut newest_dropped, _) = ages.select_nth_unstable(excess - 1);
        self.entries.retain(|key, seen| age((key, seen)) > newest_dropped);
        true
    }

    /// Appends the bytes of what is remembered, in an order that does not depend on chance.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let mut keys: Vec<_> = self.entries.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| **key);
        bytes.reserve(keys.len() * ENTRY_BYTES);
        for (key, seen) in keys {
            bytes.extend(key.to_le_bytes());
            bytes.extend(seen.look.whole.to_le_bytes());
            bytes.extend(seen.modified.to_le_bytes());
            bytes.push(seen.round);
            bytes.extend(seen.of.to_le_bytes());
            for short in seen.look.each {
                bytes.extend(short.to_le_bytes());
            }
        }
    }

    /// Reads what was written. None: it is not that.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let chunks = bytes.chunks_exact(ENTRY_BYTES);
        if !chunks.remainder().is_empty() || bytes.len() / ENTRY_BYTES > MAX_KNOWN {
            return None;
        }
        let entries = chunks.map(|chunk| {
            let long = |at: usize| first_eight(chunk.get(at..at + 8).unwrap_or_default());
            let mut each = [0; FIELDS.len()];
            for (short, pair) in each.iter_mut().zip(chunk.get(29..).unwrap_or_default().chunks_exact(2)) {
                *short = u16::from_le_bytes([pair[0], pair[1]]);
            }
            let look = Look { whole: long(8), each };
            let round = chunk.get(24).copied().unwrap_or_default();
            let of = first_eight(chunk.get(25..29).unwrap_or_default()) as u32;
            (long(0), Seen { look, modified: long(16) as i64, round, of })
        });
        Some(Self { entries: entries.collect() })
    }
}

impl<'a> Notes<'a> {
    /// No notes yet.
    pub(super) fn beside(known: &'a Known) -> Self {
        Self { known, new: HashMap::new() }
    }

    /// What is remembered of an entry, or is to be.
    pub(super) fn get(&self, key: u64) -> Option<&Seen> {
        self.new.get(&key).or_else(|| self.known.get(key))
    }

    /// Notes how an entry looks now.
    pub(super) fn put(&mut self, key: u64, seen: Seen) {
        self.new.insert(key, seen);
    }

    /// What is to be remembered.
    pub(super) fn into_new(self) -> HashMap<u64, Seen> {
        self.new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(modified: i64, round: u8) -> Seen {
        let look = Look::of(&CalendarEvent { subject: modified.to_string(), ..Default::default() });
        Seen { look, modified, round, of: 0 }
    }

    #[test]
    fn what_is_remembered_is_read_as_it_was_written() {
        let mut known = Known::default();
        for number in 0..100 {
            known.note([(u64::MAX / (number + 1), seen(-(number as i64), number as u8))]);
        }
        let mut bytes = Vec::new();
        known.write(&mut bytes);
        assert_eq!(bytes.len(), 100 * ENTRY_BYTES);
        assert_eq!(Known::read(&bytes), Some(known));
        assert_eq!(Known::read(&bytes[1..]), None);
        assert_eq!(Known::read(&[]), Some(Known::default()));
    }

    #[test]
    fn what_changed_longest_ago_is_forgotten_first_and_the_bound_fits_a_cursor() {
        let mut known = Known::default();
        for number in 0..MAX_KNOWN as u64 + 10 {
            known.note([(number, seen((number / 4) as i64, 1))]);
        }
        assert!(known.bound() && !known.bound());
        assert_eq!(known.entries.len(), MAX_KNOWN);
        assert!(known.get(0).is_none() && known.get(MAX_KNOWN as u64 + 9).is_some());
        const { assert!(MAX_KNOWN * ENTRY_BYTES <= 500 * 1024) };
        known.note([
            (3, seen(1, 3)),
            (4, Seen { of: of_series(3), ..seen(1, 1) }),
            (5, Seen { of: of_series(7_000), ..seen(1, 1) }),
            (6, seen(1, 2)),
        ]);
        assert!(known.drop_unseen_in(3) && !known.drop_unseen_in(3));
        let mut left: Vec<_> = known.entries.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [3, 4, 6]);
    }

    #[test]
    fn an_entry_that_was_made_anew_by_accepting_it_is_the_same() {
        let invited = CalendarEvent { id: "1".into(), ical_uid: "u".into(), ..Default::default() };
        let accepted = CalendarEvent { id: "2".into(), ical_uid: "u".into(), ..Default::default() };
        assert_eq!(key(&invited), key(&accepted));
        let alone = CalendarEvent { id: "2".into(), ..Default::default() };
        assert_ne!(key(&alone), key(&accepted));
    }
}
