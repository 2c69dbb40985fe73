//! The contacts of an account, in folders.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// A folder of contacts.
#[derive(Debug, Clone)]
pub struct ContactFolder {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of the folder it is in.
    pub parent: String,
}

/// A contact.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    /// The immutable id.
    pub id: String,
    /// The id of its folder.
    pub folder: String,
    /// What clients wrote of it, by Graph's names.
    pub fields: Map<String, Value>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub modified: Timestamp,
    /// How often it was changed.
    pub changed: u64,
    /// Extended properties, by id.
    pub properties: BTreeMap<String, String>,
}

/// The contacts of an account.
#[derive(Debug, Clone, Default)]
pub struct Contacts {
    /// Its folders, the default one first.
    pub(crate) folders: Vec<ContactFolder>,
    /// Its contacts, by id.
    pub(crate) all: BTreeMap<String, Contact>,
}

impl Contacts {
    pub(super) fn new(root: &str, number: u64) -> Self {
        let mut contacts = Self::default();
        contacts.add_folder(root, "Contacts", number);
        contacts
    }

    /// Adds a folder and gives its id.
    pub(crate) fn add_folder(&mut self, parent: &str, name: &str, number: u64) -> String {
        let id = format!("AAMkADcontacts{number:08X}AAA=");
        let folder = ContactFolder { id: id.clone(), name: name.to_owned(), parent: parent.to_owned() };
        self.folders.push(folder);
        id
    }

    /// The folder with this id, or the default one by the name that it has everywhere.
    pub(crate) fn folder(&self, id: &str) -> Option<&ContactFolder> {
        if id.eq_ignore_ascii_case("contacts") {
            return self.folders.first();
        }
        self.folders.iter().find(|folder| folder.id == id)
    }
}
