//! What tests may see and change of calendars and contacts without asking Graph.

use super::{Contact, Event, World};

impl World {
    /// Adds a calendar to an account and gives its id. Nothing where there is no such account.
    pub fn add_calendar(&self, address: &str, name: &str) -> Option<String> {
        self.change(|state| {
            let number = state.number();
            Some(state.account(address)?.calendars.add(name, number))
        })
    }

    /// The events of all calendars of an account, series as one each.
    #[must_use]
    pub fn calendar_events(&self, address: &str) -> Vec<Event> {
        let mut state = self.lock();
        state
            .account(address)
            .map(|account| account.calendars.events.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Changes an event as Exchange does by itself at times: its change key and the time of its last change move, and
    /// nothing that people see. Says whether it was there.
    pub fn touch_event(&self, address: &str, id: &str) -> bool {
        self.change(|state| {
            let now = state.now();
            let Some(account) = state.account(address) else { return false };
            let number = account.calendars.next_change();
            let Some(event) = account.calendars.events.get_mut(id) else { return false };
            (event.changed, event.modified) = (number, now);
            true
        })
    }

    /// Changes an event in place, and notes nothing of it but that it was: not when.
    pub fn edit_event(&self, address: &str, id: &str, edit: impl FnOnce(&mut Event)) -> bool {
        self.change(|state| {
            let Some(account) = state.account(address) else { return false };
            let number = account.calendars.next_change();
            let event = account.calendars.events.get_mut(id);
            event
                .map(|event| {
                    edit(event);
                    event.changed = number;
                })
                .is_some()
        })
    }

    /// Takes an event out, to be put back later.
    pub fn take_event(&self, address: &str, id: &str) -> Option<Event> {
        self.change(|state| {
            let calendars = &mut state.account(address)?.calendars;
            calendars.next_change();
            calendars.events.remove(id)
        })
    }

    /// Puts an event in as it is: one that was taken out, or one from another calendar.
    pub fn put_event(&self, address: &str, event: Event) {
        self.change(|state| {
            if let Some(account) = state.account(address) {
                let event = Event { changed: account.calendars.next_change(), ..event };
                account.calendars.events.insert(event.id.clone(), event);
            }
        });
    }

    /// Adds a folder of contacts below another (absent: below the root) and gives its id.
    pub fn add_contact_folder(&self, address: &str, parent: Option<&str>, name: &str) -> Option<String> {
        self.change(|state| {
            let number = state.number();
            let account = state.account(address)?;
            let parent = parent.map_or_else(|| account.root.clone(), str::to_owned);
            Some(account.contacts.add_folder(&parent, name, number))
        })
    }

    /// The contacts of all folders of an account.
    #[must_use]
    pub fn contacts(&self, address: &str) -> Vec<Contact> {
        let mut state = self.lock();
        state
            .account(address)
            .map(|account| account.contacts.all.values().cloned().collect())
            .unwrap_or_default()
    }
}
