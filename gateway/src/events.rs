//! The event log as the gateway fills it and as subscribers read it. It knows no trigger and no provider: an event's
//! data is opaque to it.

mod ahead;
mod answers;
pub(crate) mod begin;
pub mod cursor;
pub(crate) mod filter;
mod listing;
mod pulse;
pub(crate) mod reading;
pub mod record;
pub mod retention;
mod server;
mod stretch;
mod wire;
pub(crate) mod wish;

pub use record::new_event;
pub use server::EventServer;
