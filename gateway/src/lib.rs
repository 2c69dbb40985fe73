//! Postern's gateway: keeps connections, forwards actions, watches triggers, keeps the event log and streams it.
//!
//! It knows no provider: what a connection, a trigger or an event is about is opaque to it.

pub mod auth;
pub mod connections;
pub mod connectors;
pub mod contract;
pub mod error;
pub mod events;
pub mod forward;
pub mod mask;
pub mod names;
pub mod page;
pub mod seal;
pub mod serve;
pub mod settings;
pub mod store;
pub mod triggers;
