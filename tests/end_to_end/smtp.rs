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
mod messages;
mod nesting;
mod postfix;
mod raw;
mod recipients;
mod security;
mod sockets;
mod world;
