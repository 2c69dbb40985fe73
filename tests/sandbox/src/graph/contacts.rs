//! Contacts and their folders: listed, shown, made, changed and deleted, with extended properties.

mod body;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::events::body::{check_match, only, wrong};
use super::exchange::Exchange;
use super::odata::{self, Kind};
use super::refusal::{Answer, Answered};
use super::{Shared, folders, query, refusal, shape};
use crate::world::{Contact, ContactFolder};

const KIND: Kind = Kind { name: "microsoft.graph.contact", properties: &body::PROPERTIES };
const FOLDER: Kind =
    Kind { name: "microsoft.graph.contactFolder", properties: &["id", "displayName", "parentFolderId"] };
/// What conditions may be on, and what is not shown unasked.
const HIDDEN: [&str; 1] = ["singleValueExtendedProperties"];

/// Everything below `contacts` and `contactFolders` of a mailbox.
pub(super) fn route(shared: &Shared, asked: &Exchange, address: &str, path: &[&str]) -> Answer {
    let folder = |id: &str| {
        let mut state = shared.world.lock();
        let account = state.account(address).ok_or_else(|| refusal::no_mailbox(address))?;
        account.contacts.folder(id).map(|folder| folder.id.clone()).ok_or_else(refusal::no_item)
    };
    match path {
        ["contacts"] => in_folder(shared, asked, address, &folder("contacts")?),
        ["contacts", id] => one(shared, asked, address, id),
        ["contactFolders"] => all_folders(shared, asked, address, None),
        ["contactFolders", id] => one_folder(shared, asked, address, &folder(id)?),
        ["contactFolders", id, "childFolders"] => all_folders(shared, asked, address, Some(&folder(id)?)),
        ["contactFolders", id, "contacts"] => in_folder(shared, asked, address, &folder(id)?),
        ["contactFolders", within, "contacts", id] => {
            let within = folder(within)?;
            folders::with_account(shared, address, |account| {
                let contact = account.contacts.all.get(*id).filter(|contact| contact.folder == within);
                contact.map(|_| Answered::empty(StatusCode::OK)).ok_or_else(refusal::no_item)
            })?;
            one(shared, asked, address, id)
        }
        [.., segment] => Err(refusal::unknown_segment(segment)),
        [] => Err(refusal::method()),
    }
}

/// The folders in another. The default one is not listed, as Graph does not list it; those in it are its own.
fn all_folders(shared: &Shared, asked: &Exchange, address: &str, parent: Option<&str>) -> Answer {
    if asked.method == http::Method::POST {
        let written = asked.json()?;
        only(&written, &["displayName"], "contactFolder")?;
        let name = written["displayName"].as_str().ok_or_else(|| wrong("displayName"))?;
        let made = shared.world.add_contact_folder(address, parent, name).ok_or_else(refusal::no_item)?;
        return folders::with_account(shared, address, |account| {
            let folder = account.contacts.folder(&made).ok_or_else(refusal::no_item)?;
            Ok(Answered::json_of(StatusCode::CREATED, shown_folder(folder)))
        });
    }
    folders::get(asked)?;
    let query = odata::read(asked, &FOLDER, &[])?;
    folders::with_account(shared, address, |account| {
        let parent = parent.unwrap_or(&account.root);
        let within = account.contacts.folders.iter().skip(1).filter(|folder| folder.parent == parent);
        Ok(Answered::ok(query.page(shared, asked, within.map(shown_folder).collect(), &[])?))
    })
}

fn one_folder(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    folders::get(asked)?;
    let query = query::read(asked, &["$select"])?;
    folders::with_account(shared, address, |account| {
        let folder = account.contacts.folder(id).ok_or_else(refusal::no_item)?;
        Ok(Answered::ok(odata::show(shown_folder(folder), query.select.as_deref(), &[])))
    })
}

fn shown_folder(folder: &ContactFolder) -> Value {
    json!({"id": folder.id, "displayName": folder.name, "parentFolderId": folder.parent})
}

