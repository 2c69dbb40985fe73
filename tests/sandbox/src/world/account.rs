//! One account: folders, messages, and a log of what happened to them.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{Calendars, Contacts};

/// The folders that every mailbox has: well-known name and display name.
pub const WELL_KNOWN: [(&str, &str); 7] = [
    ("inbox", "Inbox"),
    ("drafts", "Drafts"),
    ("sentitems", "Sent Items"),
    ("deleteditems", "Deleted Items"),
    ("archive", "Archive"),
    ("junkemail", "Junk Email"),
    ("outbox", "Outbox"),
];

/// An account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its address, in lower case.
    pub address: String,
    /// Its owner's name.
    pub display_name: String,
    /// Its id, as a directory gives it.
    pub id: String,
    /// The id of the folder above all others.
    pub root: String,
    /// Its folders, in the order in which they were made.
    pub folders: Vec<Folder>,
    /// Its calendars.
    pub calendars: Calendars,
    /// Its contacts.
    pub contacts: Contacts,
    messages: HashMap<String, Message>,
    changes: Vec<Change>,
    next_change: u64,
}

/// A folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Its id, which never changes.
    pub id: String,
    /// The id of the folder that it is in.
    pub parent: String,
    /// The name that people see.
    pub display_name: String,
    /// The name that every mailbox knows it by, if it has one.
    pub well_known: Option<&'static str>,
    /// Whether it is shown only to those who ask for hidden folders.
    pub is_hidden: bool,
}

/// What happened to a message in a folder.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its place in the account's log.
    pub number: u64,
    /// The folder.
    pub folder: String,
    /// The message.
    pub message: String,
    /// Whether it came to be there by this change; else it was altered there or went away.
    pub came: bool,
}

/// An address with a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// The address.
    pub address: String,
    /// The name, or nothing.
    pub name: String,
}

/// A body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// Text or HTML.
    pub content: String,
    /// Whether it is HTML.
    pub is_html: bool,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Importance {
    /// Low.
    Low,
    /// Normal.
    #[default]
    Normal,
    /// High.
    High,
}

/// What kind of thing is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AttachmentKind {
    /// A file.
    #[default]
    File,
    /// A mail, calendar entry or contact, as MIME.
    Item,
    /// A link to a file elsewhere.
    Reference,
}

/// What is attached to a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Its id, within its account.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// The Content-ID, without angle brackets, if it has one.
    pub content_id: Option<String>,
    /// Whether the body shows it in place.
    pub is_inline: bool,
    /// Its bytes.
    pub content: Vec<u8>,
    /// What kind of thing it is.
    pub kind: AttachmentKind,
    /// Where a linked file lies, if that is to be told: the v1.0 that is described does not.
    pub source_url: Option<String>,
}

/// A message.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The immutable id.
    pub id: String,
    /// The id of the folder it is in.
    pub folder: String,
    /// From.
    pub from: Option<Mailbox>,
    /// Sender, where it is another.
    pub sender: Option<Mailbox>,
    /// To.
    pub to: Vec<Mailbox>,
    /// Cc.
    pub cc: Vec<Mailbox>,
    /// Bcc.
    pub bcc: Vec<Mailbox>,
    /// Reply-To.
    pub reply_to: Vec<Mailbox>,
    /// Subject.
    pub subject: String,
    /// The body.
    pub body: Body,
    /// Its importance.
    pub importance: Importance,
    /// Whether it was read.
    pub is_read: bool,
    /// Whether it is a draft.
    pub is_draft: bool,
    /// When it came into the account.
    pub received: Timestamp,
    /// When it was sent.
    pub sent: Timestamp,
    /// When it was made in this account.
    pub created: Timestamp,
    /// Message-ID, with angle brackets.
    pub internet_message_id: String,
    /// The conversation that it belongs to. Empty: one of its own.
    pub conversation: String,
    /// In-Reply-To, with angle brackets, where it answers a message.
    pub in_reply_to: Option<String>,
    /// Whether its sender is told when it is read.
    pub wants_read_receipt: bool,
    /// Whether its sender is told when it is delivered.
    pub wants_delivery_receipt: bool,
    /// Its files.
    pub attachments: Vec<Attachment>,
    /// Extended properties, by id.
    pub properties: BTreeMap<String, String>,
    /// Header fields that begin with x-.
    pub headers: Vec<(String, String)>,
    /// How often it was moved: an id that is not immutable changes with it.
    pub moves: u64,
    /// When it came to be in its folder, as a place in the account's log.
    pub entered: u64,
    /// When it was last changed, as a place in the account's log.
    pub changed: u64,
}

impl Account {
    pub(super) fn new(address: &str, display_name: &str, number: u64) -> Self {
        let root = format!("AQMkADroot{number:04X}AAA=");
        let known = WELL_KNOWN.iter().map(|&(well_known, name)| Folder {
            id: format!("AQMkAD{well_known}{number:04X}AAA="),
            parent: root.clone(),
            display_name: name.to_owned(),
            well_known: Some(well_known),
            is_hidden: false,
        });
        Self {
            address: address.to_owned(),
            display_name: display_name.to_owned(),
            id: format!("00000000-0000-4000-8000-{number:012x}"),
            folders: known.collect(),
            calendars: Calendars::new(number),
            contacts: Contacts::new(&root, number),
            root,
            messages: HashMap::new(),
            changes: Vec::new(),
            next_change: 0,
        }
    }

