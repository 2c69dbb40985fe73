//! What becomes of a reading by what subscribers say and by time: pure steps on a copy, which is then written, or made
//! anew on what another gateway wrote meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use postern_proto::event::v1::{AckFailure, Confirmed};

use crate::subscriptions::ack_id::AckId;
use crate::subscriptions::clock::{milliseconds, timestamp};
use crate::subscriptions::settle::{Checked, Verdict};
use crate::subscriptions::stored::{Reading, Unsettled};

/// The delay of a nack that names none, after the first attempt; doubled by each further one.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay that nobody asked for.
const LONGEST_DELAY: Duration = Duration::from_secs(600);

/// A reading on its way to another.
pub(super) struct Draft {
    pub(super) reading: Reading,
    /// What last deliveries were given back with: kept where the event is set aside.
    pub(super) reasons: HashMap<u64, String>,
    /// Copies whose event was acknowledged: generation and place.
    pub(super) done_copies: Vec<(u64, u64)>,
}

/// What became of a settlement, as far as the reading tells.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) confirmed: Confirmed,
    /// Acknowledged deliveries of which the reading knows nothing: acknowledged before, unless they are set aside.
    pub(super) unknown: Vec<(String, AckId)>,
    /// Whether something was judged by what the reading does not hold: so it may be where another gateway wrote and this
    /// one has not heard of it.
    pub(super) leans_on_absence: bool,
}

impl Draft {
    pub(super) fn new(reading: &Reading) -> Self {
        Self { reading: reading.clone(), reasons: HashMap::new(), done_copies: Vec::new() }
    }

    /// How many copies are to be removed once it is done what a subscriber says, at most.
    pub(super) fn copies_with(&self, checked: &Checked) -> usize {
        let copies = self.reading.unsettled.iter().filter(|one| one.copy > 0).count();
        self.done_copies.len() + copies.min(checked.verdicts.len())
    }

    /// Takes back what was not settled in time.
    pub(super) fn expire(&mut self, now: i64) {
        for one in self.reading.unsettled.iter_mut().filter(|one| !one.waits && one.due <= now) {
            (one.waits, one.nacked, one.due) = (true, false, now);
        }
    }

    /// Takes back the deliveries with these nonces, and the gaps with these ids: their subscriber is gone. A delivery that
    /// was never sent does not count.
    pub(super) fn give_back(&mut self, nonces: &HashMap<u64, bool>, now: i64) {
        for one in self.reading.unsettled.iter_mut().filter(|one| !one.waits) {
            let Some(sent) = nonces.get(&one.nonce) else { continue };
            (one.waits, one.nacked, one.due) = (true, false, now);
            if !sent {
                one.attempt = one.attempt.saturating_sub(1);
            }
        }
        for owed in self.reading.gaps.iter_mut().filter(|owed| nonces.contains_key(&owed.id)) {
            owed.due = owed.due.min(now);
        }
    }

