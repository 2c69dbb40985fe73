//! Messages: listed, shown, drafted, changed, deleted and sent.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::exchange::Exchange;
use super::refusal::{Answer, Answered, Refusal};
use super::{Shared, attachments, draft, folders, query, refusal, replies, sending, shape};
use crate::world::{Mailbox, Message};

/// How many messages a page holds unasked.
const PAGE: usize = 10;
/// How many messages a search finds at most.
const MAX_FOUND: usize = 1_000;

/// `messages` of a folder.
pub(super) fn in_folder(shared: &Shared, asked: &Exchange, address: &str, folder: &str) -> Answer {
    match asked.method {
        Method::GET => list(shared, asked, address, Some(folder)),
        Method::POST => make(shared, asked, address, folder),
        _ => Err(refusal::method()),
    }
}

/// Everything below `messages`.
pub(super) fn route(shared: &Shared, asked: &Exchange, address: &str, rest: &[&str]) -> Answer {
    let only = |method: Method| if asked.method == method { Ok(()) } else { Err(refusal::method()) };
    match (rest, asked.method.as_str()) {
        ([], "GET") => list(shared, asked, address, None),
        ([], "POST") => make(shared, asked, address, "drafts"),
        ([id], "GET") => show(shared, asked, address, id),
        ([id], "PATCH") => change(shared, asked, address, id),
        ([id], "DELETE") => delete(shared, address, id),
        ([_] | [], _) => Err(refusal::method()),
        ([id, "send"], _) => {
            only(Method::POST)?;
            sending::send(shared, address, id)
        }
        ([id, action @ ("createReply" | "createReplyAll")], _) => {
            only(Method::POST)?;
            replies::make(shared, asked, address, id, *action == "createReplyAll")
        }
        ([id, "permanentDelete"], _) => {
            only(Method::POST)?;
            match shared.world.delete_message(address, id) {
                true => Ok(Answered::empty(StatusCode::NO_CONTENT)),
                false => Err(refusal::no_item()),
            }
        }
        ([id, "move"], _) => {
            only(Method::POST)?;
            move_to(shared, asked, address, id)
        }
        ([id, "attachments", rest @ ..], _) => attachments::route(shared, asked, address, id, rest),
        ([.., segment], _) => Err(refusal::unknown_segment(segment)),
    }
}

fn list(shared: &Shared, asked: &Exchange, address: &str, folder: Option<&str>) -> Answer {
    let taken = ["$select", "$top", "$skip", "$filter", "$orderby", "$search", "$expand", "$skiptoken"];
    let query = query::read(asked, &taken)?;
    folders::with_account(shared, address, |account| {
        let mut messages = match folder {
            Some(folder) => {
                account.in_folder(&account.folder(folder).ok_or_else(refusal::no_item)?.id.clone())
            }
            None => account.all_messages(),
        };
        let ascending = matches!(&query.order, Some((_, false)));
        messages.sort_by_key(|message| (message.received, message.entered));
        if !ascending {
            messages.reverse();
        }
        let mut kept = Vec::new();
        for message in messages {
            let mut holds = query.search.as_ref().is_none_or(|terms| query::found(message, terms));
            for condition in &query.filter {
                holds &= condition.holds_for(message)?;
            }
            if holds {
                kept.push(message);
            }
        }
        let show = |message: &&Message| {
            shape::message(message, asked.immutable(), query.select.as_deref(), query.expand_attachments)
        };
        if query.search.is_some() {
            return found(shared, asked, &query, &kept, show);
        }
        let shown = kept.iter().map(show).collect::<Result<Vec<_>, _>>()?;
        Ok(Answered::ok(folders::page(shared, asked, &query, shown, PAGE)))
    })
}