fn in_folder(shared: &Shared, asked: &Exchange, address: &str, folder: &str) -> Answer {
    match asked.method.as_str() {
        "GET" => {
            let query = odata::read(asked, &KIND, &[])?;
            folders::with_account(shared, address, |account| {
                let all = account.contacts.all.values().filter(|contact| contact.folder == folder);
                Ok(Answered::ok(query.page(shared, asked, all.map(shown).collect(), &HIDDEN)?))
            })
        }
        "POST" => {
            let draft = body::read(&asked.json()?)?;
            let made = shared.world.change(|state| {
                let (number, now) = (state.number(), state.now());
                let account = state.account(address)?;
                let mut contact = Contact {
                    id: format!("AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0C{number:08X}AAA="),
                    folder: folder.to_owned(),
                    created: now,
                    ..Contact::default()
                };
                take(&mut contact, draft, now);
                let shown = shown(&contact);
                account.contacts.all.insert(contact.id.clone(), contact);
                Some(shown)
            });
            let made = odata::show(made.ok_or_else(refusal::no_item)?, None, &HIDDEN);
            Ok(Answered::json_of(StatusCode::CREATED, made))
        }
        _ => Err(refusal::method()),
    }
}

fn take(contact: &mut Contact, draft: body::Draft, now: Timestamp) {
    contact.fields.extend(draft.fields);
    contact.properties.extend(draft.properties);
    contact.modified = now;
    contact.changed += 1;
}

fn one(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    match asked.method.as_str() {
        "GET" => {
            let query = query::read(asked, &["$select"])?;
            folders::with_account(shared, address, |account| {
                let contact = account.contacts.all.get(id).ok_or_else(refusal::no_item)?;
                Ok(Answered::ok(odata::show(shown(contact), query.select.as_deref(), &HIDDEN)))
            })
        }
        "PATCH" => {
            let draft = body::read(&asked.json()?)?;
            let changed = shared.world.change(|state| {
                let now = state.now();
                let account = state.account(address).ok_or_else(refusal::no_item)?;
                let contact = account.contacts.all.get_mut(id).ok_or_else(refusal::no_item)?;
                check_match(&asked.headers, &change_key(contact))?;
                take(contact, draft, now);
                Ok(shown(contact))
            })?;
            Ok(Answered::ok(odata::show(changed, None, &HIDDEN)))
        }
        "DELETE" => {
            shared.world.change(|state| {
                let account = state.account(address).ok_or_else(refusal::no_item)?;
                let contact = account.contacts.all.get(id).ok_or_else(refusal::no_item)?;
                check_match(&asked.headers, &change_key(contact))?;
                account.contacts.all.remove(id);
                Ok(())
            })?;
            Ok(Answered::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(refusal::method()),
    }
}

fn change_key(contact: &Contact) -> String {
    format!("EQAAABYAAAB{:04X}{}", contact.changed, contact.id.get(36..44).unwrap_or_default())
}

/// A contact with all its properties.
fn shown(contact: &Contact) -> Value {
    let key = change_key(contact);
    let mut shown = json!({
        "@odata.etag": format!("W/\"{key}\""),
        "id": contact.id,
        "createdDateTime": shape::time(contact.created),
        "lastModifiedDateTime": shape::time(contact.modified),
        "changeKey": key,
        "parentFolderId": contact.folder,
        "singleValueExtendedProperties": contact
            .properties
            .iter()
            .map(|(id, value)| json!({"id": id, "value": value}))
            .collect::<Value>(),
    });
    for property in body::PROPERTIES {
        if shown.get(property).is_none() {
            shown[property] = contact.fields.get(property).cloned().unwrap_or(body::empty(property));
        }
    }
    if shown["displayName"].is_null() {
        let names =
            ["givenName", "middleName", "surname"].map(|name| shown[name].as_str().unwrap_or_default());
        shown["displayName"] = names.join(" ").split_whitespace().collect::<Vec<_>>().join(" ").into();
    }
    shown
}
