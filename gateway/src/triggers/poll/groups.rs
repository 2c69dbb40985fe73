//! Who is looked after together: those at the place of their watch, and, apart, those that are elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use postern_proto::event::v1::Trigger;

use crate::store::MAX_WRITES;
use crate::triggers::stored::{At, Place};

/// How many join their watch, or catch up, by one look: the place of each is written with the place of the watch.
const JOIN_AT_ONCE: usize = MAX_WRITES - 1;

/// A trigger that is looked after.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) trigger: Arc<Trigger>,
    /// Its place, where it may be alone. `None`: it goes with its watch.
    pub(super) place: Option<At<Place>>,
}

impl Member {
    fn alone(&self) -> Option<&Bytes> {
        self.place.as_ref().and_then(|place| place.value.alone.as_ref())
    }
}

/// The triggers of a watch by where they are.
pub(super) struct Groups {
    /// Where those are who are looked after together.
    pub(super) cursor: Bytes,
    pub(super) together: Vec<Member>,
    /// Those who have to catch up, by where they are, and no more at once than one commit writes.
    pub(super) behind: Vec<(Bytes, Vec<Member>)>,
}

impl Groups {
    /// Divides the triggers of a watch that is at a cursor. Where nobody is with the watch, its place is nobody's any
    /// more: it then becomes that of the most who are together.
    pub(super) fn divide(members: Vec<Member>, cursor: Bytes) -> Self {
        let mut together = Vec::new();
        let mut elsewhere: BTreeMap<Bytes, Vec<Member>> = BTreeMap::new();
        let mut has_own = false;
        for member in members {
            match member.alone() {
                None => {
                    has_own = true;
                    together.push(member);
                }
                Some(at) if *at == cursor => together.push(member),
                Some(at) => elsewhere.entry(at.clone()).or_default().push(member),
            }
        }
        let most = elsewhere.iter().max_by_key(|(_, members)| members.len());
        let most = most.filter(|(_, members)| !has_own && members.len() > together.len());
        let Some(next) = most.map(|(cursor, _)| cursor.clone()) else {
            return Self::bounded(cursor, together, elsewhere);
        };
        let leading = elsewhere.remove(&next).unwrap_or_default();
        if !together.is_empty() {
            elsewhere.insert(cursor, together);
        }
        Self::bounded(next, leading, elsewhere)
    }

    /// Those who would join beyond what one look can write stay where they are, and catch up from there.
    fn bounded(cursor: Bytes, together: Vec<Member>, mut elsewhere: BTreeMap<Bytes, Vec<Member>>) -> Self {
        let mut joining = 0;
        let (together, late): (Vec<_>, Vec<_>) = together.into_iter().partition(|member| {
            joining += usize::from(member.alone().is_some());
            member.alone().is_none() || joining <= JOIN_AT_ONCE
        });
        if !late.is_empty() {
            elsewhere.insert(cursor.clone(), late);
        }
        let mut behind = Vec::new();
        for (at, members) in elsewhere {
            behind.extend(members.chunks(JOIN_AT_ONCE).map(|part| (at.clone(), part.to_vec())));
        }
        Self { cursor, together, behind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, alone: Option<&'static str>) -> Member {
        let place = alone.map(|at| {
            let alone = Some(Bytes::from_static(at.as_bytes()));
            At { value: Place { alone, last_event_time: None }, revision: 1 }
        });
        Member { trigger: Arc::new(Trigger { name: name.into(), ..Default::default() }), place }
    }

    fn names(members: &[Member]) -> String {
        members.iter().map(|member| member.trigger.name.as_str()).collect()
    }

    fn divided(members: Vec<Member>, cursor: &'static str) -> (Bytes, String, Vec<String>) {
        let groups = Groups::divide(members, Bytes::from_static(cursor.as_bytes()));
        let behind = groups.behind.iter().map(|(_, members)| names(members)).collect();
        (groups.cursor, names(&groups.together), behind)
    }

    #[test]
    fn those_at_the_watchs_place_go_with_it_and_others_by_where_they_are() {
        let members =
            vec![member("a", None), member("b", Some("5")), member("c", Some("3")), member("d", Some("3"))];
        assert_eq!(divided(members, "5"), ("5".into(), "ab".into(), vec!["cd".into()]));
    }

    #[test]
    fn a_place_that_nobody_is_at_is_given_up() {
        let members = vec![member("a", Some("3")), member("b", Some("")), member("c", Some("3"))];
        assert_eq!(divided(members, "5"), ("3".into(), "ac".into(), vec!["b".into()]));
        let new = vec![member("a", Some("")), member("b", Some(""))];
        assert_eq!(divided(new, ""), ("".into(), "ab".into(), Vec::new()));
    }

    #[test]
    fn a_place_that_somebody_goes_by_is_kept_however_many_are_elsewhere() {
        let members = vec![member("a", None), member("b", Some("3")), member("c", Some("3"))];
        assert_eq!(divided(members, "5"), ("5".into(), "a".into(), vec!["bc".into()]));
    }

    #[test]
    fn no_more_join_or_catch_up_at_once_than_one_commit_writes() {
        let goes_along = (0..5_000).map(|_| member("w", None));
        let joins = (0..JOIN_AT_ONCE + 3).map(|_| member("j", Some("5")));
        let behind = (0..2 * JOIN_AT_ONCE + 1).map(|_| member("b", Some("3")));
        let members = behind.chain(joins).chain(goes_along).collect();
        let groups = Groups::divide(members, Bytes::from_static(b"5"));
        assert_eq!(groups.together.len(), 5_000 + JOIN_AT_ONCE);
        let sizes: Vec<_> = groups.behind.iter().map(|(at, part)| (&**at, part.len())).collect();
        let (three, five) = (&b"3"[..], &b"5"[..]);
        assert_eq!(sizes, [(three, JOIN_AT_ONCE), (three, JOIN_AT_ONCE), (three, 1), (five, 3)]);
        // Nobody goes along: the place becomes that of the most.
        let new = (0..JOIN_AT_ONCE + 3).map(|_| member("n", Some(""))).collect();
        let groups = Groups::divide(new, Bytes::from_static(b"5"));
        assert_eq!((&*groups.cursor, groups.together.len()), (&b""[..], JOIN_AT_ONCE));
        assert_eq!((&*groups.behind[0].0, groups.behind[0].1.len()), (&b""[..], 3));
    }
}
