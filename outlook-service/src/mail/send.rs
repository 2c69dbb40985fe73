//! SendEmail: a draft is made, so that its ids are known, and then sent.

use postern_proto::mail::v1::Email;
use postern_proto::outlook::v1::{SendEmailRequest, SendEmailResponse};
use tokio_util::sync::CancellationToken;

use super::compose::{self, Draft, Letter};
use super::sending::{Begun, Made, Sending};
use crate::error::Error;
use crate::once;
use crate::outlook::{Call, Outlook};

/// Sends a mail.
pub(super) async fn send_email(
    outlook: &Outlook,
    call: &Call,
    asked: &SendEmailRequest,
    gone: &CancellationToken,
) -> Result<SendEmailResponse, Error> {
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let mark = once::mark(&asked.request_id, asked);
    let none = Email::default();
    let letter = Letter {
        path: "email",
        email: asked.email.as_ref().unwrap_or(&none),
        request_id: &asked.request_id,
        large: ("", &[]),
        own: mailbox.user.as_deref(),
    };
    let draft = compose::draft(&letter, &mark)?;
    let sending = Sending { mailbox: &mailbox, path: letter.path, mark, gone };
    // Up to the last step nothing is sent: a failure that leaves a draft behind is still one that changed nothing.
    let is_repeat = call.is_repeat && !asked.request_id.is_empty();
    let (message_id, internet_message_id) = match sending.begin(&draft.message, is_repeat).await? {
        Begun::Sent(sent) => (sent.id, sent.internet_message_id),
        Begun::Draft(mut made) => {
            complete(&sending, &draft, &mut made).await?;
            sending.send(made).await?
        }
    };
    Ok(SendEmailResponse { message_id, internet_message_id })
}

/// Adds the attachments that did not travel within the draft; where that fails the draft is removed.
pub(super) async fn complete(sending: &Sending<'_>, draft: &Draft, made: &mut Made) -> Result<(), Error> {
    for attachment in &draft.attachments {
        if let Err(error) = sending.attach(made, attachment).await {
            sending.discard(&made.id).await;
            return Err(error);
        }
    }
    Ok(())
}
