//! DeleteEmail and MarkAsRead.

use postern_proto::outlook::v1::{
    DeleteEmailRequest, DeleteEmailResponse, MarkAsReadRequest, MarkAsReadResponse,
};
use serde_json::{Value, json};

use crate::error::{Error, refuse};
use crate::graph::model::{Folder, Message};
use crate::graph::{Failure, Mailbox, with_options};
use crate::ids;
use crate::outlook::{Call, Outlook};

/// How often a deletion is tried whose outcome was looked up and is that nothing was done.
const MAX_TRIES: u32 = 3;

/// The ids of a request, checked.
pub(super) fn check_ids(ids: &[(&str, &str)]) -> Result<(), Error> {
    let mut problems = Vec::new();
    for (field, id) in ids {
        ids::check_needed(field, id, &mut problems);
    }
    refuse(problems)
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
    let marked = mailbox.patch::<Value>(url, &json!({"isRead": !asked.unread}), None).await;
    marked.map_err(|failure| ids::of_item("message_id", failure, Error::from))?;
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
            true => mailbox.act(url(&["permanentDelete"]), None).await,
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
            Err(failure) => return Err(ids::of_item("message_id", failure, Error::from)),
        }
    }
}

async fn place(mailbox: &Mailbox, message: &str) -> Result<Place, Failure> {
    let select = |url, field| with_options(url, &[("$select", field)]);
    let read = mailbox.read::<Message>(select(mailbox.url(&["messages", message]), "parentFolderId")).await;
    let folder = match read {
        Ok(read) => read.parent_folder_id,
        Err(failure) if failure.is_gone() => return Ok(Place::Nowhere),
        Err(failure) => return Err(failure),
    };
    let bin = select(mailbox.url(&["mailFolders", "deleteditems"]), "id");
    let bin: Folder = mailbox.read(bin).await?;
    Ok(if folder.is_some_and(|folder| folder == bin.id) { Place::DeletedItems } else { Place::Elsewhere })
}
