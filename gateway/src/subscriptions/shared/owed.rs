//! Gaps that are owed to the subscribers of a SHARED subscription: each lies in the reading from when the place moves past it
//! until somebody has acknowledged it, and is told again to others until then.

use std::collections::HashSet;
use std::time::Duration;

use postern_proto::event::v1::Gap;

use super::assign::Given;
use super::draft::{Draft, Settled, default_delay};
use crate::subscriptions::ack_id::AckId;
use crate::subscriptions::clock::{milliseconds, timestamp};
use crate::subscriptions::gaps::merged;
use crate::subscriptions::settle::Verdict;
use crate::subscriptions::stored::Owed;

/// How many gaps are owed at most: further ones are told as one with the last of them.
const MOST_GAPS: usize = 32;

impl Draft {
    /// Has a gap told. Those that were told to nobody yet are told as one.
    pub(super) fn owe(&mut self, gap: Gap) {
        let gaps = &mut self.reading.gaps;
        let is_full = gaps.len() >= MOST_GAPS;
        let with = gaps.pop_if(|last| last.id == 0 || is_full).map(|last| last.gap);
        gaps.push(Owed { gap: merged(with, gap), id: 0, due: 0 });
    }

    /// Adds to what a subscriber is given a gap, where one is to be told, and notes with each delivery after which gap it
    /// comes: that one, or the one that the subscriber was told of before. `now`, and when it is told again.
    pub(super) fn tell(
        &mut self,
        subscription: &str,
        given: &mut Given,
        before: Option<u64>,
        (now, again): (i64, i64),
    ) {
        let generation = self.reading.generation;
        let due = self.reading.gaps.iter_mut().find(|owed| owed.due <= now);
        if let Some(owed) = due {
            if owed.id == 0 {
                owed.id = fastrand::u64(1..);
            }
            owed.due = again;
            let ack_id = AckId { generation, sequence: 0, nonce: owed.id }.encode(subscription);
            (given.gap, given.gap_id) = (Some(Gap { ack_id, ..owed.gap.clone() }), owed.id);
        }
        let told = given.gap.as_ref().map(|_| given.gap_id).or(before);
        let Some(told) = told.filter(|_| !given.nonces.is_empty()) else { return };
        let nonces: HashSet<_> = given.nonces.iter().map(|(nonce, _)| *nonce).collect();
        for one in self.reading.unsettled.iter_mut().filter(|one| nonces.contains(&one.nonce)) {
            one.gap = told;
        }
    }

    /// Does what a subscriber said of a gap. One that is not owed was acknowledged before, or is told again with others: who
    /// knows of it has said so.
    pub(super) fn settle_gap(
        &mut self,
        (ack_id, id): (&str, AckId),
        verdict: &Verdict,
        ack_deadline: Duration,
        now: i64,
        settled: &mut Settled,
    ) {
        let gaps = &mut self.reading.gaps;
        let at = gaps.iter().position(|owed| owed.id == id.nonce);
        settled.leans_on_absence |= at.is_none();
        let again = match verdict {
            Verdict::Ack => None,
            Verdict::Nack { delay, .. } => Some(delay.unwrap_or_else(|| default_delay(1))),
            Verdict::Extend(_) if at.is_none() => return settled.fail(ack_id, "ACK_EXPIRED"),
            Verdict::Extend(deadline) => Some(deadline.unwrap_or(ack_deadline)),
        };
        match (at, again) {
            (Some(at), Some(again)) => gaps[at].due = now.saturating_add(milliseconds(again)),
            (Some(at), None) => {
                gaps.remove(at);
                self.reading.last_ack_time = Some(timestamp(now));
            }
            (None, _) => {}
        }
        settled.confirm(ack_id);
    }
}

#[cfg(test)]
mod tests {
    use postern_proto::event::v1::GapReason;

    use super::*;
    use crate::events::cursor::Cursor;
    use crate::subscriptions::stored::{Reading, Unsettled};

    const NOW: i64 = 1_000_000;

    fn gone(sequence: u64) -> Gap {
        let at = |sequence| Cursor { epoch: 1, sequence, fingerprint: 0 }.encode();
        Gap {
            from_cursor: at(sequence - 1),
            to_cursor: at(sequence),
            missed: 1,
            reason: GapReason::Retention.into(),
            ..Gap::default()
        }
    }

    fn draft() -> Draft {
        Draft::new(&Reading { generation: 1, ..Reading::default() })
    }

    fn told(draft: &mut Draft, nonces: &[u64], before: Option<u64>) -> Given {
        let nonces = nonces.iter().map(|nonce| (*nonce, 1)).collect();
        let mut given = Given { nonces, ..Given::default() };
        draft.tell("billing", &mut given, before, (NOW, NOW + 60_000));
        given
    }

    #[test]
    fn gaps_are_told_as_one_until_they_are_told_and_each_to_one() {
        let mut draft = draft();
        (1..=3).for_each(|sequence| draft.owe(gone(sequence)));
        let first = told(&mut draft, &[], None);
        draft.owe(gone(4));
        let second = told(&mut draft, &[], None);
        let missed = |given: &Given| given.gap.as_ref().map(|gap| gap.missed);
        assert_eq!([&first, &second, &told(&mut draft, &[], None)].map(missed), [Some(3), Some(1), None]);
        draft.give_back(&[(second.gap_id, true)].into(), NOW);
        let again = told(&mut draft, &[], None);
        assert_eq!((&again.gap, again.gap_id), (&second.gap, second.gap_id));
    }

    #[test]
    fn more_gaps_than_there_is_room_for_are_told_again_as_one_and_none_is_lost() {
        let mut draft = draft();
        for sequence in 1..=100 {
            draft.owe(gone(sequence));
            assert_eq!(told(&mut draft, &[], None).gap_id, draft.reading.gaps.last().unwrap().id);
        }
        assert_eq!(draft.reading.gaps.len(), MOST_GAPS);
        assert_eq!(draft.reading.gaps.iter().map(|owed| owed.gap.missed).sum::<i64>(), 100);
    }

    #[test]
    fn deliveries_come_after_the_gap_that_their_subscriber_was_told_of_last() {
        let mut draft = draft();
        draft.owe(gone(1));
        let delivered = |nonce| Unsettled { nonce, ..Unsettled::default() };
        draft.reading.unsettled = [11, 12, 13].map(delivered).into();
        let given = told(&mut draft, &[11], Some(5));
        told(&mut draft, &[12], Some(7));
        told(&mut draft, &[13], None);
        let gaps: Vec<_> = draft.reading.unsettled.iter().map(|one| one.gap).collect();
        assert_eq!(gaps, [given.gap_id, 7, 0]);
    }
}
