//! TriggerService: keeps triggers, says how they fare, and tries and nudges them. What a trigger is about is its
//! connector's to know; when it is asked after is the [`schedule`]'s.

mod change;
mod fares;
mod folded;
pub mod poll;
pub mod schedule;
mod service;
mod stored;
pub mod watch;

pub use change::Triggers;
pub use folded::Folded;
pub use schedule::Schedule;
pub use watch::WatchName;
