//! ReplyToEmail: Graph makes the draft of the answer, which keeps it in its conversation; what is said is put above what
//! it quotes, in the draft's own kind of text; then it is sent.

use postern_proto::outlook::v1::{ReplyToEmailRequest, ReplyToEmailResponse};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::compose::MARK;
use super::quote;
use super::sending::{Begun, LOOKS, Made, Sending, made};
use crate::error::{Error, refuse};
use crate::graph::model::{Body, Message};
use crate::graph::{Again, Failure, with_options};
use crate::ids;
use crate::once;
use crate::outlook::{Call, Outlook};

/// The longest body that a draft is given: Graph takes requests of about 4 MB.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// Answers a mail.
pub(super) async fn reply_to_email(
    outlook: &Outlook,
    call: &Call,
    asked: &ReplyToEmailRequest,
    gone: &CancellationToken,
) -> Result<ReplyToEmailResponse, Error> {
    let mut problems = Vec::new();
    ids::check_needed("message_id", &asked.message_id, &mut problems);
    once::check(&asked.request_id, &mut problems);
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if asked.comment.trim().is_empty() {
        problems.push(("comment".into(), "is needed".into()));
    } else if asked.comment.chars().any(odd) {
        problems.push(("comment".into(), "holds a control character other than line ends and tabs".into()));
    }
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let mark = once::mark(&asked.request_id, asked);
    let sending = Sending { mailbox: &mailbox, path: "message_id", mark, gone };
    let is_repeat = call.is_repeat && !asked.request_id.is_empty();
    let found = if is_repeat { sending.find_earlier().await? } else { None };
    let begun = match found {
        Some(begun) => begun,
        None => Begun::Draft(draft(&sending, asked, is_repeat).await?),
    };
    let (message_id, internet_message_id) = match begun {
        Begun::Sent(sent) => (sent.id, sent.internet_message_id),
        Begun::Draft(made) => sending.send(made).await.map_err(nobody)?,
    };
    Ok(ReplyToEmailResponse { message_id, internet_message_id })
}

/// Makes the draft. What it says and the mark by which it is found come to it in one change: a draft with the mark is one
/// that says all. Until then it bears another mark, by which what broke off in between is found.
async fn draft(sending: &Sending<'_>, asked: &ReplyToEmailRequest, is_repeat: bool) -> Result<Made, Error> {
    let blank = format!("{} blank", sending.mark);
    let left = if is_repeat { sending.find(&blank, &LOOKS[..1]).await? } else { None };
    let (made, quoted) = match left {
        Some(Begun::Draft(made)) => (made, None),
        _ => make(sending, asked, &blank).await?,
    };
    match say(sending, asked, &made, quoted).await {
        Ok(()) => Ok(made),
        Err(error) => {
            sending.discard(&made.id).await;
            Err(error)
        }
    }
}

/// Has Graph make a draft that quotes the mail and says nothing yet. Gives its body where Graph does.
async fn make(
    sending: &Sending<'_>,
    asked: &ReplyToEmailRequest,
    blank: &str,
) -> Result<(Made, Option<Body>), Error> {
    let mailbox = sending.mailbox;
    let action = if asked.reply_all { "createReplyAll" } else { "createReply" };
    let url = mailbox.url(&["messages", &asked.message_id, action]);
    let marked = json!({"message": {"singleValueExtendedProperties": once::property(MARK, blank)}});
    let mut answered = mailbox.make::<Message>(url.clone(), &marked, Again::Doubtful).await;
    // Where it takes no property here the draft is made without: only one whose answer is lost is then not found.
    if matches!(&answered, Err(Failure::Refused(refusal)) if refusal.status == 400) {
        answered = mailbox.make(url, &json!({"comment": ""}), Again::Doubtful).await;
    }
    let failure = match answered {
        Ok(mut message) => {
            let body = message.body.take();
            return Ok((made(message)?, body));
        }
        Err(failure) => failure,
    };
    if failure.is_doubtful()
        && let Ok(Some(Begun::Draft(made))) = sending.find(blank, &LOOKS).await
    {
        return Ok((made, None));
    }
    Err(ids::of_item("message_id", failure, |failure| sending.refused(failure)))
}

/// Writes what is said above what is quoted, and the mark.
async fn say(
    sending: &Sending<'_>,
    asked: &ReplyToEmailRequest,
    made: &Made,
    quoted: Option<Body>,
) -> Result<(), Error> {
    let url = sending.mailbox.url(&["messages", &made.id]);
    let quoted = match quoted {
        Some(quoted) => quoted,
        None => {
            let url = with_options(url.clone(), &[("$select", "body")]);
            sending.mailbox.read::<Message>(url).await?.body.unwrap_or_default()
        }
    };
    let is_html = quoted.content_type.is_some_and(|kind| kind.eq_ignore_ascii_case("html"));
    let content = quote::above(&asked.comment, &quoted.content.unwrap_or_default(), is_html);
    if content.len() > MAX_BODY {
        let problem =
            format!("names a mail too long to be quoted: expected at most {MAX_BODY} bytes of text");
        return Err(Error::field("message_id", problem));
    }
    let said = json!({
        "body": {"contentType": if is_html { "html" } else { "text" }, "content": content},
        "singleValueExtendedProperties": once::property(MARK, &sending.mark),
    });
    let said = sending.mailbox.patch::<Value>(url, &said, None).await;
    said.map(drop).map_err(|failure| sending.refused(failure))
}

/// An answer has no recipients of the caller's own: where they are refused, the mail that is answered has none.
fn nobody(error: Error) -> Error {
    match error {
        Error::Fields(_) => Error::field("message_id", "names a mail whose sender cannot be answered"),
        error => error,
    }
}
