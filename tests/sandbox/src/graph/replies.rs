//! Answers to a message, drafted as Exchange does: to whom the message wants them, in its conversation, above its text.

use http::StatusCode;
use serde_json::Value;

use super::exchange::Exchange;
use super::refusal::{Answer, Answered};
use super::{Shared, draft, refusal, shape};
use crate::world::{Body, Mailbox, Message};

/// Drafts an answer.
pub(super) fn make(shared: &Shared, asked: &Exchange, address: &str, id: &str, to_all: bool) -> Answer {
    let body = if asked.body.is_empty() { Value::Object(serde_json::Map::new()) } else { asked.json()? };
    let fields = body.as_object().ok_or_else(|| refusal::bad_body("An object was expected."))?;
    let field = |name: &str| fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
    if fields.keys().any(|field| !["comment", "message"].contains(&field.to_lowercase().as_str())) {
        return Err(refusal::bad_body("The parameters are comment and message."));
    }
    let comment = field("comment").and_then(|(_, comment)| comment.as_str()).unwrap_or_default();
    let changes = field("message").map(|(_, message)| message);
    if field("comment").is_some() && changes.is_some_and(|message| message.get("body").is_some()) {
        return Err(refusal::both_comment_and_body());
    }
    let made = shared.world.change(|state| {
        let number = state.number();
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        let answered = account.message(id).cloned().ok_or_else(refusal::no_item)?;
        let own = Mailbox { address: address.to_owned(), name: account.display_name.clone() };
        let mut answer = answer(&answered, own, comment, to_all);
        answer.internet_message_id = format!("<{number:016x}@sandbox.postern.invalid>");
        if let Some(changes) = changes {
            draft::apply(changes, &mut answer)?;
        }
        let made = state.put(address, "drafts", answer).ok_or_else(refusal::no_item)?;
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        account.message(&made).cloned().ok_or_else(refusal::no_item)
    });
    let shown = shape::message(&made?, asked.immutable(), None, false)?;
    Ok(Answered::json_of(StatusCode::CREATED, shown))
}

fn answer(answered: &Message, own: Mailbox, comment: &str, to_all: bool) -> Message {
    let wanted = match answered.reply_to.as_slice() {
        [] => answered.from.iter().cloned().collect(),
        wanted => wanted.to_vec(),
    };
    let others = |mailboxes: &[Mailbox]| {
        let other = |mailbox: &&Mailbox| {
            !mailbox.address.eq_ignore_ascii_case(&own.address)
                && wanted.iter().all(|one| !one.address.eq_ignore_ascii_case(&mailbox.address))
        };
        mailboxes.iter().filter(other).cloned().collect::<Vec<_>>()
    };
    let (mut to, mut cc) = (wanted.clone(), Vec::new());
    if to_all {
        to.extend(others(&answered.to));
        cc = others(&answered.cc);
    }
    let begin = answered.subject.get(..3).unwrap_or_default();
    let subject = match begin.eq_ignore_ascii_case("re:") {
        true => answered.subject.clone(),
        false => format!("RE: {}", answered.subject),
    };
    let (line, is_html) = if answered.body.is_html { ("<hr>", true) } else { ("\n\n", false) };
    Message {
        from: Some(own),
        to,
        cc,
        subject,
        body: Body { content: format!("{comment}{line}{}", answered.body.content), is_html },
        is_draft: true,
        is_read: true,
        conversation: answered.conversation_id(),
        in_reply_to: Some(answered.internet_message_id.clone()),
        ..Message::default()
    }
}
