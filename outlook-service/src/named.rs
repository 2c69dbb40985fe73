//! An item as callers name it: by its id, and by the table that they say it is in, a calendar or a folder of contacts.

use reqwest::Url;

use crate::error::{Error, Problems};
use crate::graph::{Failure, Mailbox, with_options};
use crate::ids;

/// A kind of items that stand in tables.
pub(crate) struct Kind {
    /// What Graph's paths call the items.
    pub(crate) items: &'static str,
    /// What they call the tables.
    pub(crate) tables: &'static str,
    /// What it means that a table could not be read.
    pub(crate) no_table: fn(Failure) -> Error,
}

/// An item by its id.
pub(crate) struct Named<'a> {
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) kind: &'static Kind,
    /// Empty: the caller does not say.
    pub(crate) table: &'a str,
    pub(crate) id: &'a str,
}

impl Named<'_> {
    /// What is wrong with it before anybody is asked.
    pub(crate) fn check(table: &str, id: &str, problems: &mut Problems) {
        ids::check("table", table, problems);
        ids::check_needed("id", id, problems);
    }

    pub(crate) fn url(&self) -> Url {
        let Kind { items, tables, .. } = self.kind;
        match self.table {
            "" => self.mailbox.url(&[items, self.id]),
            table => self.mailbox.url(&[tables, table, items, self.id]),
        }
    }

    /// What a failure to reach the item means. That its table is not there is told from the item not being there by
    /// asking for the table.
    pub(crate) async fn refused(&self, failure: Failure) -> Error {
        if (failure.is_gone() || ids::is_malformed(&failure)) && !self.table.is_empty() {
            let table = self.mailbox.url(&[self.kind.tables, self.table]);
            let table = with_options(table, &[("$select", "id")]);
            if let Err(failure) = self.mailbox.read::<serde_json::Value>(table).await {
                return (self.kind.no_table)(failure);
            }
        }
        ids::of_item("id", failure, Error::from)
    }
}
