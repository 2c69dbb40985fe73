//! Problems with fields of a request.

use crate::error::Error;

/// The most problems told at once: they travel in trailers, which are bounded.
const MAX_PROBLEMS: usize = 20;

/// What is wrong with a request, by field: the first twenty problems.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<(String, String)>);

impl Problems {
    /// Adds one.
    pub(crate) fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push((path.into(), problem.into()));
        }
    }

    /// What was checked; where it was wrong, nothing, and the problem is added.
    pub(crate) fn keep<T>(&mut self, path: &str, checked: Result<T, impl Into<String>>) -> Option<T> {
        checked.map_err(|problem| self.add(path, problem)).ok()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all of another's.
    pub(crate) fn append(&mut self, other: Self) {
        other.0.into_iter().for_each(|(path, problem)| self.add(path, problem));
    }

    /// All of them as one error.
    pub(crate) fn into_error(self) -> Error {
        Error::Fields(self.0)
    }
}

/// Checks text that goes into a header field: no control characters, not too long.
pub(super) fn check_text(path: &str, text: &str, max_chars: usize, problems: &mut Problems) {
    if text.chars().any(char::is_control) {
        problems.add(path, "holds a control character");
    }
    if text.chars().count() > max_chars {
        problems.add(path, format!("is longer than {max_chars} characters"));
    }
}
