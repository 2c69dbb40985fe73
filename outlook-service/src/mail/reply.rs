//! ReplyToEmail: Graph makes the draft of the answer, which keeps it in its conversation; it is marked, then sent.

use postern_proto::outlook::v1::{ReplyToEmailRequest, ReplyToEmailResponse};
use prost::Message as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::change::{id_field, of_item};
use super::compose;
use super::sending::{Begun, Made, Sending, made, marking};
use crate::error::Error;
use crate::graph::model::Message;
use crate::outlook::{Call, Outlook};

/// Answers a mail.
pub(super) async fn reply_to_email(
    outlook: &Outlook,
    call: &Call,
    asked: &ReplyToEmailRequest,
    gone: &CancellationToken,
) -> Result<ReplyToEmailResponse, Error> {
    let mut problems = Vec::new();
    id_field("message_id", &asked.message_id, &mut problems);
    compose::check_request_id(&asked.request_id, &mut problems);
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if asked.comment.trim().is_empty() {
        problems.push(("comment".into(), "is needed".into()));
    } else if asked.comment.chars().any(odd) {
        problems.push(("comment".into(), "holds a control character other than line ends and tabs".into()));
    }
    if !problems.is_empty() {
        return Err(Error::Fields(problems));
    }
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let mark = compose::mark(&asked.request_id, &asked.encode_to_vec());
    let sending = Sending { mailbox: &mailbox, path: "message_id", mark, gone };
    let found = match call.is_repeat && !asked.request_id.is_empty() {
        true => sending.find_earlier().await?,
        false => None,
    };
    let begun = match found {
        Some(begun) => begun,
        None => Begun::Draft(draft(&sending, asked).await?),
    };
    let (message_id, internet_message_id) = match begun {
        Begun::Sent(sent) => (sent.id, sent.internet_message_id),
        Begun::Draft(made) => sending.send(made).await.map_err(nobody)?,
    };
    Ok(ReplyToEmailResponse { message_id, internet_message_id })
}

/// Has the draft made, and marks it where a repeat may come to look for it. What breaks off before that leaves a draft
/// behind that nobody sends.
async fn draft(sending: &Sending<'_>, asked: &ReplyToEmailRequest) -> Result<Made, Error> {
    let mailbox = sending.mailbox;
    let action = if asked.reply_all { "createReplyAll" } else { "createReply" };
    let url = mailbox.url(&["messages", &asked.message_id, action]);
    let answer: Message = mailbox
        .post(url, &json!({"comment": asked.comment}))
        .await
        .map_err(|failure| of_item(failure, |failure| sending.refused(failure)))?;
    let made = made(answer)?;
    if asked.request_id.is_empty() {
        return Ok(made);
    }
    let url = mailbox.url(&["messages", &made.id]);
    if let Err(failure) = mailbox.set::<serde_json::Value>(url, &marking(&sending.mark)).await {
        sending.discard(&made.id).await;
        return Err(failure.into());
    }
    Ok(made)
}

/// An answer has no recipients of the caller's own: where they are refused, the mail that is answered has none.
fn nobody(error: Error) -> Error {
    match error {
        Error::Fields(_) => Error::field("message_id", "names a mail whose sender cannot be answered"),
        error => error,
    }
}
