//! Sending one mail through a pool: repeated once, on a new socket, where the one that had been kept turns out to be
//! stale before the server can have taken anything.

use std::sync::Arc;

use postern_proto::smtp::v1::SendEmailResponse;

use crate::clock::Clock;
use crate::conversation::Taken;
use crate::error::Error;
use crate::message::Mail;
use crate::pool::Pool;

/// Hands a mail to the connection's server.
///
/// # Errors
/// As [`crate::conversation::Conversation::hand_over`] and [`Pool::lend`] give them.
pub(crate) async fn send(pool: &Arc<Pool>, mail: &Mail, clock: Clock) -> Result<Taken, Error> {
    pool.turn(clock).await?;
    let mut lease = pool.lend(clock).await?;
    let mut ended = lease.conversation.hand_over(mail, clock).await;
    if lease.is_reused() && ended.as_ref().is_err_and(Error::is_stale) {
        lease = lease.renew(clock).await?;
        ended = lease.conversation.hand_over(mail, clock).await;
    }
    lease.give_back();
    ended
}

/// What is answered of a mail that was taken.
pub(crate) fn response(mail: &Mail, taken: Taken) -> SendEmailResponse {
    SendEmailResponse {
        message_id: mail.message_id().to_owned(),
        recipients: taken.recipients,
        reply: Some((&taken.reply).into()),
    }
}
