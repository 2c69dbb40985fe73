//! SendEmail: a draft is made, so that its ids are known, and then sent.

use postern_proto::outlook::v1::{SendEmailRequest, SendEmailResponse};

use super::compose;
use crate::error::Error;
use crate::graph::model::Message;
use crate::graph::{Failure, Mailbox, with_options};
use crate::outlook::{Call, Outlook};

/// Sends a mail.
pub(super) async fn send_email(
    outlook: &Outlook,
    call: &Call,
    asked: &SendEmailRequest,
) -> Result<SendEmailResponse, Error> {
    let draft = compose::draft(asked)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    // Up to the last step nothing is sent: a failure that leaves a draft behind is still one that changed nothing.
    let made: Message = mailbox.post(mailbox.url(&["messages"]), &draft.message).await.map_err(refused)?;
    if made.id.is_empty() {
        return Err(Failure::unreadable(201).into());
    }
    for attachment in &draft.attachments {
        let url = mailbox.url(&["messages", &made.id, "attachments"]);
        if let Err(failure) = mailbox.post::<serde_json::Value>(url, attachment).await {
            discard(&mailbox, &made.id).await;
            return Err(refused(failure));
        }
    }
    if let Err(failure) = mailbox.act(mailbox.url(&["messages", &made.id, "send"])).await {
        if !failure.is_doubtful() {
            discard(&mailbox, &made.id).await;
            return Err(refused(failure));
        }
        if !was_sent(&mailbox, &made.id).await {
            return Err(Error::OutcomeUnknown { message_id: made.id, failure });
        }
    }
    Ok(SendEmailResponse {
        message_id: made.id,
        internet_message_id: made.internet_message_id.unwrap_or_default(),
    })
}

/// Whether a mail whose sending broke off is known to have gone: it is then no draft any more. A draft that is still
/// one proves nothing, for the sending may be under way.
async fn was_sent(mailbox: &Mailbox, id: &str) -> bool {
    let url = with_options(mailbox.url(&["messages", id]), &[("$select", "isDraft")]);
    let read = mailbox.get::<Message>(url, None).await;
    read.is_ok_and(|read| read.value.is_draft == Some(false))
}

/// Removes a draft that will not be sent, as far as possible.
async fn discard(mailbox: &Mailbox, id: &str) {
    if let Err(failure) = mailbox.delete(mailbox.url(&["messages", id])).await {
        tracing::warn!(%failure, "a draft that was not sent could not be removed");
    }
}

/// What Graph refuses of a mail: its recipients may be at fault.
fn refused(failure: Failure) -> Error {
    match failure {
        Failure::Refused(refusal) if refusal.has_code(&["ErrorInvalidRecipients"]) => {
            Error::field("email.to", "Graph refused a recipient in to, cc or bcc")
        }
        failure => failure.into(),
    }
}
