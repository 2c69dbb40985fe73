//! GetContactFolders: the default folder, the others, and those within them.

use postern_proto::outlook::v1::{ContactFolder, GetContactFoldersRequest, GetContactFoldersResponse};
use serde::Deserialize;

use crate::error::Error;
use crate::graph::model::Page;
use crate::graph::{Mailbox, with_options};
use crate::outlook::{Call, Outlook};

/// The most folders that are given, as the contract says.
const MAX_FOLDERS: usize = 1_000;
/// How deep folders within folders are looked for, as the contract says.
const MAX_LEVELS: usize = 4;
/// How many pages of one folder's folders are read.
const MAX_PAGES: usize = 20;
/// The default folder, by the name that every mailbox knows (Graph takes it as an id).
const DEFAULT: &str = "contacts";
/// What is asked of Graph for a folder.
const SELECT: (&str, &str) = ("$select", "id,displayName,parentFolderId");

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Shown {
    id: String,
    display_name: Option<String>,
    parent_folder_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Parent {
    parent_folder_id: Option<String>,
}

/// Lists the folders, level by level below each.
pub(super) async fn get(
    outlook: &Outlook,
    call: &Call,
    asked: &GetContactFoldersRequest,
) -> Result<GetContactFoldersResponse, Error> {
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let top = list(&mailbox, None).await?;
    let default = default_folder(&mailbox, &top).await?;
    let mut folders: Vec<ContactFolder> = Vec::new();
    // A stack, so that each folder is followed by those within it.
    let mut waiting: Vec<(usize, ContactFolder)> = Vec::new();
    let mut first = top;
    first.retain(|folder| folder.id != default.id);
    // Folders that stand below the default one in the list of Graph's are those within it.
    first.insert(0, default);
    waiting.extend(first.into_iter().rev().map(|folder| (1, folder)));
    while let Some((level, folder)) = waiting.pop() {
        if folders.len() == MAX_FOLDERS {
            break;
        }
        if folders.iter().any(|known| known.id == folder.id) {
            continue;
        }
        if level < MAX_LEVELS {
            let within = list(&mailbox, Some(&folder.id)).await?;
            waiting.extend(within.into_iter().rev().map(|folder| (level + 1, folder)));
        }
        folders.push(folder);
    }
    Ok(GetContactFoldersResponse { folders })
}

async fn list(mailbox: &Mailbox, parent: Option<&str>) -> Result<Vec<ContactFolder>, Error> {
    let url = match parent {
        Some(parent) => mailbox.url(&["contactFolders", parent, "childFolders"]),
        None => mailbox.url(&["contactFolders"]),
    };
    let mut url = with_options(url, &[SELECT, ("$top", "100")]);
    let mut found = Vec::new();
    for _ in 0..MAX_PAGES {
        let page: Page<Shown> = match mailbox.read(url).await {
            Ok(page) => page,
            // A folder that went away while its list was read has none within it.
            Err(failure) if parent.is_some() && failure.is_gone() => break,
            Err(failure) => return Err(failure.into()),
        };
        found.extend(page.value.into_iter().map(folder));
        match page.next {
            Some(next) if found.len() < MAX_FOLDERS => url = mailbox.link(&next)?,
            _ => break,
        }
    }
    Ok(found)
}

fn folder(shown: Shown) -> ContactFolder {
    ContactFolder {
        id: shown.id,
        display_name: shown.display_name.unwrap_or_default(),
        parent_folder_id: shown.parent_folder_id.unwrap_or_default(),
        is_default: false,
    }
}

/// The default folder, which the list of folders may leave out: it is asked for by its name, and, where Graph does not
/// take that, told from a contact that is in it.
async fn default_folder(mailbox: &Mailbox, top: &[ContactFolder]) -> Result<ContactFolder, Error> {
    let url = with_options(mailbox.url(&["contactFolders", DEFAULT]), &[SELECT]);
    match mailbox.read(url).await {
        Ok(shown) => return Ok(ContactFolder { is_default: true, ..folder(shown) }),
        Err(failure) if failure.is_gone() || crate::ids::is_malformed(&failure) => {}
        Err(failure) => return Err(failure.into()),
    }
    let options = [("$select", "parentFolderId"), ("$top", "1")];
    let page: Page<Parent> = mailbox.read(with_options(mailbox.url(&["contacts"]), &options)).await?;
    let id = page.value.into_iter().find_map(|contact| contact.parent_folder_id);
    let listed = top.iter().find(|folder| Some(&folder.id) == id.as_ref());
    let known = listed.cloned().unwrap_or_else(|| ContactFolder {
        // Without a single contact nothing tells its id: the name is taken in its place.
        id: id.unwrap_or_else(|| DEFAULT.to_owned()),
        display_name: "Contacts".to_owned(),
        ..ContactFolder::default()
    });
    Ok(ContactFolder { is_default: true, ..known })
}
