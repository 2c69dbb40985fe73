//! TriggerService: keeps triggers, says how they fare, and tries and nudges them. What a trigger is about is its
//! connector's to know; when it is asked after is the [`schedule`]'s.

pub mod poll;
pub mod schedule;
mod service;
mod stored;

pub use schedule::Schedule;
pub use service::Triggers;
