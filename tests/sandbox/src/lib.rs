//! A small world to run Postern against: an SMTP server and a small Microsoft Graph that share accounts. For trying and
//! testing; nothing in the product depends on it.

pub mod graph;
pub mod world;
