//! `mailFolders`, and the user whose they are.

use http::Method;
use serde_json::{Value, json};

use super::exchange::Exchange;
use super::query::{self, Query};
use super::refusal::{Answer, Answered, Refusal};
use super::{Shared, delta, messages, refusal, shape};
use crate::world::{Account, Folder};

/// How many folders a page holds unasked.
const PAGE: usize = 10;

/// `GET /users/{user}`.
pub(super) fn user(shared: &Shared, asked: &Exchange, address: &str) -> Answer {
    get(asked)?;
    query::read(asked, &["$select"])?;
    with_account(shared, address, |account| {
        Ok(Answered::ok(json!({
            "id": account.id,
            "displayName": account.display_name,
            "mail": account.address,
            "userPrincipalName": account.address,
        })))
    })
}

/// Everything below `mailFolders`.
pub(super) fn route(shared: &Shared, asked: &Exchange, address: &str, rest: &[&str]) -> Answer {
    match rest {
        [] => {
            get(asked)?;
            with_account(shared, address, |account| list(shared, asked, account, &account.root))
        }
        [folder] => {
            get(asked)?;
            let query = query::read(asked, &["$select"])?;
            with_account(shared, address, |account| {
                let folder = account.folder(folder).ok_or_else(refusal::no_item)?;
                Ok(Answered::ok(shape::folder(account, folder, query.select.as_deref())?))
            })
        }
        [folder, "childFolders"] => {
            get(asked)?;
            with_account(shared, address, |account| {
                let parent = if folder.eq_ignore_ascii_case("msgfolderroot") {
                    account.root.clone()
                } else {
                    account.folder(folder).ok_or_else(refusal::no_item)?.id.clone()
                };
                list(shared, asked, account, &parent)
            })
        }
        [folder, "messages", "delta" | "microsoft.graph.delta"] => {
            get(asked)?;
            delta::round(shared, asked, address, folder)
        }
        [folder, "messages"] => messages::in_folder(shared, asked, address, folder),
        [.., segment] => Err(refusal::unknown_segment(segment)),
    }
}

pub(super) fn get(asked: &Exchange) -> Result<(), Refusal> {
    if asked.method == Method::GET { Ok(()) } else { Err(refusal::method()) }
}

pub(super) fn with_account(
    shared: &Shared,
    address: &str,
    answer: impl FnOnce(&Account) -> Answer,
) -> Answer {
    let mut state = shared.world.lock();
    let account = state.account(address).ok_or_else(|| refusal::no_mailbox(address))?;
    answer(account)
}

/// What is read of an account's calendars.
pub(super) fn with_round<T>(
    shared: &Shared,
    address: &str,
    read: impl FnOnce(&crate::world::Calendars) -> T,
) -> Result<T, Refusal> {
    let mut state = shared.world.lock();
    Ok(read(&state.account(address).ok_or_else(|| refusal::no_mailbox(address))?.calendars))
}

fn list(shared: &Shared, asked: &Exchange, account: &Account, parent: &str) -> Answer {
    let taken = ["$select", "$top", "$skip", "$filter", "includeHiddenFolders"];
    let query = query::read(asked, &taken)?;
    let mut found = Vec::new();
    let shown = |folder: &&Folder| folder.parent == parent && (query.with_hidden || !folder.is_hidden);
    for folder in account.folders.iter().filter(shown) {
        let mut holds = true;
        for condition in &query.filter {
            if condition.field != "displayName" {
                return Err(refusal::bad(format!("Could not find a property named '{}'.", condition.field)));
            }
            holds &= condition.holds_for_text(&folder.display_name);
        }
        if holds {
            found.push(shape::folder(account, folder, query.select.as_deref())?);
        }
    }
    Ok(Answered::ok(page(shared, asked, &query, found, PAGE)))
}

/// One page of a list, with a link to the next by `$skip`.
pub(super) fn page(
    shared: &Shared,
    asked: &Exchange,
    query: &Query,
    all: Vec<Value>,
    default: usize,
) -> Value {
    let size = query.top.unwrap_or(default);
    let more = all.len() > query.skip + size;
    let value: Vec<Value> = all.into_iter().skip(query.skip).take(size).collect();
    let mut body = json!({"value": value});
    if more {
        let next = query.skip + size;
        body["@odata.nextLink"] = link(shared, asked, &[("$skip", &next.to_string())]).into();
    }
    body
}

/// A link to the same path with some options put in the place of those of the same name.
pub(super) fn link(shared: &Shared, asked: &Exchange, put: &[(&str, &str)]) -> String {
    let path = asked.target.split('?').next().unwrap_or_default();
    let kept = asked.options.iter().filter(|(name, _)| put.iter().all(|(other, _)| other != name));
    let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
    let options =
        kept.chain(put.iter().copied()).map(|(name, value)| format!("{name}={}", query::encode(value)));
    format!("{}{path}?{}", shared.url, options.collect::<Vec<_>>().join("&"))
}
