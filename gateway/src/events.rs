//! The event log as the gateway fills it and as subscribers read it. It knows no trigger and no provider: an event's
//! data is opaque to it.

mod answers;
mod begin;
pub mod cursor;
mod filter;
mod pulse;
mod reading;
pub mod record;
pub mod retention;
mod server;
mod stretch;
mod wire;
mod wish;

pub use record::new_event;
pub use server::EventServer;
