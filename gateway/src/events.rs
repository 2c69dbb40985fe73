//! The event log as the gateway fills it and as subscribers read it. It knows no trigger and no provider: an event's
//! data is opaque to it.

pub mod cursor;
pub mod filter;
pub mod reading;
pub mod record;
pub mod retention;
pub mod server;
pub mod wire;
pub mod wish;

pub use record::new_event;
pub use server::EventServer;
