//! Who is looked after together: those at the place of their watch, and, apart, those that are elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use postern_proto::event::v1::Trigger;

use crate::triggers::stored::{At, Place};

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
    /// Those who have to catch up, by where they are.
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
            return Self { cursor, together, behind: elsewhere.into_iter().collect() };
        };
        let leading = elsewhere.remove(&next).unwrap_or_default();
        if !together.is_empty() {
            elsewhere.insert(cursor, together);
        }
        Self { cursor: next, together: leading, behind: elsewhere.into_iter().collect() }
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
}
