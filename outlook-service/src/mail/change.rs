//! DeleteEmail and MarkAsRead.

use postern_proto::outlook::v1::{
    DeleteEmailRequest, DeleteEmailResponse, MarkAsReadRequest, MarkAsReadResponse,
};
use serde_json::{Value, json};

use crate::error::Error;
use crate::graph::model::{Folder, Message};
use crate::graph::{Failure, Mailbox, with_options};
use crate::outlook::{Call, Outlook};

/// The longest id: Graph's have up to some 200 characters.
const MAX_ID: usize = 1_024;
/// How often a deletion is tried whose outcome was looked up and is that nothing was done.
const MAX_TRIES: u32 = 3;

/// Says what is wrong with a provider's id, if anything: it becomes part of a path.
pub(super) fn id_field(field: &str, id: &str, problems: &mut Vec<(String, String)>) {
    let problem = match id {
        "" => "is needed",
        "." | ".." => "is no id of Graph's",
        id if id.len() > MAX_ID || id.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            "is no id of Graph's"
        }
        _ => return,
    };
    problems.push((field.to_owned(), problem.to_owned()));
}

/// The ids of a request, checked.
pub(super) fn check_ids(ids: &[(&str, &str)]) -> Result<(), Error> {
    let mut problems = Vec::new();
    for (field, id) in ids {
        id_field(field, id, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Fields(problems)) }
}

/// What Graph refuses where an item was asked for: the id may be none.
pub(super) fn of_item(failure: Failure, other: impl FnOnce(Failure) -> Error) -> Error {
    match &failure {
        Failure::Refused(refusal) if refusal.has_code(&["ErrorInvalidIdMalformed"]) => {
            Error::field("message_id", "is no id of Graph's")
        }
        _ => other(failure),
    }
}

/// Marks a mail as read or unread.
pub(super) async fn mark_as_read(
    outlook: &Outlook,
    call: &Call,
    asked: &MarkAsReadRequest,
) -> Result<MarkAsReadResponse, Error> {
    check_ids(&[("message_id", &asked.message_id)])?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let url = mailbox.url(&["messages", &asked.message_id]);
    let marked = mailbox.set::<Value>(url, &json!({"isRead": !asked.unread})).await;
    marked.map_err(|failure| of_item(failure, Error::from))?;
    Ok(MarkAsReadResponse {})
}

/// Where a mail is that was to be deleted.
#[derive(PartialEq)]
enum Place {
    Nowhere,
    DeletedItems,
    Elsewhere,
}

/// Deletes a mail. A second deletion of one that is in Deleted Items already would end it: none is made blindly.
pub(super) async fn delete_email(
    outlook: &Outlook,
    call: &Call,
    asked: &DeleteEmailRequest,
) -> Result<DeleteEmailResponse, Error> {
    check_ids(&[("message_id", &asked.message_id)])?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let done = |place: &Place| match place {
        Place::Nowhere => true,
        Place::DeletedItems => !asked.permanently,
        Place::Elsewhere => false,
    };
    if call.is_repeat && done(&place(&mailbox, &asked.message_id).await?) {
        return Ok(DeleteEmailResponse {});
    }
    let mut tries = 1;
    loop {
        let url = |rest: &[&str]| mailbox.url(&[&["messages", asked.message_id.as_str()], rest].concat());
        let deleted = match asked.permanently {
            true => mailbox.act(url(&["permanentDelete"])).await,
            false => mailbox.delete_once(url(&[])).await,
        };
        match deleted {
            Ok(()) => return Ok(DeleteEmailResponse {}),
            Err(failure) if failure.is_doubtful() => {
                if done(&place(&mailbox, &asked.message_id).await?) {
                    return Ok(DeleteEmailResponse {});
                }
                if tries == MAX_TRIES {
                    return Err(failure.into());
                }
                tries += 1;
            }
            Err(failure) => return Err(of_item(failure, Error::from)),
        }
    }
}

async fn place(mailbox: &Mailbox, message: &str) -> Result<Place, Failure> {
    let select = |url, field| with_options(url, &[("$select", field)]);
    let read =
        mailbox.get::<Message>(select(mailbox.url(&["messages", message]), "parentFolderId"), None).await;
    let folder = match read {
        Ok(read) => read.value.parent_folder_id,
        Err(failure) if failure.is_gone() => return Ok(Place::Nowhere),
        Err(failure) => return Err(failure),
    };
    let bin = select(mailbox.url(&["mailFolders", "deleteditems"]), "id");
    let bin: Folder = mailbox.get(bin, None).await?.value;
    Ok(if folder.is_some_and(|folder| folder == bin.id) { Place::DeletedItems } else { Place::Elsewhere })
}
