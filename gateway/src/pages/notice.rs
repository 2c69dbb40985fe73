//! A page that says what happened and what to do next.

use askama::Template;

/// How what happened is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It went well.
    Well,
    /// Somebody has to do something.
    Care,
    /// It is still going on.
    Waiting,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Well => "good",
            Self::Care => "bad",
            Self::Waiting => "warn",
        }
    }

    /// The same without colour.
    fn word(self) -> &'static str {
        match self {
            Self::Well => "done",
            Self::Care => "needs you",
            Self::Waiting => "under way",
        }
    }
}

/// A page that says what happened and what to do next.
#[derive(Debug, Template)]
#[template(path = "notice.html")]
pub(crate) struct Notice {
    /// Where the gateway is below its host, without a slash at its end.
    pub(crate) root: String,
    /// How it is to be taken.
    pub(crate) tone: Tone,
    /// What happened, in a few words.
    pub(crate) title: String,
    /// What happened, in sentences.
    pub(crate) happened: Vec<String>,
    /// What to do next.
    pub(crate) next: String,
    /// What it is about: pairs of name and value.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// Where one can go on.
    pub(crate) link: Option<Link>,
}

/// Where one can go on.
#[derive(Debug)]
pub(crate) struct Link {
    /// A path of the gateway.
    pub(crate) href: String,
    /// What it leads to.
    pub(crate) words: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_page_is_escaped() {
        let notice = Notice {
            root: "/postern".into(),
            tone: Tone::Well,
            title: "<script>alert(1)</script>".into(),
            happened: vec!["a & b".into()],
            next: "\"quoted\"".into(),
            facts: vec![("Connection", "<img src=x>".into())],
            link: Some(Link { href: "/console/\"x".into(), words: "On" }),
        };
        let html = notice.render().unwrap();
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("\"x"), "{html}");
        assert!(html.contains("a &#38; b") && html.contains("/postern/assets/console.css"), "{html}");
    }
}
