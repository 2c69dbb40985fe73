//! The accounts of the sandbox: their folders and messages, and the order in which these changed. It knows nothing of
//! the protocols by which they are reached.

mod account;
mod agenda;
mod calendars;
mod contacts;
mod mime;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

pub use account::{
    Account, Attachment, AttachmentKind, Body, Change, Folder, Importance, Mailbox, Message, WELL_KNOWN,
};
pub use calendars::{Calendar, Calendars, Event, Exception, Moment};
pub use contacts::{Contact, ContactFolder, Contacts};

/// Accounts, shared by all who hold a clone.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Counts changes, so that whoever waits for one need not ask again and again.
    changes: watch::Sender<u64>,
}

/// All accounts, by address in lower case.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) accounts: HashMap<String, Account>,
    /// Numbers everything that is made, over all accounts, from a beginning of each world's own: ids are then never used
    /// twice, not even by a world that takes another's place.
    next: u64,
    clock_ahead: SignedDuration,
}

impl State {
    /// A number never given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The account with this address or id.
    pub(crate) fn account(&mut self, name: &str) -> Option<&mut Account> {
        let name = name.to_lowercase();
        if self.accounts.contains_key(&name) {
            return self.accounts.get_mut(&name);
        }
        self.accounts.values_mut().find(|account| account.id == name)
    }

    /// The world's time, in whole seconds as Exchange keeps it.
    pub(crate) fn now(&self) -> Timestamp {
        let now = Timestamp::now().checked_add(self.clock_ahead).unwrap_or_else(|_| Timestamp::now());
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Puts a message into a folder (an id or well-known name) of an account and gives its id.
    pub(crate) fn put(&mut self, address: &str, folder: &str, mut message: Message) -> Option<String> {
        let number = self.number();
        let now = self.now();
        let account = self.account(address)?;
        message.folder.clone_from(&account.folder(folder)?.id);
        message.id = format!("AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0A{number:08X}AAA=");
        message.created = now;
        Some(account.put(message, now))
    }

    /// Delivers a message to the Inbox of each recipient that has an account here.
    pub(crate) fn deliver(&mut self, recipients: &[String], message: &Message) -> Vec<String> {
        let (number, now) = (self.number(), self.now());
        let mut seen = Vec::new();
        let mut ids = Vec::new();
        for recipient in recipients.iter().map(|recipient| recipient.to_lowercase()) {
            if seen.contains(&recipient) {
                continue;
            }
            let mut copy = message.clone();
            copy.received = now;
            if copy.internet_message_id.is_empty() {
                copy.internet_message_id = format!("<{number}@sandbox.postern.invalid>");
            }
            ids.extend(self.put(&recipient, "inbox", copy));
            seen.push(recipient);
        }
        ids
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A world without accounts.
    #[must_use]
    pub fn new() -> Self {
        let (changes, _) = watch::channel(0);
        let state = State { next: u64::from(fastrand::u32(..)) << 16, ..State::default() };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), changes }) }
    }

    /// Adds an account with the folders that every mailbox has. One that is there already is left as it is.
    pub fn add_account(&self, address: &str, display_name: &str) {
        let address = address.to_lowercase();
        self.change(|state| {
            let number = state.number();
            let account = Account::new(&address, display_name, number);
            state.accounts.entry(address).or_insert(account);
        });
    }

    /// The addresses of all accounts, in order.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<_> = self.lock().accounts.keys().cloned().collect();
        addresses.sort();
        addresses
    }

    /// Whether there is an account with this address.
    #[must_use]
    pub fn has_account(&self, address: &str) -> bool {
        self.lock().account(address).is_some()
    }

    /// Delivers a message, as it came over SMTP, to the Inbox of each recipient of the envelope that has an account
    /// here. Gives the ids it got there.
    pub fn deliver(&self, from: &str, to: &[String], raw: &[u8]) -> Vec<String> {
        let message = mime::read(from, raw);
        self.change(|state| state.deliver(to, &message))
    }

    /// Puts a message into a folder (an id or a well-known name) of an account and gives its id. What it lacks of times is
    /// now; an id of its own is not kept. Nothing where there is no such place.
    pub fn put_message(&self, address: &str, folder: &str, mut message: Message) -> Option<String> {
        self.change(|state| {
            let now = state.now();
            if message.received == Timestamp::default() {
                message.received = now;
            }
            state.put(address, folder, message)
        })
    }

    /// Makes the folders of a path below the root that are not there yet. Gives the last one's id, or nothing where
    /// there is no such account.
    pub fn add_folder(&self, address: &str, path: &[&str]) -> Option<String> {
        self.change(|state| {
            let mut parent = String::new();
            for name in path {
                let number = state.number();
                parent = state.account(address)?.child_or_new(&parent, name, number);
            }
            Some(parent)
        })
    }

    /// Makes a folder below another (an id or a well-known name) if it is not there yet, and gives its id. Nothing
    /// where the other is not there.
    pub fn add_subfolder(&self, address: &str, parent: &str, name: &str) -> Option<String> {
        self.change(|state| {
            let number = state.number();
            let account = state.account(address)?;
            let parent = account.folder(parent)?.id.clone();
            Some(account.child_or_new(&parent, name, number))
        })
    }

    /// Moves a message to a folder, an id or a well-known name. Says whether both were there.
    pub fn move_message(&self, address: &str, id: &str, folder: &str) -> bool {
        self.change(|state| state.account(address).is_some_and(|account| account.move_to(id, folder)))
    }

    /// Deletes a message for good. Says whether it was there.
    pub fn delete_message(&self, address: &str, id: &str) -> bool {
        self.change(|state| state.account(address).is_some_and(|account| account.delete(id)))
    }

    /// Deletes a folder with what is in it. Says whether it was there.
    pub fn delete_folder(&self, address: &str, id: &str) -> bool {
        self.change(|state| state.account(address).is_some_and(|account| account.delete_folder(id)))
    }

    /// Changes a folder in place. Says whether it was there.
    pub fn edit_folder(&self, address: &str, id: &str, edit: impl FnOnce(&mut Folder)) -> bool {
        self.change(|state| {
            let folders = state.account(address).map(|account| &mut account.folders);
            let folder = folders.and_then(|folders| folders.iter_mut().find(|folder| folder.id == id));
            folder.map(edit).is_some()
        })
    }

    /// Changes a message in place. Says whether it was there.
    pub fn edit_message(&self, address: &str, id: &str, edit: impl FnOnce(&mut Message)) -> bool {
        self.change(|state| state.account(address).is_some_and(|account| account.edit(id, edit)))
    }

    /// The messages of a folder (an id or a well-known name), in the order in which they came to be there.
    #[must_use]
    pub fn messages(&self, address: &str, folder: &str) -> Vec<Message> {
        let mut state = self.lock();
        let Some(account) = state.account(address) else { return Vec::new() };
        let Some(folder) = account.folder(folder).map(|folder| folder.id.clone()) else { return Vec::new() };
        account.in_folder(&folder).into_iter().cloned().collect()
    }

    /// A count that moves with every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Waits until something holds, looking again at every change.
    pub async fn wait_until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let mut changes = self.changes();
        while !holds(self) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The world's time, in whole seconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.lock().now()
    }

    /// Sets how far the world's clock is ahead of the machine's; negative: behind.
    pub fn set_clock_ahead(&self, ahead: SignedDuration) {
        self.lock().clock_ahead = ahead;
    }

    /// Changes the state and tells those who wait.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.inner.changes.send_modify(|count| *count += 1);
        changed
    }

    /// The state, to read. Never held over an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
