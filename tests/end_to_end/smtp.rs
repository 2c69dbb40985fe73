//! The SMTP connector, called directly over gRPC with the connection in the metadata, against the sandbox's server.

mod breaks;
mod bulk;
mod check_email;
mod checks;
mod dkim;
mod fields;
mod headers;
mod invitations;
pub(crate) mod large;
mod limits;
mod memory;
mod messages;
mod nesting;
mod openings;
mod peers;
mod raw;
mod recipients;
mod replies;
mod reports;
mod script;
mod security;
mod sockets;
mod stages;
mod tokens;
pub(crate) mod world;
