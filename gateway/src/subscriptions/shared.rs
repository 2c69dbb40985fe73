//! SHARED subscriptions: each event to one of many subscribers, each acknowledged by itself.

mod assign;
pub(super) mod desk;
mod draft;
mod owed;
pub(super) mod stream;
pub(super) mod unary;
