//! What follows from who lives and who owns what: pure, so that each case can be tried.

use std::collections::HashSet;

use super::record::Known;
use super::{PARTITIONS, stable_hash};
use crate::store::{Expect, Revision};

/// What is known at a moment.
pub(super) struct View<'a> {
    /// This gateway.
    pub(super) id: &'a str,
    /// Those who take leases.
    pub(super) takers: &'a [String],
    /// Those whose leases are not to be taken: all who live, and who retire.
    pub(super) living: &'a HashSet<String>,
    /// The leases as stored.
    pub(super) leases: &'a [Option<Known>; PARTITIONS],
    /// The revisions of those that this gateway holds.
    pub(super) held: [Option<Revision>; PARTITIONS],
}

/// What to do with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is where it should be, or its owner has yet to give it up.
    Stay,
    /// Take it.
    Take(Expect),
    /// Give it up.
    Leave,
    /// Another has it: it is lost.
    Lost,
    /// Give up one that is stored as this gateway's and not held, and should be another's: nobody else may.
    Disown(Revision),
}

/// What to do with each lease.
pub(super) fn plan(view: &View<'_>) -> [Step; PARTITIONS] {
    std::array::from_fn(|partition| step(view, partition))
}

fn step(view: &View<'_>, partition: usize) -> Step {
    let (lease, held) = (view.leases[partition].as_ref(), view.held[partition]);
    let is_due = chosen(view.takers, partition) == Some(view.id);
    match (held, lease) {
        (Some(held), Some(lease)) if lease.revision == held => {
            if is_due {
                Step::Stay
            } else {
                Step::Leave
            }
        }
        (Some(_), _) => Step::Lost,
        // The answer to its taking was lost, or came after all had been counted as lost.
        (None, Some(lease)) if !is_due && lease.owner == view.id => Step::Disown(lease.revision),
        (None, _) if !is_due => Step::Stay,
        (None, None) => Step::Take(Expect::Absent),
        // One of an earlier life of this gateway is nobody's either.
        (None, Some(lease)) if lease.owner == view.id || !view.living.contains(&lease.owner) => {
            Step::Take(Expect::Revision(lease.revision))
        }
        (None, Some(_)) => Step::Stay,
    }
}

/// Whose a partition should be (rendezvous hashing: when a gateway comes or goes, only its own partitions move).
pub(super) fn chosen(takers: &[String], partition: usize) -> Option<&str> {
    let name = partition.to_string();
    takers.iter().map(String::as_str).max_by_key(|id| (stable_hash(&[&name, id]), *id))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One view of a single partition, which is `me`'s where `due`.
    fn told(due: bool, lease: Option<(&str, Revision)>, held: Option<Revision>, living: &[&str]) -> Step {
        let taker = if due { "me" } else { "other" };
        let mut leases = [const { None }; PARTITIONS];
        leases[0] = lease.map(|(owner, revision)| Known { owner: owner.to_owned(), revision });
        let mut all = [None; PARTITIONS];
        all[0] = held;
        let living = living.iter().map(|id| (*id).to_owned()).collect();
        let view =
            View { id: "me", takers: &[taker.to_owned()], living: &living, leases: &leases, held: all };
        plan(&view)[0]
    }

    #[test]
    fn a_lease_is_taken_only_when_nobody_who_lives_has_it() {
        let both = ["me", "other"];
        assert_eq!(told(true, None, None, &both), Step::Take(Expect::Absent));
        assert_eq!(told(true, Some(("other", 7)), None, &both), Step::Stay);
        assert_eq!(told(true, Some(("other", 7)), None, &["me"]), Step::Take(Expect::Revision(7)));
        assert_eq!(told(true, Some(("me", 7)), None, &both), Step::Take(Expect::Revision(7)));
        for lease in [None, Some(("other", 7)), Some(("gone", 7))] {
            assert_eq!(told(false, lease, None, &both), Step::Stay, "{lease:?}");
        }
        assert_eq!(told(false, Some(("me", 7)), None, &both), Step::Disown(7));
    }

    #[test]
    fn a_lease_that_should_be_anothers_is_given_up_and_one_that_was_taken_is_lost() {
        let both = ["me", "other"];
        assert_eq!(told(true, Some(("me", 7)), Some(7), &both), Step::Stay);
        assert_eq!(told(false, Some(("me", 7)), Some(7), &both), Step::Leave);
        for due in [true, false] {
            assert_eq!(told(due, Some(("other", 8)), Some(7), &both), Step::Lost);
            assert_eq!(told(due, None, Some(7), &both), Step::Lost);
        }
    }

    #[test]
    fn partitions_are_spread_and_only_those_of_who_goes_move() {
        let ids: Vec<String> = (0..3_u32).map(|number| format!("gateway-{number}")).collect();
        let of = |takers: &[String]| -> Vec<String> {
            (0..PARTITIONS).map(|partition| chosen(takers, partition).unwrap().to_owned()).collect()
        };
        let (three, two) = (of(&ids), of(&ids[..2]));
        for (before, after) in three.iter().zip(&two) {
            assert!(before == after || *before == ids[2], "{before} to {after}");
        }
        for id in &ids {
            let own = three.iter().filter(|owner| *owner == id).count();
            assert!((8..40).contains(&own), "{id} has {own}");
        }
        assert_eq!(chosen(&[], 0), None);
    }
}
