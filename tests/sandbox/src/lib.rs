//! A small world to run Postern against: an SMTP server whose mail lands in the mailboxes of a small Microsoft Graph,
//! and a program that shows the whole loop. For trying and testing; nothing in the product depends on it.

pub mod child;
pub mod graph;
pub mod place;
pub mod program;
pub mod smtp;
pub mod tokens;
pub mod tour;
pub mod world;
