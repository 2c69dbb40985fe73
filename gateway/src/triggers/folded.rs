//! A trigger in little room, as very many are kept that are at rest: its record as it was read, made out when it is needed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use postern_proto::event::v1::Trigger;

use super::stored;
use crate::store::{Entry, Revision};

/// A trigger as its record. Cloned without a copy.
#[derive(Clone)]
pub struct Folded {
    name: Arc<str>,
    record: Bytes,
    revision: Revision,
}

impl Folded {
    /// The trigger that a record has been found to be, under a name that others may share.
    pub(super) fn new(name: Arc<str>, entry: &Entry) -> Self {
        Self { name, record: entry.value.clone(), revision: entry.revision }
    }

    /// Its name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The revision of its record.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// The trigger, with its etag.
    #[must_use]
    pub fn unfold(&self) -> Trigger {
        // What was read once reads again.
        let found = stored::decode_record(self.record.clone(), self.revision);
        found.map_or_else(
            || Trigger { name: self.name.as_ref().into(), ..Trigger::default() },
            |it| it.trigger,
        )
    }
}

impl fmt::Debug for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what it looks for: there may be addresses in it.
        f.debug_struct("Folded").field("name", &self.name).field("revision", &self.revision).finish()
    }
}
