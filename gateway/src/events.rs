//! The event log as the gateway fills it and as subscribers read it. It knows no trigger and no provider: an event's
//! data is opaque to it.

pub mod cursor;
pub mod record;

pub use record::new_event;
