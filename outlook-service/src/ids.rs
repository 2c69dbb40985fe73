//! Ids of Graph's: what can be one before Graph is asked, since it becomes part of a path, and whether Graph could read it.

use crate::error::{Error, Problems};
use crate::graph::Failure;

/// What is wrong with an id that Graph cannot read.
const NO_ID: &str = "is no id of Graph's";
/// The longest id that is passed on: Graph's have up to some 200 characters.
const MAX_ID: usize = 1_024;

/// What is wrong with an id that may be absent. A name that a path takes for a way up would lead elsewhere.
pub(crate) fn wrong(id: &str) -> Option<String> {
    let is_good = id.len() <= MAX_ID && id.chars().all(|c| c.is_ascii_graphic()) && id != "." && id != "..";
    (!is_good).then(|| format!("{NO_ID}: expected at most {MAX_ID} visible ASCII characters"))
}

/// Says what is wrong with an id that may be absent.
pub(crate) fn check(field: &str, id: &str, problems: &mut Problems) {
    problems.extend(wrong(id).map(|problem| (field.to_owned(), problem)));
}

/// Says what is wrong with an id that is needed.
pub(crate) fn check_needed(field: &str, id: &str, problems: &mut Problems) {
    match id {
        "" => problems.push((field.to_owned(), "is needed".to_owned())),
        id => check(field, id, problems),
    }
}

/// Whether Graph could not read an id.
pub(crate) fn is_malformed(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.has_code(&["ErrorInvalidIdMalformed"]))
}

/// What a failure means where the item of the field was asked for.
pub(crate) fn of_item(field: &str, failure: Failure, other: impl FnOnce(Failure) -> Error) -> Error {
    if is_malformed(&failure) { Error::field(field, NO_ID) } else { other(failure) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_lead_elsewhere_or_is_none_is_no_id() {
        let wrong = |id: &str| {
            let mut problems = Vec::new();
            check_needed("id", id, &mut problems);
            !problems.is_empty()
        };
        assert!(!wrong("AAMkAG/b+c=") && !wrong(&"a".repeat(MAX_ID)));
        let long = "a".repeat(MAX_ID + 1);
        for id in ["", ".", "..", "a b", "a\nb", "\u{e4}", &long] {
            assert!(wrong(id), "{id}");
        }
        let mut problems = Vec::new();
        check("table", "", &mut problems);
        assert!(problems.is_empty());
    }
}
