//! Drafts sent, and messages sent without one.

use http::{Method, StatusCode};
use serde_json::Value;

use super::exchange::Exchange;
use super::refusal::{Answer, Answered, Refusal};
use super::{Shared, draft, refusal};
use crate::world::{Mailbox, Message};

/// Sends a draft. Its copy may come to Sent Items with delay, under the same id.
pub(super) fn send(shared: &Shared, address: &str, id: &str) -> Answer {
    shared.world.change(|state| {
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        let message = account.message(id).cloned().ok_or_else(refusal::no_item)?;
        if !message.is_draft {
            return Err(refusal::bad("The message was sent already."));
        }
        may_send(address, &message)?;
        let size: usize = message.attachments.iter().map(|file| file.content.len()).sum();
        if size + message.body.content.len() > shared.limits.max_message() {
            return Err(refusal::message_too_large());
        }
        account.move_to(&message.id, "sentitems");
        let now = state.now();
        if let Some(account) = state.account(address) {
            account.edit(&message.id, |sent| {
                sent.is_draft = false;
                sent.sent = now;
            });
            if let Some(delay) = shared.limits.sent_delay() {
                let copy = account.message(&message.id).cloned();
                account.delete(&message.id);
                let (world, address) = (shared.world.clone(), address.to_owned());
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    world.change(|state| Some(state.account(&address)?.put(copy?, now)));
                });
            }
        }
        hand_out(state, &message);
        Ok(Answered::empty(StatusCode::ACCEPTED))
    })
}

/// `sendMail`: a message sent without a draft, and without an id to be known by.
pub(super) fn send_mail(shared: &Shared, asked: &Exchange, address: &str) -> Answer {
    if asked.method != Method::POST {
        return Err(refusal::method());
    }
    let body = asked.json()?;
    let mut message =
        draft::read(body.get("message").ok_or_else(|| refusal::bad_body("message is needed."))?)?;
    if message.from.is_none() {
        message.from = Some(Mailbox { address: address.to_owned(), name: String::new() });
    }
    may_send(address, &message)?;
    let keep = body.get("saveToSentItems").and_then(Value::as_bool).unwrap_or(true);
    shared.world.change(|state| {
        message.internet_message_id = format!("<{:016x}@sandbox.postern.invalid>", state.number());
        hand_out(state, &message);
        message.is_read = true;
        if keep {
            state.put(address, "sentitems", message);
        }
    });
    Ok(Answered::empty(StatusCode::ACCEPTED))
}

/// Whether a message may go out from this mailbox, to these recipients.
fn may_send(address: &str, message: &Message) -> Result<(), Refusal> {
    let another = |mailbox: &Mailbox| !mailbox.address.eq_ignore_ascii_case(address);
    if message.from.iter().chain(&message.sender).any(another) {
        return Err(refusal::send_as());
    }
    let recipients = message.recipients();
    let good = |recipient: &String| {
        recipient.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
    };
    if recipients.is_empty() || !recipients.iter().all(good) { Err(refusal::recipients()) } else { Ok(()) }
}

fn hand_out(state: &mut crate::world::State, message: &Message) {
    let copy = Message {
        bcc: Vec::new(),
        properties: std::collections::BTreeMap::new(),
        is_draft: false,
        is_read: false,
        moves: 0,
        conversation: String::new(),
        sent: state.now(),
        ..message.clone()
    };
    state.deliver(&message.recipients(), &copy);
}
