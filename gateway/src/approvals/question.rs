//! What a caller asks, checked: each field that is wrong is named.

use std::collections::HashSet;
use std::time::Duration;

use postern_proto::approval::v1::approval_policy::Kind;
use postern_proto::approval::v1::{ApprovalPolicy, Question};
use postern_proto::mail::v1::Attachment;

use super::addresses::{self, Mailbox};
use super::language;
use super::settings::EXPIRY;
use crate::error::Error;
use crate::names;

/// The most recipients.
const MAX_RECIPIENTS: usize = 100;
/// The most options, and the most characters of one.
const MAX_OPTIONS: usize = 100;
const MAX_OPTION: usize = 64;
/// The most characters of a line that the caller chooses.
const MAX_LINE: usize = 1_000;
/// What can be answered where an approval names nothing else.
const APPROVE_OR_REJECT: [&str; 2] = ["Approve", "Reject"];

/// A question that can be asked.
pub(super) struct Asked {
    pub(super) connection: String,
    pub(super) request_id: String,
    /// Whether it asks to approve rather than to choose.
    pub(super) approves: bool,
    pub(super) question: Question,
    pub(super) recipients: Vec<Mailbox>,
    pub(super) options: Vec<String>,
    /// Whether the options are the gateway's own.
    pub(super) own_options: bool,
    pub(super) policy: Option<ApprovalPolicy>,
    pub(super) expire_after: Option<Duration>,
}

impl Asked {
    /// Checks what can be told without asking anybody.
    ///
    /// # Errors
    /// FIELD_INVALID with all that is wrong.
    pub(super) fn read(
        connection: String,
        request_id: String,
        approves: bool,
        question: Option<Question>,
        mut options: Vec<String>,
    ) -> Result<Self, Error> {
        names::connection("connection", &connection)?;
        let question =
            question.ok_or_else(|| Error::field("question", "is absent: expected what to ask, and whom"))?;
        let mut wrong = Vec::new();
        let recipients = recipients(&question.to, &mut wrong);
        let own_options = approves && options.is_empty();
        if own_options {
            options = APPROVE_OR_REJECT.map(str::to_owned).to_vec();
        }
        check_options(&options, &mut wrong);
        check_attachments(&question.attachments, &mut wrong);
        for (field, line) in [
            ("subject", &question.subject),
            ("header_text", &question.header_text),
            ("selection_text", &question.selection_text),
            ("from", &question.from),
        ] {
            if line.chars().count() > MAX_LINE || line.chars().any(char::is_control) {
                let problem = format!("expected one line of at most {MAX_LINE} characters");
                wrong.push((format!("question.{field}"), problem));
            }
        }
        if !question.language.is_empty() && !language::codes().any(|code| code == question.language) {
            let expected = language::codes().collect::<Vec<_>>().join(", ");
            let problem = format!("is no language of this gateway: expected one of {expected}");
            wrong.push(("question.language".to_owned(), problem));
        }
        let expire_after = question.expire_after.map(Duration::try_from).transpose();
        let expire_after =
            expire_after.ok().filter(|after| after.is_none_or(|after| EXPIRY.contains(&after)));
        if expire_after.is_none() {
            wrong.push(("question.expire_after".to_owned(), "expected 1 min to 365 days".to_owned()));
        }
        let policy = policy(question.policy, recipients.len(), &mut wrong);
        if !wrong.is_empty() {
            return Err(Error::Fields(wrong));
        }
        let expire_after = expire_after.flatten();
        Ok(Self {
            connection,
            request_id,
            approves,
            question,
            recipients,
            options,
            own_options,
            policy,
            expire_after,
        })
    }
}

/// Who is asked, each once.
fn recipients(to: &[String], wrong: &mut Vec<(String, String)>) -> Vec<Mailbox> {
    let (mut recipients, mut known) = (Vec::new(), HashSet::new());
    for (at, text) in to.iter().enumerate() {
        match addresses::read(text) {
            Ok(found) => {
                let new = found.into_iter().filter(|it| known.insert(it.address.to_ascii_lowercase()));
                recipients.extend(new);
            }
            Err(problem) => wrong.push((format!("question.to[{at}]"), problem)),
        }
        if recipients.len() > MAX_RECIPIENTS {
            break;
        }
    }
    if recipients.len() > MAX_RECIPIENTS {
        let problem = format!("names more than {MAX_RECIPIENTS} recipients: expected at most so many");
        wrong.push(("question.to".to_owned(), problem));
    } else if recipients.is_empty() && wrong.is_empty() {
        wrong.push(("question.to".to_owned(), "names nobody: expected who is asked".to_owned()));
    }
    recipients
}

