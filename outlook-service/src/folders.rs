//! Folder paths: read, and resolved to a folder of the mailbox level by level. What was found is kept, for it seldom
//! changes; whoever meets a folder that is gone has it looked for anew.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::graph::model::{Folder, Page};
use crate::graph::{Failure, Mailbox, with_options};

/// How many folders are remembered.
const KEPT: usize = 10_000;
/// The deepest path: Exchange itself allows 300 levels, nobody uses them.
const MAX_LEVELS: usize = 32;
/// The longest path, in bytes.
const MAX_PATH: usize = 4_096;
/// How many pages of same-named folders are looked through.
const MAX_PAGES: usize = 4;
/// Names that every mailbox knows, whatever language it speaks (Graph: mailFolder resource).
const WELL_KNOWN: [&str; 17] = [
    "archive",
    "clutter",
    "conflicts",
    "conversationhistory",
    "deleteditems",
    "drafts",
    "inbox",
    "junkemail",
    "localfailures",
    "msgfolderroot",
    "outbox",
    "recoverableitemsdeletions",
    "scheduled",
    "searchfolders",
    "sentitems",
    "serverfailures",
    "syncissues",
];

/// The folders of one mailbox.
pub(crate) struct Folders<'a> {
    kept: &'a Mutex<HashMap<String, String>>,
    mailbox: &'a Mailbox,
    whose: String,
}

/// A folder that a path leads to: its id, or its well-known name, which Graph takes as well.
pub(crate) struct Found {
    pub(crate) id: String,
    /// Whether it was remembered rather than asked for: it may be gone.
    pub(crate) remembered: bool,
}

impl<'a> Folders<'a> {
    pub(crate) fn new(kept: &'a Mutex<HashMap<String, String>>, mailbox: &'a Mailbox, whose: String) -> Self {
        Self { kept, mailbox, whose }
    }

    /// The folder that a path leads to.
    ///
    /// # Errors
    /// The path is none (`field`), or leads nowhere.
    pub(crate) async fn find(&self, field: &str, path: &str) -> Result<Found, Error> {
        let names = parse(path).map_err(|problem| Error::field(field, problem))?;
        let (first, rest) = names.split_first().ok_or(Error::NoFolder(None))?;
        let known = WELL_KNOWN.iter().find(|known| known.eq_ignore_ascii_case(first));
        if let (Some(known), []) = (known, rest) {
            return Ok(Found { id: (*known).to_owned(), remembered: false });
        }
        let key = self.key(path);
        if let Some(id) = self.lock().get(&key) {
            return Ok(Found { id: id.clone(), remembered: true });
        }
        self.look_up(path, known.copied(), &names).await
    }

    /// The folder that a path leads to now, whatever is remembered: a folder may have been renamed or moved, and another
    /// one may bear its name.
    ///
    /// # Errors
    /// As `find`; the path then leads nowhere any more.
    pub(crate) async fn find_anew(&self, field: &str, path: &str) -> Result<Found, Error> {
        self.lock().remove(&self.key(path));
        self.find(field, path).await
    }

    async fn look_up(&self, path: &str, known: Option<&str>, names: &[String]) -> Result<Found, Error> {
        let (first, rest) = names.split_first().ok_or(Error::NoFolder(None))?;
        let mut id = match known {
            Some(known) => known.to_owned(),
            None => self.child(None, first).await?,
        };
        for name in rest {
            id = self.child(Some(&id), name).await?;
        }
        let mut kept = self.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(self.key(path), id.clone());
        Ok(Found { id, remembered: false })
    }

    /// A folder as Graph shows it, by its id or well-known name.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) async fn show(&self, id: &str) -> Result<Folder, Error> {
        let select = [("$select", "id,displayName,totalItemCount,unreadItemCount")];
        let url = with_options(self.mailbox.url(&["mailFolders", id]), &select);
        self.mailbox.read(url).await.map_err(no_folder)
    }

    async fn child(&self, parent: Option<&str>, name: &str) -> Result<String, Error> {
        let url = match parent {
            Some(parent) => self.mailbox.url(&["mailFolders", parent, "childFolders"]),
            None => self.mailbox.url(&["mailFolders"]),
        };
        let filter = format!("displayName eq '{}'", name.replace('\'', "''"));
        let options = [
            ("$filter", filter.as_str()),
            ("$select", "id,displayName"),
            ("$top", "100"),
            ("includeHiddenFolders", "true"),
        ];
        let mut url = with_options(url, &options);
        let mut alike = None;
        for _ in 0..MAX_PAGES {
            let page: Page<Folder> = self.mailbox.read(url).await.map_err(no_folder)?;
            for folder in page.value {
                let display_name = folder.display_name.as_deref().unwrap_or_default();
                if display_name == name {
                    return Ok(folder.id);
                }
                if alike.is_none() && display_name.to_lowercase() == name.to_lowercase() {
                    alike = Some(folder.id);
                }
            }
            match page.next {
                Some(next) => url = self.mailbox.link(&next)?,
                None => break,
            }
        }
        alike.ok_or(Error::NoFolder(None))
    }

    fn key(&self, path: &str) -> String {
        format!("{}\n{path}", self.whose)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A 404 where a folder was asked for speaks of the folder, unless it speaks of the mailbox.
pub(crate) fn no_folder(failure: Failure) -> Error {
    match failure {
        // A malformed id is what Graph calls a well-known name that it does not know.
        Failure::Refused(refusal)
            if (refusal.status == 404 && !refusal.is_of_mailbox())
                || refusal.has_code(&["ErrorInvalidIdMalformed"]) =>
        {
            Error::NoFolder(Some(refusal))
        }
        failure => failure.into(),
    }
}

/// The names of a path. A slash within a name is written `\/`, a backslash `\\`. Absent: the Inbox.
fn parse(path: &str) -> Result<Vec<String>, String> {
    if path.is_empty() {
        return Ok(vec!["inbox".to_owned()]);
    }
    if path.len() > MAX_PATH {
        return Err(format!("expected at most {MAX_PATH} bytes"));
    }
    let mut names = vec![String::new()];
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '/' => {
                names.push(String::new());
                continue;
            }
            '\\' => match characters.next() {
                Some(escaped @ ('/' | '\\')) => escaped,
                _ => return Err(r"expected / or \ after a backslash".to_owned()),
            },
            character => character,
        };
        if let Some(name) = names.last_mut() {
            name.push(character);
        }
    }
    if names.iter().any(String::is_empty) {
        return Err("expected a name before and after each slash".to_owned());
    }
    if names.len() > MAX_LEVELS {
        return Err(format!("expected at most {MAX_LEVELS} levels"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_slashes_that_are_not_escaped() {
        assert_eq!(parse("").unwrap(), ["inbox"]);
        assert_eq!(parse("Inbox/Clients/2026").unwrap(), ["Inbox", "Clients", "2026"]);
        assert_eq!(parse(r"In\/Out/a\\b").unwrap(), ["In/Out", r"a\b"]);
        for wrong in ["/", "a/", "/a", "a//b", r"a\b", r"a\"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