    /// Does what a subscriber said of deliveries.
    pub(super) fn settle(&mut self, checked: &Checked, ack_deadline: Duration, now: i64) -> Settled {
        let mut settled = Settled::default();
        let (mut acked, mut heard) = (HashSet::new(), HashSet::new());
        let numbered = self.reading.unsettled.iter().enumerate().filter(|(_, one)| one.attempt > 0);
        let places: HashMap<_, _> = numbered.map(|(at, one)| (one.nonce, at)).collect();
        for (ack_id, verdict) in &checked.verdicts {
            let Some((id, verdict)) = verdict else {
                settled.fail(ack_id, "ACK_ID_INVALID");
                continue;
            };
            if id.generation != self.reading.generation {
                settled.leans_on_absence = true;
                // Told from one that was never given only by its checksum, which is enough for who means well.
                settled.fail(ack_id, "ACK_EXPIRED");
                continue;
            }
            if id.is_of_gap() {
                self.settle_gap((ack_id, *id), verdict, ack_deadline, now, &mut settled);
                continue;
            }
            let unsettled = &mut self.reading.unsettled;
            let at = places.get(&id.nonce).copied();
            settled.leans_on_absence |= at.is_none();
            let was_acked = acked.contains(&id.nonce);
            // Of another delivery of the same event.
            let is_again = at.is_none() && unsettled.iter().any(|one| one.sequence == id.sequence);
            let delivery = at.filter(|_| !was_acked).and_then(|at| unsettled.get_mut(at));
            match (delivery, verdict) {
                (Some(one), Verdict::Ack) if !one.waits => {
                    acked.insert(id.nonce);
                    heard.insert(one.gap);
                    if one.copy > 0 {
                        self.done_copies.push((one.copy, one.sequence));
                    }
                    settled.confirm(ack_id);
                }
                (Some(one), Verdict::Nack { delay, reason }) if !one.waits => {
                    let delay = delay.unwrap_or_else(|| default_delay(one.attempt));
                    (one.waits, one.nacked, one.due) = (true, true, now.saturating_add(milliseconds(delay)));
                    self.reasons.insert(one.nonce, reason.clone());
                    settled.confirm(ack_id);
                }
                (Some(one), Verdict::Extend(deadline)) if !one.waits => {
                    one.due = now.saturating_add(milliseconds(deadline.unwrap_or(ack_deadline)));
                    settled.confirm(ack_id);
                }
                // Said again of what was given back and waits.
                (Some(one), Verdict::Nack { .. }) if one.nacked => settled.confirm(ack_id),
                (Some(_), _) => settled.fail(ack_id, "ACK_EXPIRED"),
                (None, Verdict::Ack) if was_acked => settled.confirm(ack_id),
                (None, _) if is_again => settled.fail(ack_id, "ACK_EXPIRED"),
                (None, Verdict::Ack) => settled.unknown.push((ack_id.clone(), *id)),
                (None, Verdict::Nack { .. }) => settled.confirm(ack_id),
                (None, Verdict::Extend(_)) => settled.fail(ack_id, "ACK_EXPIRED"),
            }
        }
        if !acked.is_empty() {
            self.reading.unsettled.retain(|one| one.waits || !acked.contains(&one.nonce));
            self.reading.gaps.retain(|owed| owed.id == 0 || !heard.contains(&owed.id));
            self.reading.last_ack_time = Some(timestamp(now));
        }
        settled
    }

    /// Those that are delivered, or set aside, next: what waits and is due, the longest due first.
    pub(super) fn due(&self, now: i64, max_attempts: u32) -> (Vec<Unsettled>, Vec<Unsettled>) {
        let waiting = self.reading.unsettled.iter().filter(|one| one.waits).copied();
        let (spent, mut due): (Vec<_>, Vec<_>) = waiting.partition(|one| one.attempt >= max_attempts);
        due.retain(|one| one.due <= now);
        due.sort_by_key(|one| (one.due, one.sequence));
        (spent, due)
    }

    /// Where one that waits is.
    pub(super) fn find(&mut self, one: &Unsettled) -> Option<&mut Unsettled> {
        self.reading.unsettled.iter_mut().find(|other| *other == one)
    }

    pub(super) fn remove(&mut self, one: &Unsettled) {
        self.reading.unsettled.retain(|other| other != one);
    }
}

impl Settled {
    pub(super) fn confirm(&mut self, ack_id: &str) {
        self.confirmed.ack_ids.push(ack_id.to_owned());
    }

    pub(super) fn fail(&mut self, ack_id: &str, reason: &str) {
        let failure = AckFailure { ack_id: ack_id.to_owned(), reason: reason.to_owned() };
        self.confirmed.failures.push(failure);
    }
}

/// When something is to be done though nobody asks: a deadline passes, or a wait ends. What waits and was due at the time
/// that the last round went by comes with the next subscriber who has room, and a gap with the next one at all.
pub(super) fn next_due(reading: &Reading, judged: i64) -> Option<i64> {
    let timed = reading.unsettled.iter().filter(|one| !one.waits || one.due > judged).map(|one| one.due);
    let gaps = reading.gaps.iter().map(|owed| owed.due).filter(|due| *due > judged);
    timed.chain(gaps).min()
}

