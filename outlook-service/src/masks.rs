//! Field masks: which fields of an item a change is about.

use prost_types::FieldMask;

use crate::error::Problems;

/// Fields of an item, by what a caller may do with them.
pub(crate) struct Fields {
    /// The message, by name.
    pub(crate) message: &'static str,
    /// Those that a caller may set.
    pub(crate) settable: &'static [&'static str],
    /// Those that the provider sets.
    pub(crate) given: &'static [&'static str],
}

impl Fields {
    /// The fields that a caller may set and did.
    pub(crate) fn set(&self, is_set: impl Fn(&str) -> bool) -> Vec<&'static str> {
        self.settable.iter().copied().filter(|name| is_set(name)).collect()
    }

    /// The fields that a change is about, each once: those that the mask names, or, without a mask, those that are set.
    pub(crate) fn named(
        &self,
        mask: Option<&FieldMask>,
        is_set: impl Fn(&str) -> bool,
        problems: &mut Problems,
    ) -> Vec<&'static str> {
        let Some(mask) = mask else {
            let set = self.set(is_set);
            if set.is_empty() {
                let problem = "expected a field to change: none is set in item, and update_mask is absent";
                problems.push(("item".to_owned(), problem.to_owned()));
            }
            return set;
        };
        if mask.paths.is_empty() {
            let problem = "expected at least one field; absent: every field that is set in item";
            problems.push(("update_mask.paths".to_owned(), problem.to_owned()));
        }
        let mut named = Vec::new();
        for (index, path) in mask.paths.iter().enumerate() {
            let mut wrong = |problem| problems.push((format!("update_mask.paths[{index}]"), problem));
            match self.settable.iter().copied().find(|name| name == path) {
                Some(name) if named.contains(&name) => {}
                Some(name) => named.push(name),
                None if self.given.contains(&path.as_str()) => {
                    wrong("is set by the provider and cannot be changed".to_owned());
                }
                None => wrong(format!(
                    "expected the name of a field of {}, such as {}",
                    self.message, self.settable[0]
                )),
            }
        }
        named
    }
}
