//! Sending one mail through a pool: repeated once, on a new socket, where the one that had been kept turns out to be
//! stale before the server can have taken anything; and in further transactions for recipients that are too many for one.

use std::collections::HashMap;
use std::sync::Arc;

use postern_proto::mail::v1::RecipientResult;
use postern_proto::smtp::v1::SendEmailResponse;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::conversation::Handed;
use crate::error::Error;
use crate::message::Mail;
use crate::metrics;
use crate::pool::{Lease, Pool};
use crate::reply::Reply;

#[cfg(test)]
mod tests;

/// The most transactions for one mail: a server that takes ten recipients at once gets a thousand in a hundred.
const MAX_TRANSACTIONS: usize = 100;

/// What became of a mail that the server took.
#[derive(Debug)]
pub(crate) struct Taken {
    /// One result a recipient, in envelope order.
    pub(crate) recipients: Vec<RecipientResult>,
    /// The server's reply to the message, in the first transaction.
    pub(crate) reply: Reply,
}

/// Hands a mail to the connection's server.
///
/// Once a transaction was taken, what goes wrong in a later one is told by its recipients' results alone: an error would
/// ask for a repeat to those who have the mail already.
///
/// # Errors
/// As [`crate::conversation::Conversation::hand_over`] and [`Pool::lend`] give them.
pub(crate) async fn send(pool: &Arc<Pool>, mail: &Mail, clock: Clock) -> Result<Taken, Error> {
    let all: Vec<usize> = (0..mail.recipients().len()).collect();
    send_to(pool, mail, &all, clock).await
}

/// The places of some recipients among a mail's own.
///
/// # Errors
/// The field `only_to`, where it names somebody else.
pub(crate) fn places(mail: &Mail, only_to: &[String]) -> Result<Vec<usize>, Error> {
    if only_to.is_empty() {
        return Ok((0..mail.recipients().len()).collect());
    }
    let known: HashMap<_, _> = mail.recipients().iter().enumerate().map(|(place, to)| (to, place)).collect();
    let mut places = Vec::with_capacity(only_to.len());
    for (at, address) in only_to.iter().enumerate() {
        let place = known.get(address).copied();
        places.push(place.ok_or_else(|| {
            Error::field(
                format!("only_to[{at}]"),
                "is none of the mail's recipients, as its envelope has them",
            )
        })?);
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// The same, for some of its recipients, named by their places. The results are theirs, in that order.
///
/// # Errors
/// As [`send`].
pub(crate) async fn send_to(
    pool: &Arc<Pool>,
    mail: &Mail,
    all: &[usize],
    clock: Clock,
) -> Result<Taken, Error> {
    let begun = Instant::now();
    let sent = transact(pool, mail, all, clock).await;
    metrics::SECONDS.record(begun.elapsed());
    metrics::MAILS.count(&sent);
    sent
}

async fn transact(pool: &Arc<Pool>, mail: &Mail, all: &[usize], clock: Clock) -> Result<Taken, Error> {
    pool.turn(clock).await?;
    let (mut lease, handed) = hand_over(pool.lend(clock).await?, mail, all, None, clock).await;
    let mut handed = handed?;
    let mut recipients = std::mem::take(&mut handed.recipients);
    let (reply, mut left, limit) = (handed.reply, handed.left, Some(handed.accepted));
    for _ in 1..MAX_TRANSACTIONS {
        if left.is_empty() || pool.turn(clock).await.is_err() {
            break;
        }
        let Some(socket) = lease else { break };
        let socket = match socket.fit(clock).await {
            Ok(socket) => socket,
            Err(_) => return Ok(Taken { recipients, reply }),
        };
        let ended;
        (lease, ended) = hand_over(socket, mail, &left, limit, clock).await;
        let (results, still_left) = match ended {
            Ok(handed) => (handed.recipients, handed.left),
            Err(Error::Refused { recipients, .. } | Error::OutcomeUnknown { recipients, .. }) => {
                (recipients, Vec::new())
            }
            // Nothing was taken of it: what was said of them before, for now, holds.
            Err(_) => (Vec::new(), Vec::new()),
        };
        for (place, result) in left.iter().zip(results) {
            let known = all.binary_search(place).ok();
            if let Some(known) = known.and_then(|known| recipients.get_mut(known)) {
                *known = result;
            }
        }
        left = still_left;
    }
    if let Some(lease) = lease {
        lease.give_back();
    }
    Ok(Taken { recipients, reply })
}

/// One transaction; begun again on a new socket where the kept one turns out to be stale. The lease is gone where no
/// new socket could be had.
async fn hand_over(
    mut lease: Lease,
    mail: &Mail,
    to: &[usize],
    limit: Option<usize>,
    clock: Clock,
) -> (Option<Lease>, Result<Handed, Error>) {
    let mut ended = lease.conversation.hand_over(mail, to, limit, clock).await;
    // Where the caller's time is up, a new socket would only end in another error than the one that is so.
    if lease.is_reused() && !clock.is_over() && ended.as_ref().is_err_and(Error::is_stale) {
        lease = match lease.renew(clock).await {
            Ok(lease) => lease,
            Err(error) => return (None, Err(error)),
        };
        ended = lease.conversation.hand_over(mail, to, limit, clock).await;
    }
    if matches!(ended, Err(Error::Credentials { refresh: true, .. })) {
        lease.spend_token();
    }
    if ended.is_err() {
        lease.give_back();
        return (None, ended);
    }
    (Some(lease), ended)
}

/// What is answered of a mail that was taken.
pub(crate) fn response(mail: &Mail, taken: Taken) -> SendEmailResponse {
    SendEmailResponse {
        message_id: mail.message_id().to_owned(),
        recipients: taken.recipients,
        reply: Some((&taken.reply).into()),
    }
}
