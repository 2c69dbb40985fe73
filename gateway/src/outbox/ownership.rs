//! Which queued mails this gateway delivers.

use crate::store::Guard;

/// Says which mails are this gateway's to deliver, and by what right.
pub trait Ownership: Send + Sync + 'static {
    /// What must hold of the store for this gateway to act for a mail. `None`: another gateway delivers it.
    fn guards(&self, name: &str) -> Option<Vec<Guard>>;
}

/// The ownership of a gateway that has its store for itself: every mail, unconditionally.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sole;

impl Ownership for Sole {
    fn guards(&self, _: &str) -> Option<Vec<Guard>> {
        Some(Vec::new())
    }
}
