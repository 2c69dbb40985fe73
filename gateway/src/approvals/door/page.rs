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
    /// The form that people see.
    pub(super) form: Option<Form>,
}

/// A form that answers.
pub(super) struct Form {
    pub(super) proof: Proof,
    /// What its button says.
    pub(super) button: String,
    /// What can be chosen, in the order of the options. Empty: the button is enough.
    pub(super) list: Vec<String>,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) subject: &'a str,
    /// Who asks. Empty: not said.
    pub(super) from: &'a str,
    /// The option of the link.
    pub(super) choice: Option<&'a str>,
    /// Until when it can be answered. Empty: not said.
    pub(super) until: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(root: &'a str, language: &'static Language, title: &'a str) -> Self {
        let (alert, question, unseen, form) = (None, None, None, None);
        Self { root, language, title, alert, notes: Vec::new(), question, unseen, form }
    }
}