    /// The folder with this id or well-known name.
    #[must_use]
    pub fn folder(&self, name: &str) -> Option<&Folder> {
        let known =
            |folder: &&Folder| folder.well_known.is_some_and(|known| known.eq_ignore_ascii_case(name));
        self.folders.iter().find(|folder| folder.id == name).or_else(|| self.folders.iter().find(known))
    }

    /// The message with this id. An id that is not immutable is known as long as the message stays where it is.
    #[must_use]
    pub fn message(&self, id: &str) -> Option<&Message> {
        self.messages.get(id).or_else(|| self.messages.values().find(|message| message.mutable_id() == id))
    }

    /// The messages of a folder, in the order in which they came to be there.
    #[must_use]
    pub fn in_folder(&self, folder: &str) -> Vec<&Message> {
        let mut messages: Vec<_> =
            self.messages.values().filter(|message| message.folder == folder).collect();
        messages.sort_by_key(|message| message.entered);
        messages
    }

    /// Every message of the account, in the order in which they came to be where they are.
    #[must_use]
    pub fn all_messages(&self) -> Vec<&Message> {
        let mut messages: Vec<_> = self.messages.values().collect();
        messages.sort_by_key(|message| message.entered);
        messages
    }

    /// What happened in a folder after a place in the log, up to another.
    #[must_use]
    pub fn changes(&self, folder: &str, after: u64, until: u64) -> Vec<&Change> {
        self.all_changes(after, until).iter().filter(|change| change.folder == folder).collect()
    }

    /// What happened in all folders after a place in the log, up to another.
    #[must_use]
    pub fn all_changes(&self, after: u64, until: u64) -> &[Change] {
        let place = |number: u64| self.changes.partition_point(|change| change.number <= number);
        self.changes.get(place(after)..place(until)).unwrap_or_default()
    }

    /// The last place in the log.
    #[must_use]
    pub fn last_change(&self) -> u64 {
        self.next_change
    }

    pub(super) fn child_or_new(&mut self, parent: &str, name: &str, number: u64) -> String {
        let parent = if parent.is_empty() { self.root.clone() } else { parent.to_owned() };
        let found = self.folders.iter().find(|folder| folder.parent == parent && folder.display_name == name);
        if let Some(folder) = found {
            return folder.id.clone();
        }
        let id = format!("AQMkADfolder{number:06X}AAA=");
        self.folders.push(Folder {
            id: id.clone(),
            parent,
            display_name: name.to_owned(),
            well_known: None,
            is_hidden: false,
        });
        id
    }

    pub(crate) fn put(&mut self, mut message: Message, now: Timestamp) -> String {
        let id = message.id.clone();
        for (index, attachment) in message.attachments.iter_mut().enumerate() {
            attachment.id = format!("{id}-att{index}");
        }
        if message.sent == Timestamp::default() {
            message.sent = now;
        }
        if message.received == Timestamp::default() {
            message.received = now;
        }
        message.entered = self.note(&message.folder, &id, true);
        message.changed = message.entered;
        self.messages.insert(id.clone(), message);
        id
    }

    pub(crate) fn move_to(&mut self, id: &str, folder: &str) -> bool {
        let Some(to) = self.folder(folder).map(|folder| folder.id.clone()) else { return false };
        let Some(mut message) = self.message(id).cloned() else { return false };
        self.note(&message.folder, &message.id, false);
        message.entered = self.note(&to, &message.id, true);
        message.changed = message.entered;
        message.folder = to;
        message.moves += 1;
        self.messages.insert(message.id.clone(), message);
        true
    }

    pub(crate) fn edit(&mut self, id: &str, edit: impl FnOnce(&mut Message)) -> bool {
        let Some(mut message) = self.message(id).cloned() else { return false };
        edit(&mut message);
        message.changed = self.note(&message.folder, &message.id, false);
        self.messages.insert(message.id.clone(), message);
        true
    }

    pub(crate) fn delete(&mut self, id: &str) -> bool {
        let Some(id) = self.message(id).map(|message| message.id.clone()) else { return false };
        let Some(message) = self.messages.remove(&id) else { return false };
        self.note(&message.folder, &message.id, false);
        true
    }

    pub(super) fn delete_folder(&mut self, id: &str) -> bool {
        let before = self.folders.len();
        self.folders.retain(|folder| folder.id != id);
        self.messages.retain(|_, message| message.folder != id);
        before != self.folders.len()
    }

    fn note(&mut self, folder: &str, message: &str, came: bool) -> u64 {
        self.next_change += 1;
        self.changes.push(Change {
            number: self.next_change,
            folder: folder.to_owned(),
            message: message.to_owned(),
            came,
        });
        self.next_change
    }
}

impl Message {
    /// The id for those who do not ask for immutable ones: another after every move.
    #[must_use]
    pub fn mutable_id(&self) -> String {
        format!("AAMk{}M{}", self.id.get(4..).unwrap_or_default(), self.moves)
    }

    /// The id of its conversation.
    #[must_use]
    pub fn conversation_id(&self) -> String {
        match self.conversation.as_str() {
            "" => format!("AAQk{}", self.id.get(self.id.len().saturating_sub(16)..).unwrap_or_default()),
            conversation => conversation.to_owned(),
        }
    }

    /// All who are to receive it.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        [&self.to, &self.cc, &self.bcc].into_iter().flatten().map(|mailbox| mailbox.address.clone()).collect()
    }
}
