//! The one page of all that a link can lead to.

use askama::Template;

use super::visit::Proof;
use crate::approvals::language::Language;

/// A page.
#[derive(Template)]
#[template(path = "approval/page.html")]
pub(super) struct Page<'a> {
    pub(super) root: &'a str,
    pub(super) language: &'static Language,
    pub(super) title: &'a str,
    /// What went wrong with the press before.
    pub(super) alert: Option<&'a str>,
    pub(super) notes: Vec<String>,
    pub(super) question: Option<Question<'a>>,
    /// The form that no person sees.
    pub(super) unseen: Option<Proof>,
    /// The form, and what its button says.
    pub(super) form: Option<(Proof, String)>,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) subject: &'a str,
    /// Who asks. Empty: not said.
    pub(super) from: &'a str,
    /// The option of the link.
    pub(super) choice: Option<&'a str>,
}

impl<'a> Page<'a> {
    pub(super) fn new(root: &'a str, language: &'static Language, title: &'a str) -> Self {
        let (alert, question, unseen, form) = (None, None, None, None);
        Self { root, language, title, alert, notes: Vec::new(), question, unseen, form }
    }
}
