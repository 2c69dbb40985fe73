//! The attachments of a message: listed, shown, given, added.

use http::StatusCode;

use super::exchange::Exchange;
use super::refusal::{Answer, Answered};
use super::{Shared, draft, folders, query, refusal, shape, uploads};
use crate::world::AttachmentKind;

/// How many attachments a page holds unasked.
const PAGE: usize = 10;

/// Everything below a message's `attachments`.
pub(super) fn route(shared: &Shared, asked: &Exchange, address: &str, id: &str, rest: &[&str]) -> Answer {
    match (rest, asked.method.as_str()) {
        ([], "GET") => attachments(shared, asked, address, id),
        ([], "POST") => attach(shared, asked, address, id),
        (["createUploadSession"], "POST") => uploads::begin(shared, asked, address, id),
        ([attachment], "GET") => file(shared, asked, address, id, attachment, false),
        ([attachment, "$value"], "GET") => file(shared, asked, address, id, attachment, true),
        _ => Err(refusal::method()),
    }
}

fn attachments(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let query = query::read(asked, &["$select", "$top", "$skip"])?;
    folders::with_account(shared, address, |account| {
        let message = account.message(id).ok_or_else(refusal::no_item)?;
        let select = query.select.as_deref();
        let shown = message.attachments.iter().map(|file| shape::attachment(file, select, message.created));
        let shown = shown.collect::<Result<Vec<_>, _>>()?;
        Ok(Answered::ok(folders::page(shared, asked, &query, shown, PAGE)))
    })
}

fn attach(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let mut file = draft::attachment(&asked.json()?)?;
    let made = shared.world.change(|state| {
        let account = state.account(address)?;
        let message = account.message(id).filter(|message| message.is_draft)?;
        file.id = format!("{}-att{}", message.id, message.attachments.len());
        account.edit(id, |message| message.attachments.push(file.clone())).then_some(file)
    });
    let file = made.ok_or_else(refusal::no_item)?;
    let body = shape::attachment(&file, None, shared.world.now())?;
    Ok(Answered::json_of(StatusCode::CREATED, body))
}

fn file(shared: &Shared, asked: &Exchange, address: &str, id: &str, attachment: &str, raw: bool) -> Answer {
    let query = query::read(asked, if raw { &[] } else { &["$select"] })?;
    folders::with_account(shared, address, |account| {
        let message = account.message(id).ok_or_else(refusal::no_item)?;
        let file =
            message.attachments.iter().find(|file| file.id == attachment).ok_or_else(refusal::no_item)?;
        if raw && file.kind == AttachmentKind::Reference {
            return Err(refusal::no_value());
        }
        if raw {
            return Ok(Answered::bytes_of(&file.content_type, file.content.clone()));
        }
        Ok(Answered::ok(shape::attachment(file, query.select.as_deref(), message.created)?))
    })
}
