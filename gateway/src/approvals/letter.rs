//! The mail that asks somebody: HTML of tables, which every mail program shows, with a text beside it that says the same.

mod plain;

use askama::Template;
use postern_chassis::fault::Fault;
use postern_proto::mail::v1::{Attachment, Email, Importance};
use tonic::Code;

use super::language::Language;
use crate::error::Error;

/// What all mails of an approval say alike.
pub(super) struct Letter<'a> {
    pub(super) language: &'static Language,
    pub(super) subject: &'a str,
    pub(super) header: &'a str,
    pub(super) selection: &'a str,
    /// What is asked, and whether it is HTML.
    pub(super) body: &'a str,
    pub(super) is_html: bool,
    /// Until when the links work, as people read it.
    pub(super) until: &'a str,
    pub(super) from: &'a str,
    pub(super) importance: Importance,
    pub(super) attachments: &'a [Attachment],
    /// Whether the mail is text alone.
    pub(super) text_only: bool,
    /// Whether its connector takes a text beside HTML. Where it does not, its provider makes one.
    pub(super) takes_text: bool,
}

/// What can be answered, and where that leads.
pub(super) struct Choice {
    pub(super) label: String,
    pub(super) url: String,
}

#[derive(Template)]
#[template(path = "approval/mail.html")]
struct Html<'a> {
    language: &'a Language,
    subject: &'a str,
    header: &'a str,
    /// HTML: the caller's own, or made of the caller's text.
    body: &'a str,
    selection: &'a str,
    choices: &'a [Choice],
    note: &'a str,
    expires: &'a str,
}

#[derive(Template)]
#[template(path = "approval/mail.txt")]
struct Text<'a> {
    header: &'a str,
    body: &'a str,
    selection: &'a str,
    choices: &'a [Choice],
    note: &'a str,
    expires: &'a str,
}

impl Letter<'_> {
    /// The mail to one recipient.
    ///
    /// # Errors
    /// It could not be made.
    pub(super) fn to(&self, recipient: &str, choices: &[Choice]) -> Result<Email, Error> {
        let (header, selection) = (self.header, self.selection);
        let note = self.language.say("mail.note");
        let expires = self.language.fill("mail.expires", &[("time", self.until)]);
        let unmade = |_| Fault::new(Code::Internal, "INTERNAL", "the mail could not be made");
        let mut email = Email {
            from: self.from.to_owned(),
            to: vec![recipient.to_owned()],
            subject: self.subject.to_owned(),
            importance: self.importance.into(),
            attachments: self.attachments.to_vec(),
            ..Email::default()
        };
        let text = || {
            let body = if self.is_html { plain::text_of(self.body) } else { self.body.to_owned() };
            let text = Text { header, body: body.trim_end(), selection, choices, note, expires: &expires };
            text.render().map_err(unmade)
        };
        if self.text_only {
            email.body = text()?;
            return Ok(email);
        }
        let body =
            if self.is_html { plain::content_of(self.body).to_owned() } else { plain::html_of(self.body) };
        let (language, subject, body) = (self.language, self.subject, body.as_str());
        let html = Html { language, subject, header, body, selection, choices, note, expires: &expires };
        (email.body, email.is_html) = (html.render().map_err(unmade)?, true);
        if self.takes_text {
            email.text_body = text()?;
        }
        Ok(email)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approvals::language;

    fn letter<'a>(body: &'a str, is_html: bool) -> Letter<'a> {
        Letter {
            language: language::of("en"),
            subject: "A <b>",
            header: "Head <i>",
            selection: "Select & go",
            body,
            is_html,
            until: "soon",
            from: "",
            importance: Importance::Unspecified,
            attachments: &[],
            text_only: false,
            takes_text: true,
        }
    }

    fn choices() -> Vec<Choice> {
        vec![Choice { label: "Yes & <no>".into(), url: "https://p.example/approvals/t".into() }]
    }

    #[test]
    fn what_is_text_stays_text_in_the_html() {
        let email = letter("Two < three\nlines", false).to("a@example.org", &choices()).unwrap();
        assert!(email.is_html && email.to == ["a@example.org"]);
        for (there, not_there) in [
            ("Two &lt; three<br>", "Two < three"),
            ("Yes &#38; &#60;no&#62;", "Yes & <no>"),
            ("Head &#60;i&#62;", "Head <i>"),
            ("href=\"https://p.example/approvals/t\"", "<b>"),
        ] {
            assert!(email.body.contains(there), "{there} in {}", email.body);
            assert!(!email.body.contains(not_there), "{not_there} in {}", email.body);
        }
        assert!(email.text_body.contains("Two < three\nlines"), "{}", email.text_body);
        assert!(email.text_body.contains("  Yes & <no>\n  https://p.example/approvals/t\n"));
        assert!(email.text_body.contains("Head <i>") && email.text_body.contains("Select & go"));
    }

    #[test]
    fn html_goes_as_it_is_and_reads_as_text_beside_it() {
        let html = "<html><head><title>x</title></head><body class=a><p>Buy <b>this</b>?</p></body></html>";
        let email = letter(html, true).to("a@example.org", &choices()).unwrap();
        assert!(email.body.contains("<p>Buy <b>this</b>?</p>") && !email.body.contains("<body class=a>"));
        assert!(email.text_body.contains("\nBuy this?\n"), "{}", email.text_body);
    }

    #[test]
    fn a_mail_of_text_alone_has_no_html() {
        let only = Letter { text_only: true, ..letter("<p>Buy?</p>", true) };
        let email = only.to("a@example.org", &choices()).unwrap();
        assert!(!email.is_html && email.text_body.is_empty() && !email.body.contains("<p>"));
        assert!(email.body.contains("https://p.example/approvals/t"));
        let without = Letter { takes_text: false, ..letter("Buy?", false) };
        assert!(without.to("a@example.org", &choices()).unwrap().text_body.is_empty());
    }
}
