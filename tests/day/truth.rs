//! What happened in the mailboxes, as the day's deeds noted it: what the log is held against.

use std::collections::HashMap;

use jiff::Timestamp;

/// Everything that happened.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) mails: Vec<Mail>,
    pub(crate) entries: Vec<Entry>,
    /// Where a mail is among all, by its id.
    pub(crate) mail_of: HashMap<String, usize>,
    /// Where an entry is among all, by its id.
    pub(crate) entry_of: HashMap<String, usize>,
    /// How often the provider forgot the places of a mailbox.
    pub(crate) forgotten: HashMap<usize, usize>,
    /// How often Exchange or somebody changed a series.
    pub(crate) series_touched: usize,
    deeds: u64,
}

/// A mail that came to be in an Inbox.
pub(crate) struct Mail {
    pub(crate) id: String,
    pub(crate) mailbox: usize,
    pub(crate) subject: String,
    /// Whether it was received there; else it is an old one that was moved there.
    pub(crate) received: bool,
    /// When it came.
    pub(crate) at: Timestamp,
    /// The number of the deed by which it first came, and of the last that touched it.
    pub(crate) came: u64,
    pub(crate) last: u64,
    /// Whether it is to be told of; else it went again, perhaps before anybody looked.
    pub(crate) stays: bool,
}

/// What users see of an entry, as far as the day changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) subject: String,
    pub(crate) place: String,
    /// In seconds since 1970.
    pub(crate) start: i64,
}

/// An entry of a calendar, with all that it ever looked like.
pub(crate) struct Entry {
    pub(crate) mailbox: usize,
    pub(crate) id: String,
    pub(crate) often: bool,
    /// Each look and when it began.
    pub(crate) looks: Vec<(Look, Timestamp)>,
    /// When it was deleted, if it was.
    pub(crate) gone: Option<Timestamp>,
}

impl Truth {
    /// The number of the next deed.
    pub(crate) fn next(&mut self) -> u64 {
        self.deeds += 1;
        self.deeds
    }

    /// A mail came.
    pub(crate) fn came(&mut self, mut mail: Mail) -> usize {
        mail.came = self.next();
        mail.last = mail.came;
        self.mail_of.insert(mail.id.clone(), self.mails.len());
        self.mails.push(mail);
        self.mails.len() - 1
    }

    /// An entry was made.
    pub(crate) fn made(&mut self, entry: Entry) -> usize {
        self.entry_of.insert(entry.id.clone(), self.entries.len());
        self.entries.push(entry);
        self.entries.len() - 1
    }
}

impl Entry {
    /// How it looks now.
    pub(crate) fn look(&self) -> Option<&Look> {
        self.looks.last().map(|(look, _)| look)
    }

    /// The starts that it had, each with when it got it and when it lost it.
    pub(crate) fn starts(&self) -> Vec<(i64, Timestamp, Option<Timestamp>)> {
        let mut starts: Vec<(i64, Timestamp, Option<Timestamp>)> = Vec::new();
        for (look, at) in &self.looks {
            match starts.last_mut() {
                Some((start, ..)) if *start == look.start => {}
                last => {
                    if let Some((.., until)) = last {
                        *until = Some(*at);
                    }
                    starts.push((look.start, *at, None));
                }
            }
        }
        if let Some((.., until)) = starts.last_mut() {
            *until = self.gone;
        }
        starts
    }
}