fn check_options(options: &[String], wrong: &mut Vec<(String, String)>) {
    if options.is_empty() || options.len() > MAX_OPTIONS {
        let problem = format!("are {}: expected 1 to {MAX_OPTIONS}", options.len());
        wrong.push(("options".to_owned(), problem));
        return;
    }
    let mut known = HashSet::new();
    for (at, option) in options.iter().enumerate() {
        let characters = option.chars().count();
        let problem = if option.trim().is_empty() || characters > MAX_OPTION {
            format!("expected 1 to {MAX_OPTION} characters")
        } else if option.chars().any(char::is_control) {
            "holds a control character: expected one line of text".to_owned()
        } else if !known.insert(option) {
            "is there already: expected no two alike".to_owned()
        } else {
            continue;
        };
        wrong.push((format!("options[{at}]"), problem));
    }
}

/// Names what no connector takes: else the question would be kept, and its mails fail.
fn check_attachments(attachments: &[Attachment], wrong: &mut Vec<(String, String)>) {
    for (at, attachment) in attachments.iter().enumerate() {
        let is_unnamed = attachment.file_name.is_empty() && attachment.content_id.is_empty();
        for (is_wrong, field, expected) in [
            (is_unnamed, "file_name", "expected a file name, or a content_id"),
            (attachment.content_data.is_empty(), "content_data", "is empty: expected the file's bytes"),
            (
                !attachment.content_type.contains('/'),
                "content_type",
                "is no media type: expected one such as image/png",
            ),
        ] {
            if is_wrong {
                wrong.push((format!("question.attachments[{at}].{field}"), expected.to_owned()));
            }
        }
    }
}

/// The policy as it is kept: the default one is absent.
fn policy(
    policy: Option<ApprovalPolicy>,
    recipients: usize,
    wrong: &mut Vec<(String, String)>,
) -> Option<ApprovalPolicy> {
    match policy?.kind? {
        Kind::Everybody(false) => None,
        Kind::Quorum(quorum) if !usize::try_from(quorum).is_ok_and(|it| (1..=recipients).contains(&it)) => {
            let problem = format!("expected 1 to the number of recipients, which is {recipients}");
            wrong.push(("question.policy.quorum".to_owned(), problem));
            None
        }
        kind => Some(ApprovalPolicy { kind: Some(kind) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(question: Question, options: &[&str], approves: bool) -> Result<Asked, Vec<String>> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        match Asked::read("connections/mail".into(), String::new(), approves, Some(question), options) {
            Ok(asked) => Ok(asked),
            Err(Error::Fields(fields)) => Err(fields.into_iter().map(|(field, _)| field).collect()),
            Err(error) => panic!("{error}"),
        }
    }

    fn to(to: &[&str]) -> Question {
        Question { to: to.iter().map(|to| (*to).to_owned()).collect(), ..Question::default() }
    }

    #[test]
    fn an_approval_is_approved_or_rejected_unless_it_says_otherwise() {
        let asked = read(to(&["a@example.org; A <A@example.org>", "b@example.org"]), &[], true).ok().unwrap();
        assert_eq!(asked.options, ["Approve", "Reject"]);
        assert!(asked.own_options && asked.recipients.len() == 2);
        let asked = read(to(&["a@example.org"]), &["Yes"], true).ok().unwrap();
        assert!(!asked.own_options && asked.options == ["Yes"]);
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let many: Vec<_> = (0..101).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let long = "x".repeat(65);
        for (options, field) in [
            (&[][..], "options"),
            (&many, "options"),
            (&["a", "a"], "options[1]"),
            (&[""], "options[0]"),
            (&["a", &long], "options[1]"),
            (&["a\nb"], "options[0]"),
        ] {
            assert_eq!(read(to(&["a@example.org"]), options, false).err().unwrap(), [field]);
        }
        let question = Question {
            subject: "a\r\nb".into(),
            header_text: "x".repeat(1_001),
            language: "xx".into(),
            expire_after: Some(prost_types::Duration { seconds: 59, nanos: 0 }),
            policy: Some(ApprovalPolicy { kind: Some(Kind::Quorum(2)) }),
            attachments: vec![Attachment { file_name: "a".into(), ..Attachment::default() }],
            ..to(&["a@example.org"])
        };
        let attachment = ["content_data", "content_type"].map(|field| format!("attachments[0].{field}"));
        let fields = ["subject", "header_text", "language", "expire_after", "policy.quorum"];
        let fields = attachment.iter().map(String::as_str).chain(fields);
        let fields: Vec<_> = fields.map(|field| format!("question.{field}")).collect();
        assert_eq!(read(question, &["a"], false).err().unwrap(), fields);
        assert_eq!(read(to(&[]), &["a"], false).err().unwrap(), ["question.to"]);
        assert_eq!(read(to(&["a@example.org", "b"]), &["a"], false).err().unwrap(), ["question.to[1]"]);
        let crowd: Vec<_> = (0..101).map(|number| format!("a{number}@example.org")).collect();
        assert_eq!(read(to(&[&crowd.join(",")]), &["a"], false).err().unwrap(), ["question.to"]);
    }
}
