//! CreateContact, UpdateContact and DeleteContact. Graph has no id by which the making of a contact is done once: the
//! contact itself keeps one, in a property that is looked for before another is made.

use postern_proto::outlook::v1::{
    Contact, CreateContactRequest, CreateContactResponse, DeleteContactRequest, DeleteContactResponse,
    UpdateContactRequest, UpdateContactResponse,
};

use super::read::{self, Shown};
use super::{CONTACT, contacts_of, write};
use crate::calendar::{changed_since, is_conflict};
use crate::error::{Error, refuse};
use crate::folders::no_folder;
use crate::graph::model::Page;
use crate::graph::{Again, Failure, Mailbox, with_options};
use crate::ids;
use crate::named::Named;
use crate::once;
use crate::outlook::{Call, Outlook};

/// The property of a contact that keeps the id of the wish to make it: a named property of our own.
const WISH: &str = "String {5c0d3c1a-6f0b-4b8e-9d6e-2f1f3a7c9e42} Name PosternWish";
/// How often a contact is asked to be made at most.
const MAX_TRIES: usize = 3;

/// Makes a contact.
pub(super) async fn create(
    outlook: &Outlook,
    call: &Call,
    asked: &CreateContactRequest,
) -> Result<CreateContactResponse, Error> {
    let mut problems = Vec::new();
    once::check(&asked.request_id, &mut problems);
    ids::check("table", &asked.table, &mut problems);
    let Some(item) = &asked.item else { return Err(Error::field("item", "is needed")) };
    let set = write::FIELDS.set(|name| write::is_set(item, name));
    if set.is_empty() {
        problems.push(("item".to_owned(), "expected at least one field".to_owned()));
    }
    let mut new = write::fields(item, &set, &mut problems);
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let url = contacts_of(&mailbox, &asked.table);
    let refused = |failure: Failure| match failure {
        failure if failure.is_gone() || ids::is_malformed(&failure) => no_folder(failure),
        failure => failure.into(),
    };
    let contact = |shown| CreateContactResponse { contact: Some(read::contact(shown)) };
    if asked.request_id.is_empty() {
        let made = mailbox.make(url, &new, Again::Doubtful).await;
        return match made {
            Ok(made) => Ok(contact(made)),
            Err(failure) if failure.is_doubtful() => Err(Error::ChangeUnknown { failure }),
            Err(failure) => Err(refused(failure)),
        };
    }
    let wish = once::guid(&asked.request_id, asked);
    new.insert("singleValueExtendedProperties".to_owned(), once::property(WISH, &wish));
    let mut doubt: Option<Failure> = None;
    for _ in 0..MAX_TRIES {
        // Looked for before the first try as well: whoever asked before may have died before they had the answer.
        match find(&mailbox, url.clone(), &wish).await {
            Ok(Some(made)) => return Ok(contact(made)),
            Ok(None) => {}
            Err(failure) => return Err(refused(failure)),
        }
        match mailbox.make(url.clone(), &new, Again::Doubtful).await {
            Ok(made) => return Ok(contact(made)),
            Err(failure) if failure.is_doubtful() => {
                if !mailbox.pause_before_repeat(failure.retry_after()).await {
                    return Err(failure.into());
                }
                doubt = Some(failure);
            }
            Err(failure) => return Err(refused(failure)),
        }
    }
    match (find(&mailbox, url, &wish).await, doubt) {
        (Ok(Some(made)), _) => Ok(contact(made)),
        // It is no matter whether it was made: the same wish again finds it, or makes it.
        (_, Some(failure)) => Err(failure.into()),
        (Err(failure), None) => Err(refused(failure)),
        (Ok(None), None) => Err(Error::ItemChanged(None)),
    }
}

/// The contact that an earlier wish of this id made.
async fn find(mailbox: &Mailbox, url: reqwest::Url, wish: &str) -> Result<Option<Shown>, Failure> {
    let filter = once::bearing(WISH, wish);
    let url = with_options(url, &[("$filter", &filter), ("$top", "1")]);
    let page: Page<Shown> = mailbox.read(url).await?;
    Ok(page.value.into_iter().next())
}

/// Changes a contact.
pub(super) async fn update(
    outlook: &Outlook,
    call: &Call,
    asked: &UpdateContactRequest,
) -> Result<UpdateContactResponse, Error> {
    let mut problems = Vec::new();
    once::check(&asked.request_id, &mut problems);
    Named::check(&asked.table, &asked.id, &mut problems);
    let empty = Contact::default();
    let item = asked.item.as_ref().unwrap_or(&empty);
    let fields =
        write::FIELDS.named(asked.update_mask.as_ref(), |name| write::is_set(item, name), &mut problems);
    let change = write::fields(item, &fields, &mut problems);
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let named = Named { mailbox: &mailbox, kind: &CONTACT, table: &asked.table, id: &asked.id };
    let answer = |shown| UpdateContactResponse { contact: Some(read::contact(shown)) };
    let key = Some(item.change_key.as_str()).filter(|key| !key.is_empty());
    let mut doubt: Option<Failure> = None;
    for _ in 0..MAX_TRIES {
        if let Some(key) = key {
            let there: Shown = match mailbox.read(named.url()).await {
                Ok(there) => there,
                Err(failure) => return Err(named.refused(failure).await),
            };
            let there = read::contact(there);
            if there.change_key != key {
                // A change that broke off, here or in an earlier run of the same call, may have been made, or somebody
                // else's.
                let may_be_ours = doubt.is_some() || call.is_repeat;
                return match doubt {
                    _ if may_be_ours && write::fields(&there, &fields, &mut Vec::new()) == change => {
                        Ok(UpdateContactResponse { contact: Some(there) })
                    }
                    Some(failure) => Err(Error::ChangeUnknown { failure }),
                    None => Err(Error::ItemChanged(None)),
                };
            }
        }
        match mailbox.patch(named.url(), &change, key).await {
            Ok(changed) => return Ok(answer(changed)),
            Err(failure) if key.is_some() && is_conflict(&failure) && doubt.is_none() => {
                return Err(changed_since(failure));
            }
            Err(failure) if key.is_some() && (failure.is_doubtful() || is_conflict(&failure)) => {
                if !mailbox.pause_before_repeat(failure.retry_after()).await {
                    return Err(Error::ChangeUnknown { failure });
                }
                doubt = Some(failure);
            }
            Err(failure) => return Err(named.refused(failure).await),
        }
    }
    Err(doubt.map_or(Error::ItemChanged(None), |failure| Error::ChangeUnknown { failure }))
}

/// Deletes a contact.
pub(super) async fn delete(
    outlook: &Outlook,
    call: &Call,
    asked: &DeleteContactRequest,
) -> Result<DeleteContactResponse, Error> {
    let mut problems = Vec::new();
    once::check(&asked.request_id, &mut problems);
    Named::check(&asked.table, &asked.id, &mut problems);
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let named = Named { mailbox: &mailbox, kind: &CONTACT, table: &asked.table, id: &asked.id };
    match mailbox.delete(named.url()).await {
        Ok(()) => Ok(DeleteContactResponse {}),
        // What an earlier run of the same call may have deleted is deleted.
        Err(failure) if call.is_repeat && failure.is_gone() => Ok(DeleteContactResponse {}),
        Err(failure) => Err(named.refused(failure).await),
    }
}