pub(super) fn default_delay(attempt: u32) -> Duration {
    FIRST_DELAY.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;
    const DEADLINE: Duration = Duration::from_secs(60);

    fn delivered(sequence: u64, attempt: u32) -> Unsettled {
        Unsettled { sequence, attempt, due: NOW + 60_000, nonce: sequence + 100, ..Unsettled::default() }
    }

    fn draft(unsettled: Vec<Unsettled>) -> Draft {
        Draft::new(&Reading { generation: 1, unsettled, ..Reading::default() })
    }

    fn said(sequence: u64, verdict: Verdict) -> Checked {
        let id = AckId { generation: 1, sequence, nonce: sequence + 100 };
        Checked { verdicts: vec![("id".to_owned(), Some((id, verdict)))] }
    }

    fn nack(delay: Option<u64>) -> Verdict {
        Verdict::Nack { delay: delay.map(Duration::from_secs), reason: "no".to_owned() }
    }

    fn reasons(settled: &Settled) -> Vec<&str> {
        settled.confirmed.failures.iter().map(|failure| failure.reason.as_str()).collect()
    }

    #[test]
    fn an_ack_settles_its_delivery_and_no_other() {
        let mut draft = draft(vec![delivered(1, 1), delivered(2, 1)]);
        let settled = draft.settle(&said(1, Verdict::Ack), DEADLINE, NOW);
        assert_eq!(settled.confirmed.ack_ids, ["id"]);
        assert_eq!(draft.reading.unsettled, [delivered(2, 1)]);
        let again = draft.settle(&said(1, Verdict::Ack), DEADLINE, NOW);
        assert_eq!(again.unknown.len(), 1);
        assert!(again.leans_on_absence && !settled.leans_on_absence);
    }

    #[test]
    fn a_delivery_whose_deadline_passed_or_that_was_repeated_is_expired() {
        let mut draft = draft(vec![delivered(1, 1)]);
        draft.expire(NOW + 60_000);
        assert_eq!(reasons(&draft.settle(&said(1, Verdict::Ack), DEADLINE, NOW)), ["ACK_EXPIRED"]);
        draft.reading.unsettled[0] = Unsettled { nonce: 9, ..delivered(1, 2) };
        for verdict in [Verdict::Ack, nack(None), Verdict::Extend(None)] {
            assert_eq!(reasons(&draft.settle(&said(1, verdict), DEADLINE, NOW)), ["ACK_EXPIRED"]);
        }
        draft.reading.generation = 2;
        assert_eq!(reasons(&draft.settle(&said(1, Verdict::Ack), DEADLINE, NOW)), ["ACK_EXPIRED"]);
    }

    #[test]
    fn a_nack_waits_for_its_delay_which_doubles_by_default() {
        for (attempt, delay, expected) in
            [(1, Some(0), 0), (1, Some(90), 90), (1, None, 1), (4, None, 8), (11, None, 600), (99, None, 600)]
        {
            let mut draft = draft(vec![delivered(1, attempt)]);
            draft.settle(&said(1, nack(delay)), DEADLINE, NOW);
            let one = draft.reading.unsettled[0];
            assert_eq!((one.waits, one.due), (true, NOW + expected * 1_000));
            let again = draft.settle(&said(1, nack(None)), DEADLINE, NOW + 5);
            assert_eq!(again.confirmed.ack_ids, ["id"], "a repeat stays so");
            assert_eq!(draft.reading.unsettled[0], one);
        }
    }

    #[test]
    fn an_extension_sets_the_deadline_anew() {
        let mut draft = draft(vec![delivered(1, 1)]);
        let long = Verdict::Extend(Some(Duration::from_secs(600)));
        draft.settle(&said(1, long), DEADLINE, NOW);
        assert_eq!(draft.reading.unsettled[0].due, NOW + 600_000);
        draft.settle(&said(1, Verdict::Extend(None)), DEADLINE, NOW);
        assert_eq!(draft.reading.unsettled[0].due, NOW + 60_000);
        assert_eq!(next_due(&draft.reading, NOW), Some(NOW + 60_000));
    }

    #[test]
    fn what_falls_due_after_the_last_round_is_timed_and_what_was_due_then_is_not() {
        let waiting = Unsettled { waits: true, due: NOW + 5, ..delivered(1, 1) };
        let draft = draft(vec![waiting]);
        assert_eq!(next_due(&draft.reading, NOW), Some(NOW + 5));
        assert_eq!(next_due(&draft.reading, NOW + 5), None);
    }

    #[test]
    fn what_is_given_back_is_due_at_once_and_counts_where_it_was_sent() {
        let mut draft = draft(vec![delivered(1, 3), delivered(2, 3), delivered(3, 3)]);
        draft.give_back(&HashMap::from([(101, true), (102, false)]), NOW);
        let (spent, due) = draft.due(NOW, 3);
        assert_eq!(spent.iter().map(|one| (one.sequence, one.attempt)).collect::<Vec<_>>(), [(1, 3)]);
        assert_eq!(due.iter().map(|one| (one.sequence, one.attempt)).collect::<Vec<_>>(), [(2, 2)]);
    }
}