/// A page of what a search found: its links carry a token, never `$skip`.
fn found(
    shared: &Shared,
    asked: &Exchange,
    query: &query::Query,
    kept: &[&Message],
    show: impl Fn(&&Message) -> Result<Value, Refusal>,
) -> Answer {
    let token = query.skip_token.as_ref();
    let from: usize =
        token.map_or(Some(0), |token| query::unseal(token)).ok_or_else(|| refusal::bad("Bad token."))?;
    let size = query.top.unwrap_or(PAGE);
    let found = &kept[..kept.len().min(MAX_FOUND)];
    let value = found.iter().skip(from).take(size).map(show).collect::<Result<Vec<_>, _>>()?;
    let mut body = json!({"value": value});
    if found.len() > from + size {
        let token = query::seal(&(from + size));
        body["@odata.nextLink"] = folders::link(shared, asked, &[("$skiptoken", &token)]).into();
    }
    Ok(Answered::ok(body))
}

fn show(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let query = query::read(asked, &["$select", "$expand"])?;
    folders::with_account(shared, address, |account| {
        let message = account.message(id).ok_or_else(refusal::no_item)?;
        let (select, expand) = (query.select.as_deref(), query.expand_attachments);
        Ok(Answered::ok(shape::message(message, asked.immutable(), select, expand)?))
    })
}

fn make(shared: &Shared, asked: &Exchange, address: &str, folder: &str) -> Answer {
    let mut message = draft::read(&asked.json()?)?;
    message.is_draft = true;
    message.is_read = true;
    let made = shared.world.change(|state| {
        message.internet_message_id = format!("<{:016x}@sandbox.postern.invalid>", state.number());
        if message.from.is_none() {
            message.from = state
                .account(address)
                .map(|account| Mailbox { address: address.to_owned(), name: account.display_name.clone() });
        }
        let id = state.put(address, folder, message)?;
        state.account(address)?.message(&id).cloned()
    });
    let made = made.ok_or_else(refusal::no_item)?;
    let body = shape::message(&made, asked.immutable(), None, false)?;
    Ok(Answered::json_of(StatusCode::CREATED, body))
}

/// A draft may be changed in all, another message in little.
fn change(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let body = asked.json()?;
    draft::read(&body)?;
    let always = ["isRead", "singleValueExtendedProperties"];
    let slight =
        body.as_object().is_some_and(|fields| fields.keys().all(|field| always.contains(&field.as_str())));
    let changed = shared.world.change(|state| {
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        let message = account.message(id).cloned().ok_or_else(refusal::no_item)?;
        if !slight && !message.is_draft {
            return Err(refusal::bad("Only a draft can be changed so."));
        }
        account.edit(id, |message| {
            let _ = draft::apply(&body, message);
        });
        account.message(id).cloned().ok_or_else(refusal::no_item)
    });
    Ok(Answered::ok(shape::message(&changed?, asked.immutable(), None, false)?))
}

/// A deletion that can be undone: the message goes to Deleted Items, and from there for good.
fn delete(shared: &Shared, address: &str, id: &str) -> Answer {
    let deleted = shared.world.change(|state| {
        let account = state.account(address)?;
        let bin = account.folder("deleteditems")?.id.clone();
        let in_bin = account.message(id)?.folder == bin;
        Some(if in_bin { account.delete(id) } else { account.move_to(id, &bin) })
    });
    match deleted {
        Some(true) => Ok(Answered::empty(StatusCode::NO_CONTENT)),
        _ => Err(refusal::no_item()),
    }
}

fn move_to(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let body = asked.json()?;
    let destination = body.get("destinationId").and_then(Value::as_str);
    let destination = destination.ok_or_else(|| refusal::bad_body("destinationId is needed."))?;
    let moved = shared.world.change(|state| {
        let account = state.account(address)?;
        let own = account.message(id)?.id.clone();
        account.move_to(&own, destination).then(|| account.message(&own).cloned())?
    });
    let message = moved.ok_or_else(refusal::no_item)?;
    let body = shape::message(&message, asked.immutable(), None, false)?;
    Ok(Answered::json_of(StatusCode::CREATED, body))
}
