//! The console without a browser: who is let in and for how long, what its pages may do, and that its live events are
//! whole. What people see is looked at in a real browser (`tests/browser`).

mod events;
mod session;
mod stage;
mod troubles;
